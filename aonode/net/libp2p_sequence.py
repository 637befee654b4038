"""Sequence numbers that never repeat, over restarts and lost files.

A gossip message is known by its origin and sequence number: a number used twice is a message
that nobody hears. Numbers are reserved a block at a time, on disk before the first one is used;
where the file is lost the wall clock has moved on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from protocols.errors import Invalid, Reason

BLOCK = 1 << 16
CLOCK_SHIFT = 16
"""Numbers per millisecond of wall clock: more than a node can publish."""


class SequenceFile:
    """Reserves from a file that holds the first number not yet given out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, floor: int, count: int) -> int:
        """First of `count` numbers, at least `floor`. Raises Invalid(STORAGE)."""
        try:
            stored = int(self._path.read_text("ascii"))
        except FileNotFoundError:
            stored = 0
        except (OSError, ValueError) as error:
            raise Invalid(
                Reason.STORAGE, f"{self._path} does not hold a sequence number ({error}); remove it"
            ) from None
        first = max(stored, floor)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="ascii") as file:
            file.write(str(first + count))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return first


class Sequence:
    """The counter of one node."""

    def __init__(self, now_ms: Callable[[], int], file: SequenceFile | None) -> None:
        self._now_ms = now_ms
        self._file = file
        self._next = 0
        self._stop = 0

    def __call__(self) -> int:
        """The next number."""
        if self._next == self._stop:
            floor = max(self._next, self._now_ms() << CLOCK_SHIFT)
            self._next = floor if self._file is None else self._file(floor, BLOCK)
            self._stop = self._next + BLOCK
        self._next += 1
        return self._next - 1
