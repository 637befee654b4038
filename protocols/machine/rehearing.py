"""After a start: what others stated before is heard once more. Part of `watching`.

What was heard and not yet compared when the node stopped is in no row of the watcher. But proofs
are cumulative: the newest one of each unit over each process, which the book keeps, shows whatever
the unit has stated wrongly before it. They are heard a few at a time, so that nothing waits for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.machine.effects import Effect, SetTimer

AT_ONCE = 4
"""Proofs heard at one go: some milliseconds each."""
PAUSE_MS = 100
TIMER = ("rehear",)


class Rehearing:
    """The newest proofs in the book, one after another."""

    def __init__(
        self,
        newest: Callable[[], Sequence[bytes]],
        hear: Callable[[bytes, int], list[Effect]],
    ) -> None:
        """`newest` gives them, encoded; their signatures were checked when they first came."""
        self._newest = newest
        self._hear = hear
        self._left: list[bytes] = []

    def start(self, now: int) -> list[Effect]:
        """The ledger is known."""
        self._left = list(self._newest())
        return self._arm(now)

    def next(self, now: int) -> list[Effect]:
        """The timer has run out."""
        heard, self._left = self._left[:AT_ONCE], self._left[AT_ONCE:]
        effects = [effect for raw in heard for effect in self._hear(raw, now)]
        return effects + self._arm(now)

    def _arm(self, now: int) -> list[Effect]:
        return [SetTimer(TIMER, now + PAUSE_MS)] if self._left else []
