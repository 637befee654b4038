"""Integers from a seed, by name: the only randomness of a case."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of integers that depends on nothing but its path. The same in every Python."""

    def __init__(self, *path: str | int) -> None:
        self._path = path
        self._key = blake2b("/".join(map(str, path)).encode(), digest_size=32).digest()
        self._count = 0

    def child(self, *names: str | int) -> Draws:
        """Another stream, which the draws from this one do not change."""
        return Draws(*self._path, *names)

    def octets(self, size: int) -> bytes:
        """At most 64 bytes."""
        self._count += 1
        count = self._count.to_bytes(8, "big")
        return blake2b(count, key=self._key, digest_size=size).digest()

    def below(self, limit: int) -> int:
        """0 <= n < limit."""
        return int.from_bytes(self.octets(16), "big") % limit

    def between(self, least: int, most: int) -> int:
        """least <= n <= most."""
        return least + self.below(most - least + 1)

    def chance(self, of: int) -> bool:
        """True once in `of`."""
        return not self.below(of)

    def pick(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[self.below(len(among))]

    def shuffled(self, among: Sequence[T]) -> list[T]:
        """All of them in some order."""
        rest = list(among)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest
