"""What SimWire adds to the parity suite: the power fence, silence, floods, planted faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from aonode.ports import Verdict
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol, Topic
from simnet import determinism
from simnet.fabric import Fabric, LinkModel
from simnet.power import Power, PowerLost
from simnet.seed import Seed
from simnet.stream import SILENCE_S_MAX
from simnet.trace import Trace
from simnet.wire import Medium, SimWire

KEYS = [NodeKey(bytes([number]) * 32) for number in range(1, 5)]


class World:
    """Four wires that take down what they hear."""

    def __init__(self, seed: Seed, model: LinkModel) -> None:
        self.trace = Trace()
        self.fabric = Fabric(seed, model)
        self.medium = Medium(self.fabric, self.trace)
        self.powers = [Power(f"node-{number}", 1) for number in range(4)]
        self.heard: list[list[bytes]] = [[] for _ in KEYS]
        self.verdicts = [Verdict.ACCEPT] * 4
        self.wires = [
            SimWire(self.medium, key, power.node, power)
            for key, power in zip(KEYS, self.powers, strict=True)
        ]
        for number, wire in enumerate(self.wires):
            wire.subscribe(Topic.SLOTS, self.door(number))
            wire.serve(Protocol.ITEM, self._answer)

    def door(self, number: int) -> Callable[[NodeKey, bytes], Verdict]:
        def door(origin: NodeKey, payload: bytes) -> Verdict:
            self.heard[number].append(payload)
            return self.verdicts[number]

        return door

    async def _answer(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        yield body
        await trio.sleep(1)
        yield body


def _run(act: Callable[[World], Awaitable[None]], model: LinkModel | None = None) -> str:
    seed = Seed.root(9)

    async def main() -> str:
        world = World(seed, model or LinkModel())
        async with trio.open_nursery() as nursery:
            await nursery.start(world.fabric.run)
            for wire in world.wires:
                await nursery.start(wire.run)
            await act(world)
            nursery.cancel_scope.cancel()
        return world.trace.hex()

    return determinism.run(main, seed)


def test_a_dead_incarnation_neither_sends_nor_hears() -> None:
    async def act(world: World) -> None:
        await world.wires[1].publish(Topic.SLOTS, b"under way")
        world.powers[0].cut()
        await trio.sleep(1)
        assert world.heard[0] == []
        with pytest.raises(PowerLost):
            await world.wires[0].publish(Topic.SLOTS, b"late")
        with pytest.raises(PowerLost):
            await world.wires[0].request(KEYS[1], Protocol.ITEM, b"", frames_max=1)
        assert KEYS[0] not in world.wires[1].peers()

    _run(act)


def test_a_new_incarnation_takes_the_place_of_the_dead_one() -> None:
    async def act(world: World) -> None:
        world.powers[0].cut()
        wire = SimWire(world.medium, KEYS[0], "node-0", Power("node-0", 2))
        wire.subscribe(Topic.SLOTS, world.door(0))
        async with trio.open_nursery() as nursery:
            await nursery.start(wire.run)
            await world.wires[1].publish(Topic.SLOTS, b"welcome")
            await wire.publish(Topic.SLOTS, b"back")
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert world.heard[0] == [b"welcome"]
        assert sorted(world.heard[2]) == [b"back", b"welcome"]

    _run(act)


def test_two_live_wires_of_one_node_are_a_bug() -> None:
    async def act(world: World) -> None:
        twin = SimWire(world.medium, KEYS[0], "node-0", Power("node-0", 2))
        with pytest.raises(AssertionError, match="two wires of node-0"):
            await twin.run()

    _run(act)


def test_silence_ends_a_request() -> None:
    async def act(world: World) -> None:
        began = trio.current_time()

        async def cut() -> None:
            await trio.sleep(0.8)
            world.fabric.partition([KEYS[1]])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(Invalid, match="fell silent") as refusal:
                await world.wires[0].request(KEYS[1], Protocol.ITEM, b"x", frames_max=2)
        assert refusal.value.reason is Reason.UNAVAILABLE
        assert SILENCE_S_MAX < trio.current_time() - began < SILENCE_S_MAX + 1

    _run(act)


def test_a_node_that_is_down_is_unavailable() -> None:
    async def act(world: World) -> None:
        world.fabric.set_down(KEYS[1], True)
        assert KEYS[1] not in world.wires[0].peers()
        with pytest.raises(Invalid, match="cannot be reached"):
            await world.wires[0].request(KEYS[1], Protocol.ITEM, b"x", frames_max=2)
        world.fabric.set_down(KEYS[1], False)
        answer = await world.wires[0].request(KEYS[1], Protocol.ITEM, b"x", frames_max=2)
        assert answer == (b"x", b"x")

    _run(act)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_what_is_accepted_is_passed_on(verdict: Verdict) -> None:
    """Node 0 reaches only node 1 when it speaks; the others hear it from node 1 or not at all."""

    async def act(world: World) -> None:
        world.verdicts[1] = verdict
        world.fabric.partition([KEYS[0], KEYS[1]])
        await world.wires[0].publish(Topic.SLOTS, b"news")
        world.fabric.partition([KEYS[0]], [KEYS[1], KEYS[2], KEYS[3]])
        await trio.sleep(1)
        world.fabric.partition([KEYS[0], KEYS[1]])
        await trio.sleep(1)
        assert world.heard[1] == []  # the partition caught it on its way

        world.fabric.heal()
        world.fabric.set_down(KEYS[2], True)
        world.fabric.set_down(KEYS[3], True)
        await world.wires[0].publish(Topic.SLOTS, b"more")
        world.fabric.set_down(KEYS[2], False)
        world.fabric.set_down(KEYS[3], False)
        await trio.sleep(1)
        assert world.heard[1] == [b"more"]
        assert world.heard[2] == world.heard[3] == ([b"more"] if verdict is Verdict.ACCEPT else [])

    _run(act)


def test_flooding_survives_loss_and_drops_duplicates() -> None:
    async def act(world: World) -> None:
        for number in range(40):
            await world.wires[0].publish(Topic.SLOTS, b"%d" % number)
        await trio.sleep(5)
        for heard in world.heard[1:]:
            assert len(heard) == len({*heard})
            assert len(heard) >= 36

    _run(act, LinkModel(loss=0.2))


def test_a_flipped_byte_reaches_the_doors_and_the_trace() -> None:
    heard: list[bytes] = []

    def act(flip: int | None) -> Callable[[World], Awaitable[None]]:
        async def acting(world: World) -> None:
            if flip is not None:
                world.medium.flip_byte(flip)
            await world.wires[0].publish(Topic.SLOTS, b"\x00first")
            await world.wires[0].publish(Topic.SLOTS, b"\x00second")
            await trio.sleep(1)
            heard[:] = sorted(world.heard[1])

        return acting

    plain = _run(act(None))
    assert heard == [b"\x00first", b"\x00second"]
    assert _run(act(2)) != plain
    assert heard == [b"\x00first", b"\x01second"]
    assert _run(act(None)) == plain
