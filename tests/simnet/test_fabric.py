"""Links: delay, order, loss, partition, and one task for all packets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from protocols.ids import NodeKey
from simnet import determinism
from simnet.fabric import Fabric, LinkModel
from simnet.seed import Seed

A, B, C = (NodeKey(bytes([number]) * 32) for number in (1, 2, 3))
FLAT = LinkModel(delay_s_min=0.1, delay_s_max=0.1, jitter_s_max=0.0, bytes_per_s=1e12)


def _run(act: Callable[[Fabric], Awaitable[None]], model: LinkModel = FLAT, seed: int = 1) -> None:
    async def main() -> None:
        fabric = Fabric(Seed.root(seed), model)
        for node in (A, B, C):
            fabric.add(node)
        async with trio.open_nursery() as nursery:
            await nursery.start(fabric.run)
            await act(fabric)
            nursery.cancel_scope.cancel()

    determinism.run(main, Seed.root(seed))


def test_a_packet_takes_the_link_s_delay() -> None:
    async def act(fabric: Fabric) -> None:
        arrived: list[float] = []
        await trio.sleep(2)
        fabric.send(A, B, 0, lambda: arrived.append(trio.current_time()))
        await trio.sleep(0.05)
        fabric.send(A, C, 0, lambda: arrived.append(trio.current_time()))
        await trio.sleep(5)
        assert [round(at, 6) for at in arrived] == [2.1, 2.15]

    _run(act)


def test_bytes_take_time_and_queue_at_their_sender() -> None:
    async def act(fabric: Fabric) -> None:
        ends = [fabric.send(A, B, 500, lambda: None), fabric.send(A, C, 500, lambda: None)]
        ends.append(fabric.send(B, C, 500, lambda: None))
        assert [round(at, 6) for at in ends] == [0.6, 1.1, 0.6]

    _run(act, LinkModel(0.1, 0.1, 0.0, bytes_per_s=1000))


def test_a_pair_s_distance_is_its_own_and_the_same_both_ways() -> None:
    async def act(fabric: Fabric) -> None:
        assert fabric.distance_s(A, B) == fabric.distance_s(B, A)
        assert fabric.distance_s(A, B) != fabric.distance_s(A, C)
        assert 0.005 <= fabric.distance_s(B, C) <= 0.12

    _run(act, LinkModel())


def test_a_stream_keeps_its_order_and_is_late_instead_of_lost() -> None:
    async def act(fabric: Fabric) -> None:
        arrived: list[int] = []
        lost: list[int] = []
        at = 0.0
        for number in range(50):
            at = fabric.send(A, B, 10, lambda n=number: arrived.append(n), not_before_s=at)  # type: ignore[misc]
            fabric.send(A, C, 10, lambda n=number: lost.append(n))  # type: ignore[misc]
        await trio.sleep(60)
        assert arrived == list(range(50))
        assert 0 < len(lost) < 50

    _run(act, LinkModel(jitter_s_max=0.5, loss=0.5))


def test_partition_and_down() -> None:
    async def act(fabric: Fabric) -> None:
        arrived: list[str] = []

        def send(source: NodeKey, target: NodeKey, name: str) -> None:
            fabric.send(source, target, 0, lambda: arrived.append(name))

        send(A, C, "under way when the partition begins")
        fabric.partition([A, B])
        send(A, B, "same group")
        send(A, C, "across")
        assert not fabric.reaches(C, A)
        await trio.sleep(1)
        fabric.heal()
        send(C, A, "healed")
        await trio.sleep(1)
        fabric.set_down(C, True)
        send(A, C, "down")
        await trio.sleep(1)
        fabric.set_down(C, False)
        send(A, C, "up")
        await trio.sleep(1)
        assert arrived == ["same group", "healed", "up"]

    _run(act)


def test_strangers_are_not_reached() -> None:
    async def act(fabric: Fabric) -> None:
        assert not fabric.reaches(A, NodeKey(bytes(32)))

    _run(act)
