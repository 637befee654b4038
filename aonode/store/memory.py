"""A Store in memory: for tests, and the base of the simulator's disk.

Rows live in a dict, their keys also in a sorted list, so that a scan is a slice.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence


class Rows:
    """An ordered table of bytes to bytes. Not safe for threads; `MemoryStore` is."""

    __slots__ = ("_keys", "_values")

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def copy(self) -> Rows:
        """An independent table of the same rows."""
        other = Rows()
        other._keys = list(self._keys)
        other._values = dict(self._values)
        return other

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._values.get(key)

    def apply(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Put each row in order; a value of None deletes. Of equal keys the last one counts."""
        for key, value in rows:
            if value is not None:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value
            elif self._values.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def slice(
        self, start: bytes, stop: bytes, limit: int | None, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, at most `limit` of them, as they are now."""
        assert limit is None or limit >= 0, f"limit {limit} is negative"
        first = bisect_left(self._keys, start)
        last = max(first, bisect_left(self._keys, stop))
        if limit is not None and last - first > limit:
            first, last = (last - limit, last) if reverse else (first, first + limit)
        keys = self._keys[first:last]
        if reverse:
            keys.reverse()
        return [(key, self._values[key]) for key in keys]


class MemoryStore:
    """Implements `aonode.ports.Store`. Durable as long as the object lives."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._lock = threading.Lock()
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        assert not self._closed, "store used after close"
        with self._lock:
            return self._rows.get(key)

    def scan(
        self, start: bytes, stop: bytes, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop as they are at this call, in key order or reversed."""
        assert not self._closed, "store used after close"
        with self._lock:
            return iter(self._rows.slice(start, stop, limit, reverse))

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """One atomic batch. `sync` makes no difference here."""
        assert not self._closed, "store used after close"
        with self._lock:
            self._rows.apply(rows)

    def close(self) -> None:
        """No use after this; closing twice is harmless."""
        self._closed = True
