"""The world outside a node: time, entropy, threads.

Everything in `aonode/` takes these from an `Env`; `simnet` swaps it and nothing else. Waiting is
`trio.sleep` and friends, which follow trio's clock in both worlds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    # py-libp2p installs type stubs of an older trio, which hide trio's own types and keep
    # this one in a package of theirs.
    from trio_typing import TaskStatus
else:
    TaskStatus = trio.TaskStatus

T = TypeVar("T")

__all__ = ["Env", "ProductionEnv", "TaskStatus"]


class Env(Protocol):
    """Time, entropy and offloading."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch. Never used to measure a duration."""

    def entropy(self, label: str, size: int) -> bytes:
        """`size` unpredictable bytes; `label` names their use (and addresses them in simnet)."""

    async def offload(self, call: Callable[[], T], *, cost: Callable[[T], int] | None = None) -> T:
        """Run a blocking call off the event loop; in simnet inline.

        `cost` gives the fuel its result is charged for: simulated time passes by it. Calls with a
        cost are evaluation: no more run at a time than there are workers for it, first come first
        served, and calls without one never wait for them.
        """


class ProductionEnv:
    """The machine's clock, the kernel's entropy, two bounded pools of threads."""

    def __init__(self, threads_max: int = 8, *, engine_threads: int = 2) -> None:
        """`engine_threads`: for evaluation, which keeps a core busy; `threads_max`: for others."""
        self._limiter = trio.CapacityLimiter(threads_max)
        self._evaluating = trio.CapacityLimiter(engine_threads)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def entropy(self, label: str, size: int) -> bytes:
        return os.urandom(size)

    async def offload(self, call: Callable[[], T], *, cost: Callable[[T], int] | None = None) -> T:
        limiter = self._limiter if cost is None else self._evaluating
        return await trio.to_thread.run_sync(call, limiter=limiter)
