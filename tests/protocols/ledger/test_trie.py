"""The map behind the ledger's state: content decides the root, and entries can be proved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Invalid
from protocols.ledger.trie import EntryProof, Trie, lookup

# First byte tells the length, as kinds of entries do, so that no key begins another.
KEYS = st.integers(0, 3).flatmap(
    lambda kind: st.binary(min_size=kind, max_size=kind).map(lambda rest: bytes([kind]) + rest)
)
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=40)


def apply(writes: list[tuple[bytes, bytes | None]]) -> tuple[Trie, dict[bytes, bytes]]:
    trie, model = Trie(), dict[bytes, bytes]()
    for key, value in writes:
        if value is not None:
            trie, model[key] = trie.put(key, value), value
        elif key in model:
            trie = trie.delete(key)
            del model[key]
    return trie, model


@settings(max_examples=20)
@given(WRITES, KEYS)
def test_it_is_a_sorted_map(writes: list[tuple[bytes, bytes | None]], key: bytes) -> None:
    trie, model = apply(writes)
    assert list(trie.items()) == sorted(model.items())
    assert trie.get(key) == model.get(key)
    for prefix in (key[:1], key[:2], b"\3\0"):
        expected = sorted(pair for pair in model.items() if pair[0].startswith(prefix))
        assert list(trie.items(prefix)) == expected


@settings(max_examples=20)
@given(WRITES)
def test_the_root_is_of_the_content_alone(writes: list[tuple[bytes, bytes | None]]) -> None:
    trie, model = apply(writes)
    again = Trie()
    for key, value in sorted(model.items(), reverse=True):
        again = again.put(key, value)
    assert again.root() == trie.root()


@settings(max_examples=20)
@given(WRITES.filter(lambda writes: any(value is not None for _, value in writes)), KEYS)
def test_every_entry_and_every_gap_can_be_proved(
    writes: list[tuple[bytes, bytes | None]], key: bytes
) -> None:
    trie, model = apply(writes)
    if not model:
        return
    for asked in [*model, key]:
        proof = trie.prove(asked)
        assert EntryProof.decode(proof.encode()) == proof
        assert lookup(trie.root(), asked, proof) == model.get(asked)


@settings(max_examples=20)
@given(WRITES, KEYS, KEYS, st.binary(max_size=2), st.integers(0, 40))
def test_a_proof_of_something_else_is_refused(
    writes: list[tuple[bytes, bytes | None]], key: bytes, other: bytes, value: bytes, bit: int
) -> None:
    trie, model = apply([*writes, (key, b"x"), (other, b"y")])
    proof = trie.prove(key)
    wrongs = [
        replace(proof, value=value + b"!!"),
        replace(proof, key=b"\3zzz") if b"\3zzz" not in model else replace(proof, value=b"??"),
        replace(proof, steps=(*proof.steps, (bit, bytes(32)))),
    ]
    if proof.steps:
        wrongs.append(replace(proof, steps=proof.steps[1:]))
    for wrong in wrongs:
        with pytest.raises(Invalid):
            lookup(trie.root(), key, wrong)
    shown = trie.prove(other)
    try:
        assert lookup(trie.root(), key, shown) == model[key]
    except Invalid:
        assert key != other


def test_old_versions_stay() -> None:
    first = Trie().put(b"\1a", b"1")
    root = first.root()
    second = first.put(b"\1b", b"2").delete(b"\1a")
    assert first.root() == root
    assert first.get(b"\1a") == b"1"
    assert list(second.items()) == [(b"\1b", b"2")]
    assert second.delete(b"\1b").root() == Trie().root()


def test_rewriting_the_same_value_changes_nothing() -> None:
    trie = Trie().put(b"\1a", b"1")
    assert trie.put(b"\1a", b"1") is trie


@pytest.mark.parametrize("blob", [b"", b"\x80", b"\x83\x40\x40\x81\x80", b"\x83\x40\x40\x80\x00"])
def test_other_bytes_are_no_proof(blob: bytes) -> None:
    with pytest.raises(Invalid):
        EntryProof.decode(blob)
