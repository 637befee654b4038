"""A copy of one state of an instance: to go back to it, and to know which pages changed since.

Pages are held one by one, pages of zeros not at all, so a copy costs what is live. A page is
compared before it is copied or hashed; `pages.touched` says which can be skipped. A root needs no
new copy: it hashes what differs from the last one.
"""

from __future__ import annotations

import ctypes

from aonode.engine.calls import memcmp, memmove
from aonode.engine.instance import Instance
from aonode.engine.pages import touched
from aonode.engine.state_root import ZERO_LEAF, ZERO_PAGE, PageTree, state_root
from protocols.accumulator import merkle_leaf
from protocols.domains import STATE
from protocols.limits import PAGE_BYTES


class _Page:
    """The bytes of one page, in a place of their own."""

    __slots__ = ("at", "view")

    def __init__(self) -> None:
        room = (ctypes.c_ubyte * PAGE_BYTES)()
        self.at = ctypes.addressof(room)
        self.view = memoryview(room).cast("B")
        """Keeps the room alive."""


class Shadow:
    """The last checkpoint of one process."""

    def __init__(self, mutable: tuple[tuple[int, str], ...], image_pages: int) -> None:
        """`image_pages`: how many pages the module's data can fill (never touched, not zero)."""
        self.mutable = mutable
        self.image_pages = image_pages
        self._pages: list[_Page | None] = []
        """None is a page of zeros."""
        self._globals: tuple[bytes, ...] = ()
        self._tree = PageTree()
        """Of the state whose root was asked for last."""
        self._stale: set[int] = set()
        """Pages of which the tree may say something else than this copy."""

    @property
    def size(self) -> int:
        """Memory size of the copied state, in bytes."""
        return len(self._pages) * PAGE_BYTES

    def take(self, instance: Instance) -> None:
        """Make this a copy of the instance's present state. The guest is settled."""
        pages = self._pages
        first = not pages
        count = instance.size() // PAGE_BYTES
        pages.extend([None] * (count - len(pages)))
        candidates = touched(instance.base, count, instance.dead)
        if first:
            candidates = sorted({*candidates, *range(self.image_pages)})
        at = instance.base
        for number in candidates:
            self._take_page(number, at + number * PAGE_BYTES)
        self._globals = instance.globals()

    def _take_page(self, number: int, at: int) -> None:
        page = self._pages[number]
        if not memcmp(at, ZERO_PAGE if page is None else page.at, PAGE_BYTES):
            return
        self._stale.add(number)
        if page is None:
            page = self._pages[number] = _Page()
        elif not memcmp(at, ZERO_PAGE, PAGE_BYTES):
            self._pages[number] = None
            return
        memmove(page.at, at, PAGE_BYTES)

    def put_back(self, instance: Instance, *, fresh: bool) -> None:
        """Make the instance, which is settled, equal to this copy.

        `fresh`: it has just been made, and holds the module's data; otherwise it is the one the
        copy was taken from, and has not grown.
        """
        instance.grow_to(self.size)
        candidates = set(touched(instance.base, len(self._pages), instance.dead))
        if fresh:
            candidates.update(range(self.image_pages))
            candidates.update(n for n, page in enumerate(self._pages) if page is not None)
        for number in sorted(candidates):
            at = instance.base + number * PAGE_BYTES
            page = self._pages[number]
            source = ZERO_PAGE if page is None else page.at
            if memcmp(at, source, PAGE_BYTES):
                memmove(at, source, PAGE_BYTES)
        instance.set_globals(self._globals)

    def root(self, instance: Instance) -> bytes:
        """State root of the instance, which is settled and has run since the copy, or not."""
        count = instance.size() // PAGE_BYTES
        pages, base = self._pages, instance.base
        ahead: dict[int, bytes] = {}
        for number in touched(base, count, instance.dead):
            page = pages[number] if number < len(pages) else None
            start = number * PAGE_BYTES
            if memcmp(base + start, ZERO_PAGE if page is None else page.at, PAGE_BYTES):
                ahead[number] = merkle_leaf(STATE, instance.view[start : start + PAGE_BYTES])
        behind = [(number, self._leaf(number)) for number in self._stale if number not in ahead]
        self._stale = set(ahead)
        self._tree.update(count, [*behind, *ahead.items()])
        return state_root(count, self._tree.root(), self.mutable, instance.globals())

    def _leaf(self, number: int) -> bytes:
        page = self._pages[number]
        return ZERO_LEAF if page is None else merkle_leaf(STATE, page.view)
