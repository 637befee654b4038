"""Narrowing of decoded CBOR to the shape a wire type states.

Each function returns its value narrowed, or raises Invalid naming the field. A boolean is not an
integer here, though Python says so.
"""

from __future__ import annotations

from protocols.codec import Value
from protocols.errors import Invalid, Reason
from protocols.ids import ID_BYTES

INTEGER_MAX = (1 << 63) - 1
"""Largest slot, time or amount: what a signed 64-bit integer holds."""


def integer(value: Value, what: str, *, least: int = 0, most: int = INTEGER_MAX) -> int:
    """An integer with least <= value <= most."""
    if type(value) is not int:
        raise Invalid(Reason.MALFORMED, f"{what} is a {type(value).__name__}, not an integer")
    if not least <= value <= most:
        raise Invalid(Reason.OVERSIZE, f"{what} {value} is outside {least}..{most}")
    return value


def boolean(value: Value, what: str) -> bool:
    """A boolean, which to Python is an integer and to us is not."""
    if type(value) is not bool:
        raise Invalid(Reason.MALFORMED, f"{what} is a {type(value).__name__}, not a boolean")
    return value


def octets(value: Value, what: str, *, least: int = 0, most: int) -> bytes:
    """A byte string of least..most bytes."""
    if type(value) is not bytes:
        raise Invalid(Reason.MALFORMED, f"{what} is a {type(value).__name__}, not bytes")
    if not least <= len(value) <= most:
        raise Invalid(Reason.OVERSIZE, f"{what} has {len(value)} bytes, not {least}..{most}")
    return value


def identifier(value: Value, what: str) -> bytes:
    """A 32-byte id, key, address or hash."""
    if type(value) is not bytes or len(value) != ID_BYTES:
        raise Invalid(Reason.MALFORMED, f"{what} is not {ID_BYTES} bytes")
    return value


def text(value: Value, what: str, *, least: int = 0, most: int) -> str:
    """Text of least..most UTF-8 bytes."""
    if type(value) is not str:
        raise Invalid(Reason.MALFORMED, f"{what} is a {type(value).__name__}, not text")
    size = len(value.encode("utf-8"))
    if not least <= size <= most:
        raise Invalid(Reason.OVERSIZE, f"{what} has {size} bytes, not {least}..{most}")
    return value


def array(value: Value, what: str, *, most: int, least: int = 0) -> list[Value]:
    """An array of least..most values."""
    if type(value) is not list:
        raise Invalid(Reason.MALFORMED, f"{what} is a {type(value).__name__}, not an array")
    if not least <= len(value) <= most:
        raise Invalid(Reason.OVERSIZE, f"{what} has {len(value)} values, not {least}..{most}")
    return value


def record(value: Value, what: str, fields: int) -> list[Value]:
    """An array of exactly `fields` values."""
    if type(value) is not list or len(value) != fields:
        raise Invalid(Reason.MALFORMED, f"{what} is not an array of {fields} fields")
    return value
