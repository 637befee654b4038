"""Every node's watcher: finds wrong statements, proves them on the ledger, answers demands.

Rule 1: nobody is accused but by evidence that this node has judged guilty itself, with the
        segment run again from the state before it. What is unknown here, about another branch of
        the log or under another profile, accuses nobody.
Rule 2: what is done about a statement is durable first (`accusing`), and is a pure function of
        the row: a crash repeats a step and never commits to a second one.
Rule 3: own leaves come from the compute unit of this node. Without one, statements of different
        units are compared, and a process is run only where they disagree, or by lot.

    StatementArrived, VoteArrived, ForkSeen, Misplaced --`suspecting`--> Case
    Case --`investigating`--> PROVED
    LedgerMoved --> `accusing`: commit, parts, reveal; `replying`: answers to demands

This file does not know stores, engines or clocks; `Views` are views and pure functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from protocols import keyspace
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.machine import rehearing
from protocols.machine.accusing import TIMER, Accusing
from protocols.machine.asking import TAG, Asking
from protocols.machine.case import POSTED, Case, Stage
from protocols.machine.effects import Effect, Event, Persist, Table, TimerFired
from protocols.machine.events import (
    Audited,
    Evaluated,
    Extended,
    ForkSeen,
    LeavesArrived,
    LedgerMoved,
    Misplaced,
    PeersChanged,
    ProofsArrived,
    ProofSealed,
    SegmentRun,
    StatementArrived,
    VoteArrived,
)
from protocols.machine.investigating import Investigating
from protocols.machine.rehearing import Rehearing
from protocols.machine.replying import Replying
from protocols.machine.suspecting import Suspecting
from protocols.machine.watch import Views, Watch
from protocols.network import Network
from protocols.wire.assignment import Assignment

CASES_MAX = 256
EARLY_MAX = 64
CASES_PER_ACCOUNT_MAX = 4
"""Against one account at a time: one is enough to take its stake."""


class Watching:
    """All cases of one node."""

    def __init__(
        self,
        *,
        network: Network,
        key: NodeKey,
        sign: Callable[[bytes], bytes],
        views: Views,
        audit_share: int = 0,
        watches: bool = True,
    ) -> None:
        """`audit_share`: basis points of the statements heard that a node without a compute unit
        checks by running the process. `watches`: False for a node that only answers demands."""
        self._watch = Watch(network=network, key=key, sign=sign, views=views)
        self._cases: dict[bytes, Case] = {}
        self._suspecting = Suspecting(self._watch, self._begin, audit_share)
        asking = Asking(self._watch, self._suspecting.hear_raw, self._suspecting.fork)
        self._investigating = Investigating(self._watch, asking)
        self._accusing = Accusing(self._watch)
        self._replying = Replying(self._watch)
        self._rehearing = Rehearing(views.newest, self._suspecting.hear_raw)
        self._watches = watches
        self._early: list[ForkSeen | Misplaced] = []
        """Faults of schedulers told before the ledger was known."""
        self._tick = -1

    def recover(
        self, rows: Iterable[tuple[bytes, bytes]], misplaced: Iterable[Assignment] = ()
    ) -> None:
        """Take up the CHALLENGE rows as (id, value), and assignments on disk that do not follow
        the log. Raises Invalid(STORAGE, MALFORMED)."""
        self._early += [Misplaced(each) for each in itertools.islice(misplaced, EARLY_MAX)]
        for id, row in rows:
            self._cases[id] = Case.decode(id, row, self._watch.parameters)

    # Views of the adapter

    def cases(self) -> list[Case]:
        """Newest first."""
        return sorted(self._cases.values(), key=lambda case: (-case.opened_ms, case.id))

    def case(self, id: bytes) -> Case | None:
        return self._cases.get(id)

    def can_lose(self, key: NodeKey) -> bool:
        """Whether anything is or was at stake behind a key; true while the ledger is not known."""
        watch = self._watch
        if not watch.is_ready:
            return True
        account = watch.account_of(key)
        return watch.case_of(account) is not None or watch.at_stake(account) > 0

    def status(self) -> dict[str, Any]:
        stages: dict[str, int] = {}
        for case in self._cases.values():
            stages[case.stage.value] = stages.get(case.stage.value, 0) + 1
        waits = {b64url(case.id): case.why for case in self._cases.values() if not case.is_over}
        return {
            "statements": len(self._suspecting),
            "checked": self._suspecting.checked,
            "cases": stages,
            "open": dict(sorted(waits.items())[:CASES_PER_ACCOUNT_MAX]),
            "answered": len(self._replying),
        }

    # Events

    def on(self, event: Event, now: int) -> list[Effect]:
        watch = self._watch
        match event:
            case LedgerMoved():
                return self._moved(event, now)
            case PeersChanged(peers=peers):
                watch.peers = peers
            case LeavesArrived(tag=(tag, id)) if tag == TAG and id in self._cases:
                case = self._cases[id]
                return self._investigating.leaves_arrived(case, event, now) + self._push(now)
            case ProofsArrived(tag=(tag, id)) if tag == TAG and id in self._cases:
                case = self._cases[id]
                return self._investigating.proofs_arrived(case, event, now) + self._push(now)
            case TimerFired(key=(tag, _)) if tag == TIMER:
                return self._push(now)
            case TimerFired(key=rehearing.TIMER):
                return self._rehearing.next(now)
            case Audited():
                return self._audited(event, now)
            case SegmentRun():
                return self._segment_run(event, now)
            case ForkSeen() | Misplaced() if not watch.is_ready:
                self._early = [*self._early, event][-EARLY_MAX:]
        return self._heard(event, now) if self._watches and watch.is_ready else []

    def _heard(self, event: Event, now: int) -> list[Effect]:
        """What others state, and what this node evaluates."""
        match event:
            case StatementArrived(raw=raw, statement=statement):
                return self._suspecting.hear(raw, statement.value, now)
            case VoteArrived(vote=vote):
                return self._suspecting.vote(vote.value, now)
            case ProofSealed(proof=proof):
                self._suspecting.sealed(proof)
            case Evaluated(process=process, last=last):
                return self._evaluated(process, last, now)
            case Extended(process=process, slots=slots):
                return self._suspecting.slots(process, slots, now)
            case ForkSeen(one=one, other=other):
                return self._suspecting.fork(one, other, now)
            case Misplaced():
                return self._suspecting.misplaced(event, now)
        return []

    def _moved(self, event: LedgerMoved, now: int) -> list[Effect]:
        watch = self._watch
        is_first = not watch.is_ready
        watch.moved(event.state)
        self._accusing.folded(event.slots)
        effects: list[Effect] = []
        if is_first:
            for case in self._cases.values():
                effects += self._accusing.post_again(case)
                effects += self._investigating.post_again(case)
            effects += self._rehearing.start(now) if self._watches else []
        early, self._early = self._early, []
        for fault in early:
            effects += self._heard(fault, now)
        effects += self._push(now)
        effects += self._replying.proceed()
        self._tick = watch.tick
        return effects

    def _push(self, now: int) -> list[Effect]:
        """Bring every case as far as it can come."""
        watch = self._watch
        if not watch.is_ready:
            return []
        effects: list[Effect] = []
        watch.accused = frozenset(
            watch.account_of(case.unit) for case in self._cases.values() if case.is_brought
        )
        for case in list(self._cases.values()):
            effects += self._accusing.settle(case, now)
            if not case.is_over and case.stage is not Stage.FROZEN:
                effects += self._investigating.proceed(case, now)
                effects += self._accusing.proceed(case, now, busy=self._is_busy(case))
                effects += self._accusing.settle(case, now)
        return effects

    def _is_busy(self, case: Case) -> bool:
        account = self._watch.account_of(case.unit)
        return any(
            other.stage in POSTED and self._watch.account_of(other.unit) == account
            for other in self._cases.values()
            if other is not case
        )

    def _evaluated(self, process: ProcessId, last: int, now: int) -> list[Effect]:
        effects = self._suspecting.evaluated(process, last, now)
        if any(case.process == process and not case.is_over for case in self._cases.values()):
            effects += self._push(now)
        return effects

    def _audited(self, event: Audited, now: int) -> list[Effect]:
        self._watch.audited(event)
        if event.witness_at is None:
            return self._evaluated(event.process, len(event.leaves) - 1, now)
        effects: list[Effect] = []
        for case in self._cases.values():
            if case.process == event.process:
                effects += self._investigating.audited(case, event, now)
        return effects + self._push(now)

    def _segment_run(self, event: SegmentRun, now: int) -> list[Effect]:
        effects: list[Effect] = []
        for id in self._investigating.ran(event):
            if id in self._cases:
                effects += self._investigating.take_run(self._cases[id], event, now)
        return effects + self._push(now)

    # Cases

    def _begin(self, case: Case, why: str, now: int) -> list[Effect]:
        watch = self._watch
        account = watch.account_of(case.unit)
        against = [
            other
            for other in self._cases.values()
            if not other.is_over and watch.account_of(other.unit) == account
        ]
        if case.id in self._cases or len(against) >= CASES_PER_ACCOUNT_MAX:
            return []
        effects = self._make_room()
        if len(self._cases) >= CASES_MAX:
            return effects
        self._cases[case.id] = case
        effects += watch.move(case, Stage.SUSPECTED, why, now)
        return effects + self._push(now)

    def _make_room(self) -> list[Effect]:
        """Forget the oldest case that is over, if there are too many."""
        over = [case for case in self._cases.values() if case.is_over]
        if len(self._cases) < CASES_MAX or not over:
            return []
        oldest = min(over, key=lambda case: (case.changed_ms, case.id))
        del self._cases[oldest.id]
        self._investigating.forget(oldest)
        return [Persist(Table.ITEMS, keyspace.challenge_key(oldest.id), None)]
