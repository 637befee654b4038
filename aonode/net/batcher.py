"""Adaptive batching in front of `Wire.publish`.

One gossip delivery costs about a millisecond of CPU wherever it arrives, almost whatever its
size. So an entry is sent at once while there is little to send, and under load entries share a
payload: a batch closes at 64 KiB, or when the publish before it has left and 20 ms have passed
since that began, and in any case 200 ms after its first entry came. The cost of an entry falls
as load rises, and an idle node adds no delay.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from aonode.env import TaskStatus
from aonode.ports import Wire
from protocols.errors import Invalid
from protocols.limits import BATCH_ENTRIES_MAX
from protocols.wire.batch import BATCH_OVERHEAD_BYTES, pack
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

log = logging.getLogger("aonode.net.batcher")

BATCHED = frozenset({Topic.MESSAGES, Topic.SLOTS})
"""Topics whose payloads are batches. An entry of any other topic is a payload of its own."""

CLOSE_BYTES = 64 << 10
SPACING_S = 0.020
WAIT_S_MAX = 0.200
FLIGHTS_MAX = 4
"""Publishes of one lane under way at a time."""
LANE_BYTES_MAX = 4 << 20
"""Entries of one topic and shard waiting to leave."""

Pack = Callable[[Sequence[bytes]], bytes]


@dataclass(slots=True)
class BatchCounts:
    """Running totals, for metrics."""

    entries: int = 0
    payloads: int = 0
    payload_bytes: int = 0
    dropped: int = 0
    """Entries refused because the lane was full, or too large for their topic."""
    failed: int = 0
    """Payloads that the wire refused."""


class _Lane:
    """What waits for one topic and shard."""

    def __init__(self, topic: Topic, shard: int) -> None:
        self.topic = topic
        self.shard = shard
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0
        self.flights = 0
        self.sent_at = float("-inf")
        self.changed = trio.Event()

    def signal(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def closes_at(self) -> float:
        """When the batch that begins with the first waiting entry is to leave."""
        if self.topic not in BATCHED or self.waiting_bytes >= CLOSE_BYTES:
            return float("-inf")
        if len(self.waiting) >= BATCH_ENTRIES_MAX:
            return float("-inf")
        latest = self.waiting[0][0] + WAIT_S_MAX
        return latest if self.flights else min(latest, self.sent_at + SPACING_S)

    def take(self) -> list[bytes]:
        """The entries of the next payload, in order."""
        room = TOPIC_BYTES_MAX[self.topic] - BATCH_OVERHEAD_BYTES
        limit = BATCH_ENTRIES_MAX if self.topic in BATCHED else 1
        taken: list[bytes] = []
        size = 0
        while self.waiting and len(taken) < limit and size < CLOSE_BYTES:
            entry = self.waiting[0][1]
            if taken and size + len(entry) > room:
                break
            self.waiting.popleft()
            taken.append(entry)
            size += len(entry)
        self.waiting_bytes -= size
        return taken


class Batcher:
    """Takes entries without waiting, publishes them in batches, in order per topic and shard."""

    def __init__(
        self, wire: Wire, pack: Pack = pack, *, lane_bytes_max: int = LANE_BYTES_MAX
    ) -> None:
        """`pack` joins the entries of a batched topic into one payload."""
        self._wire = wire
        self._pack = pack
        self._lane_bytes_max = lane_bytes_max
        self._lanes: dict[tuple[Topic, int], _Lane] = {}
        self._nursery: trio.Nursery | None = None
        self.counts = BatchCounts()

    async def put(self, topic: Topic, shard: int, entry: bytes) -> bool:
        """Put `entry` in line; False, and counted, if there is no room for it.

        What is dropped here is as if lost on the way: resends repair it.
        """
        overhead = BATCH_OVERHEAD_BYTES if topic in BATCHED else 0
        lane = self._lane(topic, shard)
        full = lane.waiting_bytes + len(entry) > self._lane_bytes_max
        if full or len(entry) + overhead > TOPIC_BYTES_MAX[topic]:
            self.counts.dropped += 1
            return False
        lane.waiting.append((trio.current_time(), entry))
        lane.waiting_bytes += len(entry)
        lane.signal()
        return True

    async def flush(self) -> None:
        """Wait until everything that was put has been handed to the wire."""
        for lane in list(self._lanes.values()):
            while lane.waiting or lane.flights:
                await lane.changed.wait()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish until cancelled."""
        assert self._nursery is None, "a batcher runs once"
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for lane in self._lanes.values():
                nursery.start_soon(self._drive, nursery, lane)
            task_status.started()
            await trio.sleep_forever()

    def _lane(self, topic: Topic, shard: int) -> _Lane:
        """The lane of a topic and shard, made and started when it is first used."""
        lane = self._lanes.get((topic, shard))
        if lane is None:
            lane = self._lanes[topic, shard] = _Lane(topic, shard)
            if self._nursery is not None:
                self._nursery.start_soon(self._drive, self._nursery, lane)
        return lane

    async def _drive(self, nursery: trio.Nursery, lane: _Lane) -> None:
        """Close one batch after the other."""
        while True:
            if not lane.waiting or lane.flights >= FLIGHTS_MAX:
                await lane.changed.wait()
                continue
            closes_at = lane.closes_at()
            if trio.current_time() < closes_at:
                with trio.move_on_at(closes_at):
                    await lane.changed.wait()
                continue
            entries = lane.take()
            payload = self._pack(entries) if lane.topic in BATCHED else entries[0]
            lane.flights += 1
            lane.sent_at = trio.current_time()
            self.counts.entries += len(entries)
            await nursery.start(self._fly, lane, payload)

    async def _fly(self, lane: _Lane, payload: bytes, *, task_status: TaskStatus[None]) -> None:
        """One publish; begun before the next batch of the lane is looked at, so order holds."""
        task_status.started()
        try:
            await self._wire.publish(lane.topic, payload, shard=lane.shard)
            self.counts.payloads += 1
            self.counts.payload_bytes += len(payload)
        except Invalid as refused:
            self.counts.failed += 1
            log.warning("a payload for %s was not published: %s", lane.topic.value, refused)
        lane.flights -= 1
        lane.signal()
