"""Pubsub as this node runs it: its own message path around py-libp2p's subscriptions and mesh.

What arrives is read in chunks, checked against bounds, asked of the seen cache, checked for its
signature, shown to the door of its topic, and only then forwarded. What leaves is encoded once
and written by one task per peer, as many waiting RPCs at a time as fit in one yamux frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import nacl.bindings
import nacl.exceptions
import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.utils import maybe_consume_signed_record
from libp2p.pubsub.validators import signature_validator
from libp2p.utils.varint import encode_uvarint

from aonode.net.libp2p_corrections import Corrections, correct_seen_cache
from aonode.net.libp2p_framing import ChunkReader
from aonode.net.libp2p_keys import key_of_id_bytes
from aonode.ports import Verdict
from protocols.ids import NodeKey

log = logging.getLogger("aonode.net.libp2p")

RPC_BYTES_MAX = 1 << 20
QUEUE_RPCS_MAX = 512
QUEUE_BYTES_MAX = 8 << 20
WRITE_BYTES = 48 << 10
"""Waiting RPCs are joined up to this size into one write: one yamux frame, one Noise message."""
SIGNED_PREFIX = b"libp2p-pubsub:"

Judge = Callable[[NodeKey, NodeKey, str, bytes], Verdict]
"""(forwarder, origin, topic name, payload) -> verdict; never raises."""


class Departure:
    """Counts the peers that one published message still has to be written to."""

    def __init__(self) -> None:
        self._left = 0
        self._gone = trio.Event()

    def add(self) -> None:
        self._left += 1

    def done(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._gone.set()

    async def wait(self) -> None:
        if self._left > 0:
            await self._gone.wait()


@dataclass(eq=False, slots=True)
class Encoded:
    """An RPC with its length prefix, as it goes on the wire to any number of peers."""

    frame: bytes
    departure: Departure | None = None


@dataclass(slots=True)
class Counts:
    """What the message path has seen, for metrics."""

    received: int = 0
    duplicates: int = 0
    accepted: int = 0
    ignored: int = 0
    rejected: int = 0
    dropped: int = 0
    published: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rejects: dict[ID, int] = field(default_factory=dict)
    """Rejected messages by forwarder; see `Peers.judge`."""

    def totals(self) -> dict[str, int]:
        """The running totals by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "rejects"}


def signed_bytes(message: rpc_pb2.Message) -> bytes:
    """What the origin of a gossip message signs (pubsub specification, "Message Signing")."""
    bare = rpc_pb2.Message(
        data=message.data,
        topicIDs=message.topicIDs,
        from_id=message.from_id,
        seqno=message.seqno,
    )
    return SIGNED_PREFIX + bare.SerializeToString()


def origin_of(message: rpc_pb2.Message) -> NodeKey | None:
    """The node that signed `message`, or None if nobody did. The `key` field is not read."""
    origin = key_of_id_bytes(message.from_id)
    if origin is None or len(message.seqno) != 8 or len(message.signature) != 64:
        return None
    try:
        nacl.bindings.crypto_sign_open(message.signature + signed_bytes(message), origin)
    except (nacl.exceptions.CryptoError, ValueError):
        return None
    return origin


