"""Canonical CBOR: what is one encoding, and that nothing else gets past the scanner."""

from __future__ import annotations

import ast
import enum
import random
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.codec import decode, digest, digest_raw, encode, scan, signing_bytes
from protocols.errors import Invalid, Reason
from protocols.limits import CBOR_DEPTH_MAX, INTEGER_MAX, INTEGER_MIN
from tests.vectors import load

VECTORS = load("codec")

atoms = (
    st.integers(INTEGER_MIN, INTEGER_MAX)
    | st.binary(max_size=300)
    | st.text(max_size=80)
    | st.booleans()
    | st.none()
)
values = st.recursive(atoms, lambda inner: st.lists(inner, max_size=6), max_leaves=20)


def depth(value: Any) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values)
def test_every_value_has_one_encoding_and_comes_back(value: Any) -> None:
    if depth(value) > CBOR_DEPTH_MAX:
        with pytest.raises(TypeError):
            encode(value)
        return
    blob = encode(value)
    assert decode(blob, size_max=len(blob)) == value
    assert cbor2.loads(blob) == value


@given(st.binary(max_size=64))
def test_whatever_is_decoded_encodes_to_the_same_bytes(blob: bytes) -> None:
    try:
        value = decode(blob, size_max=64)
    except Invalid:
        return
    assert encode(value) == blob


@settings(max_examples=300)
@given(values, st.randoms(use_true_random=False))
def test_mutated_bytes_raise_nothing_but_invalid(value: Any, rng: random.Random) -> None:
    if depth(value) > CBOR_DEPTH_MAX:
        return
    blob = bytearray(encode(value))
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(3):
            case 0 if blob:
                blob[rng.randrange(len(blob))] = rng.randrange(256)
            case 1 if blob:
                del blob[rng.randrange(len(blob)) :]
            case _:
                blob.insert(rng.randint(0, len(blob)), rng.randrange(256))
    mutated = bytes(blob)
    try:
        assert encode(decode(mutated, size_max=1 << 20)) == mutated
    except Invalid:
        pass


@pytest.mark.parametrize("vector", VECTORS["encodings"], ids=lambda v: v["cbor"][:24])
def test_golden_encodings(vector: dict[str, str]) -> None:
    value = ast.literal_eval(vector["diagnostic"])
    blob = bytes.fromhex(vector["cbor"])
    assert encode(value) == blob
    assert decode(blob, size_max=100) == value


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["what"])
def test_refused_encodings(vector: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(bytes.fromhex(vector["cbor"]), size_max=100)
    assert refusal.value.reason == vector["reason"]


def test_arrays_nest_to_the_bound_and_not_beyond() -> None:
    deep: Any = []
    for _ in range(CBOR_DEPTH_MAX - 1):
        deep = [deep]
    blob = encode(deep)
    assert decode(blob, size_max=100) == deep
    with pytest.raises(Invalid) as refusal:
        scan(b"\x81" + blob, size_max=100)
    assert refusal.value.reason is Reason.OVERSIZE


def test_count_is_refused_before_the_values_are_there() -> None:
    with pytest.raises(Invalid) as refusal:
        scan(b"\x9a\x00\x01\x00\x00", size_max=100)
    assert refusal.value.reason is Reason.OVERSIZE


def test_count_bound_is_exact_and_counts_the_arrays_too() -> None:
    blob = encode([1, [2, 3]])
    scan(blob, size_max=100, items_max=5)
    with pytest.raises(Invalid):
        scan(blob, size_max=100, items_max=4)


def test_size_bound_is_exact() -> None:
    blob = encode([b"x" * 10])
    decode(blob, size_max=len(blob))
    with pytest.raises(Invalid) as refusal:
        decode(blob, size_max=len(blob) - 1)
    assert refusal.value.reason is Reason.OVERSIZE


@pytest.mark.parametrize(
    "value",
    [1.5, {1: 2}, {1}, bytearray(b"x"), [INTEGER_MAX + 1], [INTEGER_MIN - 1], object(), [None, 1j]],
    ids=repr,
)
def test_what_cannot_travel_is_our_mistake(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_enumerations_travel_as_what_they_are() -> None:
    class Number(enum.IntEnum):
        THREE = 3

    class Word(enum.StrEnum):
        ABC = "abc"

    assert encode([Number.THREE, Word.ABC]) == encode([3, "abc"])


def test_digests_are_golden_and_domains_differ() -> None:
    for vector in VECTORS["digests"]:
        fields = [bytes.fromhex(field) for field in vector["fields"]]
        assert digest(vector["domain"], *fields).hex() == vector["digest"]
    assert digest("a", b"x") != digest("b", b"x")
    assert digest("a", b"x") == digest_raw("a", encode([b"x"]))


def test_signing_bytes_bind_domain_network_and_body() -> None:
    assert signing_bytes("receipt", b"n" * 32, [1, b"x"]) == encode(
        ["receipt", b"n" * 32, [1, b"x"]]
    )
