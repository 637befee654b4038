"""Questions that wait for something to happen to one key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from protocols.errors import Invalid, Reason

WAITERS_MAX = 16_384
"""Questions that may wait at once; clients ask them, so they are bounded."""


class Waiters:
    """Wakes all who wait for a key with the value it was told."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[_Waiter]] = {}
        self._count = 0

    def tell(self, key: Hashable, value: Any) -> None:
        """Wake whoever waits for `key`."""
        for waiter in self._waiting.get(key, ()):
            waiter.value = value
            waiter.told.set()

    @contextmanager
    def wait(self, key: Hashable) -> Iterator[Callable[[], Awaitable[Any]]]:
        """Register interest in `key`; calling what this yields waits for the next `tell`."""
        if self._count >= WAITERS_MAX:
            raise Invalid(Reason.BUSY, f"{WAITERS_MAX} questions wait already; try again later")
        waiter = _Waiter()
        self._waiting.setdefault(key, []).append(waiter)
        self._count += 1
        try:
            yield waiter.wait
        finally:
            self._count -= 1
            waiters = self._waiting[key]
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[key]


class _Waiter:
    __slots__ = ("told", "value")

    def __init__(self) -> None:
        self.told = trio.Event()
        self.value: Any = None

    async def wait(self) -> Any:
        await self.told.wait()
        return self.value
