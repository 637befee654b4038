"""GossipSub v1.1 as this node runs it: py-libp2p's mesh, with the specification's manners."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2

from aonode.net.libp2p_corrections import Corrections, correct_router
from aonode.net.libp2p_pubsub import Departure, NodePubsub

DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12
HEARTBEAT_S = 1
LAZY_DEGREE, LAZY_SHARE = 6, 4
"""IHAVE goes to at least 6 peers outside the mesh, or to one in 4 of them."""
CONTROL_IDS_MAX = 2048
"""Message ids of one IHAVE or IWANT that are looked at."""
ASK_AGAIN_S = 3.0
ASKED_MAX = 1 << 14
SERVED_MAX = 256
"""Messages sent to one peer for its IWANTs, per heartbeat."""
BACKOFF_S_MAX = 600
"""Longest backoff that a PRUNE may ask of us; its default is 60 s."""

Ids = dict[str, list[bytes]]


class NodeRouter(GossipSub):
    """`GossipSub` with the mesh and gossip corrections, each behind its switch."""

    def __init__(self, corrections: Corrections, heartbeat_s: float = HEARTBEAT_S) -> None:
        super().__init__(
            [
                PROTOCOL_ID_V11
            ],  # 1.2 adds an IDONTWANT per message and peer: not worth it below 1 MiB
            DEGREE,
            DEGREE_LOW,
            DEGREE_HIGH,
            heartbeat_interval=cast(int, heartbeat_s),
            heartbeat_initial_delay=0.1,
        )
        self.corrections = corrections
        self._asked: dict[bytes, float] = {}
        self._served: dict[ID, int] = {}
        correct_router(self, corrections)

    @property
    def _node(self) -> NodePubsub:
        assert isinstance(self.pubsub, NodePubsub), "the router is attached to its pubsub"
        return self.pubsub

    # Messages.

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        if self.corrections.encode_once:
            self.forward(msg_forwarder, pubsub_msg, None)
            return
        await super().publish(msg_forwarder, pubsub_msg)
        if self.corrections.no_pending:
            self._pending_messages.clear()

    def forward(self, forwarder: ID, message: rpc_pb2.Message, departure: Departure | None) -> None:
        """Keep `message` for gossip and send it to the mesh, or to the fanout of its topic."""
        self.mcache.put(message)
        origin = ID(message.from_id)
        topics = list(message.topicIDs)
        peers = sorted(self._get_peers_to_send(topics, forwarder, origin), key=ID.to_bytes)
        for topic in topics:
            if topic not in self.mesh:
                self.time_since_last_publish[topic] = int(time.time())
        self._node.send_frame(peers, rpc_pb2.RPC(publish=[message]), departure)

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        return self.corrections.no_pending or super()._check_equivocation(msg)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        if not self.corrections.no_pending:
            await super().flush_pending_messages(peer_id)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """What a peer missed while it was joining, through its queue like everything else."""
        if not self.corrections.encode_once:
            await super().send_recent_messages(peer_id, topic)
            return
        for name in self.mcache.window(topic):
            message = self.mcache.get(name)
            if message is not None and message.from_id != peer_id.to_bytes():
                self._node.send_frame([peer_id], rpc_pb2.RPC(publish=[message]), None)

    # Control messages, out.

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        if self.corrections.no_peer_records:
            self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)
        else:
            await super().emit_control_message(control_msg, to_peer)

    def mesh_heartbeat(self) -> Any:
        graft, prune = super().mesh_heartbeat()
        self._served.clear()
        if self.corrections.mesh_backoff:
            for peer, topics in prune.items():
                for topic in topics:
                    self._add_back_off(peer, topic, False)
        return graft, prune

    async def _emit_control_msgs(
        self,
        peers_to_graft: dict[ID, list[str]],
        peers_to_prune: dict[ID, list[str]],
        peers_to_gossip: dict[ID, Ids],
    ) -> None:
        if not self.corrections.mesh_backoff:
            await super()._emit_control_msgs(peers_to_graft, peers_to_prune, peers_to_gossip)
            return
        for peer in dict.fromkeys([*peers_to_graft, *peers_to_prune, *peers_to_gossip]):
            backoff = self.prune_back_off
            control = self.pack_control_msgs(
                [
                    rpc_pb2.ControlIHave(topicID=topic, messageIDs=names)
                    for topic, names in peers_to_gossip.get(peer, {}).items()
                ],
                [rpc_pb2.ControlGraft(topicID=topic) for topic in peers_to_graft.get(peer, ())],
                [
                    rpc_pb2.ControlPrune(topicID=topic, backoff=backoff)
                    for topic in peers_to_prune.get(peer, ())
                ],
            )
            await self.emit_control_message(control, peer)

    def _handle_topic_heartbeat(
        self,
        topic: str,
        current_peers: set[ID],
        is_fanout: bool = False,
        peers_to_gossip: Any = None,
    ) -> tuple[set[ID], bool]:
        if peers_to_gossip is None or not self.corrections.mesh_backoff:
            return super()._handle_topic_heartbeat(topic, current_peers, is_fanout, peers_to_gossip)
        known = self._node.peer_topics.get(topic)
        names = self.mcache.window(topic)
        if known and names:
            count = max(LAZY_DEGREE, (len(known) - len(current_peers)) // LAZY_SHARE)
            for peer in self._get_in_topic_gossipsub_peers_from_minus(topic, count, current_peers):
                peers_to_gossip[peer][topic] = names[-CONTROL_IDS_MAX:]
        return current_peers, False

    # Control messages, in.

    async def handle_graft(self, graft_msg: rpc_pb2.ControlGraft, sender_peer_id: ID) -> None:
        mesh = self.mesh.get(graft_msg.topicID)
        full = mesh is not None and sender_peer_id not in mesh and len(mesh) >= self.degree_high
        if full and self.corrections.graft_limit:
            self._add_back_off(sender_peer_id, graft_msg.topicID, False)
            await self.emit_prune(graft_msg.topicID, sender_peer_id, False, False)
            return
        await super().handle_graft(graft_msg, sender_peer_id)

    async def handle_prune(self, prune_msg: rpc_pb2.ControlPrune, sender_peer_id: ID) -> None:
        if self.corrections.no_peer_exchange:
            if prune_msg.topicID not in self.mesh:
                return
            prune_msg = rpc_pb2.ControlPrune(
                topicID=prune_msg.topicID, backoff=min(prune_msg.backoff, BACKOFF_S_MAX)
            )
        await super().handle_prune(prune_msg, sender_peer_id)

    async def handle_ihave(self, ihave_msg: rpc_pb2.ControlIHave, sender_peer_id: ID) -> None:
        if not self.corrections.iwant_once:
            await super().handle_ihave(ihave_msg, sender_peer_id)
            return
        if ihave_msg.topicID not in self.mesh:
            return
        wanted = self._unasked(ihave_msg.messageIDs[:CONTROL_IDS_MAX])
        if wanted:
            control = rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=wanted)])
            await self.emit_control_message(control, sender_peer_id)

    def _unasked(self, names: Sequence[bytes]) -> list[bytes]:
        """Ids that we have not, and have not asked anybody for in the last seconds."""
        now = trio.current_time()
        asked = self._asked
        if len(asked) > ASKED_MAX:
            self._asked = asked = {n: at for n, at in asked.items() if now - at < ASK_AGAIN_S}
        wanted = []
        for name in names:
            if self._node.seen_messages.has(name) or now - asked.get(name, -1e9) < ASK_AGAIN_S:
                continue
            if len(asked) <= 2 * ASKED_MAX and len(name) <= 64:
                asked[name] = now
                wanted.append(name)
        return wanted

    async def handle_iwant(self, iwant_msg: rpc_pb2.ControlIWant, sender_peer_id: ID) -> None:
        if not self.corrections.iwant_once:
            await super().handle_iwant(iwant_msg, sender_peer_id)
            return
        served = self._served.get(sender_peer_id, 0)
        for name in dict.fromkeys(iwant_msg.messageIDs[:CONTROL_IDS_MAX]):
            message = self.mcache.get(name)
            if message is None or served >= SERVED_MAX:
                continue
            served += 1
            self._node.send_frame([sender_peer_id], rpc_pb2.RPC(publish=[message]), None)
        self._served[sender_peer_id] = served
