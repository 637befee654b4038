"""Every node's machine: a verified copy of the logs it follows.

Rule 1: a log grows by one slot at a time, each signed by the process's scheduler and chained to
        the one before; slot 0's Scheduler tag says who that is, for ever.
Rule 2: the branch seen first is kept. A second assignment for a nonce is evidence, not a reason
        to change.
        A branch that the ledger has not selected is not extended any more (`ledger.hosting`).
Rule 3: what a peer says is a hint where to ask; what is in the log was checked here.

    slot = next -----> rows, Notify(Extended); then the early slots that follow
    slot > next -----> waits in a bounded buffer; the gap is asked for (`catch_up`)
    slot < next -----> the same one: ignored; another one: evidence, Alarm(FORK)
    does not chain --> Alarm(NOT_NEXT); the slot before is asked for, as evidence of a fork, and
                       the next one that does not follow ours is evidence itself

Every few seconds one peer is asked where its logs stand, so that a lost last slot is repaired.
This file does not know sockets or stores; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.ledger.hosting import Marks, all_hosted, check_branch, lost_branch
from protocols.machine import catch_up, rounds
from protocols.machine.catch_up import GAP_WAIT_MS, GROWING_WAIT_MS, CatchUp
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Event,
    Notify,
    Persist,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import (
    Conflicting,
    Extended,
    ForkFound,
    LogArrived,
    Misplaced,
    PeersChanged,
    Scheduled,
    SlotsArrived,
    UnitSeen,
)
from protocols.machine.followed import Budget, Log, Placed, unknown_log
from protocols.machine.recent import Recent
from protocols.machine.rounds import Rounds
from protocols.machine.rows import head_row, log_rows
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot
from protocols.wire.process import ProcessInfo
from protocols.wire.streams import Head, Heads

STRANGERS_MAX = 1024
"""Logs with early slots whose slot 0 is not known yet."""
RECENT_MAX = 1 << 16
"""Assignment ids remembered, to tell a repeated slot from a second one."""
EVIDENCE_MAX = 16
"""Second assignments kept per log; one proves the fault."""
GROWING_MS = 1_000
"""A log that grew this lately gets what it lacks by gossip, unless there is a gap."""
SCHEDULERS_MAX = 4096
"""Keys of schedulers remembered, to ask them first."""

_PROBE = "probe"


class _Growth:
    """What one event adds, by process, and what else it causes."""

    def __init__(self) -> None:
        self.slots: dict[ProcessId, list[Slot]] = {}
        self.heads: dict[ProcessId, list[bytes]] = {}
        self.effects: list[Effect] = []

    def add(self, log: Log, slot: Slot) -> None:
        self.slots.setdefault(slot.process, []).append(slot)
        self.heads.setdefault(slot.process, []).append(log.chain.head)
        self.effects += log_rows(slot, log.chain)


class Replica:
    """All logs this node follows: every log it hears of, or those in `only`."""

    def __init__(
        self,
        *,
        key: NodeKey,
        only: frozenset[ProcessId] | None = None,
        marks: Marks = all_hosted,
        held: Callable[[ProcessId, int], ItemId | None] = lambda process, nonce: None,
    ) -> None:
        """`marks` is a view of the ledger, `held` one of the durable logs: the assignment of a
        slot."""
        self._key = key
        self._marks = marks
        self._held = held
        self._only = only
        self._logs: dict[ProcessId, Log] = {}
        self._strangers = 0
        self._budget = Budget()
        self._ids: Recent[tuple[ProcessId, int], ItemId] = Recent(RECENT_MAX)
        self._told: Recent[tuple[ProcessId, int, NodeKey], bool] = Recent(RECENT_MAX)
        self._schedulers: Recent[Address, NodeKey] = Recent(SCHEDULERS_MAX)
        self._peers: tuple[NodeKey, ...] = ()
        self._catch_up = CatchUp(key)
        self._rounds = Rounds(key, self._is_scheduler)
        self._slots = 0
        self._forks = 0

    def recover(self, logs: Iterable[tuple[Chain, ProcessInfo]]) -> None:
        """Take up the durable logs: where each stands, and what its slot 0 says."""
        for chain, info in logs:
            self._logs[chain.process] = Log(chain, info.scheduler, self._budget)
            self._ids.put((chain.process, chain.nonce), ItemId(chain.assignment_id))

    def on(self, event: Event, now: int) -> list[Effect]:
        match event:
            case SlotsArrived():
                return self._arrived(event.slots, event.sender, now)
            case Scheduled():
                return self._arrived(event.slots, self._key, now)
            case LogArrived():
                return self._log_arrived(event, now)
            case TimerFired(key=(catch_up.TIMER, process)):
                effects = self._catch_up.resume(process, self._stands(process), now)
                return effects + self._requests(now)
            case TimerFired(key=key) if key == rounds.TIMER:
                return self._ask_heads(now)
            case Answered(tag=tag) if tag == rounds.TAG:
                return self._heads_arrived(event, now)
            case Conflicting():
                return self._second(event.slot.value, event.held)
            case UnitSeen(unit=unit):
                if "scheduler" in unit.value.roles:
                    self._schedulers.put(address_of(unit.value.key), unit.value.key)
            case PeersChanged():
                self._set_peers(event.peers)
            case Started():
                self._set_peers(event.peers)
                return [SetTimer(rounds.TIMER, now + rounds.EVERY_MS)]
        return []

    def status(self) -> dict[str, Any]:
        return {
            "processes": len(self._logs) - self._strangers,
            "slots_added": self._slots,
            "logs_behind": self._catch_up.wanted,
            "early_bytes": self._budget.used,
            "forks": self._forks,
            "peers_banned": self._catch_up.bans(),
        }

    def _set_peers(self, peers: tuple[NodeKey, ...]) -> None:
        self._peers = peers
        self._catch_up.set_peers(peers)

    def _is_scheduler(self, key: NodeKey) -> bool:
        return self._schedulers.get(address_of(key)) is not None

    # Slots

    def _arrived(self, slots: Iterable[Verified[Slot]], peer: NodeKey, now: int) -> list[Effect]:
        growth = _Growth()
        for verified in slots:
            slot = verified.value
            if self._follows(slot.process):
                try:
                    self._offer(slot, peer, growth, now)
                except Invalid as error:
                    growth.effects += self._misfit(slot, peer, error)
        return self._grown(growth) + self._requests(now)

    def _stands(self, process: ProcessId) -> int:
        """Nonce of the last slot of our log; -1 for none."""
        log = self._logs.get(process)
        return -1 if log is None else log.nonce

    def _follows(self, process: ProcessId) -> bool:
        return self._only is None or process in self._only

    def _offer(self, slot: Slot, peer: NodeKey, growth: _Growth, now: int) -> None:
        """Place one slot. Raises Invalid for one that can never stand where it says it does."""
        process, nonce = slot.process, slot.nonce
        log = self._logs.get(process)
        if log is None:
            if nonce and self._strangers >= STRANGERS_MAX:
                return
            log = unknown_log(process, self._budget)
        mark = self._marks(process)
        if mark is not None:
            check_branch(mark, slot, partial(self._held, process))
        is_stranger = log.scheduler is None
        match log.offer(slot):
            case Placed.NEXT:
                if is_stranger:
                    self._strangers -= process in self._logs
                    self._logs[process] = log
                    owner = NodeKey(slot.assignment.item.owner)
                    self._schedulers.put(slot.assignment.item.owner_address, owner)
                self._append(log, slot, growth)
                log.grown_at = now
                self._catch_up.reached(process, log.nonce)
            case Placed.OLD:
                held = self._ids.get((process, nonce))
                if held is not None and held != slot.assignment.id:
                    growth.effects += self._second(slot, held)
            case placed:
                if process not in self._logs:
                    self._logs[process] = log
                    self._strangers += 1
                if placed is Placed.SECOND and log.scheduler is not None:
                    growth.effects += self._second(slot, log.early[nonce].assignment.id)
                growth.effects += self._catch_up.claim(
                    process, nonce, peer, now, stands=log.nonce, wait_ms=GAP_WAIT_MS
                )
                self._drop_unwanted(process)

    def _append(self, log: Log, slot: Slot, growth: _Growth) -> None:
        """Record a slot that the log has taken, and let the early ones after it follow."""
        while True:
            self._slots += 1
            self._ids.put((slot.process, slot.nonce), slot.assignment.id)
            growth.add(log, slot)
            following = log.take_early()
            if following is None:
                break
            try:
                log.offer(following)
            except Invalid as error:
                growth.effects += self._misfit(following, None, error)
                break
            slot = following
        log.drop_early(up_to=log.nonce)

    def _grown(self, growth: _Growth) -> list[Effect]:
        effects = growth.effects
        for process, slots in growth.slots.items():
            effects.append(head_row(self._logs[process].chain))
            effects.append(Notify(Extended(process, tuple(slots), tuple(growth.heads[process]))))
        return effects

    def _drop_unwanted(self, process: ProcessId) -> None:
        """Early slots of a gap nobody can fill go; if they are real, they come again."""
        log = self._logs.get(process)
        if log is None or self._catch_up.is_wanted(process):
            return
        log.drop_early()
        if log.scheduler is None:
            del self._logs[process]
            self._strangers -= 1

    # Faults

    def _misfit(self, slot: Slot, peer: NodeKey | None, error: Invalid) -> list[Effect]:
        """A well-signed slot that cannot stand: once per slot and peer, tell; look for proof."""
        place = (slot.process, slot.nonce, peer or self._key)
        if self._told.get(place):
            return []
        self._told.put(place, True)
        effects: list[Effect] = [Alarm(error.reason, slot.process, error.detail)]
        if error.reason is Reason.NOT_NEXT:
            effects += self._misplaced(slot)
        if error.reason is Reason.NOT_NEXT and slot.nonce and peer not in (None, self._key):
            effects += self._probe(slot.process, slot.nonce - 1, peer)
        return effects

    def _misplaced(self, slot: Slot) -> list[Effect]:
        """What the scheduler signed does not follow our last slot: with that it is evidence. Of a
        log that is not known nothing is kept, since anybody can begin one."""
        log, assignment = self._logs.get(slot.process), slot.assignment
        if log is None or log.scheduler is None:
            return [] if slot.nonce else [Notify(Misplaced(assignment, slot.message))]
        if slot.nonce != log.nonce + 1 or log.evidence >= EVIDENCE_MAX:
            return []
        log.evidence += 1
        key = keyspace.evidence_key(slot.process, slot.nonce, assignment.id)
        return [Persist(Table.LOG, key, assignment.item.raw), Notify(Misplaced(assignment))]

    def _probe(self, process: ProcessId, nonce: int, peer: NodeKey | None) -> list[Effect]:
        """Ask a peer on another branch for its slot at a nonce that we have."""
        if peer is None or peer == self._key:
            return []
        return [catch_up.log_request(peer, process, nonce, nonce, name=_PROBE)]

    def _second(self, slot: Slot, held: ItemId) -> list[Effect]:
        """The scheduler signed two assignments for one nonce: keep the proof."""
        process, nonce, second = slot.process, slot.nonce, slot.assignment.id
        log = self._logs.get(process)
        place = (process, nonce, NodeKey(second))
        if log is None or log.evidence >= EVIDENCE_MAX or self._told.get(place) or second == held:
            return []
        self._told.put(place, True)
        log.evidence += 1
        self._forks += 1
        key = keyspace.evidence_key(process, nonce, second)
        detail = (
            f"scheduler of {b64url(process)} signed assignments {b64url(held)} and "
            f"{b64url(second)} for slot {nonce}; the first seen is kept"
        )
        return [
            Persist(Table.LOG, key, slot.assignment.item.raw),
            Alarm(Reason.FORK, process, detail),
            Notify(ForkFound(process, nonce, held, second)),
        ]

    # Gaps

    def _requests(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        while (wanted := self._catch_up.next_request(now)) is not None:
            process, last = wanted
            log = self._logs.get(process)
            first = 0 if log is None else log.nonce + 1
            if log is not None and log.early:
                last = max(first, min(last, min(log.early) - 1))
            scheduler = None
            if log is not None and log.scheduler is not None:
                scheduler = self._schedulers.get(log.scheduler)
            effects += self._catch_up.ask(process, first, last, scheduler, now)
            self._drop_unwanted(process)
        return effects

    def _log_arrived(self, event: LogArrived, now: int) -> list[Effect]:
        name, first, last = event.tag
        process, peer = event.process, event.peer
        growth = _Growth()
        wrong = event.wrong
        for nonce, verified in enumerate(event.slots or (), first):
            slot = verified.value
            if slot.process != process or slot.nonce != nonce or nonce > last:
                wrong = f"slot {slot.nonce} of {b64url(slot.process)} stands where {nonce} belongs"
                break
            try:
                self._offer(slot, peer, growth, now)
            except Invalid as error:
                if error.reason not in (Reason.NOT_NEXT, Reason.FORK):
                    wrong = error.detail
                growth.effects += self._misfit(slot, peer, error)
                break
        if wrong:
            self._catch_up.ban(peer, now)
            detail = f"peer {b64url(peer)} answered for the log of {b64url(process)}: {wrong}"
            growth.effects.append(Alarm(Reason.MISMATCH, process, detail))
        if name == catch_up.TAG:
            stands = self._stands(process)
            growth.effects += self._catch_up.answered(
                process, peer, stands, now, progress=stands >= first
            )
            self._drop_unwanted(process)
        return self._grown(growth) + self._requests(now)

    # Where others stand

    def _ask_heads(self, now: int) -> list[Effect]:
        logs = self._logs if self._only is None else self._only
        return self._rounds.next(self._peers, logs, len(logs), all=self._only is None, now=now)

    def _heads_arrived(self, event: Answered, now: int) -> list[Effect]:
        try:
            heads = [head for frame in event.frames or () for head in Heads.decode(frame).heads]
        except Invalid as error:
            self._catch_up.ban(event.peer, now)
            detail = f"peer {b64url(event.peer)} answered with no heads: {error.detail}"
            return [Alarm(error.reason, ProcessId(bytes(32)), detail)]
        effects: list[Effect] = []
        for head in heads:
            if self._follows(head.process):
                effects += self._compare(head, event.peer, now)
        return effects + self._requests(now)

    def _compare(self, head: Head, peer: NodeKey, now: int) -> list[Effect]:
        log = self._logs.get(head.process)
        nonce = self._stands(head.process)
        if lost_branch(head.process, self._marks(head.process), partial(self._held, head.process)):
            return []
        if head.nonce > nonce:
            grown_at = None if log is None else log.grown_at
            growing = grown_at is not None and now - grown_at < GROWING_MS
            wait_ms = GROWING_WAIT_MS if growing else 0
            return self._catch_up.claim(
                head.process, head.nonce, peer, now, stands=nonce, wait_ms=wait_ms
            )
        place = (head.process, head.nonce, peer)
        if (
            log is not None
            and head.nonce == nonce
            and head.head != log.chain.head
            and not self._told.get(place)
        ):
            self._told.put(place, True)
            return self._probe(head.process, head.nonce, peer)
        return []
