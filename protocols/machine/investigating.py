"""From a suspicion to evidence that this node itself would judge guilty. Part of `watching`.

    SUSPECTED --check--> what is wrong --> evidence at once (state root, sum)
        |                    '--LEAF--> leaf hashes: guessed for a receipt, else LEAVES: asked of
        |                               peers, else DEMANDED on the ledger
        '--EARLIER--> LEAVES: what it continues: heard already, or asked for, or DEMANDED; that
                      is a case of its own then
    leaf hashes --> WITNESS: the state before the segment, and the segment run --> PROVED

A segment whose fact the ledger knows is not run, and its evidence needs no witness.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.accumulator import mmr_of
from protocols.court import first_leaf
from protocols.errors import Invalid
from protocols.ids import b64url
from protocols.machine.audit import (
    Finding,
    OwnLeaves,
    Suspicion,
    bad_state_root,
    check,
    last_slot,
    wrong_sum,
)
from protocols.machine.case import Case, Kind, Stage
from protocols.machine.continued import continues
from protocols.machine.demanding import Demanding
from protocols.machine.effects import Effect, Send
from protocols.machine.events import Audited, LeavesArrived, ProofsArrived, SegmentRun
from protocols.machine.judging import Judging
from protocols.machine.overseeing import shown_assignment
from protocols.machine.watch import Watch
from protocols.wire.assignment import Assignment
from protocols.wire.demand import (
    ASSIGNMENT,
    LEAVES,
    PREVIOUS,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    read_answer,
)
from protocols.wire.evidence import (
    statement_of,
)
from protocols.wire.process import process_info
from protocols.wire.proof import Receipt, Statement
from protocols.wire.proof_streams import LeavesRequest, ProofsRequest
from protocols.wire.topics import Protocol

ASKS_MAX = 4
"""Peers asked for leaf hashes before they are demanded."""
ASK_DEADLINE_MS = 5_000
TAG = "leaves"
FORK_TICKS = 2
"""How long a statement about another log waits for news of a fork before that log is demanded."""


class Investigating:
    """All cases up to PROVED."""

    def __init__(
        self,
        watch: Watch,
        hear: Callable[[bytes, int], list[Effect]],
        fork: Callable[[Assignment, Assignment, int], list[Effect]],
    ) -> None:
        """`hear` takes in another statement of a unit: (encoded, now); `fork` two assignments of
        one slot."""
        self._watch = watch
        self._hear = hear
        self._fork = fork
        self._demands = Demanding(watch)
        self._judging = Judging(watch)

    def proceed(self, case: Case, now: int) -> list[Effect]:
        """Do what can be done now; nothing, if it waits for something."""
        if case.waiting:
            return []
        if case.kind is not Kind.STATEMENT or case.evidence:
            return self._judging.judge(case, now)
        match case.stage:
            case Stage.SUSPECTED:
                return self._examine(case, now)
            case Stage.LEAVES:
                return self._ask(case, now)
            case Stage.DEMANDED:
                return self._demanded(case, now)
            case Stage.WITNESS:
                return self._build(case, now)
        return []

    # What is wrong

    def _look(self, case: Case) -> tuple[Statement, OwnLeaves, Finding] | list[Effect]:
        """The statement compared with the own leaves; or what it takes to have those."""
        statement = statement_of(case.accused)
        own = self._watch.own(case.process, case.last)
        if own is None:
            if self._watch.evaluates(case.process):
                return []
            return self._watch.audit(case.process, case.last)
        return statement, own, check(statement, own, self._watch.parameters)

    def _examine(self, case: Case, now: int) -> list[Effect]:
        looked = self._look(case)
        if isinstance(looked, list):
            return looked
        statement, own, finding = looked
        parameters = self._watch.parameters
        case.first = finding.slots.start if finding.slots else case.first
        match finding.suspicion:
            case Suspicion.LEAF:
                why = f"one of its leaves {finding.slots.start}..{finding.slots.stop - 1} is wrong"
                case.theirs = _guess(statement, own, first_leaf(statement, parameters))
                stage = Stage.LEAVES if case.theirs is None else Stage.WITNESS
                return self._watch.move(case, stage, why, now) + self.proceed(case, now)
            case Suspicion.EARLIER:
                why = "it continues a range that is wrong already"
                return self._watch.move(case, Stage.LEAVES, why, now) + self.proceed(case, now)
            case Suspicion.OTHER_LOG:
                why = "it is about another log than this node has"
                return self._watch.move(case, Stage.LEAVES, why, now) + self.proceed(case, now)
            case Suspicion.STATE_ROOT:
                return self._judging.take(case, bad_state_root(case.accused, own), now)
            case Suspicion.SUM:
                evidence = wrong_sum(case.accused, own, parameters)
                return self._judging.take(case, evidence, now)
        return self._watch.move(case, Stage.DROPPED, f"nothing to prove: {finding.suspicion}", now)

    # What is behind it

    def _ask(self, case: Case, now: int) -> list[Effect]:
        looked = self._look(case)
        if isinstance(looked, list):
            return looked
        statement, _, finding = looked
        if finding.suspicion is Suspicion.EARLIER:
            return self._ask_previous(case, statement, now)
        if finding.suspicion is Suspicion.OTHER_LOG:
            return self._ask_assignment(case, now)
        if not self._is_slashable(case):
            return self._watch.move(case, Stage.DROPPED, "its module is not slashable", now)
        if case.asked < ASKS_MAX:
            others = [peer for peer in self._watch.peers if peer != case.unit]
            row = [case.unit, *others[: ASKS_MAX - 2], case.unit]
            if case.asked < len(row):
                peer = row[case.asked]
                case.asked, case.waiting = case.asked + 1, True
                body = LeavesRequest(case.accused).encode()
                return [Send(peer, Protocol.LEAVES, body, (TAG, case.id), ASK_DEADLINE_MS)]
        return self._demands.demand(case, LEAVES, now)

    def _is_slashable(self, case: Case) -> bool:
        slots = self._watch.views.slots(case.process, 0, 0)
        return bool(slots) and process_info(slots[0].message).module in self._watch.rules.modules

    def arrived(self, case: Case, event: LeavesArrived, now: int) -> list[Effect]:
        """A peer gave the leaf hashes, or none."""
        if case.stage is not Stage.LEAVES:
            return []
        case.waiting = False
        return self._take(case, list(event.leaves or ()), now) or self.proceed(case, now)

    def _take(self, case: Case, leaves: list[bytes], now: int) -> list[Effect]:
        """Go on with these leaf hashes, if they are the statement's."""
        statement = statement_of(case.accused)
        own = self._watch.own(case.process, case.last)
        first = first_leaf(statement, self._watch.parameters)
        if own is None or len(leaves) != last_slot(statement) - first + 1:
            return []
        mmr = mmr_of(own.hashes[:first]).extend(leaves)
        if mmr.root() != statement.mmr_root:
            return []
        case.theirs = leaves
        return self._watch.move(case, Stage.WITNESS, case.why, now) + self.proceed(case, now)

    def _ask_previous(self, case: Case, statement: Statement, now: int) -> list[Effect]:
        first = first_leaf(statement, self._watch.parameters)
        for raw in self._watch.views.proofs(case.process, case.unit, first - 1):
            if continues(statement, raw, self._watch):
                return self._follow(case, raw, now)
        if case.asked:
            return self._demands.demand(case, PREVIOUS, now)
        case.asked, case.waiting = 1, True
        body = ProofsRequest(case.process, case.unit, first - 1, votes=False).encode()
        return [Send(case.unit, Protocol.PROOFS, body, (TAG, case.id), ASK_DEADLINE_MS)]

    def told(self, case: Case, event: ProofsArrived, now: int) -> list[Effect]:
        """The unit gave its proofs, or none."""
        if case.stage is not Stage.LEAVES:
            return []
        case.waiting = False
        statement = statement_of(case.accused)
        for proof in event.proofs or ():
            raw = proof.value.encode()
            if continues(statement, raw, self._watch):
                return self._follow(case, raw, now)
        return self.proceed(case, now)

    def _ask_assignment(self, case: Case, now: int) -> list[Effect]:
        """If its scheduler gave a slot twice, that shows by itself before long."""
        if case.process in self._watch.forked:
            why = "its scheduler gave a slot twice"
            return self._watch.move(case, Stage.DROPPED, why, now)
        if now < case.opened_ms + FORK_TICKS * self._watch.parameters.tick_ms:
            return []
        return self._demands.demand(case, ASSIGNMENT, now)

    def _follow(self, case: Case, raw: bytes, now: int) -> list[Effect]:
        """What it continues is what is to be proved."""
        effects = self._watch.move(case, Stage.DROPPED, "what it continues is accused", now)
        return effects + self._hear(raw, now)

    def post_again(self, case: Case) -> list[Effect]:
        """After a restart: the demand may not have been posted."""
        if case.stage is not Stage.DEMANDED or case.evidence:
            return []
        looked = self._look(case)
        return [] if isinstance(looked, list) else self._demands.post(case, _kind(looked[2]))

    def _demanded(self, case: Case, now: int) -> list[Effect]:
        looked = self._look(case)
        if isinstance(looked, list):
            return looked
        statement, _, finding = looked
        kind = _kind(finding)
        answers = self._demands.answers(case, kind)
        if answers is None:
            return []
        for blob in answers:
            if effects := self._answered(case, statement, kind, blob, now):
                return effects
        return self._watch.move(case, Stage.LEAVES, "the demand came to nothing", now)

    def _answered(
        self, case: Case, statement: Statement, kind: int, blob: bytes, now: int
    ) -> list[Effect]:
        """Go on with an answer from the ledger's log; none if it is no answer."""
        try:
            answer = read_answer(kind, blob, self._watch.parameters)
        except Invalid:
            return []
        match answer:
            case LeavesAnswer(leaves=raw):
                leaves = [raw[at : at + 32] for at in range(0, len(raw), 32)]
                return self._take(case, leaves, now)
            case PreviousAnswer(proof=raw) if len(raw) == 32:
                why = f"it starts from anchor {b64url(raw)}"
                return self._watch.move(case, Stage.DROPPED, why, now)
            case PreviousAnswer(proof=raw):
                if continues(statement, raw, self._watch):
                    return self._follow(case, raw, now)
            case AssignmentAnswer(assignment=raw):
                return self._forked(case, raw, now)
        return []

    def _forked(self, case: Case, raw: bytes, now: int) -> list[Effect]:
        """The unit could show an assignment: then it is the scheduler who has signed two."""
        watch = self._watch
        shown = shown_assignment(watch, raw, case.process, case.last)
        held = watch.views.slots(case.process, case.last, case.last)
        if shown is None or not held or held[0].assignment.id == shown.id:
            return []
        effects = watch.move(case, Stage.DROPPED, "its scheduler gave a slot twice", now)
        return effects + self._fork(held[0].assignment, shown, now)

    # Evidence

    def _build(self, case: Case, now: int) -> list[Effect]:
        """Make evidence of the leaf hashes, once they are known (again)."""
        if case.theirs is None:
            return self._watch.move(case, Stage.SUSPECTED, case.why, now) + self.proceed(case, now)
        looked = self._look(case)
        if isinstance(looked, list):
            return looked
        return self._judging.build(case, looked[0], looked[1], now)

    def audited(self, case: Case, event: Audited, now: int) -> list[Effect]:
        """The state before its segment was made, or cannot be."""
        if not case.waiting or case.is_over or case.witness_at != event.witness_at:
            return []
        return self._judging.audited(case, event, now) or self.proceed(case, now)

    def ran(self, event: SegmentRun) -> list[bytes]:
        """Whose segment was run."""
        return self._judging.ran(event)

    def take_run(self, case: Case, event: SegmentRun, now: int) -> list[Effect]:
        """A segment was run for this case."""
        return self._judging.take_run(case, event, now) or self.proceed(case, now)

    def forget(self, case: Case) -> None:
        """It is gone."""
        self._judging.forget(case)


def _kind(finding: Finding) -> int:
    """What is to be demanded."""
    kinds = {Suspicion.EARLIER: PREVIOUS, Suspicion.OTHER_LOG: ASSIGNMENT}
    return kinds.get(finding.suspicion, LEAVES)


def _guess(statement: Statement, own: OwnLeaves, first: int) -> list[bytes] | None:
    """Leaf hashes of a receipt whose only wrong leaf is its own."""
    if not isinstance(statement, Receipt):
        return None
    last = statement.slot
    if statement.mmr_root == own.roots[last + 1]:
        return list(own.hashes[first : last + 1])
    leaves = [*own.hashes[first:last], statement.leaf.hash()]
    fits = mmr_of(own.hashes[:first]).extend(leaves).root() == statement.mmr_root
    return leaves if fits else None