class NodePubsub(Pubsub):
    """`Pubsub` with three-way verdicts and a message path of its own."""

    def __init__(
        self, host: IHost, router: Any, judge: Judge, sequence: Any, corrections: Corrections
    ) -> None:
        self.corrections = corrections
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=RPC_BYTES_MAX)
        self._judge = judge
        self._sequence = sequence
        self.counts = Counts()
        self.queued_bytes: dict[ID, int] = {}
        self._inbound: dict[ID, int] = {}
        """Streams on which each peer sends to us."""
        correct_seen_cache(self, corrections)

    def get_hello_packet(self) -> rpc_pb2.RPC:
        if not self.corrections.no_peer_records:
            return super().get_hello_packet()
        subscribe = rpc_pb2.RPC.SubOpts
        names = [subscribe(subscribe=True, topicid=name) for name in self.topic_ids]
        return rpc_pb2.RPC(subscriptions=names)

    def _next_seqno(self) -> bytes:
        if not self.corrections.lasting_sequence:
            return super()._next_seqno()
        return cast(int, self._sequence()).to_bytes(8, "big")

    # What arrives.

    async def continuously_read_stream(self, stream: INetStream) -> None:
        peer = stream.muxed_conn.peer_id
        self._inbound[peer] = self._inbound.get(peer, 0) + 1
        try:
            if self.corrections.buffered_reader:
                await self._read_stream(peer, stream)
            else:
                await super().continuously_read_stream(stream)
        finally:
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]

    async def _read_stream(self, peer: ID, stream: INetStream) -> None:
        reader = ChunkReader(stream)
        while True:
            frame = await reader.frame(self.max_inbound_rpc_size)
            if frame is None:
                return
            self.counts.bytes_in += len(frame)
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(frame)
            await self._take(peer, rpc)

    async def _take(self, peer: ID, rpc: rpc_pb2.RPC) -> None:
        if not self.corrections.no_peer_records and not maybe_consume_signed_record(
            rpc, self.host, peer
        ):
            return
        for message in rpc.publish:
            if not self._is_subscribed_to_msg(message):
                continue
            if self.corrections.seen_first:
                await self.push_msg(peer, message)
            else:
                self.manager.run_task(self.push_msg, peer, message)
        if len(rpc.subscriptions) <= self.max_subscriptions_per_peer:
            for option in rpc.subscriptions:
                self.handle_subscription(peer, option)
        if rpc.HasField("control"):
            if self.corrections.no_peer_records:
                rpc.ClearField("senderRecord")
            await self.router.handle_rpc(rpc, peer)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        if not self.corrections.verdicts or msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        if self._sound(msg_forwarder, msg):
            await self.router.publish(msg_forwarder, msg)

    def _sound(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        """Whether to forward `message`. It is marked as seen once its signature is known good."""
        counts = self.counts
        counts.received += 1
        name = self._msg_id_constructor(message)
        if self.seen_messages.has(name):
            counts.duplicates += 1
            return False
        if self.corrections.inline_keys_only:
            origin = origin_of(message)
        else:
            origin = key_of_id_bytes(message.from_id)
            if not signature_validator(message):
                origin = None
        verdict = Verdict.REJECT
        if origin is not None and len(message.topicIDs) == 1:
            self.seen_messages.add(name)
            sender = key_of_id_bytes(forwarder.to_bytes())
            if sender is None or message.from_id == self.my_id.to_bytes():
                verdict = Verdict.IGNORE
            else:
                verdict = self._judge(sender, origin, message.topicIDs[0], message.data)
        if verdict is Verdict.REJECT:
            counts.rejected += 1
            counts.rejects[forwarder] = counts.rejects.get(forwarder, 0) + 1
        elif verdict is Verdict.IGNORE:
            counts.ignored += 1
        else:
            counts.accepted += 1
        return verdict is Verdict.ACCEPT

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """Our stream to a peer ended. What it told us on its own stream still holds, if that does.

        py-libp2p forgets the subscriptions, and as the peer's stream is well it never repeats them.
        """
        told: list[str] = []
        if self.corrections.dead_streams and peer_id in self._inbound:
            told = [name for name, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        for name in told:
            self.peer_topics.setdefault(name, set()).add(peer_id)
        if told:
            self._peer_subscription_count[peer_id] = len(told)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nobody reads subscription channels here: the door has had the message."""
        if not self.corrections.verdicts and publish_message.from_id != self.my_id.to_bytes():
            origin = key_of_id_bytes(publish_message.from_id)
            assert origin is not None, "signatures were checked by then"
            self._judge(origin, origin, publish_message.topicIDs[0], publish_message.data)

    # What leaves.

    async def publish_message(self, topic: str, payload: bytes, sign: Any) -> Departure | None:
        """Sign and send; None if it went by py-libp2p's own way."""
        message = rpc_pb2.Message(
            data=payload, topicIDs=[topic], from_id=self.my_id.to_bytes(), seqno=self._next_seqno()
        )
        message.signature = sign(signed_bytes(message))
        self.counts.published += 1
        self.seen_messages.add(self._msg_id_constructor(message))
        if not self.corrections.encode_once:
            await self.router.publish(self.my_id, message)
            return None
        departure = Departure()
        forward = cast(Any, self.router).forward
        forward(self.my_id, message, departure)
        return departure

    def send_frame(
        self, peers: Sequence[ID], rpc: rpc_pb2.RPC, departure: Departure | None
    ) -> None:
        """Queue one RPC, encoded once, for each of `peers`; where a queue is full, count it."""
        body = rpc.SerializeToString()
        item = Encoded(encode_uvarint(len(body)) + body, departure)
        for peer in peers:
            queue = self.peer_queues.get(peer)
            if queue is None:
                continue
            size = self.queued_bytes.get(peer, 0) + len(item.frame)
            if size > QUEUE_BYTES_MAX or not queue.push(cast(Any, item)):
                self.counts.dropped += 1
                continue
            self.queued_bytes[peer] = size
            if departure is not None:
                departure.add()

    async def handle_sending_messages(
        self, peer_id: ID, stream: INetStream, queue: RpcQueue
    ) -> None:
        if self.corrections.deep_queues:
            queue._queue.max_size = QUEUE_RPCS_MAX
        waiting: list[Encoded] = []
        muxed: Any = getattr(stream, "muxed_stream", stream)
        try:
            while (first := await queue.pop()) is not None:
                waiting = self._gather(queue, first)
                chunk = b"".join(item.frame for item in waiting)
                self.counts.bytes_out += len(chunk)
                await muxed.write(chunk)
                self._written(peer_id, waiting)
                waiting = []
        except Exception as error:
            log.debug("sending to %s ended: %r", peer_id, error)
        finally:
            self._written(peer_id, waiting)
            queue.close()
            while (left := cast(Any, queue._queue.pop())) is not None:
                self._written(peer_id, [left] if isinstance(left, Encoded) else [])
            self.queued_bytes.pop(peer_id, None)
        if self.peers.get(peer_id) is stream:
            self._handle_dead_peer(peer_id)
        await stream.reset()

    def _gather(self, queue: RpcQueue, first: Any) -> list[Encoded]:
        """`first` and what else is waiting, up to one write."""
        taken = [encoded(first)]
        size = len(taken[0].frame)
        while size < WRITE_BYTES and (item := queue._queue.pop()) is not None:
            taken.append(encoded(item))
            size += len(taken[-1].frame)
        return taken

    def _written(self, peer: ID, items: Sequence[Encoded]) -> None:
        for item in items:
            if peer in self.queued_bytes:
                self.queued_bytes[peer] = max(0, self.queued_bytes[peer] - len(item.frame))
            if item.departure is not None:
                item.departure.done()


def encoded(item: Any) -> Encoded:
    """A queue holds ready frames, and RPCs that py-libp2p put there."""
    if isinstance(item, Encoded):
        return item
    body = cast(bytes, item.SerializeToString())
    return Encoded(encode_uvarint(len(body)) + body)
