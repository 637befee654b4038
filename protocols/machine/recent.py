"""A map that remembers its newest entries only."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `count_max` entries; a new one drops the oldest. Writing again makes it newest."""

    __slots__ = ("_entries", "count_max")

    def __init__(self, count_max: int) -> None:
        self.count_max = count_max
        # Not a dict: dropping its first entry again and again takes linear time each.
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        entries = self._entries
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self.count_max:
            entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)
