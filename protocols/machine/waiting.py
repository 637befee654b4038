"""A messenger's items whose process is not known yet, bounded.

Part of `delivery`. A client's item waits with its ticket and is not durable; a pushed one is
durable and has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import Effect, SetTimer
from protocols.wire.item import Item

SLOT_0_WAIT_MS = 2_000
"""How long an item waits for its process to become known."""
RECOVERED_WAIT_MS = 60_000
"""The same for a pushed item found after a restart: the replica may be catching up."""
WAITING_MAX, WAITING_BYTES_MAX = 4096, 64 << 20

TIMER = "slot-0"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One item. `until` None: an item promised before a restart waits for ever."""

    item: Item
    ticket: int | None
    until: int | None


class WaitingRoom:
    """All waiting items, by the process they are for."""

    def __init__(self) -> None:
        self._items: dict[ProcessId, list[Waiting]] = {}
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def add(self, process: ProcessId, waiting: Waiting, *, force: bool = False) -> list[Effect]:
        """Keep an item. Raises Invalid(BUSY) without room, unless the item is promised."""
        size = len(waiting.item.raw)
        if not force and (self._count >= WAITING_MAX or self._bytes + size > WAITING_BYTES_MAX):
            raise Invalid(
                Reason.BUSY,
                f"process {b64url(process)} is not known, and {self._count} items wait for "
                "theirs; try again later",
            )
        self._items.setdefault(process, []).append(waiting)
        self._count += 1
        self._bytes += size
        return [] if waiting.until is None else [self._timer(process)]

    def take(self, process: ProcessId) -> list[Waiting]:
        """The process is known: its items, out of the room."""
        taken = self._items.pop(process, [])
        self._forget(taken)
        return taken

    def expired(self, process: ProcessId, now: int) -> tuple[list[Waiting], list[Effect]]:
        """The items that have waited too long, out of the room; and the timer of the others."""
        items = self._items.pop(process, [])
        over = [each for each in items if each.until is not None and each.until <= now]
        kept = [each for each in items if each.until is None or each.until > now]
        self._forget(over)
        if kept:
            self._items[process] = kept
        again = any(each.until is not None for each in kept)
        return over, [self._timer(process)] if again else []

    def _timer(self, process: ProcessId) -> SetTimer:
        ends = [each.until for each in self._items[process] if each.until is not None]
        return SetTimer((TIMER, process), min(ends))

    def _forget(self, items: list[Waiting]) -> None:
        self._count -= len(items)
        self._bytes -= sum(len(each.item.raw) for each in items)
