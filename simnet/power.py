"""One life of a simulated machine, from start to power cut.

Cancelling a node's tasks is not a crash: their `finally` blocks run and write. So a power cut
first ends the incarnation; whatever its tasks still do to disk or wire raises `PowerLost`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class PowerLost(Exception):
    """A task of a dead incarnation touched the world."""


class Power:
    """Handed to everything one incarnation owns: its disks, its wire."""

    def __init__(self, node: str, number: int) -> None:
        self.node = node
        self.number = number
        self._on = True
        self._scopes: dict[int, trio.CancelScope] = {}
        self._count = 0

    @property
    def on(self) -> bool:
        """False from the cut on, for ever."""
        return self._on

    def check(self) -> None:
        """Raise PowerLost after the cut."""
        if not self._on:
            raise PowerLost(f"{self.node}, incarnation {self.number}, has no power")

    @contextmanager
    def while_on(self) -> Iterator[trio.CancelScope]:
        """A cancel scope that the cut cancels: what the machine does, and who talks to it."""
        self.check()
        self._count += 1
        number = self._count
        with trio.CancelScope() as scope:
            self._scopes[number] = scope
            try:
                yield scope
            finally:
                del self._scopes[number]

    def cut(self) -> None:
        """End this incarnation: fence first, then cancel its tasks."""
        self._on = False
        for scope in self._scopes.values():
            scope.cancel()
