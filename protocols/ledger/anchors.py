"""Anchors: states that units may start from, carried by two stakers."""

from __future__ import annotations

from protocols.accumulator import MmrProof, mmr_verify
from protocols.codec import digest
from protocols.court import accepted_statement, peaks_before
from protocols.domains import ANCHOR
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import AnchorEntry
from protocols.wire.ledger_tx import OfferAnchor
from protocols.wire.proof import Leaf, StateProof, is_border


def offer_anchor(draft: Draft, tx: OfferAnchor) -> None:
    """Take up an anchor that two stakers' proofs carry. Raises Invalid."""
    parameters = draft.rules.parameters
    leaf = Leaf.decode(tx.leaf)
    if leaf.root is None or not is_border(leaf.slot, parameters.proof_every):
        raise refused(f"slot {leaf.slot} does not end a proof block")
    mmr = peaks_before(leaf.slot + 1, tx.peaks)
    path = MmrProof(leaf.slot, mmr.count, tx.path, tx.peaks)
    if not mmr_verify(mmr.root(), leaf.hash(), path):
        raise refused("the leaf is not the last of the range with these peaks")
    backers = set()
    for raw in tx.proofs:
        proof = accepted_statement(raw, draft.court())
        account = draft.account_of(proof.cu)
        if not draft.voting(account):
            raise refused("an anchor is carried by proofs of stakers")
        if not isinstance(proof, StateProof) or (
            (proof.process, proof.last, proof.head, proof.mmr_root, proof.state_root)
            != (leaf.process, leaf.slot, tx.head, mmr.root(), leaf.root)
        ):
            raise refused("a proof says something else than the anchor")
        backers.add(account)
    if len(backers) < 2:
        raise refused("an anchor is carried by proofs of two stakers")
    id = anchor_id(tx, leaf)
    if draft.get(AnchorEntry, id) is not None:
        raise refused("the anchor is there already")
    draft.put(
        AnchorEntry(
            leaf.process, leaf.slot, tx.head, leaf.root, tx.peaks, draft.totals.tick, False
        ),
        id,
    )


def anchor_id(tx: OfferAnchor, leaf: Leaf) -> bytes:
    """What a state proof names as its start: one id for one state, whoever carries it."""
    return digest(ANCHOR, leaf.process, leaf.slot, tx.head, leaf.hash(), tx.peaks)
