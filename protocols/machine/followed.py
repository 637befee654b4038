"""One followed log: its chain, who may extend it, and the early slots that wait for it.

Takes one slot at a time and says what became of it. On `Invalid` nothing has changed.
"""

from __future__ import annotations

import enum

from protocols.errors import Invalid, Reason
from protocols.ids import Address, ProcessId, b64url
from protocols.wire.assignment import Chain, Slot
from protocols.wire.process import process_info

EARLY_SLOTS_MAX, EARLY_BYTES_MAX = 4096, 16 << 20
"""Early slots kept per log; beyond, the highest are dropped, and fetched when their time comes."""
EARLY_TOTAL_BYTES_MAX = 256 << 20
"""Early slots of all logs together."""


class Placed(enum.Enum):
    """What became of an offered slot."""

    NEXT = enum.auto()
    """It extends the log."""
    OLD = enum.auto()
    """The log already has its nonce."""
    EARLY = enum.auto()
    """It waits, if there was room."""
    SECOND = enum.auto()
    """Another slot of this nonce waits already."""


class Budget:
    """Bytes of early slots, shared by all logs."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Log:
    """`scheduler` None: slot 0 is not known yet, so early slots are not known to be real."""

    __slots__ = ("_budget", "_bytes", "chain", "early", "evidence", "grown_at", "scheduler")

    def __init__(self, chain: Chain, scheduler: Address | None, budget: Budget) -> None:
        self.chain = chain
        self.scheduler = scheduler
        self.early: dict[int, Slot] = {}
        self.evidence = 0
        """Second assignments kept."""
        self.grown_at: int | None = None
        """When it was last extended, by its user's clock; None: not since the start."""
        self._bytes = 0
        self._budget = budget

    @property
    def nonce(self) -> int:
        """Of the last slot; -1 before slot 0."""
        return self.chain.nonce

    def offer(self, slot: Slot) -> Placed:
        """Place one slot. Raises Invalid for one that can never stand where it says it does."""
        nonce = slot.nonce
        if nonce == 0 and self.scheduler is None:
            scheduler = _scheduler_named(slot)
            self.chain = self.chain.next(slot)
            self.scheduler = scheduler
            self._drop_strangers()
            return Placed.NEXT
        if self.scheduler is not None:
            self._check_signer(slot)
        if nonce <= self.chain.nonce:
            return Placed.OLD
        if nonce == self.chain.nonce + 1:
            self.chain = self.chain.next(slot)
            return Placed.NEXT
        held = self.early.get(nonce)
        if held is not None:
            return Placed.EARLY if held.assignment.id == slot.assignment.id else Placed.SECOND
        self._keep(slot)
        return Placed.EARLY

    def take_early(self) -> Slot | None:
        """The waiting slot that is next now, taken out; it may still be refused by `offer`."""
        slot = self.early.pop(self.chain.nonce + 1, None) if self.early else None
        if slot is not None:
            self._count(slot, -1)
        return slot

    def drop_early(self, *, up_to: int | None = None) -> None:
        """Let early slots go: all, or those that the log has passed."""
        for nonce in [each for each in self.early if up_to is None or each <= up_to]:
            self._count(self.early.pop(nonce), -1)

    def _check_signer(self, slot: Slot) -> None:
        signer = slot.assignment.item.owner_address
        if self.scheduler is not None and signer != self.scheduler:
            raise Invalid(
                Reason.WRONG_SENDER,
                f"slot {slot.nonce} of {b64url(slot.process)} is signed by {b64url(signer)}, "
                f"not by its scheduler {b64url(self.scheduler)}",
            )

    def _drop_strangers(self) -> None:
        """Now that the scheduler is known: what others signed must not pass for its word."""
        for nonce, slot in list(self.early.items()):
            if slot.assignment.item.owner_address != self.scheduler:
                self._count(self.early.pop(nonce), -1)

    def _keep(self, slot: Slot) -> None:
        size = _size(slot)
        while self.early and (
            len(self.early) >= EARLY_SLOTS_MAX or self._bytes + size > EARLY_BYTES_MAX
        ):
            highest = max(self.early)
            if highest < slot.nonce:
                return
            self._count(self.early.pop(highest), -1)
        if self._budget.used + size <= EARLY_TOTAL_BYTES_MAX:
            self.early[slot.nonce] = slot
            self._count(slot, 1)

    def _count(self, slot: Slot, sign: int) -> None:
        self._bytes += sign * _size(slot)
        self._budget.used += sign * _size(slot)


def unknown_log(process: ProcessId, budget: Budget) -> Log:
    """A log of which nothing is known yet."""
    return Log(Chain.genesis(process), None, budget)


def _scheduler_named(slot: Slot) -> Address:
    """Who may extend the log of this slot 0. Raises Invalid unless it is who signed it."""
    info = process_info(slot.message)
    signer = slot.assignment.item.owner_address
    if info.scheduler != signer:
        raise Invalid(
            Reason.WRONG_SENDER,
            f"slot 0 of {b64url(slot.process)} is signed by {b64url(signer)}, but names "
            f"scheduler {b64url(info.scheduler)}",
        )
    return info.scheduler


def _size(slot: Slot) -> int:
    return len(slot.message.raw) + len(slot.assignment.item.raw)
