"""Makes one trio run a function of its seed.

trio starts runnable tasks in an order it shuffles with its own generator. With the two private
switches below it sorts them by age first and shuffles with ours: reproducible, and each seed
explores another schedule. trio's exact pin and `self_test` guard them.

Garbage: a collection runs finalisers, and when it runs depends on all that was allocated before,
also outside the simulation. So automatic collection is off, and `_Collector` collects at fixed
virtual times.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run

from simnet.guard import guarded
from simnet.seed import Seed

T = TypeVar("T")

EPOCH_MS = 1_735_689_600_000
"""Wall clock at virtual time 0: 2025-01-01T00:00:00Z."""
COLLECT_EVERY_S = 60.0
"""Virtual seconds between two garbage collections."""


def now_s() -> float:
    """Virtual wall time in seconds since the Unix epoch."""
    return EPOCH_MS / 1000 + trio.current_time()


def run(main: Callable[[], Awaitable[T]], seed: Seed) -> T:
    """Run `main` in virtual time, guarded and scheduled from `seed`; what it raises comes out."""

    async def guarded_main() -> T:
        with guarded(now_s):
            return await main()

    clock = trio.testing.MockClock(autojump_threshold=0)
    with _scheduling(seed), _collection_off():
        return trio.run(guarded_main, clock=clock, instruments=[_Collector()])


@contextlib.contextmanager
def _scheduling(seed: Seed) -> Iterator[None]:
    core: Any = _run
    saved = core._ALLOW_DETERMINISTIC_SCHEDULING, core._r
    core._ALLOW_DETERMINISTIC_SCHEDULING, core._r = True, seed.stream("trio", "schedule")
    try:
        yield
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING, core._r = saved


@contextlib.contextmanager
def _collection_off() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()  # what was there before is not looked through again and again
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


class _Collector(trio.abc.Instrument):
    """Collects garbage when enough virtual time has passed, always between two task steps."""

    def __init__(self) -> None:
        self._next_s = COLLECT_EVERY_S

    def before_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        if now >= self._next_s:
            self._next_s = now + COLLECT_EVERY_S
            gc.collect()


def self_test(seed: Seed) -> str:
    """A digest of the order in which trio ran a crowd of tasks with equal deadlines.

    The same in every process for one seed and another for another seed; if trio stops honouring
    the private switches it differs between two calls.
    """
    order: list[int] = []

    async def member(number: int) -> None:
        for _ in range(4):
            await trio.sleep(1)
            order.append(number)

    async def crowd() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(32):
                nursery.start_soon(member, number)

    run(crowd, seed)
    return hashlib.sha256(bytes(order)).hexdigest()


def check() -> None:
    """Raise AssertionError if this interpreter and trio do not reproduce a schedule."""
    seeds = [Seed.root(number) for number in (1, 1, 2)]
    first, again, other = (self_test(seed) for seed in seeds)
    assert first == again, "trio no longer reproduces a schedule: see simnet/determinism.py"
    assert first != other, "the seed no longer reaches trio's scheduler: see simnet/determinism.py"
    assert isinstance(_run._r, random.Random), "trio's generator was not restored"
