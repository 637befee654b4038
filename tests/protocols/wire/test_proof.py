"""Statements of compute units: one encoding each, strict decoders, and what contradicts what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from protocols import codec
from protocols.codec import Value, digest
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId
from protocols.network import default_parameters
from protocols.wire import proof
from protocols.wire.outcome import Status
from protocols.wire.proof import (
    BLOCK_ENDS_MAX,
    FUEL_MAX,
    LEAF_BYTES_MAX,
    PROOF_BYTES_MAX,
    RECEIPT_BYTES_MAX,
    Leaf,
    Receipt,
    StateProof,
    block_end_before,
    contradicts,
    is_border,
)
from tests.protocols.golden import statements
from tests.protocols.wire.cddl import Grammar
from tests.vectors import load

GRAMMAR = Grammar(Path(proof.__file__).with_suffix(".cddl"))
VECTORS = load("proof")
PARAMETERS = default_parameters()
SLOT_MAX = (1 << 63) - 1
HASH = bytes([7]) * 32
DECODERS: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "leaf": (Leaf.decode, "leaf"),
    "border_leaf": (Leaf.decode, "leaf"),
    "early": (Receipt.decode, "receipt"),
    "late": (Receipt.decode, "receipt"),
    "proof": (StateProof.decode, "state-proof"),
}


@pytest.mark.parametrize("name", DECODERS)
def test_golden_statements_read_and_write_back(name: str) -> None:
    decoder, rule = DECODERS[name]
    blob = bytes.fromhex(VECTORS[name]["bytes"])
    statement = decoder(blob)
    assert statement == statements()[name]
    assert statement.encode() == blob
    assert GRAMMAR.matches(rule, codec.decode(blob, size_max=4096))
    if isinstance(statement, Leaf):
        assert statement.hash().hex() == VECTORS[name]["hash"]
    else:
        message = bytes.fromhex(VECTORS[name]["signed_bytes"])
        VerifyKey(statement.cu).verify(message, statement.signature)
        statement.check(PARAMETERS)


def edits(value: Value) -> list[Value]:
    """`value` with each part replaced by something of another type or size, or left out."""
    if not isinstance(value, list):
        return [[], -1, True, "x", b"", b"x" * 31, 1 << 63, None if value is not None else 0]
    out: list[Value] = []
    for index, part in enumerate(value):
        before, after = value[:index], value[index + 1 :]
        out.append([*before, *after])
        out += [[*before, edit, *after] for edit in edits(part)]
    return out


def fits(rule: str, value: Value) -> bool:
    """Whether the grammar describes `value`; bytes that should be a leaf may be no CBOR at all."""
    try:
        return GRAMMAR.matches(rule, value)
    except Invalid:
        return False


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_and_grammar_agree_on_what_is_wrong(name: str) -> None:
    decoder, rule = DECODERS[name]
    value = codec.decode(bytes.fromhex(VECTORS[name]["bytes"]), size_max=4096)
    for edit in edits(value):
        try:
            decoder(codec.encode(edit))
            accepted = True
        except Invalid:
            accepted = False
        assert accepted == fits(rule, edit), edit


def test_a_receipts_leaf_is_its_own() -> None:
    receipt = statements()["early"]
    assert isinstance(receipt, Receipt)
    for leaf in (
        replace(receipt.leaf, slot=6),
        replace(receipt.leaf, process=ProcessId(HASH)),
    ):
        with pytest.raises(Invalid, match="another process or slot"):
            Receipt.decode(replace(receipt, leaf=leaf).encode())


def test_a_proof_does_not_end_before_it_starts() -> None:
    state = statements()["proof"]
    assert isinstance(state, StateProof)
    with pytest.raises(Invalid):
        StateProof.decode(replace(state, first=192).encode())


def test_drafts_cannot_travel() -> None:
    for name in ("early", "proof"):
        statement = statements()[name]
        assert isinstance(statement, Receipt | StateProof)
        with pytest.raises(AssertionError):
            replace(statement, signature=b"").encode()


def test_largest_statements_fit_their_bounds() -> None:
    leaf = Leaf(ProcessId(HASH), SLOT_MAX, ItemId(HASH), HASH, HASH, FUEL_MAX, 255)
    assert len(leaf.encode()) <= LEAF_BYTES_MAX
    receipt = Receipt(
        NetworkId(HASH), leaf.process, SLOT_MAX, HASH, leaf, HASH, HASH, HASH, NodeKey(HASH)
    ).signed(bytes(64))
    assert len(receipt.encode()) <= RECEIPT_BYTES_MAX
    assert Receipt.decode(receipt.encode()) == receipt
    largest = StateProof(
        network=NetworkId(HASH),
        process=ProcessId(HASH),
        first=SLOT_MAX - 1,
        last=SLOT_MAX,
        head_before=HASH,
        head=HASH,
        mmr_before=HASH,
        mmr_root=HASH,
        block_roots=tuple((SLOT_MAX - 99 + i, HASH) for i in range(BLOCK_ENDS_MAX)),
        state_root=HASH,
        fuel=FUEL_MAX,
        profile=HASH,
        tick=SLOT_MAX,
        sequence=SLOT_MAX,
        start=HASH,
        cu=NodeKey(HASH),
    ).signed(bytes(64))
    assert len(largest.encode()) <= PROOF_BYTES_MAX
    assert StateProof.decode(largest.encode()) == largest


def test_borders() -> None:
    assert [slot for slot in range(20) if is_border(slot, 8)] == [7, 15]
    assert [block_end_before(slot, 4) for slot in range(9)] == [None] * 4 + [3] * 4 + [7]


def test_roots_stand_at_borders_only() -> None:
    early, late, state = (statements()[name] for name in ("early", "late", "proof"))
    assert isinstance(early, Receipt)
    assert isinstance(late, Receipt)
    assert isinstance(state, StateProof)
    wrong: list[Receipt | StateProof] = [
        replace(early, leaf=replace(early.leaf, root=HASH)),
        replace(late, leaf=replace(late.leaf, root=None)),
        replace(early, block_root=HASH),
        replace(late, block_root=None),
        replace(state, state_root=None),
        replace(state, last=192, state_root=HASH),
        replace(state, block_roots=()),
        replace(state, block_roots=((126, HASH),)),
        replace(state, block_roots=(*state.block_roots, (191, HASH))),
    ]
    for statement in wrong:
        with pytest.raises(Invalid):
            statement.check(PARAMETERS)
    with pytest.raises(Invalid) as caught:
        replace(state, first=0, last=64 * 40 - 1, block_roots=()).check(PARAMETERS)
    assert caught.value.reason is Reason.OVERSIZE


# Contradiction, over a model of an honest unit


def fact(kind: str, branch: int, slot: int, fork: int) -> bytes:
    """A function of the log: branches are equal before slot `fork`."""
    return digest("test", kind, branch if slot >= fork else 0, slot)


class Unit:
    """An honest unit on one branch of a log that forks at slot `fork`."""

    def __init__(self, branch: int = 0, fork: int = 1 << 40) -> None:
        self.branch, self.fork = branch, fork

    def _fact(self, kind: str, slot: int) -> bytes:
        return fact(kind, self.branch, slot, self.fork)

    def receipt(self, slot: int) -> Receipt:
        root = self._fact("state", slot) if is_border(slot, 8) else None
        leaf = Leaf(
            ProcessId(HASH),
            slot,
            ItemId(self._fact("assignment", slot)),
            root,
            self._fact("outcome", slot),
            5,
            int(Status.OK),
        )
        end = block_end_before(slot, 64)
        return Receipt(
            NetworkId(HASH),
            ProcessId(HASH),
            slot,
            self._fact("head", slot),
            leaf,
            self._fact("mmr", slot),
            None if end is None else self._fact("mmr", end),
            HASH,
            NodeKey(HASH),
        )

    def proof(self, first: int, last: int, sequence: int = 0) -> StateProof:
        ends = range(first // 64 * 64 + 63, last, 64)
        return StateProof(
            network=NetworkId(HASH),
            process=ProcessId(HASH),
            first=first,
            last=last,
            head_before=self._fact("head", first - 1),
            head=self._fact("head", last),
            mmr_before=self._fact("mmr", first - 1),
            mmr_root=self._fact("mmr", last),
            block_roots=tuple((end, self._fact("mmr", end)) for end in ends),
            state_root=self._fact("state", last) if is_border(last, 8) else None,
            fuel=1,
            profile=HASH,
            tick=0,
            sequence=sequence,
            start=None,
            cu=NodeKey(HASH),
        )


slots = st.integers(0, 400)
proofs = st.tuples(slots, slots).map(sorted)


@given(st.lists(slots, max_size=4), st.lists(proofs, max_size=4), slots, st.integers(0, 1))
def test_honest_units_never_contradict_themselves(
    singles: list[int], ranges: list[list[int]], fork: int, branch: int
) -> None:
    """On one branch or on both branches of a fork, whatever they state and however often."""
    made: list[Receipt | StateProof] = []
    for unit in (Unit(), Unit(branch, fork)):
        made += [unit.receipt(slot) for slot in singles]
        made += [unit.proof(a, b, number) for number, (a, b) in enumerate(ranges)]
    for one in made:
        for other in made:
            assert not contradicts(one, other)


def test_lies_about_one_log_contradict() -> None:
    unit = Unit()
    receipt, other = unit.receipt(71), bytes([1]) * 32
    state = unit.proof(0, 71)
    pairs: list[tuple[Receipt | StateProof, Receipt | StateProof]] = [
        (receipt, replace(receipt, mmr_root=other)),
        (receipt, replace(receipt, leaf=replace(receipt.leaf, outcome_hash=other))),
        (receipt, replace(receipt, leaf=replace(receipt.leaf, fuel=6))),
        (receipt, replace(receipt, leaf=replace(receipt.leaf, root=other))),
        (receipt, replace(state, state_root=other)),
        (receipt, replace(state, mmr_root=other)),
        (state, replace(state, sequence=9, mmr_root=other)),
        (state, replace(unit.proof(8, 71), block_roots=((63, other),))),
        (unit.receipt(7), replace(unit.proof(8, 71), mmr_before=other)),
        (unit.proof(8, 127), replace(unit.proof(0, 127), block_roots=((63, other),))),
    ]
    for one, lie in pairs:
        assert contradicts(one, lie)
        assert contradicts(lie, one)


def test_statements_of_other_logs_units_profiles_and_networks_do_not() -> None:
    receipt = Unit().receipt(71)
    lie = replace(receipt, mmr_root=bytes(32))
    zero = bytes(32)
    for different in (
        replace(lie, head=zero),
        replace(lie, profile=zero),
        replace(lie, cu=NodeKey(zero)),
        replace(lie, network=NetworkId(zero)),
        replace(lie, process=ProcessId(zero)),
        replace(Unit().receipt(72), mmr_root=zero),
    ):
        assert not contradicts(receipt, different)
