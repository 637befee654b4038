"""What is heard, compared with what this node knows: each difference is a case. Part of
`watching`.

With own leaves every statement is compared, and what agrees is forgotten. Without, statements of
different units are compared with each other, and a process is run only where they disagree or by
lot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from protocols.court import first_leaf
from protocols.errors import Invalid
from protocols.ids import NodeKey, ProcessId
from protocols.ledger.entries import AnchorEntry
from protocols.machine.audit import Suspicion, check, last_slot
from protocols.machine.case import Case, Kind
from protocols.machine.effects import Effect
from protocols.machine.events import Misplaced
from protocols.machine.heard import Heard
from protocols.machine.overseeing import fork_case, order_case, slot_cases
from protocols.machine.watch import Watch
from protocols.wire.assignment import Assignment, Slot
from protocols.wire.evidence import (
    BadLeaf,
    BadStart,
    Contradiction,
    Evidence,
    encode_evidence,
    statement_id,
    statement_of,
)
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt, Statement, StateProof
from protocols.wire.vote import Vote

OWN_PROOFS_MAX = 4096
"""Newest own proofs, to know the same words by."""
HARMLESS = (Suspicion.NONE, Suspicion.UNKNOWN)
"""Nothing comes of these."""

Begin = Callable[[Case, str, int], list[Effect]]
"""Takes up a case: (case, why, now)."""


class Suspecting:
    """All that others state."""

    def __init__(self, watch: Watch, begin: Begin, audit_share: int) -> None:
        self._watch = watch
        self._begin = begin
        self._audit_share = audit_share
        self._heard = Heard(watch.parameters)
        self._own_proofs: OrderedDict[bytes, None] = OrderedDict()
        self.checked = 0
        """Statements that were compared with own leaves."""

    def __len__(self) -> int:
        return len(self._heard)

    # Statements

    def hear_raw(self, raw: bytes, now: int) -> list[Effect]:
        """As `hear`, of a statement whose signature was checked."""
        return self.hear(raw, statement_of(raw), now)

    def hear(self, raw: bytes, statement: Statement, now: int) -> list[Effect]:
        """A unit states this."""
        watch = self._watch
        if not self._counts(statement):
            return []
        if isinstance(statement, StateProof) and self._is_own_word(statement):
            return []
        finding = self._finding(statement)
        if finding in HARMLESS and not self._names_no_anchor(statement):
            return []
        is_new, against = self._heard.add(raw, statement)
        if not is_new:
            return []
        plain = self._plain(raw, statement, against)
        if plain is not None:
            evidence, why = plain
            return self._begin(_case(raw, statement, watch, now, evidence), why, now)
        if finding is not None:
            self._heard.checked(statement.process, statement_id(raw))
            return self._begin(_case(raw, statement, watch, now), finding.value, now)
        return [] if watch.evaluates(statement.process) else self._compare(statement)

    def sealed(self, proof: StateProof) -> None:
        """This node's own proof: most of the others say the same."""
        self._own_proofs[_words(proof)] = None
        if len(self._own_proofs) > OWN_PROOFS_MAX:
            self._own_proofs.popitem(last=False)

    def _is_own_word(self, proof: StateProof) -> bool:
        return proof.start is None and _words(proof) in self._own_proofs

    def _counts(self, statement: Statement) -> bool:
        """Whether it is somebody else's, with something to lose, and can be judged."""
        watch = self._watch
        ours = (watch.network.id, watch.network.profile)
        if (statement.network, statement.profile) != ours or statement.cu == watch.key:
            return False
        if statement.process == watch.ledger:
            return False
        try:
            statement.check(watch.parameters)
        except Invalid:
            return False
        return watch.at_stake(watch.account_of(statement.cu)) > 0

    def _finding(self, statement: Statement) -> Suspicion | None:
        """How it compares with the own leaves; None if they do not reach its end."""
        own = self._watch.own(statement.process, last_slot(statement))
        if own is None:
            return None
        self.checked += 1
        return check(statement, own, self._watch.parameters).suspicion

    def _names_no_anchor(self, statement: Statement) -> bool:
        """Whether it starts from an anchor that the ledger does not have, though it is as far as
        its unit was."""
        if not isinstance(statement, StateProof) or statement.start is None:
            return False
        if statement.tick > self._watch.tick:
            return False
        return self._watch.state.get(AnchorEntry, statement.start) is None

    def _plain(
        self, raw: bytes, statement: Statement, against: bytes | None
    ) -> tuple[Evidence, str] | None:
        """Evidence for which nothing has to be known but the statement."""
        if against is not None:
            return Contradiction(raw, against, votes=False), "two statements exclude each other"
        if self._names_no_anchor(statement):
            return BadStart(raw), "the anchor it names is none"
        if isinstance(statement, Receipt) and statement.leaf.status not in list(Status):
            leaf = BadLeaf(raw, statement.slot, statement.leaf.encode(), None)
            return leaf, f"status {statement.leaf.status} is none"
        return None

    def _compare(self, statement: Statement) -> list[Effect]:
        """Without own leaves: run it where units disagree, or by lot."""
        last = self._heard.disagreement(statement)
        if last is None and isinstance(statement, StateProof):
            last = statement.last if self._watch.views.lot() < self._audit_share else None
        return [] if last is None else self._watch.audit(statement.process, last)

    def evaluated(self, process: ProcessId, last: int, now: int) -> list[Effect]:
        """Own leaves reach slot `last`: what waited for them can be compared."""
        effects: list[Effect] = []
        for id, raw, statement in self._heard.unchecked(process, last):
            finding = self._finding(statement)
            if finding is None:
                continue
            self._heard.checked(process, id)
            if finding not in HARMLESS:
                case = _case(raw, statement, self._watch, now)
                effects += self._begin(case, finding.value, now)
        return effects

    # Votes and schedulers

    def vote(self, vote: Vote, now: int) -> list[Effect]:
        """A staker votes."""
        watch = self._watch
        account = watch.account_of(vote.key)
        if vote.key == watch.key or not watch.at_stake(account):
            return []
        other = self._heard.vote(account, vote)
        if other is None:
            return []
        raw, tick = vote.encode(), vote.tick
        case = Case(statement_id(raw), Kind.VOTES, raw, vote.key, watch.ledger, tick, tick, now)
        case.evidence = encode_evidence(Contradiction(raw, other.encode(), votes=True))
        return self._begin(case, "two votes for one tick", now)

    def fork(self, one: Assignment, other: Assignment, now: int) -> list[Effect]:
        """A scheduler gave one slot twice."""
        case = fork_case(self._watch, one, other, now)
        if case is None:
            return []
        self._watch.forked.add(one.process)
        return self._begin(case, f"slot {one.nonce} was given twice", now)

    def misplaced(self, found: Misplaced, now: int) -> list[Effect]:
        """What a scheduler signed does not follow its log; if it gave a slot twice, that is why,
        and costs more."""
        slot = found.assignment.nonce
        case = order_case(self._watch, found, now)
        if case is None or found.assignment.process in self._watch.forked:
            return []
        return self._begin(case, f"slot {slot} does not follow the one before", now)

    def slots(self, process: ProcessId, slots: Sequence[Slot], now: int) -> list[Effect]:
        """A log goes on."""
        cases = slot_cases(self._watch, process, slots, now)
        why = "an item was assigned that must be refused"
        return [effect for case in cases for effect in self._begin(case, why, now)]


def _words(proof: StateProof) -> bytes:
    """What a proof says of the process, whoever says it and when."""
    return replace(proof, tick=0, sequence=0, cu=NodeKey(bytes(32))).signing_bytes()


def _case(
    raw: bytes, statement: Statement, watch: Watch, now: int, evidence: Evidence | None = None
) -> Case:
    kind = Kind.STATEMENT if evidence is None else Kind.EVIDENT
    first, last = first_leaf(statement, watch.parameters), last_slot(statement)
    id = statement_id(raw)
    case = Case(id, kind, raw, statement.cu, statement.process, first, last, now)
    case.evidence = b"" if evidence is None else encode_evidence(evidence)
    return case
