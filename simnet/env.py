"""The Env of a simulated node: virtual clock, addressed entropy, computing that takes its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from simnet.determinism import EPOCH_MS
from simnet.seed import Seed

T = TypeVar("T")

FUEL_PER_S = 5_000_000_000
"""Default speed of a simulated core (design, section 3: `fuel_max` is about one second)."""
CORES = 2


class SimEnv:
    """Implements `aonode.env.Env`.

    `skew_ms` is how far this node's wall clock is ahead. Entropy is addressed by (node, label,
    how often the node asked under this label), so that one node's draws never shift another's.
    """

    def __init__(
        self,
        node: str,
        seed: Seed,
        *,
        fuel_per_s: int = FUEL_PER_S,
        cores: int = CORES,
        skew_ms: int = 0,
    ) -> None:
        assert fuel_per_s > 0, f"a core of {fuel_per_s} fuel per second never ends"
        self._seed = seed.fork("entropy", node)
        self._drawn: dict[str, int] = {}
        self._fuel_per_s = fuel_per_s
        self._cores = trio.CapacityLimiter(cores)
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        """Virtual wall clock in milliseconds since the epoch."""
        return EPOCH_MS + int(trio.current_time() * 1000) + self._skew_ms

    def entropy(self, label: str, size: int) -> bytes:
        """`size` bytes from the seed."""
        count = self._drawn.get(label, 0)
        self._drawn[label] = count + 1
        return self._seed.bytes(size, label, count)

    async def offload(self, call: Callable[[], T], *, cost: Callable[[T], int] | None = None) -> T:
        """Call inline. With `cost` the result's fuel takes one of the node's cores for its time.

        As in production, a call that has begun is not cancelled half-way: its result is returned.
        """
        if cost is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            result = call()
            await trio.lowlevel.cancel_shielded_checkpoint()
            return result
        async with self._cores:
            result = call()
            with trio.CancelScope(shield=True):
                await trio.sleep(cost(result) / self._fuel_per_s)
        return result
