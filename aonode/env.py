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

        `cost` gives the fuel its result is charged for: simulated time passes by it.
        """


class ProductionEnv:
    """The machine's clock, the kernel's entropy, a bounded pool of threads."""

    def __init__(self, threads_max: int = 8) -> None:
        self._limiter = trio.CapacityLimiter(threads_max)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def entropy(self, label: str, size: int) -> bytes:
        return os.urandom(size)

    async def offload(self, call: Callable[[], T], *, cost: Callable[[T], int] | None = None) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter)
