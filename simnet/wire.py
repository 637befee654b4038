"""The Wire of a simulated node, on the links of one `Fabric`.

Gossip is modelled as flooding: the origin sends to every subscribed node it reaches, and each that
accepts sends on to all others. That gives the delays, losses, duplicates and verdicts of a full
mesh, not yet the message economy of the production gossip machine, which will replace it.

A power cut fences a wire like a disk: what its tasks still send raises `PowerLost`, what is under
way to it is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

import trio

from aonode.env import TaskStatus
from aonode.ports import Door, StreamHandler, Verdict
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import FRAME_BYTES_MAX, TOPIC_BYTES_MAX, Protocol, Topic
from simnet.fabric import Fabric
from simnet.power import Power
from simnet.stream import DIAL_S_MAX, Stream
from simnet.trace import Trace

SEEN_MAX = 1 << 14
"""Gossip messages a node remembers, to drop their duplicates."""
STREAMS_MAX = 256
"""Streams a node answers at once; one more is reset."""
STREAMS_PER_PEER_MAX = 16
"""Streams a node answers at once for one peer; as in the production wire."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """One published message on its way."""

    origin: NodeKey
    sequence: int
    topic: Topic
    shard: int
    payload: bytes


class Medium:
    """All wires on one fabric, and the faults planned for them."""

    def __init__(self, fabric: Fabric, trace: Trace) -> None:
        self.fabric = fabric
        self.trace = trace
        self._wires: dict[NodeKey, SimWire] = {}
        self.watchers: list[Callable[[Gossip], None]] = []
        """Invariants that look at every publish, as it goes on the wire."""
        self._published = 0
        self._flipped: int | None = None

    def flip_byte(self, number: int) -> None:
        """Fault: the lowest bit of the first byte of the `number`-th publish (from 1) flips."""
        self._flipped = number

    def live(self, source: NodeKey, target: NodeKey) -> SimWire | None:
        """The wire of `target`, if it runs and `source` reaches it now."""
        wire = self._wires.get(target)
        if wire is None or not wire.power.on or not self.fabric.reaches(source, target):
            return None
        return wire

    def join(self, wire: SimWire) -> None:
        """A wire begins to run."""
        other = self._wires.get(wire.key)
        assert other is None or not other.power.on, f"two wires of {wire.name} run at once"
        self._wires[wire.key] = wire

    def leave(self, wire: SimWire) -> None:
        """A wire has ended; a later incarnation's stays."""
        if self._wires.get(wire.key) is wire:
            del self._wires[wire.key]

    def published(self, gossip: Gossip) -> Gossip:
        """Take note of a publish; returns it as it goes on the wire."""
        self._published += 1
        if self._published == self._flipped:
            payload = gossip.payload
            gossip = replace(gossip, payload=bytes((payload[0] ^ 1,)) + payload[1:])
        for watch in self.watchers:
            watch(gossip)
        return gossip


