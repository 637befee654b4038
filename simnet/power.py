"""One life of a simulated machine, from start to power cut.

Cancelling a node's tasks is not a crash: their `finally` blocks run and write. So a power cut
first ends the incarnation; whatever its tasks still do to disk or wire raises `PowerLost`.
"""

from __future__ import annotations

import trio


class PowerLost(Exception):
    """A task of a dead incarnation touched the world."""


class Power:
    """Handed to everything one incarnation owns: its disks, its wire."""

    def __init__(self, node: str, number: int) -> None:
        self.node = node
        self.number = number
        self.scope = trio.CancelScope()
        """Cancelled at the cut. The world runs the node inside it."""
        self._on = True

    @property
    def on(self) -> bool:
        """False from the cut on, for ever."""
        return self._on

    def check(self) -> None:
        """Raise PowerLost after the cut."""
        if not self._on:
            raise PowerLost(f"{self.node}, incarnation {self.number}, has no power")

    def cut(self) -> None:
        """End this incarnation: fence first, then cancel its tasks."""
        self._on = False
        self.scope.cancel()
