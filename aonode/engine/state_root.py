"""The state root: a Merkle tree over all pages of memory, then the mutable globals and the size.

A function of content alone. The tree keeps its levels, so that a root costs the pages that
changed and their paths; a page of zeros has a constant leaf.

    root = H_state-root(pages, merkle_root("state", pages), [[index, type, bytes], ...])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocols.accumulator import merkle_leaf, merkle_node, merkle_root_of_hashes
from protocols.codec import Value, digest
from protocols.domains import STATE, STATE_ROOT
from protocols.limits import PAGE_BYTES

ZERO_PAGE = bytes(PAGE_BYTES)
ZERO_LEAF = merkle_leaf(STATE, ZERO_PAGE)
TYPE_CODES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}
"""Value types as they are coded in a binary; the `type` of a global in the root."""


class PageTree:
    """Merkle tree over the leaf hashes of a memory's pages."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    def update(self, pages: int, changed: Iterable[tuple[int, bytes]]) -> None:
        """The memory now has `pages` pages (never fewer); `changed` are (number, leaf hash).

        Pages that are new and not in `changed` are zero.
        """
        leaves = self._levels[0]
        dirty = {number >> 1 for number in range(max(len(leaves) - 1, 0), pages)}
        if pages == len(leaves):
            dirty = set()
        leaves.extend([ZERO_LEAF] * (pages - len(leaves)))
        for number, leaf in changed:
            leaves[number] = leaf
            dirty.add(number >> 1)
        self._rebuild(dirty)

    def _rebuild(self, dirty: set[int]) -> None:
        """Hash the nodes over `dirty` pairs, level by level."""
        height = 0
        while len(self._levels[height]) > 1:
            below = self._levels[height]
            height += 1
            if height == len(self._levels):
                self._levels.append([])
            level = self._levels[height]
            level.extend([b""] * ((len(below) + 1) // 2 - len(level)))
            odd = len(below) & 1
            for number in dirty:
                if odd and number == len(level) - 1:
                    level[number] = below[-1]
                else:
                    level[number] = merkle_node(STATE, below[2 * number], below[2 * number + 1])
            dirty = {number >> 1 for number in dirty}

    def root(self) -> bytes:
        """Root over all pages."""
        return self._levels[-1][0] if self._levels[0] else merkle_root_of_hashes(STATE, ())


def state_root(
    pages: int, pages_root: bytes, mutable: Sequence[tuple[int, str]], values: Sequence[bytes]
) -> bytes:
    """Root of one state. `mutable` are (index, type) of the globals, `values` their bytes."""
    numbers: list[Value] = [
        [index, TYPE_CODES[kind], value]
        for (index, kind), value in zip(mutable, values, strict=True)
    ]
    return digest(STATE_ROOT, pages, pages_root, numbers)
