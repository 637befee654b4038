"""Faults that show in signatures and hashes alone: no segment is run to judge them."""

from __future__ import annotations

from protocols.court import (
    Court,
    Judgement,
    accused_statement,
    check_path,
    claim_of,
    guilty_if,
    peaks_before,
    signed_item,
    void,
)
from protocols.ids import NodeKey
from protocols.wire.assignment import assignment_of
from protocols.wire.evidence import (
    ASSIGNMENT_BYTES_MAX,
    BadLeaf,
    BadStart,
    Contradiction,
    TwoAssignments,
    WrongSum,
    statement_of,
)
from protocols.wire.outcome import Status
from protocols.wire.proof import Leaf, StateProof, contradicts, is_border
from protocols.wire.vote import VOTE_BYTES_MAX, Vote


def judge(
    evidence: Contradiction | TwoAssignments | BadLeaf | WrongSum | BadStart, court: Court
) -> Judgement:
    """The verdict on any of these. Raises Invalid for VOID."""
    match evidence:
        case Contradiction():
            return _contradiction(evidence, court)
        case TwoAssignments():
            return _two_assignments(evidence, court)
        case BadLeaf():
            return _bad_leaf(evidence, court)
        case WrongSum():
            return _wrong_sum(evidence, court)
        case BadStart():
            return _bad_start(evidence, court)


def _contradiction(evidence: Contradiction, court: Court) -> Judgement:
    if evidence.votes:
        one, other = (
            Vote.decode(raw, size_max=VOTE_BYTES_MAX) for raw in (evidence.one, evidence.other)
        )
        for vote in (one, other):
            if vote.network != court.network or not court.signed(
                vote.key, vote.signing_bytes(), vote.signature
            ):
                raise void("a vote is not signed, or of another network")
        court.answerable(one.key)
        twice = court.account(one.key) == court.account(other.key) and one.against(other)
        return guilty_if(twice, "two votes for one tick", one.key, evidence.one)
    a, b = (accused_statement(raw, court) for raw in (evidence.one, evidence.other))
    if a.cu != b.cu:
        raise void("the statements are of two units")
    return guilty_if(contradicts(a, b), "two statements exclude each other", a.cu, evidence.one)


def _two_assignments(evidence: TwoAssignments, court: Court) -> Judgement:
    one, other = (
        assignment_of(signed_item(raw, court, size_max=ASSIGNMENT_BYTES_MAX))
        for raw in (evidence.one, evidence.other)
    )
    if one.item.owner != other.item.owner:
        raise void("the assignments are of two schedulers")
    twice = (one.process, one.epoch, one.nonce) == (other.process, other.epoch, other.nonce)
    signer = NodeKey(one.item.owner)
    court.answerable(signer)
    return guilty_if(twice and one.id != other.id, "one slot given twice", signer, evidence.one)


def _bad_leaf(evidence: BadLeaf, court: Court) -> Judgement:
    claim = claim_of(evidence.statement, court)
    if claim.accused is None:
        raise void("an anchor is accused with a fraud proof")
    statement = statement_of(evidence.statement)
    leaf = Leaf.decode(evidence.leaf)
    index = evidence.index
    if not claim.lowest <= index <= claim.last:
        raise void(f"the accused does not answer for leaf {index}")
    own = claim.receipt.leaf if claim.receipt is not None and index == claim.last else None
    if evidence.path is None:
        if leaf != own:
            raise void("the leaf is not shown to be the accused's")
    else:
        check_path(claim, index, leaf.hash(), evidence.path)
    border = is_border(index, court.parameters.root_every)
    faults = (
        (leaf.process != claim.process or leaf.slot != index, "a leaf of another slot"),
        (leaf.status not in list(Status), f"status {leaf.status} is none of the table"),
        ((leaf.root is not None) != border, "a state root iff none belongs there"),
        (own is not None and own != leaf, "a receipt with another leaf than its own range"),
        (
            isinstance(statement, StateProof)
            and index == claim.last
            and statement.state_root != leaf.root,
            "a state root that is not its leaf's",
        ),
    )
    fault = next((reason for found, reason in faults if found), "")
    return guilty_if(bool(fault), fault or "nothing is wrong", claim.accused, evidence.statement)


def _wrong_sum(evidence: WrongSum, court: Court) -> Judgement:
    statement = accused_statement(evidence.statement, court)
    if not isinstance(statement, StateProof):
        raise void("a receipt has no sum")
    if len(evidence.leaves) != statement.last - statement.first + 1:
        raise void("not one leaf for each slot of the proof")
    leaves = [Leaf.decode(leaf) for leaf in evidence.leaves]
    mmr = peaks_before(statement.first, evidence.peaks)
    if mmr.root() != statement.mmr_before:
        raise void("the peaks are not those before the proof")
    if mmr.extend([leaf.hash() for leaf in leaves]).root() != statement.mmr_root:
        raise void("the leaves are not those of the proof")
    wrong = sum(leaf.fuel for leaf in leaves) != statement.fuel
    return guilty_if(wrong, "the fuel of the leaves", statement.cu, evidence.statement)


def _bad_start(evidence: BadStart, court: Court) -> Judgement:
    statement = accused_statement(evidence.statement, court)
    if not isinstance(statement, StateProof) or statement.start is None:
        raise void("the statement names no anchor")
    anchor = court.anchor(statement.start)
    if anchor is not None and anchor.refuted:
        raise void("the statement rests on a refuted anchor")
    fault = ""
    if anchor is None:
        fault = "the anchor it names is none"  # anchors stay in the ledger for ever
    elif anchor.process != statement.process or statement.first <= anchor.slot:
        fault = "the anchor is of another process or a later slot"
    elif statement.first == anchor.slot + 1:
        if statement.head_before != anchor.head:
            raise void("the anchor is of another branch of the log")
        if statement.mmr_before != anchor.mmr_root:
            fault = "the range before is not the anchor's"
    reason = fault or "it fits its anchor"
    return guilty_if(bool(fault), reason, statement.cu, evidence.statement)
