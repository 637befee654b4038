"""The production environment: its two pools of threads."""

from __future__ import annotations

import threading

import trio
import trio.testing

from aonode.env import ProductionEnv

WAIT_S_MAX = 10.0


async def test_evaluation_is_bounded_in_order_and_in_nobodys_way() -> None:
    env = ProductionEnv(engine_threads=2)
    started: list[int] = []
    go_on = threading.Event()

    def evaluate(number: int) -> int:
        started.append(number)
        assert go_on.wait(WAIT_S_MAX), "nobody let it go on"
        return number

    async def one(number: int) -> None:
        await env.offload(lambda: evaluate(number), cost=lambda fuel: fuel)

    with trio.fail_after(WAIT_S_MAX):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
            # Both workers are busy, three calls wait, and a commit does not.
            assert await env.offload(lambda: "committed") == "committed"
            assert len(started) == 2
            go_on.set()
    assert sorted(started[:2]) == [0, 1]
    assert sorted(started) == [0, 1, 2, 3, 4]
