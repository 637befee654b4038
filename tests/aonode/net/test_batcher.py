"""Adaptive batching, in virtual time."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from aonode.net.batcher import CLOSE_BYTES, SPACING_S, WAIT_S_MAX, Batcher
from aonode.ports import Wire
from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.limits import BATCH_ENTRIES_MAX
from protocols.wire.batch import pack
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic


class SlowWire:
    """A wire whose publish takes `takes_s`, and which remembers what left when."""

    def __init__(self) -> None:
        self.takes_s = 0.0
        self.left: list[tuple[float, list[bytes]]] = []
        self.refuse = False

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        if self.refuse:
            raise Invalid(Reason.UNAVAILABLE, "no")
        entries = [payload]
        if topic in {Topic.SLOTS, Topic.MESSAGES}:
            value: Any = codec.decode(payload, size_max=1 << 20)
            entries = [codec.encode(entry) for entry in value[1]]
        self.left.append((trio.current_time(), entries))
        await trio.sleep(self.takes_s)


def entry(number: int, size: int = 100) -> bytes:
    return codec.encode([0, number.to_bytes(4, "big") + bytes(size)])


async def started(nursery: trio.Nursery, **options: int) -> tuple[SlowWire, Batcher]:
    wire = SlowWire()
    batcher = Batcher(cast(Wire, wire), pack, **options)
    await nursery.start(batcher.run)
    return wire, batcher


async def test_an_idle_batcher_sends_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        begun = trio.current_time()
        for number in range(3):
            await batcher.put(Topic.SLOTS, 0, entry(number))
            await trio.sleep(1)
        assert wire.left == [(begun + n, [entry(n)]) for n in range(3)]
        nursery.cancel_scope.cancel()


async def test_under_load_a_batch_leaves_every_20_ms(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        for number in range(1000):
            await batcher.put(Topic.SLOTS, 0, entry(number))
            await trio.sleep(0.001)
        await batcher.flush()
        assert [e for _, entries in wire.left for e in entries] == [entry(n) for n in range(1000)]
        assert 45 <= len(wire.left) <= 52
        times = [at for at, _ in wire.left]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert all(gap >= SPACING_S - 1e-9 for gap in gaps)
        assert batcher.counts.entries == 1000
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_more_load_makes_larger_batches_not_more(autojump_clock: MockClock) -> None:
    payloads = []
    for per_second in (10, 100, 1000, 3000):
        async with trio.open_nursery() as nursery:
            wire, batcher = await started(nursery)
            wire.takes_s = 0.01
            for number in range(per_second):
                await batcher.put(Topic.SLOTS, 0, entry(number, 20))
                await trio.sleep(1 / per_second)
            await batcher.flush()
            payloads.append(len(wire.left) / per_second)
            nursery.cancel_scope.cancel()
    assert payloads == sorted(payloads, reverse=True)
    assert payloads[0] == 1
    assert payloads[-1] < 0.02


async def test_a_batch_closes_at_64_kib(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        await batcher.put(Topic.SLOTS, 0, entry(0))
        await trio.sleep(0.001)
        for number in range(1, 20):
            await batcher.put(Topic.SLOTS, 0, entry(number, 16 << 10))
        await trio.sleep(0.001)
        assert len(wire.left) > 1, "64 KiB do not wait for the 20 ms"
        await batcher.flush()
        sizes = [sum(map(len, entries)) for _, entries in wire.left[1:-1]]
        assert all(CLOSE_BYTES <= size < CLOSE_BYTES + (17 << 10) for size in sizes)
        nursery.cancel_scope.cancel()


async def test_a_slow_publish_holds_the_next_for_200_ms_at_most(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        wire.takes_s = 10.0
        begun = trio.current_time()
        await batcher.put(Topic.SLOTS, 0, entry(0))
        await trio.sleep(0.05)
        await batcher.put(Topic.SLOTS, 0, entry(1))
        await trio.sleep(0.1)
        await batcher.put(Topic.SLOTS, 0, entry(2))
        await trio.sleep(1)
        assert [entries for _, entries in wire.left] == [[entry(0)], [entry(1), entry(2)]]
        assert wire.left[1][0] == pytest.approx(begun + 0.05 + WAIT_S_MAX)
        nursery.cancel_scope.cancel()


async def test_a_batch_leaves_with_the_publish_before_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        wire.takes_s = 0.1
        begun = trio.current_time()
        await batcher.put(Topic.SLOTS, 0, entry(0))
        await trio.sleep(0.03)
        await batcher.put(Topic.SLOTS, 0, entry(1))
        await batcher.flush()
        assert wire.left[1][0] == pytest.approx(begun + 0.1)
        nursery.cancel_scope.cancel()


async def test_lanes_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        for shard in range(3):
            await batcher.put(Topic.SLOTS, shard, entry(shard))
        await batcher.put(Topic.MESSAGES, 0, entry(9))
        begun = trio.current_time()
        await batcher.flush()
        assert [at for at, _ in wire.left] == [begun] * 4
        nursery.cancel_scope.cancel()


async def test_topics_without_batches_send_entry_by_entry(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery)
        sent = [b"announcement %d" % number for number in range(5)]
        for payload in sent:
            await batcher.put(Topic.UNITS, 0, payload)
        await batcher.flush()
        assert [entries for _, entries in wire.left] == [[payload] for payload in sent]
        nursery.cancel_scope.cancel()


async def test_bounds(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wire, batcher = await started(nursery, lane_bytes_max=100_000)
        assert not await batcher.put(Topic.SLOTS, 0, bytes(TOPIC_BYTES_MAX[Topic.SLOTS]))
        assert not await batcher.put(Topic.UNITS, 0, bytes(TOPIC_BYTES_MAX[Topic.UNITS] + 1))
        taken = [await batcher.put(Topic.SLOTS, 0, entry(n, 10_000)) for n in range(20)]
        assert taken == [True] * 9 + [False] * 11
        assert batcher.counts.dropped == 13
        await batcher.flush()
        wire.refuse = True
        assert await batcher.put(Topic.SLOTS, 0, entry(1))
        await batcher.flush()
        assert batcher.counts.failed == 1
        wire.refuse = False
        wire.left.clear()
        for number in range(BATCH_ENTRIES_MAX + 10):
            await batcher.put(Topic.SLOTS, 0, entry(number, 0))
        await batcher.flush()
        assert all(len(entries) <= BATCH_ENTRIES_MAX for _, entries in wire.left)
        assert sum(len(entries) for _, entries in wire.left) == BATCH_ENTRIES_MAX + 10
        nursery.cancel_scope.cancel()


async def test_what_is_put_before_the_start_leaves_at_the_start(autojump_clock: MockClock) -> None:
    wire = SlowWire()
    batcher = Batcher(cast(Wire, wire), pack)
    await batcher.put(Topic.SLOTS, 0, entry(0))
    async with trio.open_nursery() as nursery:
        await nursery.start(batcher.run)
        await batcher.flush()
        assert [entries for _, entries in wire.left] == [[entry(0)]]
        nursery.cancel_scope.cancel()
