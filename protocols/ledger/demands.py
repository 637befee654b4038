"""Demands for what stands behind a statement, replies to them, and anchors."""

from __future__ import annotations

from dataclasses import replace

from protocols.accumulator import MmrProof, mmr_verify
from protocols.codec import digest
from protocols.court import accepted_statement, first_leaf, peaks_before, roots_of
from protocols.domains import ANCHOR, DEMAND
from protocols.ids import Address
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import AnchorEntry, Demanded
from protocols.wire.evidence import statement_id
from protocols.wire.ledger_tx import LEAVES, Demand, OfferAnchor, Reply
from protocols.wire.proof import Leaf, Receipt, Statement, StateProof, is_border


def demand(draft: Draft, sender: Address, tx: Demand) -> None:
    """Ask publicly, against a bond. At the deadline silence freezes the stake. Raises Invalid."""
    statement = accepted_statement(tx.statement, draft.court())
    accused = draft.account_of(statement.cu)
    if draft.bond(accused).frozen or not draft.at_stake(accused):
        raise refused("nothing is at stake behind the statement")
    first = first_leaf(statement, draft.rules.parameters)
    if tx.kind != LEAVES and not first:
        raise refused("nothing comes before a statement from slot 0 on")
    id = digest(DEMAND, tx.kind, statement_id(tx.statement))
    if draft.get(Demanded, id) is not None:
        raise refused("the demand is made already")
    bond = draft.rules.parameters.demand_bond
    draft.spend(sender, tx.sequence, bond)
    deadline = draft.totals.tick + draft.rules.parameters.demand_window
    draft.put(Demanded(sender, accused, tx.kind, tx.statement, bond, deadline, False), id)
    draft.remind(deadline, Demanded, id)


def reply(draft: Draft, sender: Address, tx: Reply) -> None:
    """Close a demand, if this is what stands behind the statement. Raises Invalid."""
    demanded = draft.get(Demanded, tx.demand)
    if demanded is None or demanded.answered:
        raise refused("no such demand is open")
    statement = accepted_statement(demanded.statement, draft.court())
    if demanded.kind == LEAVES:
        _check_leaves(draft, statement, tx)
    else:
        _check_previous(draft, statement, tx)
    draft.burn(demanded.bond)
    draft.put(replace(demanded, answered=True, bond=0), tx.demand)


def _check_leaves(draft: Draft, statement: Statement, tx: Reply) -> None:
    """Raise Invalid unless these leaves give every MMR root that the statement names."""
    roots = roots_of(statement, draft.rules.parameters)
    first = first_leaf(statement, draft.rules.parameters)
    last = statement.slot if isinstance(statement, Receipt) else statement.last
    leaves = [tx.leaves[at : at + 32] for at in range(0, len(tx.leaves), 32)]
    if len(tx.leaves) % 32 or len(leaves) != last - first + 1:
        raise refused(f"{len(tx.leaves)} bytes are not the leaf hashes of {first}..{last}")
    if isinstance(statement, Receipt) and leaves[-1] != statement.leaf.hash():
        raise refused("the last leaf is not the receipt's")
    mmr = peaks_before(first, tx.peaks)
    for leaf in (None, *leaves):
        mmr = mmr if leaf is None else mmr.append(leaf)
        if roots.get(mmr.count) not in (None, mmr.root()):
            raise refused(f"these leaves do not give the statement's root of {mmr.count} leaves")


def _check_previous(draft: Draft, statement: Statement, tx: Reply) -> None:
    """Raise Invalid unless it shows what the statement continues: the unit's proof that ends
    right before it, or an anchor there."""
    first = first_leaf(statement, draft.rules.parameters)
    root = roots_of(statement, draft.rules.parameters).get(first)
    shown = tx.proof or b""
    if len(shown) == 32:
        anchor = draft.anchor(shown)
        if anchor is None or anchor.refuted:
            raise refused("the anchor is none, or refuted")
        found = (anchor.process, anchor.slot, anchor.mmr_root)
    else:
        proof = accepted_statement(shown, draft.court())
        if not isinstance(proof, StateProof) or proof.cu != statement.cu:
            raise refused("not a state proof of the same unit")
        found = (proof.process, proof.last, proof.mmr_root)
    if found != (statement.process, first - 1, root):
        raise refused(f"it does not end with the range before slot {first}")


def offer_anchor(draft: Draft, sender: Address, tx: OfferAnchor) -> None:
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
