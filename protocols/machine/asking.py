"""What stands behind a wrong statement: asked of peers first, then demanded. Part of
`investigating`.

    a leaf is wrong            its leaf hashes
    it was wrong before        the unit's proof that it continues, which is a case of its own then
    it is about another log    the assignment it stands on; if there is one, its scheduler has
                               given one slot twice
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.accumulator import mmr_of
from protocols.court import first_leaf
from protocols.errors import Invalid
from protocols.ids import b64url
from protocols.ledger.hosting import unhosted
from protocols.machine.audit import Finding, Suspicion, last_slot
from protocols.machine.case import Case, Stage
from protocols.machine.continued import continues
from protocols.machine.demanding import Demanding
from protocols.machine.effects import Effect, Send
from protocols.machine.events import LeavesArrived, ProofsArrived
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
from protocols.wire.evidence import statement_of
from protocols.wire.process import process_info
from protocols.wire.proof import Statement
from protocols.wire.proof_streams import LeavesRequest, ProofsRequest
from protocols.wire.topics import Protocol

ASKS_MAX = 4
"""Peers asked for leaf hashes before they are demanded."""
ASK_DEADLINE_MS = 5_000
TAG = "behind"
FORK_TICKS = 2
"""How long a statement about another log waits for news of a fork before that log is demanded."""


class Asking:
    """All cases in LEAVES and DEMANDED."""

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

    def ask(self, case: Case, statement: Statement, finding: Finding, now: int) -> list[Effect]:
        """Ask the next peer, or demand it."""
        match finding.suspicion:
            case Suspicion.EARLIER:
                return self._previous(case, statement, now)
            case Suspicion.OTHER_LOG:
                return self._assignment(case, now)
        if not self._is_slashable(case):
            return self._watch.move(case, Stage.DROPPED, "its module is not slashable", now)
        others = [peer for peer in self._watch.peers if peer != case.unit]
        row = [case.unit, *others[: ASKS_MAX - 2], case.unit]
        if case.asked >= len(row):
            return self._demands.demand(case, LEAVES, now)
        peer = row[case.asked]
        case.asked, case.waiting = case.asked + 1, True
        body = LeavesRequest(case.accused).encode()
        return [Send(peer, Protocol.LEAVES, body, (TAG, case.id), ASK_DEADLINE_MS)]

    def _is_slashable(self, case: Case) -> bool:
        slots = self._watch.views.slots(case.process, 0, 0)
        return bool(slots) and process_info(slots[0].message).module in self._watch.rules.modules

    def _previous(self, case: Case, statement: Statement, now: int) -> list[Effect]:
        first = first_leaf(statement, self._watch.parameters)
        for raw in self._watch.views.proofs(case.process, case.unit, first - 1):
            if continues(statement, raw, self._watch):
                return self._follow(case, raw, now)
        if case.asked:
            return self._demands.demand(case, PREVIOUS, now)
        case.asked, case.waiting = 1, True
        body = ProofsRequest(case.process, case.unit, first - 1, votes=False).encode()
        return [Send(case.unit, Protocol.PROOFS, body, (TAG, case.id), ASK_DEADLINE_MS)]

    def _assignment(self, case: Case, now: int) -> list[Effect]:
        """If its scheduler gave a slot twice, that shows by itself before long."""
        mark = unhosted(self._watch.state, case.process)
        if case.process in self._watch.forked or (mark is not None and mark.slot is not None):
            why = "its scheduler gave a slot twice"
            return self._watch.move(case, Stage.DROPPED, why, now)
        if now < case.opened_ms + FORK_TICKS * self._watch.parameters.tick_ms:
            return []
        return self._demands.demand(case, ASSIGNMENT, now)

    # Answers of peers

    def leaves_arrived(self, case: Case, event: LeavesArrived, now: int) -> list[Effect]:
        """A peer gave the leaf hashes, or none."""
        if case.stage is not Stage.LEAVES:
            return []
        case.waiting = False
        return self._take(case, list(event.leaves or ()), now)

    def proofs_arrived(self, case: Case, event: ProofsArrived, now: int) -> list[Effect]:
        """The unit gave its proofs, or none."""
        if case.stage is not Stage.LEAVES:
            return []
        case.waiting = False
        statement = statement_of(case.accused)
        for proof in event.proofs or ():
            raw = proof.value.encode()
            if continues(statement, raw, self._watch):
                return self._follow(case, raw, now)
        return []

    # Answers on the ledger

    def post_again(self, case: Case, finding: Finding) -> list[Effect]:
        """After a restart: the demand may not have been posted."""
        return self._demands.post(case, _kind(finding))

    def demanded(
        self, case: Case, statement: Statement, finding: Finding, now: int
    ) -> list[Effect]:
        """What became of the demand."""
        kind = _kind(finding)
        answers = self._demands.answers(case, kind)
        if answers is None:
            return self._demands.wait(case, kind, now)
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

    # Going on

    def _take(self, case: Case, leaves: list[bytes], now: int) -> list[Effect]:
        """Go on with these leaf hashes, if they are the statement's."""
        statement = statement_of(case.accused)
        own = self._watch.own(case.process, case.last)
        first = first_leaf(statement, self._watch.parameters)
        if own is None or len(leaves) != last_slot(statement) - first + 1:
            return []
        if mmr_of(own.hashes[:first]).extend(leaves).root() != statement.mmr_root:
            return []
        case.theirs = leaves
        return self._watch.move(case, Stage.WITNESS, case.why, now)

    def _follow(self, case: Case, raw: bytes, now: int) -> list[Effect]:
        """What it continues is what is to be proved."""
        effects = self._watch.move(case, Stage.DROPPED, "what it continues is accused", now)
        return effects + self._hear(raw, now)

    def _forked(self, case: Case, raw: bytes, now: int) -> list[Effect]:
        """The unit could show an assignment: then it is the scheduler who has signed two."""
        watch = self._watch
        shown = shown_assignment(watch, raw, case.process, case.last)
        held = watch.views.slots(case.process, case.last, case.last)
        if shown is None or not held or held[0].assignment.id == shown.id:
            return []
        effects = watch.move(case, Stage.DROPPED, "its scheduler gave a slot twice", now)
        return effects + self._fork(held[0].assignment, shown, now)


def _kind(finding: Finding) -> int:
    """What is to be demanded."""
    kinds = {Suspicion.EARLIER: PREVIOUS, Suspicion.OTHER_LOG: ASSIGNMENT}
    return kinds.get(finding.suspicion, LEAVES)
