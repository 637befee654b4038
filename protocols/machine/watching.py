"""Every node's watcher: finds wrong statements, proves them on the ledger, answers demands.

Rule 1: nobody is accused but by evidence that this node has judged guilty itself, with the
        segment run again from the state before it. What is unknown here, about another branch of
        the log or under another profile, accuses nobody.
Rule 2: what is done about a statement is durable first (`accusing`), and is a pure function of
        the row: a crash repeats a step and never commits to a second one.
Rule 3: own leaves come from the compute unit of this node. Without one, statements of different
        units are compared, and a process is run only where they disagree, or by lot.

    StatementArrived, VoteArrived --> `heard` --differs--> Case --`investigating`--> PROVED
    LedgerMoved ------------------> `accusing` (commit, parts, reveal), `replying` (demands)

This file does not know stores, engines or clocks; `Views` are views and pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from protocols import keyspace
from protocols.court import first_leaf
from protocols.errors import Invalid
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.machine.accusing import Accusing
from protocols.machine.audit import Suspicion, check, last_slot
from protocols.machine.case import POSTED, Case, Kind, Stage
from protocols.machine.effects import Effect, Event, Persist, Table
from protocols.machine.events import (
    Audited,
    Evaluated,
    Extended,
    ForkSeen,
    LeavesArrived,
    LedgerMoved,
    PeersChanged,
    ProofsArrived,
    SegmentRun,
    StatementArrived,
    VoteArrived,
)
from protocols.machine.heard import Heard
from protocols.machine.investigating import TAG, Investigating
from protocols.machine.overseeing import fork_case, slot_cases
from protocols.machine.replying import Replying
from protocols.machine.watch import Views, Watch
from protocols.network import Network
from protocols.wire.assignment import Assignment
from protocols.wire.evidence import (
    BadLeaf,
    Contradiction,
    encode_evidence,
    statement_id,
    statement_of,
)
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt, Statement, StateProof
from protocols.wire.vote import Vote

CASES_MAX = 256
FORKS_EARLY_MAX = 64
CASES_PER_ACCOUNT_MAX = 4
"""Against one account at a time: one is enough to take its stake."""

HARMLESS = (Suspicion.NONE, Suspicion.UNKNOWN)
"""Nobody is accused of these."""


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
        self._heard = Heard(network.parameters)
        self._cases: dict[bytes, Case] = {}
        self._investigating = Investigating(self._watch, self._hear_again, self._fork)
        self._accusing = Accusing(self._watch)
        self._replying = Replying(self._watch)
        self._audit_share = audit_share
        self._watches = watches
        self._checked = 0
        self._early: list[ForkSeen] = []
        """Forks told before the ledger was known."""
        self._tick = -1

    def recover(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take up the CHALLENGE rows as (id, value). Raises Invalid(STORAGE, MALFORMED)."""
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
            "statements": len(self._heard),
            "checked": self._checked,
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
            case StatementArrived(raw=raw, statement=statement) if self._watches:
                return self._hear(raw, statement.value, now)
            case VoteArrived(vote=vote) if self._watches and watch.is_ready:
                return self._vote(vote.value, now)
            case Evaluated(process=process, last=last) if self._watches and watch.is_ready:
                return self._evaluated(process, last, now)
            case Extended(process=process, slots=slots) if self._watches and watch.is_ready:
                cases = slot_cases(watch, process, slots, now)
                why = "an item was assigned that must be refused"
                return [effect for case in cases for effect in self._begin(case, why, now)]
            case ForkSeen(one=one, other=other) if self._watches:
                if watch.is_ready:
                    return self._fork(one, other, now)
                self._early = [*self._early, event][-FORKS_EARLY_MAX:]
            case LeavesArrived(tag=(tag, id)) if tag == TAG and id in self._cases:
                return self._investigating.arrived(self._cases[id], event, now) + self._push(now)
            case ProofsArrived(tag=(tag, id)) if tag == TAG and id in self._cases:
                return self._investigating.told(self._cases[id], event, now) + self._push(now)
            case Audited():
                return self._audited(event, now)
            case SegmentRun():
                return self._segment_run(event, now)
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
        for fork in self._early:
            effects += self._fork(fork.one, fork.other, now)
        self._early = []
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

    # Statements

    def _hear_again(self, raw: bytes, now: int) -> list[Effect]:
        """A statement that was found on the way; its signature was checked."""
        return self._hear(raw, statement_of(raw), now)

    def _hear(self, raw: bytes, statement: Statement, now: int) -> list[Effect]:
        watch = self._watch
        ours = (watch.network.id, watch.network.profile)
        if (statement.network, statement.profile) != ours or statement.cu == watch.key:
            return []
        if statement.process == watch.ledger or _is_malformed(statement, watch):
            return []
        if not watch.is_ready or not watch.at_stake(watch.account_of(statement.cu)):
            return []
        finding = self._finding(statement)
        if finding in HARMLESS:
            return []
        is_new, against = self._heard.add(raw, statement)
        if not is_new:
            return []
        if against is not None:
            evidence = encode_evidence(Contradiction(raw, against, votes=False))
            return self._open(raw, statement, now, "two statements exclude each other", evidence)
        if isinstance(statement, Receipt) and statement.leaf.status not in list(Status):
            leaf = BadLeaf(raw, statement.slot, statement.leaf.encode(), None)
            why = f"status {statement.leaf.status} is none"
            return self._open(raw, statement, now, why, encode_evidence(leaf))
        if finding is not None:
            self._heard.checked(statement.process, statement_id(raw))
            return self._open(raw, statement, now, f"{finding}", b"")
        if not watch.evaluates(statement.process):
            return self._compare(statement)
        return []

    def _finding(self, statement: Statement) -> Suspicion | None:
        """How it compares with the own leaves; None if they do not reach its end."""
        own = self._watch.own(statement.process, last_slot(statement))
        if own is None:
            return None
        self._checked += 1
        return check(statement, own, self._watch.parameters).suspicion

    def _compare(self, statement: Statement) -> list[Effect]:
        """Without own leaves: run it where units disagree, or by lot."""
        last = self._heard.disagreement(statement)
        if last is None and isinstance(statement, StateProof):
            last = statement.last if self._watch.views.lot() < self._audit_share else None
        return [] if last is None else self._watch.audit(statement.process, last)

    def _evaluated(self, process: ProcessId, last: int, now: int) -> list[Effect]:
        """Own leaves reach further: what waited for them can be compared."""
        effects: list[Effect] = []
        for id, raw, statement in self._heard.unchecked(process, last):
            finding = self._finding(statement)
            if finding is None:
                continue
            self._heard.checked(process, id)
            if finding not in HARMLESS:
                effects += self._open(raw, statement, now, f"{finding}", b"")
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

    # Schedulers

    def _fork(self, one: Assignment, other: Assignment, now: int) -> list[Effect]:
        case = fork_case(self._watch, one, other, now)
        if case is None:
            return []
        self._watch.forked.add(one.process)
        return self._begin(case, f"slot {one.nonce} was given twice", now)

    # Votes

    def _vote(self, vote: Vote, now: int) -> list[Effect]:
        watch = self._watch
        account = watch.account_of(vote.key)
        if vote.key == watch.key or not watch.at_stake(account):
            return []
        other = self._heard.vote(account, vote)
        if other is None:
            return []
        raw = vote.encode()
        case = Case(
            statement_id(raw), Kind.VOTES, raw, vote.key, watch.ledger, vote.tick, vote.tick, now
        )
        case.evidence = encode_evidence(Contradiction(raw, other.encode(), votes=True))
        return self._begin(case, "two votes for one tick", now)

    # Cases

    def _open(
        self, raw: bytes, statement: Statement, now: int, why: str, evidence: bytes
    ) -> list[Effect]:
        first = first_leaf(statement, self._watch.parameters)
        kind = Kind.CONTRADICTION if evidence else Kind.STATEMENT
        case = Case(
            statement_id(raw),
            kind,
            raw,
            statement.cu,
            statement.process,
            first,
            last_slot(statement),
            now,
        )
        case.evidence = evidence
        return self._begin(case, why, now)

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


def _is_malformed(statement: Statement, watch: Watch) -> bool:
    """Whether it says nothing that can be judged."""
    try:
        statement.check(watch.parameters)
    except Invalid:
        return True
    return False
