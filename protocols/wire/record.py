"""Wire types that are nothing but an array of their fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Self

from protocols.codec import Value, decode, encode
from protocols.wire import shape

Reader = Callable[[Value, str], Any]
"""Narrows one field, named in the second argument, or raises Invalid: `shape.integer` and such."""


class Record:
    """Base of frozen dataclasses. `READ` has one reader per field, in order."""

    __slots__ = ()
    READ: ClassVar[tuple[Reader, ...]]

    def to_value(self) -> list[Value]:
        """The array of the fields; records inside it as arrays too."""
        return [_plain(getattr(self, field.name)) for field in fields(self)]  # type: ignore[arg-type]

    def encode(self) -> bytes:
        """Canonical CBOR of `to_value`."""
        return encode(self.to_value())

    @classmethod
    def of_value(cls, value: Value, what: str = "") -> Self:
        """Inverse of `to_value`. Raises Invalid."""
        what = what or cls.__name__.lower()
        values = shape.record(value, what, len(cls.READ))
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(
            *(
                read(each, f"{what} {name}")
                for name, each, read in zip(names, values, cls.READ, strict=True)
            )
        )

    @classmethod
    def decode(cls, blob: bytes, *, size_max: int) -> Self:
        """Inverse of `encode`. Raises Invalid."""
        return cls.of_value(decode(blob, size_max=size_max))


def _plain(value: Any) -> Value:
    if isinstance(value, Record):
        return value.to_value()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    plain: Value = value
    return plain


def base_units(value: Value, what: str) -> int:
    """At least one base unit."""
    return shape.integer(value, what, least=1)


def ed25519(value: Value, what: str) -> bytes:
    """An Ed25519 signature."""
    return shape.octets(value, what, least=64, most=64)


def octets(most: int, least: int = 0) -> Reader:
    """Reader of a byte string of least..most bytes."""
    return lambda value, what: shape.octets(value, what, least=least, most=most)


def optional(read: Reader) -> Reader:
    """Reader of null or what `read` reads."""
    return lambda value, what: None if value is None else read(value, what)


def listed(read: Reader, most: int, least: int = 0) -> Reader:
    """Reader of an array of least..most values, as a tuple."""
    return lambda value, what: tuple(
        read(each, what) for each in shape.array(value, what, least=least, most=most)
    )


def together(*reads: Reader) -> Reader:
    """Reader of an array with one value for each reader, as a tuple."""
    return lambda value, what: tuple(
        read(each, what)
        for read, each in zip(reads, shape.record(value, what, len(reads)), strict=True)
    )
