"""The row a compute unit keeps of one evaluated slot, and how adapters read it back.

LOG        result -> StoredResult    leaf -> leaf hash (32 bytes)
           mmr -> Mmr, at the end of every proof block
SIGN_ONCE  receipt -> Receipt
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import decode, encode
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId
from protocols.machine.events import ExecutedSlot
from protocols.outbox import Bounds
from protocols.outbox_quick import status_and_outbox
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import FUEL_MAX, RECEIPT_BYTES_MAX, Leaf, Receipt

_ROW_OVERHEAD_BYTES = 64
_STATUSES = frozenset(Status)


def executed_slot(
    slot: Slot,
    format: str,
    status: int,
    raw: bytes,
    *,
    fuel: int,
    root: bytes | None,
    bounds: Bounds,
) -> ExecutedSlot:
    """What the engine's answer for one slot means, for a module of this Module-Format.

    Call it where the slot ran, off the event loop: the worst output takes some tenths of a
    second to read. `status` outside `Status` is our mistake: ValueError.
    """
    derived, outbox = status_and_outbox(format, Status(status), raw, bounds)
    return ExecutedSlot(
        slot=slot.nonce,
        assignment=slot.assignment.id,
        status=int(derived),
        raw=raw if derived.has_output else b"",
        outbox_root=outbox.root(),
        fuel=fuel,
        root=root,
    )


def leaf_of(process: ProcessId, result: ExecutedSlot) -> Leaf:
    """The leaf of an evaluated slot."""
    return Leaf(
        process,
        result.slot,
        result.assignment,
        result.root,
        outcome_hash(result.raw, result.outbox_root),
        result.fuel,
        result.status,
    )


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One slot's result as this unit signed it."""

    status: Status
    fuel: int
    raw: bytes
    """The module's output; empty unless `status.has_output`."""
    receipt: Receipt

    def encode(self) -> bytes:
        """Canonical CBOR of `[status, fuel, raw, receipt]`."""
        return encode([int(self.status), self.fuel, self.raw, self.receipt.encode()])

    @classmethod
    def decode(cls, row: bytes, *, output_bytes_max: int) -> StoredResult:
        """Inverse of `encode`. Raises Invalid for a row that no compute unit wrote."""
        status, fuel, raw, receipt = result_parts(row, output_bytes_max=output_bytes_max)
        return cls(status, fuel, raw, Receipt.decode(receipt))


def result_parts(row: bytes, *, output_bytes_max: int) -> tuple[Status, int, bytes, bytes]:
    """Status, fuel, output and encoded receipt of a `StoredResult`. Raises as its `decode`."""
    size_max = output_bytes_max + RECEIPT_BYTES_MAX + _ROW_OVERHEAD_BYTES
    match decode(row, size_max=size_max):
        case [int(status), int(fuel), bytes(raw), bytes(receipt)] if (
            not isinstance(status, bool)
            and not isinstance(fuel, bool)
            and status in _STATUSES
            and 0 <= fuel <= FUEL_MAX
        ):
            return Status(status), fuel, raw, receipt
    raise Invalid(Reason.STORAGE, f"a result row of {len(row)} bytes does not hold a result")
