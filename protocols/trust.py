"""Trust is a type: bytes -> Claimed -> Verified.

A machine takes `Verified` values only. Nothing but `aonode.net.admission` and, for a node's own
statements, its signer makes one; so a missing check is a type error, not a hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from protocols.ids import NodeKey

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Claimed(Generic[T_co]):
    """Decoded and within bounds, but no signature checked. `sender` is who handed it over."""

    value: T_co
    sender: NodeKey


@dataclass(frozen=True, slots=True)
class Verified(Generic[T_co]):
    """Every signature in `value` has been checked over the bytes it was read from."""

    value: T_co
