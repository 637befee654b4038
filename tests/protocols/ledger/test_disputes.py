"""From evidence to burnt stake: commit, parts, reveal, verdict, freeze, burn, and who gets what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.court import Segment
from protocols.ids import ItemId
from protocols.ledger.disputes import evidence_bond
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Bond, Case, Commit, Fact, Part
from protocols.machine.audit import accuse
from protocols.wire.evidence import (
    Contradiction,
    Evidence,
    FraudProof,
    commitment,
    encode_evidence,
    evidence_hash,
)
from protocols.wire.ledger_tx import (
    CommitEvidence,
    EvidencePart,
    RevealEvidence,
    Stake,
    Transfer,
    Unbond,
    Withdraw,
)
from protocols.wire.proof import Receipt, StateProof
from tests.protocols.ledger.test_money import delegation
from tests.protocols.ledger.world import (
    PARAMETERS,
    POOR,
    RICH,
    STAKERS,
    TOKEN,
    Ledger,
    network,
)
from tests.protocols.machine.world import MODULE, Key
from tests.protocols.toy import branches, receipts, state_proof, toy_run

TRUTH = branches()[0]
OWN = TRUTH.own()
SALT = b"s" * 32
LIAR, WATCHER = STAKERS[0], STAKERS[1]
BOND = evidence_bond(1, PARAMETERS)


class Court(Ledger):
    """A ledger where segments of the toy process are run, and counted."""

    def __init__(self) -> None:
        self.runs = 0
        super().__init__(network(slashable_modules=(ItemId(MODULE),)), self._count)
        for key in STAKERS:
            self.do(RICH, Transfer(self.next_sequence(), key.address, 500 * TOKEN))

    def _count(self, segment: Segment) -> tuple[bytes, ...] | None:
        self.runs += 1
        return toy_run(segment)

    def sealed(self, statement: Receipt | StateProof, key: Key) -> bytes:
        """The statement as one of this ledger's network, signed by `key`."""
        draft = replace(statement, network=self.network.id, cu=key.public, signature=b"")
        return draft.signed(key.sign(draft.signing_bytes())).encode()

    def fraud(self, key: Key, slot: int = 9, fuel: int = 1 << 40) -> FraudProof:
        """Evidence that `key` signed a wrong leaf in a receipt of this slot."""
        receipt = receipts(TRUTH.leaves, TRUTH.heads, key)[slot]
        wrong = replace(receipt, leaf=replace(receipt.leaf, fuel=fuel))
        first = slot // PARAMETERS.proof_every * PARAMETERS.proof_every
        made = accuse(
            self.sealed(wrong, key), OWN.hashes[first : slot + 1], OWN, log=TRUTH.log(),
            parameters=PARAMETERS, witness=TRUTH.witness,
        )  # fmt: skip
        assert made is not None
        return made

    def no_fraud(self, key: Key) -> FraudProof:
        """Evidence in order against a right receipt."""
        good = self.fraud(key)
        receipt = receipts(TRUTH.leaves, TRUTH.heads, key)[9]
        return replace(good, accused=self.sealed(receipt, key))

    def commit(self, challenger: Key, evidence: Evidence) -> ItemId:
        blob = encode_evidence(evidence)
        hash = commitment(SALT, evidence_hash(blob), challenger.address)
        self.do(challenger, CommitEvidence(self.next_sequence(), hash, len(blob)))
        return self.items[-1].id

    def reveal(self, challenger: Key, commit: ItemId, evidence: Evidence, parts: int = 2) -> str:
        """Send the parts, last first, and reveal; the verdict."""
        blob = encode_evidence(evidence)
        size = -(-len(blob) // parts)
        ids: list[ItemId] = []
        for start in reversed(range(0, len(blob), size)):
            self.do(challenger, EvidencePart(commit, blob[start : start + size]))
            ids.insert(0, self.items[-1].id)
        notes = self.do(challenger, RevealEvidence(commit, SALT, tuple(ids)))
        return notes[0].detail

    def accuse(self, challenger: Key, evidence: Evidence) -> str:
        return self.reveal(challenger, self.commit(challenger, evidence), evidence)


def test_a_wrong_receipt_costs_the_whole_stake() -> None:
    court = Court()
    court.do(LIAR, Unbond(court.next_sequence(), 500 * TOKEN))
    bonded = court.state.totals().bonded
    before = court.balance(WATCHER)
    assert court.accuse(WATCHER, court.fraud(LIAR)).startswith("guilty")
    assert court.runs == 1
    assert court.balance(WATCHER) == before
    case = court.state.get(Case, LIAR.address)
    assert case is not None
    assert (case.amount, case.challenger) == (2000 * TOKEN, WATCHER.address)
    assert court.state.totals().bonded == bonded - 1500 * TOKEN

    # Frozen: it moves nowhere, and votes for nothing.
    court.refuse(LIAR, Unbond(court.next_sequence(), 1), "frozen")
    court.refuse(LIAR, Withdraw(), "frozen")
    court.refuse(LIAR, Stake(court.next_sequence(), TOKEN), "frozen")
    court.refuse(POOR, court.checkpoint(1, [LIAR, WATCHER]), "less than two thirds")

    # Burnt once a checkpoint that holds the verdict is final; the liar does not sign it.
    others = STAKERS[1:]
    balances = [court.balance(key) for key in others]
    notes = court.tick(1, STAKERS)
    assert [note.kind for note in notes] == [NoteKind.FINAL, NoteKind.BURNT]
    each = 2000 * TOKEN * 500 // 10_000 // 3
    gained = [court.balance(key) - old for key, old in zip(others, balances, strict=True)]
    assert gained == [each + 400 * TOKEN, each, each]
    assert court.state.totals().burnt == 2000 * TOKEN - 400 * TOKEN - 3 * each
    assert court.state.get(Bond, LIAR.address) == Bond(0, 0, True)
    court.refuse(LIAR, Stake(court.next_sequence(), 100 * TOKEN), "frozen")


def test_a_checkpoint_under_a_slot_before_the_verdict_burns_nothing() -> None:
    court = Court()
    early = court.checkpoint(1, STAKERS[1:])
    court.accuse(WATCHER, court.fraud(LIAR))
    court.do(POOR, early)
    assert court.state.totals().burnt == 0
    court.tick(1, STAKERS[1:])
    assert court.state.totals().burnt > 0


def test_a_session_key_costs_the_stake_behind_it() -> None:
    court = Court()
    session = Key.of("session")
    court.do(LIAR, delegation(court, LIAR, session))
    assert court.accuse(WATCHER, court.fraud(session)).startswith("guilty")
    assert court.state.get(Case, LIAR.address) is not None


def test_evidence_that_fails_costs_its_bond() -> None:
    court = Court()
    before = court.balance(WATCHER)
    assert court.accuse(WATCHER, court.no_fraud(LIAR)).startswith("innocent")
    assert court.balance(WATCHER) == before - BOND
    assert court.state.totals().burnt == BOND
    assert court.state.get(Case, LIAR.address) is None
    # The fact is known now: the same again is a look-up, and costs as much.
    assert court.accuse(WATCHER, replace(court.no_fraud(LIAR), witness=None)).startswith("innocent")
    assert court.runs == 1
    assert court.state.totals().burnt == 2 * BOND
    void = replace(court.no_fraud(LIAR), slots=court.no_fraud(LIAR).slots[:-1])
    assert court.accuse(WATCHER, void).startswith("void")
    assert court.state.totals().burnt == 3 * BOND


def test_a_second_liar_on_the_same_fact_is_a_look_up() -> None:
    court = Court()
    court.accuse(WATCHER, court.fraud(LIAR))
    second = replace(court.fraud(STAKERS[2], fuel=3), witness=None)
    assert court.accuse(WATCHER, second).startswith("guilty")
    assert court.runs == 1
    unknown = replace(court.fraud(STAKERS[3], slot=13), witness=None)
    assert court.accuse(WATCHER, unknown).startswith("void")
    # Nor does it take the slots: the fact names the log's heads before and after them.
    without = replace(unknown, slots=())
    assert court.accuse(WATCHER, without).startswith("void")
    third = replace(court.fraud(STAKERS[3], fuel=5), witness=None, slots=())
    assert court.accuse(WATCHER, third).startswith("guilty")
    assert court.runs == 1


def test_facts_are_dropped_when_nobody_used_them_for_long() -> None:
    court = Court()
    court.accuse(WATCHER, court.no_fraud(LIAR))
    assert len(list(court.state.all(Fact))) == 1
    court.tick(PARAMETERS.unbonding - 1)
    court.accuse(WATCHER, replace(court.no_fraud(LIAR), witness=None))
    court.tick(PARAMETERS.unbonding - 1)
    assert len(list(court.state.all(Fact))) == 1
    court.tick(1)
    assert not list(court.state.all(Fact))


def test_evidence_cannot_be_stolen_and_the_first_to_commit_has_the_bounty() -> None:
    court = Court()
    evidence = court.fraud(LIAR)
    thief = STAKERS[2]
    first = court.commit(WATCHER, evidence)
    # The thief sees the parts and is faster with the reveal.
    stolen = court.commit(thief, evidence)
    assert court.reveal(thief, stolen, evidence).startswith("guilty")
    case = court.state.get(Case, LIAR.address)
    assert case is not None
    assert case.challenger == thief.address
    burnt = court.state.totals().burnt
    court.reveal(WATCHER, first, evidence)
    case = court.state.get(Case, LIAR.address)
    assert case is not None
    assert case.challenger == WATCHER.address
    # Taking the bounty over costs the bond, else a lost stake gives free runs.
    assert court.state.totals().burnt - burnt == BOND
    court.refuse(thief, RevealEvidence(first, SALT, (first,)), "no commit")


def test_who_comes_too_late_pays_for_the_bytes_only_and_nothing_is_run() -> None:
    court = Court()
    evidence = court.fraud(LIAR)
    late = STAKERS[2]
    first = court.commit(WATCHER, evidence)
    second = court.commit(late, court.fraud(LIAR, slot=13))
    court.reveal(WATCHER, first, evidence)
    before = court.balance(late)
    detail = court.reveal(late, second, court.fraud(LIAR, slot=13))
    assert "somebody else" in detail
    assert court.runs == 1
    assert court.balance(late) == before + PARAMETERS.evidence_bond
    court.tick(1, STAKERS[1:])
    third = court.commit(late, court.fraud(LIAR, slot=13))
    assert "somebody else" in court.reveal(late, third, court.fraud(LIAR, slot=13))


def test_a_key_without_a_stake_is_not_judged() -> None:
    court = Court()
    assert "at stake" in court.accuse(WATCHER, court.fraud(POOR))
    assert court.runs == 0
    assert court.state.totals().burnt == BOND


def test_an_unrevealed_commit_burns_its_bond() -> None:
    court = Court()
    commit = court.commit(WATCHER, court.fraud(LIAR))
    court.do(WATCHER, EvidencePart(commit, b"x"))
    court.tick(PARAMETERS.challenge_window - 1)
    assert court.state.get(Commit, commit) is not None
    notes = court.tick(1)
    assert NoteKind.EXPIRED in [note.kind for note in notes]
    assert court.state.get(Commit, commit) is None
    assert not list(court.state.all(Part))
    assert court.state.totals().burnt == BOND


def test_parts_are_of_the_committer_and_within_the_committed_size() -> None:
    court = Court()
    evidence = court.fraud(LIAR)
    size = len(encode_evidence(evidence))
    commit = court.commit(WATCHER, evidence)
    court.refuse(LIAR, EvidencePart(commit, b"x"), "no commit")
    court.refuse(WATCHER, EvidencePart(commit, bytes(size + 1)), "more than")
    court.do(WATCHER, EvidencePart(commit, b"x"))
    part = court.items[-1].id
    (note,) = court.slot(court.items[-1])
    assert "there already" in note.detail
    court.refuse(WATCHER, EvidencePart(commit, bytes(size)), "more than")
    for parts in ((part, part), (commit,), (part,)):
        court.refuse(WATCHER, RevealEvidence(commit, SALT, parts))
    court.refuse(LIAR, RevealEvidence(commit, SALT, (part,)), "no commit")
    huge = CommitEvidence(court.next_sequence(), SALT, 1 << 40)
    court.refuse(WATCHER, huge, "at most")


def test_a_contradiction_needs_no_run() -> None:
    court = Court()
    made = receipts(TRUTH.leaves, TRUTH.heads, LIAR)
    one = court.sealed(made[9], LIAR)
    other = court.sealed(replace(made[9], mmr_root=bytes(32)), LIAR)
    assert court.accuse(WATCHER, Contradiction(one, other, False)).startswith("guilty")
    proof = court.sealed(state_proof(made, 0, 9, LIAR), STAKERS[2])
    fine = court.sealed(made[9], STAKERS[2])
    assert court.accuse(WATCHER, Contradiction(proof, fine, False)).startswith("innocent")
    assert court.runs == 0


class NotYet(Exception):
    """This node has not run the segment."""


def test_a_fold_that_misses_a_fact_changes_nothing_and_is_repeated() -> None:
    court = Court()
    evidence = court.fraud(LIAR)
    commit = court.commit(WATCHER, evidence)
    waiting: list[Segment] = []

    def not_yet(segment: Segment) -> tuple[bytes, ...] | None:
        waiting.append(segment)
        raise NotYet

    run, court._run = court._run, not_yet
    blob = encode_evidence(evidence)
    court.do(WATCHER, EvidencePart(commit, blob))
    root, slots = court.state.root(), len(court.items)
    reveal = RevealEvidence(commit, SALT, (court.items[-1].id,))
    with pytest.raises(NotYet):
        court.do(WATCHER, reveal)
    assert court.state.root() == root
    assert len(court.items) == slots
    court._run = run
    court.do(WATCHER, reveal)
    assert court.state.get(Case, LIAR.address) is not None
    assert len(waiting) == 1
