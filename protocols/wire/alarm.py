"""What one node tells all: a scheduler has signed two assignments for one slot.

Payload of the topic `alarms`.

It carries ids only. Whoever cares asks the sender for the two assignments over `/ao/item/1`; they
prove the fault themselves, so an alarm is believed by nobody and needs no signature of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import decode, encode
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, ProcessId
from protocols.wire import shape

TWO_ASSIGNMENTS = 1
"""The one kind of alarm of this release."""
ALARM_BYTES_MAX = 192


@dataclass(frozen=True, slots=True)
class ForkAlarm:
    """The sender holds two assignments of one slot of `process`."""

    network: NetworkId
    process: ProcessId
    one: ItemId
    other: ItemId

    def encode(self) -> bytes:
        """Canonical CBOR of `[1, network, process, one, other]`."""
        fields = (TWO_ASSIGNMENTS, self.network, self.process, self.one, self.other)
        return encode(fields)

    @classmethod
    def decode(cls, blob: bytes) -> ForkAlarm:
        """Inverse of `encode`. Raises Invalid."""
        fields = shape.record(decode(blob, size_max=ALARM_BYTES_MAX), "alarm", 5)
        kind, network, process, one, other = fields
        number = shape.integer(kind, "kind of alarm")
        if number != TWO_ASSIGNMENTS:
            raise Invalid(Reason.UNSUPPORTED, f"an alarm of kind {number}, not {TWO_ASSIGNMENTS}")
        return cls(
            NetworkId(shape.identifier(network, "alarm network")),
            ProcessId(shape.identifier(process, "alarm process")),
            ItemId(shape.identifier(one, "assignment id")),
            ItemId(shape.identifier(other, "assignment id")),
        )
