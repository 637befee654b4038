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

CLIENT_WAIT_MS = 2_000
"""How long a client waits for its process to become known."""
PUSHED_WAIT_MS = 15_000
"""The same for a pushed item, which nobody waits for: time to ask a few peers where logs stand.
Many targets are wallets and never become known, so this times the rate of pushes is memory."""
RECOVERED_WAIT_MS = 60_000
"""The same for a pushed item found after a restart: the replica may be catching up."""
CLIENTS_MAX, CLIENTS_BYTES_MAX = 4096, 32 << 20
PUSHED_MAX, PUSHED_BYTES_MAX = 1 << 15, 64 << 20
SWEEP_MS = 100
"""Items of one process are looked over this often at the most: thousands may wait for it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One item. `until` None: an item promised before a restart waits for ever."""

    item: Item
    ticket: int | None
    until: int | None


class WaitingRoom:
    """Waiting items of one kind, by the process they are for."""

    def __init__(self, name: str, *, count_max: int, bytes_max: int) -> None:
        """`name` tells the timers of two rooms apart."""
        self._name = name
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._items: dict[ProcessId, list[Waiting]] = {}
        self._armed: dict[ProcessId, int] = {}
        """When the timer of a process goes off."""
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def add(self, process: ProcessId, waiting: Waiting, *, force: bool = False) -> list[Effect]:
        """Keep an item. Raises Invalid(BUSY) without room, unless the item is promised."""
        size = len(waiting.item.raw)
        full = self._count >= self._count_max or self._bytes + size > self._bytes_max
        if full and not force:
            raise Invalid(
                Reason.BUSY,
                f"process {b64url(process)} is not known, and {self._count} items wait for "
                "theirs; try again later",
            )
        self._items.setdefault(process, []).append(waiting)
        self._count += 1
        self._bytes += size
        return [] if waiting.until is None else self._arm(process, waiting.until)

    def take(self, process: ProcessId) -> list[Waiting]:
        """The process is known: its items, out of the room."""
        taken = self._items.pop(process, [])
        self._armed.pop(process, None)
        self._forget(taken)
        return taken

    def expired(self, process: ProcessId, now: int) -> tuple[list[Waiting], list[Effect]]:
        """The items that have waited too long, out of the room; and the timer of the others."""
        items = self._items.pop(process, [])
        over = [each for each in items if each.until is not None and each.until <= now]
        kept = [each for each in items if each.until is None or each.until > now]
        self._forget(over)
        self._armed.pop(process, None)
        if kept:
            self._items[process] = kept
        ends = [each.until for each in kept if each.until is not None]
        return over, self._arm(process, max(min(ends), now + SWEEP_MS)) if ends else []

    def _arm(self, process: ProcessId, at: int) -> list[Effect]:
        if self._armed.get(process, at + 1) <= at:
            return []
        self._armed[process] = at
        return [SetTimer((self._name, process), at)]

    def _forget(self, items: list[Waiting]) -> None:
        self._count -= len(items)
        self._bytes -= sum(len(each.item.raw) for each in items)
