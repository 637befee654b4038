"""Every wrong statement is convicted, no honest unit ever, whatever is brought forward."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.accumulator import mmr_prove
from protocols.court import Finding, Segment, first_leaf
from protocols.ids import ItemId, ProcessId
from protocols.machine import audit
from protocols.machine.audit import Suspicion, accuse, check
from protocols.verdict import verdict
from protocols.wire.evidence import FraudProof, Witness, encode_evidence
from protocols.wire.proof import Leaf, Receipt, Statement, StateProof
from tests.protocols.machine.world import Key, item
from tests.protocols.toy import (
    COURT,
    LIAR,
    NETWORK,
    PARAMETERS,
    PROFILE,
    SLOTS,
    Branch,
    branches,
    judge,
    receipts,
    resigned,
    state_proof,
    toy_leaves,
    toy_root,
    toy_run,
    toy_witness,
)

HONEST = Key.of("honest")


# Liars


def lie(kind: str, truth: Branch, at: int, random: Random) -> list[Leaf]:
    """A liar's leaves: right before slot `at`, wrong there."""
    leaves = list(truth.leaves)
    old = leaves[at]
    junk = random.randbytes(32)
    match kind:
        case "state":  # goes on from a wrong state
            more, _ = toy_leaves(junk, truth.slots[at:])
            leaves[at:] = more
        case "undone":  # wrong in one slot, right again after it
            leaves[at] = replace(old, outcome_hash=junk)
        case "fuel":
            leaves[at] = replace(old, fuel=old.fuel + 1 + random.randrange(9))
        case "status":
            leaves[at] = replace(old, status=random.choice([1, 2, 3, 4, 5, 6, 200]))
        case "assignment":
            leaves[at] = replace(old, assignment_id=ItemId(junk))
        case "slot":
            leaves[at] = replace(old, slot=old.slot + 1)
        case "process":
            leaves[at] = replace(old, process=ProcessId(junk))
        case "root":
            leaves[at] = replace(old, root=None if old.root else junk)
        case "garbage":
            leaves[at:] = [replace(leaf, outcome_hash=random.randbytes(32)) for leaf in leaves[at:]]
        case "copied":  # the leaf of another slot
            leaves[at] = replace(leaves[at - 1], slot=at) if at else replace(old, fuel=256)
    return leaves


LIES = (
    "state", "undone", "fuel", "status", "assignment", "slot", "process", "root", "garbage",
    "copied",
)  # fmt: skip


def liar_statement(
    truth: Branch, leaves: list[Leaf], at: int, random: Random
) -> tuple[Statement, list[bytes]]:
    """A statement that answers for leaf `at`, and the hashes of the leaves it answers for."""
    hashes = [leaf.hash() for leaf in leaves]
    if random.random() < 0.5:
        last = min(at + random.randrange(12), SLOTS - 1)
        first = max(0, at - random.randrange(12))
        fitting = [replace(leaf, slot=slot) for slot, leaf in enumerate(leaves)]
        fitting = [
            replace(leaf, process=truth.leaves[0].process, root=truth_like(truth, leaf))
            for leaf in fitting
        ]
        made = receipts(fitting, truth.heads, LIAR)
        proof = state_proof(made, first, last, LIAR)
        proof = with_roots(proof, leaves)
        return proof, hashes[first : last + 1]
    block = at // PARAMETERS.proof_every * PARAMETERS.proof_every
    last = min(block + PARAMETERS.proof_every - 1, SLOTS - 1)
    last = random.randint(at, last)
    return receipt_over(truth, leaves, last), hashes[block : last + 1]


def truth_like(truth: Branch, leaf: Leaf) -> bytes | None:
    """A root where one belongs, so that the liar's statement has the form of one."""
    right = truth.leaves[leaf.slot].root
    return None if right is None else leaf.root or right


def roots_over(leaves: list[Leaf]) -> list[bytes]:
    own = audit.Own(b"")
    for leaf in leaves:
        own.append(leaf, b"")
    return own.roots


def with_roots(proof: StateProof, leaves: list[Leaf]) -> StateProof:
    """The proof over exactly these leaves, however odd."""
    roots = roots_over(leaves)
    return resigned(
        proof,
        LIAR,
        mmr_before=roots[proof.first],
        mmr_root=roots[proof.last + 1],
        block_roots=tuple((slot, roots[slot + 1]) for slot, _ in proof.block_roots),
        fuel=sum(leaf.fuel for leaf in leaves[proof.first : proof.last + 1]),
    )


def receipt_over(truth: Branch, leaves: list[Leaf], last: int) -> Receipt:
    """A receipt of slot `last` over these leaves, however odd."""
    roots = roots_over(leaves)
    own = replace(leaves[last], slot=last, process=truth.leaves[0].process)
    own = replace(own, root=truth_like(truth, own))
    block = last // PARAMETERS.proof_every * PARAMETERS.proof_every
    draft = Receipt(
        NETWORK,
        truth.leaves[0].process,
        last,
        truth.heads[last],
        own,
        roots[last + 1],
        roots[block] if block else None,
        PROFILE,
        LIAR.public,
    )
    return draft.signed(LIAR.sign(draft.signing_bytes()))


CASES = st.tuples(
    st.sampled_from(LIES), st.integers(0, SLOTS - 1), st.integers(0, 1), st.integers(0, 1 << 32)
)


