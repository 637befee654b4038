"""The slots that were added last, decoded: evaluation and clients read them next."""

from __future__ import annotations

from protocols.ids import ProcessId
from protocols.wire.assignment import Slot

SLOTS_MAX = 2048
BYTES_MAX = 16 << 20
"""Raw bytes of the slots kept; an item may have 2 MiB."""


class RecentSlots:
    """First in, first out. Reading is safe from other threads."""

    def __init__(self) -> None:
        self._slots: dict[tuple[ProcessId, int], Slot] = {}
        self._bytes = 0

    def put(self, slot: Slot) -> None:
        """Keep a slot, which is in the store."""
        self._slots[slot.process, slot.nonce] = slot
        self._bytes += _size(slot)
        while len(self._slots) > SLOTS_MAX or self._bytes > BYTES_MAX:
            oldest = next(iter(self._slots))
            self._bytes -= _size(self._slots.pop(oldest))

    def get(self, process: ProcessId, nonce: int) -> Slot | None:
        """A slot, if it is still kept."""
        return self._slots.get((process, nonce))


def _size(slot: Slot) -> int:
    return len(slot.assignment.item.raw) + len(slot.message.raw)
