"""`Wire` over py-libp2p: TCP, Noise, Yamux, identify, GossipSub v1.1, request streams."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from libp2p.abc import INetConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.swarm import Swarm
from nacl.signing import SigningKey

from aonode.env import Env, TaskStatus
from aonode.net.libp2p_corrections import (
    ContainedManager,
    Corrections,
    InboundStreams,
    correct_swarm,
    follow_connection,
    quiet_logging,
    replace,
    require_free_port,
)
from aonode.net.libp2p_keys import id_of_key, key_of_id, parse_address, parse_addresses, parse_peer
from aonode.net.libp2p_peers import ADDRESSES_MAX, FORGIVE_S, Peers
from aonode.net.libp2p_pubsub import NodePubsub
from aonode.net.libp2p_router import HEARTBEAT_S, NodeRouter
from aonode.net.libp2p_sequence import Sequence as SequenceNumbers
from aonode.net.libp2p_sequence import SequenceFile
from aonode.net.libp2p_streams import StreamServer, ask
from aonode.ports import Door, StreamHandler, Verdict
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey
from protocols.wire.topics import (
    FRAME_BYTES_MAX,
    SHARDED,
    TOPIC_BYTES_MAX,
    Protocol,
    Topic,
    protocol_name,
    topic_name,
)

log = logging.getLogger("aonode.net.libp2p")

LEAVE_S = 0.25
"""Longest that `publish` waits for slow peers of the mesh to take the message."""
CLOSE_S = 3.0


class Libp2pWire:
    """One node's place in the network. Made once, run once."""

    def __init__(
        self,
        *,
        seed: bytes,
        network: NetworkId,
        listen: str,
        bootstrap: Sequence[str],
        env: Env,
        shards: int = 1,
        sequence_path: Path | None = None,
        corrections: Corrections | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """`seed` is the node's 32-byte Ed25519 seed, `listen` a TCP multiaddress (port 0: any).

        `bootstrap` addresses end in /p2p/<peer id>. `sequence_path` is a file of this node alone
        that keeps gossip numbers from repeating; without it the wall clock must not run back over
        a restart. Raises Invalid(CONFIG).
        """
        quiet_logging()
        self._signing = SigningKey(seed)
        self.key = NodeKey(bytes(self._signing.verify_key))
        self._network = network
        self._listen = parse_address(listen)
        self._shards = shards
        self.corrections = corrections or Corrections()
        self._heartbeat_s = heartbeat_s
        file = None if sequence_path is None else SequenceFile(sequence_path)
        self._sequence = SequenceNumbers(env.now_ms, file)
        self._doors: dict[str, tuple[Door, int]] = {}
        self._handlers: dict[str, StreamHandler] = {}
        self._peers = Peers(self.key, env, self.corrections)
        for text in bootstrap:
            peer, address = parse_peer(text)
            self._peers.want(peer, (address,))
        self.streams = StreamServer()
        self._keys = create_new_key_pair(seed)
        self._swarm: Swarm | None = None
        self._pubsub: NodePubsub | None = None
        self._inbound: InboundStreams | None = None
        self._managers: list[ContainedManager] = []
        self._scopes: list[trio.CancelScope] = []

    # Set-up.

    def subscribe(self, topic: Topic, door: Door) -> None:
        """Join all shards of `topic`. Only before `run`."""
        assert self._swarm is None, "subscribe before run"
        for shard in range(self._shards if topic in SHARDED else 1):
            name = topic_name(topic, self._network, shard)
            self._doors[name] = (door, TOPIC_BYTES_MAX[topic])

    def serve(self, protocol: Protocol, handler: StreamHandler) -> None:
        """Answer a stream protocol. Only before `run`."""
        assert self._swarm is None, "serve before run"
        self._handlers[protocol_name(protocol, self._network)] = handler

    def connect(self, peer: NodeKey, addresses: Sequence[str]) -> None:
        """Stay connected to `peer` from now on. Addresses other than TCP are left out."""
        self._peers.want(peer, parse_addresses(addresses, ADDRESSES_MAX))

    # Use.

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        """Gossip `payload`; returns when the mesh peers have it, or the slow ones are slow.

        Raises Invalid(OVERSIZE), and Invalid(UNAVAILABLE) while the wire is not running.
        """
        if len(payload) > TOPIC_BYTES_MAX[topic]:
            detail = f"{len(payload)} bytes for {topic.value}; at most {TOPIC_BYTES_MAX[topic]}"
            raise Invalid(Reason.OVERSIZE, detail)
        if self._pubsub is None:
            raise Invalid(Reason.UNAVAILABLE, "the wire is not running; publish after `run`")
        name = topic_name(topic, self._network, shard)
        departure = await self._pubsub.publish_message(name, payload, self._sign)
        if departure is not None:
            with trio.move_on_after(LEAVE_S):
                await departure.wait()

    async def request(
        self, peer: NodeKey, protocol: Protocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        """One request, all frames of its answer. Raises Invalid(UNAVAILABLE or OVERSIZE)."""
        assert len(body) <= FRAME_BYTES_MAX, f"a request of {len(body)} bytes"
        swarm = self._swarm
        if swarm is None or not (self._peers.is_connected(peer) or await self._peers.dial(peer)):
            raise Invalid(Reason.UNAVAILABLE, f"not connected to {peer.hex()}")
        try:
            stream = await swarm.new_stream(id_of_key(peer))
            return await ask(stream, protocol_name(protocol, self._network), body, frames_max)
        except Invalid:
            raise
        except Exception as error:
            detail = f"{peer.hex()} did not answer {protocol.value}: {error!r}"
            raise Invalid(Reason.UNAVAILABLE, detail) from None

    def peers(self) -> tuple[NodeKey, ...]:
        """Peers connected now, sorted."""
        return self._peers.keys()

    def addresses(self) -> tuple[str, ...]:
        """Multiaddresses this node listens on, with its peer id; none before `run`."""
        if self._swarm is None:
            return ()
        found = [a for listener in self._swarm.listeners.values() for a in listener.get_addrs()]
        return tuple(f"{address}/p2p/{id_of_key(self.key)}" for address in found)

    def counts(self) -> Mapping[str, int]:
        """Running totals, for metrics."""
        pubsub = self._pubsub
        totals = {} if pubsub is None else pubsub.counts.totals()
        totals["contained"] = sum(manager.contained for manager in self._managers)
        if self._inbound is not None:
            totals["contained"] += self._inbound.contained
            totals["streams_refused"] = self._inbound.refused + self.streams.refused
        totals["requests_answered"] = self.streams.answered
        totals["requests_failed"] = self.streams.failed
        totals["dials_failed"] = self._peers.dials_failed
        return totals

    def mesh(self, topic: Topic, shard: int = 0) -> int:
        """Peers in the mesh of one topic now."""
        if self._pubsub is None:
            return 0
        router: Any = self._pubsub.router
        return len(router.mesh.get(topic_name(topic, self._network, shard), ()))

    def followers(self, topic: Topic, shard: int = 0) -> tuple[NodeKey, ...]:
        """Connected peers that have joined a topic, sorted."""
        if self._pubsub is None:
            return ()
        peers = self._pubsub.peer_topics.get(topic_name(topic, self._network, shard), set())
        keys = (key_of_id(peer) for peer in peers)
        return tuple(sorted(key for key in keys if key is not None))

    def _sign(self, message: bytes) -> bytes:
        return self._signing.sign(message).signature

    def _judge(self, forwarder: NodeKey, origin: NodeKey, name: str, payload: bytes) -> Verdict:
        """Bounds first, then the door of the topic. Never raises."""
        known = self._doors.get(name)
        if known is None:
            return Verdict.IGNORE
        door, size_max = known
        if len(payload) > size_max:
            return Verdict.REJECT
        try:
            return door(origin, payload)
        except Invalid as refused:
            log.debug("%s of %s refused: %s", name, origin.hex(), refused)
            return Verdict.REJECT
        except Exception as error:
            log.error("the door of %s raised %r; the message is ignored", name, error)
            return Verdict.IGNORE

    # Running.

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, join, dial; until cancelled, then leave. Raises Invalid(CONFIG)."""
        assert self._swarm is None, "a wire runs once"
        async with self._services() as host, trio.open_nursery() as nursery:
            await self._peers.run(host, nursery)
            task_status.started()
            while True:
                await trio.sleep(FORGIVE_S)
                assert self._pubsub is not None
                self._peers.judge(self._pubsub.counts.rejects)

    @contextlib.asynccontextmanager
    async def _services(self) -> AsyncIterator[BasicHost]:
        """The host and its pubsub, running; closed in order whatever ends the block."""
        swarm = correct_swarm(self._keys, self.corrections)
        host = BasicHost(network=swarm)
        self._inbound = InboundStreams(swarm.common_stream_handler, self.corrections)
        swarm.set_stream_handler(self._inbound)
        async with trio.open_nursery() as services:
            replace(host, "_schedule_identify", self._identify(host, services))
            try:
                await self._start(swarm, host, services)
                yield host
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
                    await self._close(host, swarm)
                self._swarm = self._pubsub = None
                for scope in self._scopes:
                    scope.cancel()

    async def _start(self, swarm: Swarm, host: BasicHost, services: trio.Nursery) -> None:
        await self._start_service(swarm, services)
        router = NodeRouter(self.corrections, self._heartbeat_s)
        pubsub = NodePubsub(host, router, self._judge, self._sequence, self.corrections)
        self._peers.on_closed = self._on_closed(pubsub)
        for name, answer in self._handlers.items():
            handler: Any = self.streams.handler(answer)
            host.set_stream_handler(TProtocol(name), handler)
        await self._start_service(pubsub, services)
        await self._start_service(router, services)
        await pubsub.wait_until_ready()
        for name in sorted(self._doors):
            await pubsub.subscribe(name)
        await require_free_port(self._listen, self.corrections)
        if not await swarm.listen(self._listen):
            detail = f"cannot listen on {self._listen}; give an address of this machine"
            raise Invalid(Reason.CONFIG, detail)
        self._swarm = swarm
        self._pubsub = pubsub

    async def _start_service(self, service: Any, services: trio.Nursery) -> None:
        """Run `service` until `_close` stops it: a cancelled wire says goodbye first."""
        manager = ContainedManager(service, self.corrections)
        self._managers.append(manager)
        scope = trio.CancelScope(shield=True)
        self._scopes.append(scope)

        async def run() -> None:
            with scope:
                await manager.run()

        services.start_soon(run)
        await manager.wait_started()

    def _on_closed(self, pubsub: NodePubsub) -> Callable[[INetConn], None]:
        def follow(connection: INetConn) -> None:
            follow_connection(pubsub, connection, self.corrections)

        return follow

    def _identify(self, host: BasicHost, services: trio.Nursery) -> Callable[..., None]:
        """Identify in our nursery: as a system task, its failure would end the program."""

        async def contained(peer: Any, reason: str) -> None:
            try:
                await host._identify_task_entry(peer, reason)
            except Exception as error:
                log.info("identify of %s failed: %r", peer, error)

        def schedule(peer: Any, *, reason: str) -> None:
            if peer not in host._identify_inflight and not host._has_cached_protocols(peer):
                host._identify_inflight.add(peer)
                services.start_soon(contained, peer, reason)

        return schedule

    async def _close(self, host: BasicHost, swarm: Swarm) -> None:
        """Say goodbye to all peers at once, then stop the services in their order."""
        async with trio.open_nursery() as nursery:
            for connections in list(swarm.connections.values()):
                for connection in list(connections):
                    nursery.start_soon(self._close_one, connection)
        for manager in reversed(self._managers):
            if manager.is_running:
                await manager.stop()
        await host.close()

    async def _close_one(self, connection: INetConn) -> None:
        try:
            await connection.close()
        except Exception as error:
            log.debug("closing a connection: %r", error)
