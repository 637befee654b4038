"""Offers that wait while their log is being restored, bounded.

Part of `slot_log`. An offer's look-ups were made before it waited; slots that turn up meanwhile
are marked on it, because the scheduler's own memory of recent ids is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from protocols.errors import Invalid
from protocols.ids import ItemId, ProcessId
from protocols.machine.events import Offered
from protocols.wire.assignment import Slot
from protocols.wire.process import ProcessInfo, PushKey, push_key

WAITING_MAX, WAITING_BYTES_MAX = 4096, 64 << 20


class HeldOffers:
    """Waiting offers by log, one per item."""

    def __init__(self) -> None:
        self._offers: dict[ProcessId, dict[ItemId, Offered]] = {}
        self._bytes = 0
        self.count = 0

    def add(self, offered: Offered, process: ProcessId) -> bool:
        """Keep an offer; False if there is no room, or the same item waits already."""
        item = offered.item.value
        size = len(item.raw)
        if (
            item.id in self._offers.get(process, {})
            or self.count >= WAITING_MAX
            or self._bytes + size > WAITING_BYTES_MAX
        ):
            return False
        self._offers.setdefault(process, {})[item.id] = offered
        self.count += 1
        self._bytes += size
        return True

    def take(self, holds: Callable[[ProcessId], bool]) -> list[tuple[ProcessId, Offered]]:
        """The offers whose log is held no longer, out of here."""
        taken: list[tuple[ProcessId, Offered]] = []
        for process in [each for each in self._offers if not holds(each)]:
            taken += [(process, offered) for offered in self._offers.pop(process).values()]
        self.count -= len(taken)
        self._bytes -= sum(len(offered.item.value.raw) for _, offered in taken)
        return taken

    def mark(self, info: ProcessInfo, slots: Sequence[Slot]) -> None:
        """Tell the offers for this log of the slots they turn out to have."""
        waiting = self._offers.get(info.id)
        if not waiting:
            return
        pushed: dict[PushKey, int] = {}
        for slot in slots:
            if (offered := waiting.get(slot.message.id)) is not None:
                waiting[slot.message.id] = replace(offered, known=slot)
            if slot.nonce and (push := push_key(slot.message, info)) is not None:
                pushed[push] = slot.nonce
        for id, offered in waiting.items() if pushed else ():
            nonce = _pushed_nonce(offered, info, pushed)
            if nonce is not None:
                waiting[id] = replace(offered, pushed=nonce)


def _pushed_nonce(offered: Offered, info: ProcessInfo, pushed: dict[PushKey, int]) -> int | None:
    try:
        push = push_key(offered.item.value, info)
    except Invalid:
        return None  # it will be refused for this when its turn comes
    return None if push is None else pushed.get(push)