def check_every_wrong_statement(case: tuple[str, int, int, int]) -> None:
    kind, at, which, seed = case
    random = Random(seed)
    truth = branches()[which]
    leaves = lie(kind, truth, at, random)
    if leaves[at] == truth.leaves[at]:
        return
    statement, theirs = liar_statement(truth, leaves, at, random)
    statement.check(PARAMETERS)
    own = truth.own()
    finding = check(statement, own, PARAMETERS)
    assert finding.suspicion is Suspicion.LEAF
    assert at in finding.slots
    evidence = accuse(
        statement.encode(), theirs, own, log=truth.log(), parameters=PARAMETERS,
        witness=truth.witness,
    )  # fmt: skip
    assert evidence is not None
    assert evidence.index == at
    judgement = judge(evidence)
    assert judgement.finding is Finding.GUILTY, judgement.reason
    assert judgement.accused == LIAR.public
    # The same fact convicts the next one by a look-up, without a witness.
    assert judgement.fact is not None
    key, known = judgement.fact

    def look_up(segment: Segment) -> tuple[bytes, ...] | None:
        assert segment.fact == key
        return known

    again = judge(replace(evidence, witness=None), run=look_up)
    assert again.finding is Finding.GUILTY


@settings(max_examples=20, deadline=None)
@given(CASES)
def test_every_wrong_statement_is_convicted(case: tuple[str, int, int, int]) -> None:
    check_every_wrong_statement(case)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(CASES)
def test_every_wrong_statement_is_convicted_in_a_thousand_cases(
    case: tuple[str, int, int, int],
) -> None:
    check_every_wrong_statement(case)


# Honest units


def honest_statement(truth: Branch, random: Random) -> Statement:
    made = receipts(truth.leaves, truth.heads, HONEST)
    last = random.randrange(SLOTS)
    if random.random() < 0.5:
        return made[last]
    return state_proof(made, random.randint(0, last), last, HONEST)


def hostile(statement: Statement, truth: Branch, other: Branch, random: Random) -> FraudProof:
    """Evidence against an honest statement: everything right, and then something wrong."""
    first = first_leaf(statement, PARAMETERS)
    last = audit.last_slot(statement)
    index = random.randint(first, last)
    start = audit.segment_start(index, PARAMETERS)
    end = min(start + PARAMETERS.root_every - 1, last)
    leaves = [leaf.hash() for leaf in truth.leaves[: last + 1]]
    log = truth.log()
    good = FraudProof(
        statement.encode(),
        log.process,
        start,
        truth.heads[start - 1] if start else audit_genesis(truth),
        b"".join(log.ids[start : last + 1]),
        truth.leaves[start - 1].encode() if start else None,
        mmr_prove(leaves, start - 1).encode() if start else None,
        index,
        leaves[index],
        mmr_prove(leaves, index).encode(),
        tuple(log.slot(slot) for slot in range(start, end + 1)),
        truth.witness(start) if start else None,
    )
    return corrupt(good, truth, other, random)


def audit_genesis(truth: Branch) -> bytes:
    return truth.own().head_genesis


def corrupt(good: FraudProof, truth: Branch, other: Branch, random: Random) -> FraudProof:
    start, end = good.first, good.first + len(good.slots)
    junk = random.randbytes(32)
    forged = replace(
        truth.leaves[max(start - 1, 0)], root=toy_root(junk), outcome_hash=random.randbytes(32)
    )
    slots = list(good.slots)
    at = random.randrange(len(slots))
    assignment, message = slots[at]
    stranger = item(LIAR, [("Data-Protocol", "ao"), ("Type", "Message")], data=b"forged")
    resent = truth.slots[start + at].message
    tampered = resent.raw[:-1] + bytes([resent.raw[-1] ^ 1])
    choices: list[dict[str, Any]] = [
        {},
        {"witness": toy_witness(junk)},
        {"witness": None},
        {"witness": Witness(1, (), (), b"")},
        {"before": forged.encode(), "witness": toy_witness(junk)},
        {"before": None, "before_path": None, "witness": None},
        {"first": start + 1},
        {"first": 0, "before": None, "before_path": None, "witness": None},
        {"index": good.index + 1},
        {"leaf": junk},
        {"leaf": None, "path": None},
        {"head_before": junk},
        {"ids": good.ids[:-32] + junk},
        {"ids": good.ids + junk},
        {"slots": good.slots[:-1]},
        {"slots": (*good.slots, good.slots[-1])},
        {"slots": tuple(other.log().slot(slot) for slot in range(start, end))},
        {"slots": (*slots[:at], (assignment, tampered), *slots[at + 1 :])},
        {"slots": (*slots[:at], (assignment, stranger.raw), *slots[at + 1 :])},
        {"slots": (*slots[:at], (stranger.raw, message), *slots[at + 1 :])},
        {"process": stranger.raw},
        {"accused": good.accused[:-1] + bytes([good.accused[-1] ^ 1])},
        {"before_path": good.path, "before": truth.leaves[good.index].encode()},
        {"ids": b"".join(other.log().ids[start : start + len(good.ids) // 32])},
    ]
    return replace(good, **random.choice(choices))


def check_honest(seed: int) -> None:
    random = Random(seed)
    truth, other = random.sample(branches(), 2)
    statement = honest_statement(truth, random)
    assert check(statement, truth.own(), PARAMETERS).suspicion is Suspicion.NONE
    evidence = hostile(statement, truth, other, random)
    judgement = judge(evidence)
    assert judgement.finding is not Finding.GUILTY, judgement.reason
    flipped = bytearray(encode_evidence(evidence))
    flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    assert verdict(bytes(flipped), toy_run, COURT).finding is not Finding.GUILTY


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_evidence_convicts_an_honest_unit(seed: int) -> None:
    check_honest(seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_evidence_convicts_an_honest_unit_in_a_thousand_cases(seed: int) -> None:
    check_honest(seed)
