"""A copy of one state of an instance: to go back to it, and to know which pages changed since.

Pages are held one by one, pages of zeros not at all, so a copy costs what is live. A page is
compared before it is copied or hashed; `pages.touched` says which can be skipped.
"""

from __future__ import annotations

import ctypes

from aonode.engine.calls import memcmp, memmove
from aonode.engine.instance import Instance
from aonode.engine.pages import touched
from aonode.engine.state_root import ZERO_PAGE, PageTree, state_root
from protocols.accumulator import merkle_leaf
from protocols.domains import STATE
from protocols.limits import PAGE_BYTES


class Shadow:
    """The last checkpoint of one process."""

    def __init__(self, mutable: tuple[tuple[int, str], ...], image_pages: int) -> None:
        """`image_pages`: how many pages the module's data can fill (never touched, not zero)."""
        self._mutable = mutable
        self._image_pages = image_pages
        self._pages: list[bytes] = []
        self._globals: tuple[bytes, ...] = ()
        self._unhashed: set[int] = set()
        self._tree = PageTree()

    @property
    def size(self) -> int:
        """Memory size of the copied state, in bytes."""
        return len(self._pages) * PAGE_BYTES

    def take(self, instance: Instance) -> None:
        """Make this a copy of the instance's present state."""
        first = not self._pages
        count = instance.size() // PAGE_BYTES
        pages = self._pages
        pages.extend([ZERO_PAGE] * (count - len(pages)))
        candidates = set(touched(instance.base, count))
        if first:
            candidates.update(range(self._image_pages))
        for number in sorted(candidates):
            at = instance.base + number * PAGE_BYTES
            if memcmp(at, pages[number], PAGE_BYTES):
                live = memcmp(at, ZERO_PAGE, PAGE_BYTES)
                pages[number] = ctypes.string_at(at, PAGE_BYTES) if live else ZERO_PAGE
                self._unhashed.add(number)
        self._globals = instance.globals()

    def put_back(self, instance: Instance, *, fresh: bool) -> None:
        """Make the instance equal to this copy.

        `fresh`: it has just been made, and holds the module's data; otherwise it is the one the
        copy was taken from, and has not grown.
        """
        instance.grow_to(self.size)
        candidates = set(touched(instance.base, len(self._pages)))
        if fresh:
            candidates.update(range(self._image_pages))
            candidates.update(n for n, page in enumerate(self._pages) if page is not ZERO_PAGE)
        for number in sorted(candidates):
            at = instance.base + number * PAGE_BYTES
            if memcmp(at, self._pages[number], PAGE_BYTES):
                memmove(at, self._pages[number], PAGE_BYTES)
        instance.set_globals(self._globals)

    def root(self) -> bytes:
        """State root of the copied state."""
        changed = [(n, merkle_leaf(STATE, self._pages[n])) for n in sorted(self._unhashed)]
        self._unhashed.clear()
        self._tree.update(len(self._pages), changed)
        return state_root(len(self._pages), self._tree.root(), self._mutable, self._globals)
