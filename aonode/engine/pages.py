"""Which pages of a large memory can differ from what the instance started with.

Only a speed-up: a caller that compares every page gets the same answers. On Linux the kernel
tells which pages a process has touched (`/proc/self/pagemap`: present or swapped out); elsewhere
every page counts as touched.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

from aonode.engine import wasm_reader as sections
from aonode.engine.wasm_reader import Reader, WasmModule
from protocols.limits import PAGE_BYTES

_SMALL_PAGES = 16
"""Up to this size comparing all pages costs less than asking the kernel."""
_TOUCHED = bytes(1 if byte & 0xC0 else 0 for byte in range(256))
"""Top byte of a pagemap entry: bit 7 present, bit 6 swapped."""
_PER_PAGE = PAGE_BYTES // mmap.PAGESIZE


def _open() -> int | None:
    try:
        return os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


_PAGEMAP = _open()


def touched(base: int, pages: int, dead: range = range(0)) -> list[int]:
    """Numbers of the 64 KiB pages from `base` on that may have been written, ascending.

    Those in `dead` are known to be zero, and are left out.
    """
    before = range(min(dead.start, pages))
    behind = range(min(dead.stop, pages), pages)
    return [*_touched(base, before), *_touched(base, behind)]


def _touched(base: int, pages: range) -> Sequence[int]:
    if len(pages) <= _SMALL_PAGES or _PAGEMAP is None or base % mmap.PAGESIZE:
        return pages
    size = len(pages) * _PER_PAGE * 8
    raw = os.pread(_PAGEMAP, size, (base // mmap.PAGESIZE + pages.start * _PER_PAGE) * 8)
    if len(raw) != size:
        return pages
    marks = raw[7::8].translate(_TOUCHED)
    found = []
    at = marks.find(1)
    while at >= 0:
        page = at // _PER_PAGE
        found.append(pages.start + page)
        at = marks.find(1, (page + 1) * _PER_PAGE)
    return found


def data_end(module: WasmModule) -> int | None:
    """Address after the last byte that active data segments fill; None if it is not plain."""
    end = 0
    for section, start, size in module.sections:
        if section != sections.DATA:
            continue
        reader = Reader(module.raw, start, start + size)
        for _ in range(reader.unsigned()):
            flags = reader.unsigned()
            offset: int | None = 0
            if flags == 2:
                reader.unsigned()
            if flags != 1:
                offset = plain_constant(reader.constant())
            length = reader.unsigned()
            reader.take(length)
            if offset is None:
                return None
            if flags != 1:
                end = max(end, offset + length)
    return end


def plain_constant(constant: bytes) -> int | None:
    """Value of a lone i32.const or i64.const, if it is not negative."""
    if not constant or constant[0] not in (0x41, 0x42):
        return None
    value = shift = 0
    for at, byte in enumerate(constant[1:], 1):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return None if byte & 0x40 or at != len(constant) - 1 else value
    return None
