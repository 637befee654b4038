"""Who acts on the ledger: watchers that accuse what is wrong, and what others do meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from protocols.accumulator import mmr_of
from protocols.codec import digest
from protocols.court import Finding, first_leaf, roots_of
from protocols.ledger.draft import Draft
from protocols.ledger.entries import AnchorEntry, Case, Demanded, Fact
from protocols.ledger.subjects import demand_id
from protocols.machine.audit import (
    Own,
    Suspicion,
    accuse,
    bad_state_root,
    check,
    last_slot,
    wrong_sum,
)
from protocols.verdict import verdict
from protocols.wire.demand import (
    ASSIGNMENT,
    LEAVES,
    PREVIOUS,
    Answer,
    LeavesAnswer,
    PreviousAnswer,
    StatementSlot,
)
from protocols.wire.evidence import (
    BadStart,
    Contradiction,
    Evidence,
    FraudProof,
    TwoAssignments,
    commitment,
    encode_evidence,
    evidence_hash,
    statement_id,
    statement_of,
)
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import (
    CommitEvidence,
    Demand,
    EvidencePart,
    Faucet,
    RevealEvidence,
    Stake,
    Transaction,
    Transfer,
    Unbond,
)
from protocols.wire.proof import Statement, StateProof, contradicts
from protocols.wire.vote import Vote
from tests.protocols.cases.court import Agent, Done, Step, Trial
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.setting import LIARS, RICH
from tests.protocols.cases.units import Offered
from tests.protocols.ledger.world import TOKEN
from tests.protocols.machine.world import Key

Steps = Generator[Step, Done, None]


class Violation(AssertionError):
    """A property does not hold."""


def post(trial: Trial, key: Key, blob: bytes, draws: Draws, *, mishaps: bool = False) -> Steps:
    """Commit, send in parts, reveal. With `mishaps` parts are sent twice, foreign ones come
    between, and what is in the log already is sent again."""
    salt, parts = draws.octets(32), draws.between(1, 4)
    hash = commitment(salt, evidence_hash(blob), key.address)
    before = len(trial.items)
    commit, notes = yield key, CommitEvidence(trial.next_sequence(), hash, len(blob))
    if notes[0].kind == "refused":
        return
    size = -(-len(blob) // parts)
    pieces = [blob[start : start + size] for start in range(0, len(blob), size)]
    ids = {}
    for place in draws.shuffled(range(len(pieces))):
        ids[place], _ = yield key, EvidencePart(commit, pieces[place])
        if mishaps and draws.chance(3):
            yield trial.items[
                draws.between(min(before, len(trial.items) - 1), len(trial.items) - 1)
            ]
        if mishaps and draws.chance(4):
            yield key, EvidencePart(commit, draws.octets(8))
    order = tuple(ids[place] for place in range(len(pieces)))
    if mishaps and draws.chance(3):
        wrong = draws.pick((order[:-1] or (commit,), (*order, order[0]), order[::-1]))
        yield key, RevealEvidence(commit, salt, wrong)
    _, notes = yield key, RevealEvidence(commit, salt, order)
    if mishaps:
        yield key, RevealEvidence(commit, salt, order)


class Watcher:
    """An honest executor of the process, who looks at statements in the order they reach it."""

    def __init__(self, trial: Trial, key: Key, draws: Draws, anchors: list[Offered]) -> None:
        self.trial = trial
        self.key = key
        self.draws = draws
        self.anchors = anchors
        self.seen: dict[bytes, list[Statement]] = {}

    @property
    def own(self) -> Own:
        return self.trial.setting.main.own

    def agent(self, statements: list[Statement]) -> Agent:
        """Look at these, at the anchors, at votes and at the scheduler."""
        for statement in statements:
            yield from self.look(statement)
        for anchor in self.anchors:
            yield from self._look_at_anchor(anchor)
        for unit in self.trial.units:
            if unit.votes_twice:
                yield from self._accuse_if(unit.key.public, two_votes(self.trial, unit.key))
        fork, main = self.trial.setting.fork, self.trial.setting.main
        if fork is not None:
            lines = zip(main.line.slots, fork.line.slots, strict=True)
            one, other = next((a, b) for a, b in lines if a.assignment.id != b.assignment.id)
            evidence = TwoAssignments(
                one.assignment.item.raw, other.assignment.item.raw, ItemHead.of(main.process)
            )
            yield from self._accuse_if(one.assignment.item.owner, evidence)

    def look(self, statement: Statement) -> Steps:
        """Compare a statement, and do what is to be done about it."""
        if statement.profile != self.trial.setting.network.profile or self._settled(statement.cu):
            return
        before = self.seen.setdefault(statement.cu, [])
        against = next((each for each in before if contradicts(each, statement)), None)
        before.append(statement)
        if against is not None and self.draws.chance(2):
            pair = Contradiction(against.encode(), statement.encode(), False)
            yield from self._accuse(pair)
            return
        if isinstance(statement, StateProof) and statement.start is not None:
            anchor = self.trial.state.get(AnchorEntry, statement.start)
            if anchor is not None and anchor.refuted:
                return
            other = anchor is not None and (
                statement.first == anchor.slot + 1 and statement.mmr_before != anchor.mmr_root()
            )
            if anchor is None or other:
                yield from self._accuse(BadStart(statement.encode()))
                return
        parameters = self.trial.setting.parameters
        finding = check(statement, self.own, parameters)
        if (
            isinstance(statement, StateProof)
            and finding.suspicion is not Suspicion.OTHER_LOG
            and statement.head_before != self.own.head_before(statement.first)
        ):
            kind = PREVIOUS if statement.first and self.draws.chance(2) else ASSIGNMENT
            yield from self._demand(kind, statement)
            return
        match finding.suspicion:
            case Suspicion.OTHER_LOG:
                fork = self.trial.setting.fork
                if fork is None or fork.heads[last_slot(statement)] != statement.head:
                    yield from self._demand(ASSIGNMENT, statement)
            case Suspicion.LEAF:
                yield from self._wrong_leaf(statement)
            case Suspicion.EARLIER:
                yield from self._earlier(statement)
            case Suspicion.STATE_ROOT:
                yield from self._accuse(bad_state_root(statement.encode(), self.own))
            case Suspicion.SUM:
                yield from self._accuse(wrong_sum(statement.encode(), self.own, parameters))
            case Suspicion.UNKNOWN:
                raise Violation("a watcher that has the whole log knows too little")

    def _wrong_leaf(self, statement: Statement) -> Steps:
        leaves = self._served(statement)
        if leaves is None:
            answer = yield from self._demand(LEAVES, statement)
            if not isinstance(answer, LeavesAnswer):
                return
            leaves = hashes_of(answer)
        evidence = self._fraud(statement, leaves)
        if evidence is None:
            raise Violation("leaves that fit a wrong root are all right")
        yield from self._accuse(evidence)

    def _earlier(self, statement: Statement) -> Steps:
        first = first_leaf(statement, self.trial.setting.parameters)
        answer = yield from self._demand(PREVIOUS if first else LEAVES, statement)
        if isinstance(answer, PreviousAnswer) and len(answer.proof) != 32:
            yield from self.look(statement_of(answer.proof))

    def _fraud(self, statement: Statement, leaves: list[bytes]) -> FraudProof | None:
        main = self.trial.setting.main
        return accuse(
            statement.encode(), leaves, self.own, log=main.log,
            parameters=self.trial.setting.parameters, witness=main.witness,
        )  # fmt: skip

    def _served(self, statement: Statement) -> list[bytes] | None:
        """What its unit gives to peers, if that is what it signed."""
        unit = self.trial.unit_of(statement.cu)
        history = unit.story(statement)
        if history is None or unit.serves == "nothing":
            return None
        first = first_leaf(statement, self.trial.setting.parameters)
        leaves = list(history.own.hashes[first : last_slot(statement) + 1])
        if unit.serves == "garbage":
            leaves[-1] = digest("garbage", leaves[-1])
        mmr = mmr_of(self.own.hashes[:first])
        roots = roots_of(statement, self.trial.setting.parameters)
        for leaf in leaves:
            mmr = mmr.append(leaf)
            if roots.get(mmr.count) not in (None, mmr.root()):
                return None
        return leaves

    def _demand(self, kind: int, statement: Statement) -> Generator[Step, Done, Answer | None]:
        """Ask on the ledger and wait until it is answered or over."""
        raw = subject = statement.encode()
        place: tuple[int, ...] = ()
        if kind == ASSIGNMENT:
            first = first_leaf(statement, self.trial.setting.parameters)
            slot = self.draws.between(first, last_slot(statement))
            subject, place = StatementSlot(raw, slot).encode(), (slot,)
        id = demand_id(kind, statement_id(raw), *place)
        yield self.key, Demand(self.trial.next_sequence(), kind, subject)
        while True:
            demand = self.trial.state.get(Demanded, id)
            if demand is None or demand.answered:
                return self.trial.answers.get(id)
            yield None

    def _look_at_anchor(self, anchor: Offered) -> Steps:
        entry = self.trial.state.get(AnchorEntry, anchor.id)
        if entry is None or entry.refuted or entry.mmr_root() == self.own.roots[entry.slot + 1]:
            return
        proof = statement_of(anchor.tx.proofs[self.draws.below(2)])
        leaves = self._served(proof)
        if leaves is None:
            answer = self.trial.answers.get(demand_id(LEAVES, statement_id(proof.encode())))
            if not isinstance(answer, LeavesAnswer):
                return
            leaves = hashes_of(answer)
        evidence = self._fraud(proof, leaves)
        assert evidence is not None, "a false anchor has a wrong leaf"
        blob = encode_evidence(replace(evidence, accused=anchor.id))
        yield from post(self.trial, self.key, blob, self.draws)
        entry = self.trial.state.get(AnchorEntry, anchor.id)
        if entry is None or not entry.refuted:
            raise Violation("a false anchor is not refuted")

    def _settled(self, key: bytes) -> bool:
        return self.trial.state.get(Case, self.trial.account_of(key)) is not None

    def _accuse_if(self, key: bytes, evidence: Evidence) -> Steps:
        if not self._settled(key):
            yield from self._accuse(evidence)

    def _accuse(self, evidence: Evidence) -> Steps:
        """Judge it alone first, then have it judged."""
        trial = self.trial
        court = Draft(trial.state, trial.rules, trial).court()
        every = trial.setting.parameters.root_every
        judgement = verdict(
            encode_evidence(evidence), lambda each: trial.setting.engine.run(each, every), court
        )
        if judgement.finding is not Finding.GUILTY:
            raise Violation(f"evidence of a watcher: {judgement.finding}, {judgement.reason}")
        if isinstance(evidence, FraudProof) and judgement.fact is not None:
            known = trial.state.get(Fact, judgement.fact[0]) is not None
            if known and self.draws.chance(2):
                evidence = replace(evidence, witness=None)
                if self.draws.chance(2):
                    evidence = replace(evidence, slots=())
        yield from post(trial, self.key, encode_evidence(evidence), self.draws)


def hashes_of(answer: LeavesAnswer) -> list[bytes]:
    """The leaf hashes in it."""
    return [answer.leaves[at : at + 32] for at in range(0, len(answer.leaves), 32)]


def two_votes(trial: Trial, key: Key) -> Contradiction:
    """Votes of one staker for two states at one tick."""
    raws = []
    for root in (b"1" * 32, b"2" * 32):
        draft = Vote(trial.network.id, 5, 3, bytes(32), root, key.public)
        raws.append(draft.signed(key.sign(draft.signing_bytes())).encode())
    return Contradiction(raws[0], raws[1], True)


def bystander(trial: Trial, draws: Draws) -> Agent:
    """Transfers, stakes, and what changes nothing."""
    for _ in range(draws.between(0, 8)):
        key = draws.pick((RICH, *LIARS))
        number = trial.next_sequence()
        amount = draws.between(1, 300) * TOKEN
        choices: tuple[Transaction, ...] = (
            Transfer(number, draws.pick(trial.units).key.address, amount),
            Stake(number, amount),
            Unbond(number, amount),
            Faucet(),
            Transfer(0, RICH.address, amount),
        )
        yield key, draws.pick(choices)
        if draws.chance(3):
            yield trial.items[draws.below(len(trial.items))]
