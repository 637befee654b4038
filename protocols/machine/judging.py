"""Evidence, and the verdict this node itself would reach on it. Part of `investigating`.

The segment is run again from the state before it, apart from the live session, as every node of
the ledger will: what is wrong with this node's own leaves shows here and accuses nobody.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.accumulator import mmr_prove
from protocols.court import Finding, Judgement, Segment
from protocols.faults import SHARES
from protocols.ledger.entries import Fact, Fine
from protocols.ledger.penalties import offence
from protocols.machine.audit import OwnLeaves, accuse
from protocols.machine.case import Case, Stage
from protocols.machine.effects import Effect, RunSegment
from protocols.machine.events import Audited, SegmentRun
from protocols.machine.watch import Watch
from protocols.parameters import SHARE_WHOLE, Parameters
from protocols.verdict import verdict
from protocols.wire.evidence import (
    BadLeaf,
    Evidence,
    FraudProof,
    Witness,
    decode_evidence,
    encode_evidence,
)
from protocols.wire.proof import Receipt, Statement


class _NeedsWitness(Exception):
    """The verdict needs the state before the segment."""


class _NeedsRun(Exception):
    """The verdict needs a segment that was not run yet."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment.fact.hex())
        self.segment = segment


class Judging:
    """From leaf hashes to PROVED."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._witnesses: dict[bytes, Witness] = {}
        """By case."""
        self._runs: dict[bytes, list[bytes]] = {}
        """Segments that are being run, by fact: for which cases."""

    def build(self, case: Case, statement: Statement, own: OwnLeaves, now: int) -> list[Effect]:
        """Make evidence against a statement with `case.theirs`; without the witness first, which
        is not needed where the ledger knows what the segment gives."""
        assert case.theirs is not None, "the leaf hashes are known"
        last = case.last
        if isinstance(statement, Receipt) and statement.mmr_root == own.roots[last + 1]:
            path = mmr_prove(own.hashes[: last + 1], last).encode()
            evidence = BadLeaf(case.accused, last, own.leaves[last].encode(), path)
            return self.take(case, evidence, now)
        log = self._watch.log(case.process)
        if log is None:
            return self._watch.hold(case, "the log is not here", now)
        proof = accuse(
            case.accused,
            case.theirs,
            own,
            log=log,
            parameters=self._watch.parameters,
            witness=lambda start: self._witnesses.get(case.id),
        )
        if proof is None:
            return self._watch.move(case, Stage.DROPPED, "its leaves are the own ones", now)
        return self.take(case, proof, now)

    def take(self, case: Case, evidence: Evidence, now: int) -> list[Effect]:
        """Judge evidence that has just been made."""
        blob = encode_evidence(evidence)
        try:
            return self._judge(case, blob, now)
        except _NeedsWitness:
            assert isinstance(evidence, FraudProof), "only segments need a state"
            start = evidence.first
            effects = self._watch.audit(case.process, start - 1, start)
            case.witness_at, case.waiting = start, self._watch.is_auditing(case.process, start)
            return effects

    def judge(self, case: Case, now: int) -> list[Effect]:
        """Judge the evidence that the case has, if it is not judged yet."""
        return self._judge(case, case.evidence, now) if case.stage is Stage.SUSPECTED else []

    def _judge(self, case: Case, blob: bytes, now: int) -> list[Effect]:
        """Raises _NeedsWitness."""

        def run(segment: Segment) -> tuple[bytes, ...] | None:
            fact = self._known(segment.fact)
            if fact is not None:
                return tuple(fact.leaves[at : at + 32] for at in range(0, len(fact.leaves), 32))
            if segment.fact in case.facts:
                return case.facts[segment.fact]
            if segment.root_before is not None and segment.witness is None:
                raise _NeedsWitness
            raise _NeedsRun(segment)

        try:
            judgement = verdict(blob, run, self._watch.court())
        except _NeedsRun as need:
            case.waiting = True
            cases = self._runs.setdefault(need.segment.fact, [])
            cases.append(case.id)
            return [RunSegment(need.segment)] if len(cases) == 1 else []
        self._witnesses.pop(case.id, None)
        if judgement.finding is not Finding.GUILTY:
            why = f"own verdict: {judgement.finding}: {judgement.reason}"
            return self._watch.move(case, Stage.DROPPED, why, now)
        if self._is_paid(judgement):
            return self._watch.move(case, Stage.DROPPED, "it has been paid for already", now)
        if judgement.fact is not None and self._known(judgement.fact[0]) is not None:
            blob = _look_up(blob, self._watch.parameters)
        case.evidence, case.sequence, case.tries = blob, None, 0
        return self._watch.move(case, Stage.PROVED, f"{judgement.fault}: {judgement.reason}", now)

    def _known(self, key: bytes) -> Fact | None:
        """A fact that the ledger will still know when evidence committed now is revealed."""
        fact, parameters = self._watch.state.get(Fact, key), self._watch.parameters
        if fact is None:
            return None
        left = fact.used + parameters.unbonding - self._watch.state.totals().tick
        return fact if left > parameters.challenge_window else None

    def _is_paid(self, judgement: Judgement) -> bool:
        """Whether a share of the stake was taken for this already."""
        place = judgement.place
        if SHARES[judgement.fault] == SHARE_WHOLE or place is None or judgement.accused is None:
            return False
        account = self._watch.account_of(judgement.accused)
        id = offence(judgement.fault, place.process, place.slot)
        return self._watch.state.get(Fine, account, id) is not None

    def audited(self, case: Case, event: Audited, now: int) -> list[Effect]:
        """The state before its segment was made; if it cannot be, that ends the case."""
        case.waiting = False
        if event.witness is None:
            why = f"there is no witness: {event.refused or 'the log ends before it'}"
            return self._watch.move(case, Stage.DROPPED, why, now)
        self._witnesses[case.id] = event.witness
        return []

    def ran(self, event: SegmentRun) -> list[bytes]:
        """Whose segment was run."""
        return self._runs.pop(event.fact, [])

    def take_run(self, case: Case, event: SegmentRun, now: int) -> list[Effect]:
        """A segment was run; if this machine could not, that ends the case."""
        case.waiting = False
        if event.refused:
            why = f"this node cannot run the segment: {event.refused}"
            return self._watch.move(case, Stage.DROPPED, why, now)
        case.facts[event.fact] = event.leaves
        return []

    def forget(self, case: Case) -> None:
        """It is gone."""
        self._witnesses.pop(case.id, None)


def _look_up(blob: bytes, parameters: Parameters) -> bytes:
    """Evidence about a segment whose leaves the ledger knows: no slots, no state."""
    evidence = decode_evidence(blob, parameters)
    assert isinstance(evidence, FraudProof), "only a segment has leaves"
    return encode_evidence(replace(evidence, slots=(), witness=None))
