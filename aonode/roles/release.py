"""What becomes of effects once their group is durable: gossip, streams, notices, alarms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from aonode.net.batcher import Batcher
from aonode.ops import log
from aonode.ops.metrics import Metrics
from aonode.ports import Door, Wire
from aonode.roles.runner import Hub, Runner
from protocols.errors import Invalid
from protocols.ids import NodeKey, b64url
from protocols.machine.effects import (
    Alarm,
    Answered,
    Audit,
    Effect,
    Event,
    Execute,
    Notify,
    Publish,
    RunSegment,
    Send,
)
from protocols.wire.batch import pack
from protocols.wire.topics import SHARDED, Protocol, Topic, shard_of

STREAM_FRAMES_MAX = 256
"""Frames of one answer a machine is given; with 1 MiB frames far above any request's bound."""
SENDS_MAX = 64
"""Requests under way at once; more wait their turn inside their own deadline."""

ALONE = frozenset({Topic.PROOFS, Topic.VOTES, Topic.ALARMS, Topic.UNITS})
"""Topics whose messages carry one entry each."""

Translate = Callable[[Send, Answered], Awaitable[Event]]
"""Turns the unverified frames of an answer into an event a machine may trust."""


class Release:
    """Applies for all machines of one node what its runners do not do themselves."""

    def __init__(
        self, *, key: NodeKey, hub: Hub, wire: Wire, batcher: Batcher, metrics: Metrics, shards: int
    ) -> None:
        self._key = key
        self._hub = hub
        self._wire = wire
        self.batcher = batcher
        self._metrics = metrics
        self._shards = shards
        self._limiter = trio.CapacityLimiter(SENDS_MAX)
        self._log = log.get("release")
        self.nursery: trio.Nursery | None = None
        """Where streams run; set by the node while it runs."""
        self.local_doors: dict[Topic, Door] = {}
        """Doors of this node's own subscriptions: gossip does not bring back what we publish."""
        self.translators: dict[Protocol, Translate] = {}
        self.execute: Callable[[Execute], None] | None = None
        self.run_segment: Callable[[Runner, RunSegment], None] | None = None
        self.audit: Callable[[Runner, Audit], None] | None = None
        self.observers: dict[type[Event], Callable[[Event], None]] = {}
        """Adapters that answer waiting questions when a notice of this type is durable."""

    async def __call__(self, runner: Runner, effect: Effect) -> None:
        match effect:
            case Publish():
                await self._publish(effect)
            case Send():
                assert self.nursery is not None, "machines run inside the node's nursery"
                self.nursery.start_soon(self._send, runner, effect)
            case Notify(event=event):
                if observer := self.observers.get(type(event)):
                    observer(event)
                await self._hub.notify(event, runner)
            case Execute():
                assert self.execute is not None, "only a compute unit executes"
                self.execute(effect)
            case RunSegment():
                assert self.run_segment is not None, "only a node with a ledger runs segments"
                self.run_segment(runner, effect)
            case Audit():
                assert self.audit is not None, "only a node with a ledger audits"
                self.audit(runner, effect)
            case Alarm():
                self._metrics.alarms.labels(reason=effect.reason.value).inc()
                self._log.warning(
                    "alarm",
                    reason=effect.reason.value,
                    process=b64url(effect.process),
                    detail=effect.detail,
                )
            case _:
                raise AssertionError(f"{type(effect).__name__} is the runner's own effect")

    async def _publish(self, effect: Publish) -> None:
        shard = shard_of(effect.process, self._shards) if effect.topic in SHARDED else 0
        if effect.topic in ALONE:
            await self._wire.publish(effect.topic, effect.entry, shard=shard)
            return
        if door := self.local_doors.get(effect.topic):
            door(self._key, pack([effect.entry]))
        await self.batcher.put(effect.topic, shard, effect.entry)

    async def _send(self, runner: Runner, effect: Send) -> None:
        frames: tuple[bytes, ...] | None = None
        with trio.move_on_after(effect.deadline_ms / 1000):
            async with self._limiter:
                try:
                    frames = await self._wire.request(
                        effect.peer, effect.protocol, effect.body, frames_max=STREAM_FRAMES_MAX
                    )
                except Invalid as error:
                    self._metrics.invalid.labels(reason=error.reason.value).inc()
        answered = Answered(effect.tag, effect.peer, frames)
        translate = self.translators.get(effect.protocol)
        await runner.send(await translate(effect, answered) if translate else answered)
