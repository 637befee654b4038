"""Randomness that is addressed, not streamed.

A draw is a function of the seed and of a path ("link", 3, 7, "delay"); so taking one fault out of
a run, or adding one, never shifts any other draw. On hot paths take a `stream` once.
"""

from __future__ import annotations

import hashlib
import random

Part = str | int


class Seed:
    """One node of the tree. Equal paths from equal roots give equal draws, in every process."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        assert len(raw) == 32, f"a seed has 32 bytes, not {len(raw)}"
        self._raw = raw

    @classmethod
    def root(cls, number: int) -> Seed:
        """The seed of run `number`."""
        return cls(hashlib.blake2b(b"simnet/%d" % number, digest_size=32).digest())

    def fork(self, *path: Part) -> Seed:
        """The seed below `path`."""
        assert path, "fork needs a path"
        assert all(type(part) in (str, int) for part in path), f"{path!r} is not of str and int"
        address = repr(path).encode()
        return Seed(hashlib.blake2b(address, key=self._raw, digest_size=32).digest())

    def bytes(self, size: int, *path: Part) -> bytes:
        """`size` bytes at `path`."""
        return hashlib.shake_256(self.fork(*path)._raw).digest(size)

    def unit(self, *path: Part) -> float:
        """A number in [0, 1) at `path`."""
        return int.from_bytes(self.fork(*path)._raw[:6], "big") / (1 << 48)

    def below(self, stop: int, *path: Part) -> int:
        """An integer in [0, stop) at `path`; its bias is below stop / 2**128."""
        assert stop > 0, f"nothing is below {stop}"
        return int.from_bytes(self.fork(*path)._raw[:16], "big") % stop

    def stream(self, *path: Part) -> random.Random:
        """A generator of its own for a hot path."""
        return random.Random(self.fork(*path)._raw)
