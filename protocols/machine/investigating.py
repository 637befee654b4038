"""From a suspicion to evidence that this node itself would judge guilty. Part of `watching`.

    SUSPECTED --check--> what is wrong --> evidence at once (state root, sum)
        |                    '--a leaf--> leaf hashes: guessed for a receipt, else asked for
        '--what came before, or the log--> asked for (`asking`): LEAVES, DEMANDED
    leaf hashes --> WITNESS: the state before the segment, and the segment run (`judging`)
    evidence --own verdict--> PROVED

A segment whose fact the ledger knows is not run, and its evidence needs no witness.
"""

from __future__ import annotations

from protocols.accumulator import mmr_of
from protocols.court import first_leaf
from protocols.machine.asking import Asking
from protocols.machine.audit import (
    Finding,
    OwnLeaves,
    Suspicion,
    bad_state_root,
    check,
    wrong_sum,
)
from protocols.machine.case import Case, Kind, Stage
from protocols.machine.effects import Effect
from protocols.machine.events import Audited, LeavesArrived, ProofsArrived, SegmentRun
from protocols.machine.judging import Judging
from protocols.machine.watch import Watch
from protocols.wire.evidence import statement_of
from protocols.wire.proof import Receipt, Statement

STEPS_MAX = 8
"""Of one case at one go; it never takes as many."""

_Looked = tuple[Statement, OwnLeaves, Finding]


class Investigating:
    """All cases up to PROVED."""

    def __init__(self, watch: Watch, asking: Asking) -> None:
        self._watch = watch
        self._asking = asking
        self._judging = Judging(watch)

    def proceed(self, case: Case, now: int) -> list[Effect]:
        """Do what can be done now; nothing, if it waits for something."""
        effects: list[Effect] = []
        for _ in range(STEPS_MAX):
            if case.waiting:
                break
            before = case.stage
            effects += self._step(case, now)
            if case.stage is before:
                break
        return effects

    def _step(self, case: Case, now: int) -> list[Effect]:
        if case.kind is not Kind.STATEMENT or case.evidence:
            return self._judging.judge(case, now)
        if case.stage not in (Stage.SUSPECTED, Stage.LEAVES, Stage.DEMANDED, Stage.WITNESS):
            return []
        looked = self._look(case)
        if isinstance(looked, list):
            return looked
        statement, own, finding = looked
        match case.stage:
            case Stage.SUSPECTED:
                return self._examine(case, looked, now)
            case Stage.LEAVES:
                return self._asking.ask(case, statement, finding, now)
            case Stage.DEMANDED:
                return self._asking.demanded(case, statement, finding, now)
        if case.theirs is None:
            # They are not durable: after a restart they are found again.
            return self._watch.move(case, Stage.SUSPECTED, case.why, now)
        return self._judging.build(case, statement, own, now)

    def _look(self, case: Case) -> _Looked | list[Effect]:
        """The statement compared with the own leaves; or what it takes to have those."""
        statement = statement_of(case.accused)
        own = self._watch.own(case.process, case.last)
        if own is None:
            if self._watch.evaluates(case.process):
                return []
            return self._watch.audit(case.process, case.last)
        return statement, own, check(statement, own, self._watch.parameters)

    def _examine(self, case: Case, looked: _Looked, now: int) -> list[Effect]:
        statement, own, finding = looked
        watch = self._watch
        match finding.suspicion:
            case Suspicion.LEAF:
                slots = finding.slots
                case.first = slots.start
                why = f"one of its leaves {slots.start}..{slots.stop - 1} is wrong"
                case.theirs = _guess(statement, own, first_leaf(statement, watch.parameters))
                stage = Stage.LEAVES if case.theirs is None else Stage.WITNESS
                return watch.move(case, stage, why, now)
            case Suspicion.EARLIER:
                why = "it continues a range that is wrong already"
                return watch.move(case, Stage.LEAVES, why, now)
            case Suspicion.OTHER_LOG:
                why = "it is about another log than this node has"
                return watch.move(case, Stage.LEAVES, why, now)
            case Suspicion.STATE_ROOT:
                return self._judging.take(case, bad_state_root(case.accused, own), now)
            case Suspicion.SUM:
                evidence = wrong_sum(case.accused, own, watch.parameters)
                return self._judging.take(case, evidence, now)
        return watch.move(case, Stage.DROPPED, f"nothing to prove: {finding.suspicion}", now)

    def post_again(self, case: Case) -> list[Effect]:
        """After a restart: its demand may not have been posted."""
        if case.stage is not Stage.DEMANDED or case.evidence:
            return []
        looked = self._look(case)
        return [] if isinstance(looked, list) else self._asking.post_again(case, looked[2])

    # Answers

    def leaves_arrived(self, case: Case, event: LeavesArrived, now: int) -> list[Effect]:
        """A peer gave the leaf hashes, or none."""
        return self._asking.leaves_arrived(case, event, now) + self.proceed(case, now)

    def proofs_arrived(self, case: Case, event: ProofsArrived, now: int) -> list[Effect]:
        """The unit gave its proofs, or none."""
        return self._asking.proofs_arrived(case, event, now) + self.proceed(case, now)

    def audited(self, case: Case, event: Audited, now: int) -> list[Effect]:
        """The state before its segment was made, or cannot be."""
        if not case.waiting or case.is_over or case.witness_at != event.witness_at:
            return []
        return self._judging.audited(case, event, now) + self.proceed(case, now)

    def ran(self, event: SegmentRun) -> list[bytes]:
        """For whom a segment was run."""
        return self._judging.ran(event)

    def take_run(self, case: Case, event: SegmentRun, now: int) -> list[Effect]:
        """A segment was run for this case."""
        return self._judging.take_run(case, event, now) + self.proceed(case, now)

    def forget(self, case: Case) -> None:
        """It is gone."""
        self._judging.forget(case)


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
