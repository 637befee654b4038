"""Numbers and vectors as WebAssembly binaries write them."""

from __future__ import annotations

from collections.abc import Sequence


def unsigned(value: int) -> bytes:
    """LEB128 of an unsigned number."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def signed(value: int) -> bytes:
    """LEB128 of a signed number."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if value == (-1 if byte & 0x40 else 0):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def vector(entries: Sequence[bytes]) -> bytes:
    """The number of entries, and the entries."""
    return unsigned(len(entries)) + b"".join(entries)
