"""Canonical CBOR, and the hashes and signature inputs over it.

Wire values are integers, byte strings, text, booleans, null and arrays of those: no maps, tags
or floats. One value has one encoding: shortest heads, definite lengths (RFC 8949, section 4.2).
`scan` proves that of a blob before cbor2 sees it, because cbor2 turns tags into regular
expressions and cycles that survive re-encoding, and believes the lengths it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cbor2
from blake3 import blake3

from protocols.domains import CONTEXT_PREFIX
from protocols.errors import Invalid, Reason
from protocols.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX, INTEGER_MAX, INTEGER_MIN

Value: TypeAlias = bool | int | bytes | str | Sequence["Value"] | None
"""What can travel. Arrays are written from lists or tuples and read as lists."""

HASH_BYTES = 32

_NEGATIVE_ARGUMENT_MAX = -1 - INTEGER_MIN
_MAJOR_BYTES, _MAJOR_TEXT, _MAJOR_ARRAY, _MAJOR_SIMPLE = 2, 3, 4, 7
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6


def encode(value: Value) -> bytes:
    """The one encoding of `value`. A value that cannot travel is our mistake: TypeError."""
    _check(value, CBOR_DEPTH_MAX)
    blob: bytes = cbor2.dumps(value)
    return blob


def _check(value: object, depth: int) -> None:
    """Raise TypeError unless `value` can travel in `depth` more levels of arrays."""
    kind = type(value)
    if kind is bytes or kind is str or kind is bool or value is None:
        return
    if kind is list or kind is tuple:
        if not depth:
            raise TypeError(f"arrays nest deeper than {CBOR_DEPTH_MAX}")
        for part in value:  # type: ignore[attr-defined]
            _check(part, depth - 1)
    elif isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise TypeError(f"integer {value} does not fit in 64 bits")
    elif not isinstance(value, str):
        raise TypeError(f"a {kind.__name__} cannot travel; use int, bytes, str, bool, None, list")


def decode(blob: bytes, *, size_max: int, items_max: int = CBOR_ITEMS_MAX) -> Value:
    """The value whose `encode` is `blob`, arrays as lists. Raises Invalid for anything else."""
    scan(blob, size_max=size_max, items_max=items_max)
    try:
        value: Value = cbor2.loads(blob)
    except cbor2.CBORDecodeError as error:  # text that is not UTF-8: all the scanner leaves open
        raise Invalid(Reason.MALFORMED, f"CBOR text: {error}") from None
    if cbor2.dumps(value) != blob:
        raise Invalid(Reason.NOT_CANONICAL, f"{len(blob)} bytes of CBOR have another encoding")
    return value


def scan(
    blob: bytes,
    *,
    size_max: int,
    depth_max: int = CBOR_DEPTH_MAX,
    items_max: int = CBOR_ITEMS_MAX,
) -> None:
    """Raise Invalid unless `blob` is one canonical value within the bounds; allocate nothing.

    Checked: total size, types, array depth, number of values, declared lengths against the bytes
    there are, shortest heads, 64-bit integers, no bytes left over. Not checked: UTF-8.
    """
    size = len(blob)
    if size > size_max:
        raise Invalid(Reason.OVERSIZE, f"{size} bytes of CBOR, at most {size_max}")
    position, left, budget = 0, 1, items_max - 1
    waiting: list[int] = []  # values still due in each array around this one
    while True:
        while not left:
            if not waiting:
                if position != size:
                    raise Invalid(Reason.MALFORMED, f"{size - position} bytes after the CBOR value")
                return
            left = waiting.pop()
        left -= 1
        if position >= size:
            raise Invalid(Reason.MALFORMED, f"CBOR ends at byte {size} inside a value")
        head = blob[position]
        argument = head & 31
        position += 1
        major = head >> 5
        if major == _MAJOR_SIMPLE:
            if not _FALSE <= head <= _NULL:
                raise Invalid(Reason.MALFORMED, f"CBOR type {head:#x} may not travel")
            continue
        if argument > 23:
            argument, position = _long_argument(blob, position, argument)
        if major <= 1:
            if major and argument > _NEGATIVE_ARGUMENT_MAX:
                raise Invalid(Reason.OVERSIZE, f"integer {-1 - argument} is below 64 bits")
        elif major <= _MAJOR_TEXT:
            position += argument
            if position > size:
                raise Invalid(Reason.MALFORMED, f"CBOR string of {argument} bytes is cut short")
        elif major == _MAJOR_ARRAY:
            budget -= argument
            if budget < 0:
                raise Invalid(Reason.OVERSIZE, f"more than {items_max} CBOR values")
            waiting.append(left)
            left = argument
            if len(waiting) > depth_max:
                raise Invalid(Reason.OVERSIZE, f"CBOR arrays nest deeper than {depth_max}")
        else:
            raise Invalid(Reason.MALFORMED, f"CBOR type {head:#x} (map or tag) may not travel")


def _long_argument(blob: bytes, position: int, kind: int) -> tuple[int, int]:
    """Argument that follows a head, and the position after it; `kind` is the head's low bits."""
    if kind > 27:
        raise Invalid(Reason.MALFORMED, f"CBOR of indefinite or reserved length at {position}")
    width = 1 << (kind - 24)
    argument = int.from_bytes(blob[position : position + width], "big")
    if position + width > len(blob):
        raise Invalid(Reason.MALFORMED, f"CBOR ends at byte {len(blob)} inside a head")
    if argument < 24 or (width > 1 and not argument >> (4 * width)):
        raise Invalid(Reason.NOT_CANONICAL, f"CBOR head at byte {position} is not the shortest")
    return argument, position + width


def digest(domain: str, *fields: Value) -> bytes:
    """H_d of the fields: BLAKE3 keyed by the domain over their canonical array, 32 bytes."""
    return digest_raw(domain, encode(fields))


def digest_raw(domain: str, data: bytes | memoryview) -> bytes:
    """H_d of bytes that are their own encoding, such as a memory page or two child hashes."""
    return blake3(data, derive_key_context=CONTEXT_PREFIX + domain).digest()


def signing_bytes(domain: str, network: bytes, body: Value) -> bytes:
    """What a node signs: the domain, the network it speaks in, and the body."""
    return encode((domain, network, body))
