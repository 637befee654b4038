"""SimEnv: virtual time, addressed entropy, priced work."""

from __future__ import annotations

import trio
import trio.testing

from simnet import determinism
from simnet.env import SimEnv
from simnet.seed import Seed

SEED = Seed.root(5)


def test_the_wall_clock_is_virtual_and_may_be_skewed() -> None:
    async def main() -> list[int]:
        even, ahead = SimEnv("a", SEED), SimEnv("b", SEED, skew_ms=250)
        await trio.sleep(1.5)
        return [even.now_ms() - determinism.EPOCH_MS, ahead.now_ms() - determinism.EPOCH_MS]

    assert determinism.run(main, SEED) == [1500, 1750]


def test_entropy_is_addressed_by_node_label_and_count() -> None:
    env, other = SimEnv("a", SEED), SimEnv("b", SEED)
    first = env.entropy("x", 16)
    draws = [first, env.entropy("x", 16), env.entropy("y", 16), other.entropy("x", 16)]
    assert len({*draws}) == 4
    again = SimEnv("a", SEED)
    again.entropy("z", 99)
    assert again.entropy("x", 16) == first
    assert SimEnv("a", Seed.root(6)).entropy("x", 16) != first


def test_work_takes_a_core_for_its_fuel() -> None:
    async def main() -> list[float]:
        env = SimEnv("a", SEED, fuel_per_s=1000, cores=2)
        ends: list[float] = []

        async def work() -> None:
            assert await env.offload(lambda: 500, cost=lambda fuel: fuel) == 500
            ends.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(work)
        return ends

    assert determinism.run(main, SEED) == [0.5, 0.5, 1.0, 1.0, 1.5]


def test_unpriced_work_takes_no_time_but_yields() -> None:
    async def main() -> float:
        env = SimEnv("a", SEED)
        with trio.testing.assert_checkpoints():
            assert await env.offload(lambda: "done") == "done"
        return trio.current_time()

    assert determinism.run(main, SEED) == 0.0


def test_begun_work_is_not_cancelled() -> None:
    async def main() -> tuple[list[int], float]:
        env = SimEnv("a", SEED, fuel_per_s=1000)
        done: list[int] = []
        with trio.move_on_after(0.1):
            done.append(await env.offload(lambda: 2000, cost=lambda fuel: fuel))
        return done, trio.current_time()

    assert determinism.run(main, SEED) == ([2000], 2.0)