class SimWire:
    """Implements `aonode.ports.Wire` for one incarnation of one node."""

    def __init__(self, medium: Medium, key: NodeKey, name: str, power: Power) -> None:
        self.key = key
        self.name = name
        self.power = power
        self._medium = medium
        self._number = medium.fabric.add(key)
        self._doors: dict[Topic, Door] = {}
        self._handlers: dict[Protocol, StreamHandler] = {}
        self._seen: OrderedDict[tuple[NodeKey, int], None] = OrderedDict()
        # Message ids must not repeat after a restart: the incarnation is their upper half.
        self._sequence = power.number << 32
        self._nursery: trio.Nursery | None = None
        self._streams: dict[NodeKey, int] = {}

    def subscribe(self, topic: Topic, door: Door) -> None:
        """Join all shards of a topic before `run`."""
        assert self._nursery is None, "subscribe before run"
        self._doors[topic] = door

    def serve(self, protocol: Protocol, handler: StreamHandler) -> None:
        """Answer a stream protocol, before `run`."""
        assert self._nursery is None, "serve before run"
        self._handlers[protocol] = handler

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be on the net until cancelled."""
        self.power.check()
        self._medium.join(self)
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._medium.leave(self)

    def peers(self) -> tuple[NodeKey, ...]:
        """Every running node that is reached now, sorted: the mesh is full."""
        fabric = self._medium.fabric
        return tuple(
            sorted(
                node
                for node in fabric.nodes()
                if node != self.key and self._medium.live(self.key, node) is not None
            )
        )

    def addresses(self) -> tuple[str, ...]:
        """One made-up address."""
        number = self._number
        return (f"/ip4/10.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/4001",)

    def connect(self, peer: NodeKey, addresses: Sequence[str]) -> None:
        """Nothing to do: the mesh is full."""

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        """Gossip `payload` to all that are subscribed and reached.

        Raises Invalid(OVERSIZE), and Invalid(UNAVAILABLE) while the wire is not running.
        """
        self.power.check()
        if len(payload) > TOPIC_BYTES_MAX[topic]:
            detail = f"{len(payload)} bytes for {topic.value}; at most {TOPIC_BYTES_MAX[topic]}"
            raise Invalid(Reason.OVERSIZE, detail)
        if self._nursery is None:
            raise Invalid(Reason.UNAVAILABLE, "the wire is not running; publish after `run`")
        self._sequence += 1
        gossip = Gossip(self.key, self._sequence, topic, shard, payload)
        gossip = self._medium.published(gossip)
        self._medium.trace.record(self.name, "publish", topic.value, shard, gossip.payload)
        self._flood(gossip, self.key)
        await trio.lowlevel.checkpoint()

    def _flood(self, gossip: Gossip, came_from: NodeKey) -> None:
        for node in self._medium.fabric.nodes():
            if node not in (self.key, came_from, gossip.origin):
                self._pass_on(gossip, node)

    def _pass_on(self, gossip: Gossip, node: NodeKey) -> None:
        target = self._medium.live(self.key, node)
        if target is None or gossip.topic not in target._doors:
            return

        def arrive() -> None:
            wire = self._medium.live(self.key, node)
            if wire is not None:
                wire._take(gossip, self.key)

        self._medium.fabric.send(self.key, node, len(gossip.payload), arrive)

    def _take(self, gossip: Gossip, came_from: NodeKey) -> None:
        door = self._doors.get(gossip.topic)
        mark = gossip.origin, gossip.sequence
        if door is None or mark in self._seen:
            return
        self._seen[mark] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        try:
            verdict = door(gossip.origin, gossip.payload)
        except Invalid:
            verdict = Verdict.REJECT
        self._medium.trace.record(
            self.name, "gossip", gossip.topic.value, gossip.origin, gossip.sequence, verdict.value
        )
        if verdict is Verdict.ACCEPT:
            self._flood(gossip, came_from)

    async def request(
        self, peer: NodeKey, protocol: Protocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        """One request and its whole answer. Raises Invalid(UNAVAILABLE, OVERSIZE)."""
        self.power.check()
        assert len(body) <= FRAME_BYTES_MAX, f"a request of {len(body)} bytes"
        assert frames_max > 0, f"{frames_max} frames are no answer"
        medium = self._medium
        medium.trace.record(self.name, "request", peer, protocol.value, body)
        stream = Stream(medium.fabric, self.key, peer, protocol, frames_max)
        if self._nursery is None or medium.live(self.key, peer) is None:
            await trio.sleep(DIAL_S_MAX)
            raise stream.unavailable("it cannot be reached")

        def accept() -> None:
            wire = medium.live(self.key, peer)
            if wire is not None:
                wire._accept(stream, body)

        stream.open(body, accept)
        try:
            return await stream.answer()
        finally:
            stream.abandoned = True

    def _accept(self, stream: Stream, body: bytes) -> None:
        handler = self._handlers.get(stream.protocol)
        held = self._streams.get(stream.client, 0)
        full = held >= STREAMS_PER_PEER_MAX or sum(self._streams.values()) >= STREAMS_MAX
        if handler is None or self._nursery is None or full:
            stream.reply(None)
            return
        self._streams[stream.client] = held + 1
        self._nursery.start_soon(self._answer, stream, handler, body)

    async def _answer(self, stream: Stream, handler: StreamHandler, body: bytes) -> None:
        """What is not Invalid here is a bug of ours, and ends the run."""
        trace = self._medium.trace
        frames = handler(stream.client, body)
        try:
            count = 0
            async for frame in frames:
                self.power.check()
                assert 0 < len(frame) <= FRAME_BYTES_MAX, f"an answer frame of {len(frame)} bytes"
                trace.record(self.name, "frame", stream.protocol.value, frame)
                stream.reply(frame)
                count += 1
                if stream.abandoned or count > stream.frames_max:
                    break
            stream.reply(b"")
        except Invalid as refusal:
            trace.record(self.name, "reset", stream.protocol.value, refusal.reason.value)
            stream.reply(None)
        finally:
            self._streams[stream.client] -= 1
            if isinstance(frames, AsyncGenerator):
                await frames.aclose()
