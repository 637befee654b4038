"""Signing and verifying items of types 1 to 4, against another library's bytes where there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.crypto.signers import (
    ArweaveSigner,
    Ed25519Signer,
    EthereumSigner,
    ItemSigner,
    SolanaSigner,
    sign_item,
)
from aonode.crypto.verify import (
    SECP256K1_ORDER,
    verify_arweave,
    verify_ed25519,
    verify_ethereum,
    verify_item,
)
from protocols.errors import Invalid, Reason
from protocols.wire.item import Item, Tag, Unsigned, decode_item, signing_message
from tests.vectors import load

GOLDEN = load("ans104")
ITEMS = {
    vector["name"]: decode_item(bytes.fromhex(vector["raw"]), size_max=1 << 16)
    for vector in GOLDEN["items"]
}
KEYS = {name: bytes.fromhex(secret) for name, secret in GOLDEN["keys"].items()}
WALLET = json.loads((Path(__file__).parent / "wallet.json").read_text())
SIGNERS: dict[str, ItemSigner] = {
    "ed25519": Ed25519Signer(KEYS["ed25519_seed"]),
    "ed25519-minimal": Ed25519Signer(KEYS["ed25519_seed"]),
    "solana": SolanaSigner(KEYS["solana_seed"]),
    "ethereum": EthereumSigner(KEYS["ethereum_secret"]),
}
ARWEAVE = ArweaveSigner(WALLET)


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
def test_golden_items_verify(item: Item) -> None:
    verify_item(item)


@pytest.mark.parametrize("name", SIGNERS)
def test_deterministic_signers_give_the_golden_bytes(name: str) -> None:
    golden = ITEMS[name]
    item = sign_item(
        SIGNERS[name],
        target=golden.target,
        anchor=golden.anchor,
        tags=golden.tags,
        data=golden.data,
    )
    assert item.raw == golden.raw


@pytest.mark.parametrize("signer", [*SIGNERS.values(), ARWEAVE], ids=lambda s: type(s).__name__)
def test_what_a_signer_signs_verifies(signer: ItemSigner) -> None:
    item = sign_item(signer, tags=[Tag("a", "é")], data=b"data")
    verify_item(decode_item(item.raw, size_max=1 << 16))


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
def test_any_changed_field_is_refused(item: Item) -> None:
    fields: dict[str, Any] = {
        "signature_type": item.signature_type,
        "owner": item.owner,
        "target": item.target,
        "anchor": item.anchor,
        "tags": item.tags,
        "data": item.data,
    }
    for change in (
        {"target": b"\1" * 32},
        {"anchor": b"\1" * 32},
        {"tags": (*item.tags, Tag("x", "y"))},
        {"data": item.data + b"x"},
        {"owner": bytes((item.owner[0] ^ 1,)) + item.owner[1:]},
        {"owner": item.owner[:-1] + bytes((item.owner[-1] ^ 1,))},
    ):
        forged = Unsigned(**{**fields, **change}).signed(item.signature)
        with pytest.raises(Invalid) as refusal:
            verify_item(forged)
        assert refusal.value.reason is Reason.BAD_SIGNATURE


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ITEMS)), st.integers(0, 1 << 30), st.integers(1, 255))
def test_any_changed_byte_is_refused(name: str, place: int, flip: int) -> None:
    raw = bytearray(ITEMS[name].raw)
    raw[place % len(raw)] ^= flip
    try:
        item = decode_item(bytes(raw), size_max=1 << 16)
    except Invalid:
        return
    with pytest.raises(Invalid) as refusal:
        verify_item(item)
    assert refusal.value.reason is Reason.BAD_SIGNATURE


def test_an_unknown_type_is_said_to_be_one() -> None:
    item = Item(b"", 9, b"", b"", None, None, (), b"", 0)
    with pytest.raises(Invalid) as refusal:
        verify_item(item)
    assert refusal.value.reason is Reason.UNSUPPORTED


def test_solana_and_ed25519_signatures_are_not_interchangeable() -> None:
    item = ITEMS["solana"]
    message = signing_message(item)
    assert not verify_ed25519(item.owner, message, item.signature)
    assert verify_ed25519(item.owner, message.hex().encode(), item.signature)


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_ed25519_refuses_other_lengths(key: int, signature: int) -> None:
    assert not verify_ed25519(b"\1" * key, b"m", b"\1" * signature)


def test_ed25519_refuses_points_of_small_order() -> None:
    assert not verify_ed25519(b"\1" + b"\0" * 31, b"m", b"\1" + b"\0" * 63)


def test_ethereum_refuses_the_other_signature_of_the_pair() -> None:
    item = ITEMS["ethereum"]
    message = signing_message(item)
    high = SECP256K1_ORDER - int.from_bytes(item.signature[32:64], "big")
    for v in (27, 28):
        twin = item.signature[:32] + high.to_bytes(32, "big") + bytes((v,))
        assert not verify_ethereum(item.owner, message, twin)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 30, 35, 255])
def test_ethereum_refuses_other_recovery_bytes(v: int) -> None:
    item = ITEMS["ethereum"]
    signature = item.signature[:64] + bytes((v,))
    assert not verify_ethereum(item.owner, signing_message(item), signature)


def test_ethereum_recovery_byte_must_give_the_owner() -> None:
    item = ITEMS["ethereum"]
    flipped = item.signature[:64] + bytes((55 - item.signature[64],))
    assert not verify_ethereum(item.owner, signing_message(item), flipped)


@pytest.mark.parametrize("r", [0, SECP256K1_ORDER, 2**256 - 1, 5])
@pytest.mark.parametrize("s", [0, 1])
def test_ethereum_refuses_numbers_that_are_no_signature(r: int, s: int) -> None:
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b"
    assert not verify_ethereum(ITEMS["ethereum"].owner, b"m" * 48, signature)


@pytest.mark.parametrize(
    "modulus",
    [b"\0" * 512, b"\0" * 511 + b"\3", b"\xff" * 511 + b"\xfe", b"\0" * 256 + b"\xff" * 256],
    ids=["zero", "three", "even", "2048 bits"],
)
def test_arweave_refuses_numbers_that_are_no_key(modulus: bytes) -> None:
    assert not verify_arweave(modulus, b"m" * 48, b"\1" * 512)


def test_arweave_refuses_signatures_beyond_the_modulus() -> None:
    assert not verify_arweave(ARWEAVE.owner, b"m" * 48, b"\xff" * 512)


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "EC"},
        {"n": None},
        {"n": "!"},
        {"e": "AQAA"},
        {"p": WALLET["q"]},
        {"n": "AQAB"},
        {"p": "AQ"},
    ],
    ids=str,
)
def test_a_broken_wallet_is_refused_with_a_reason(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refusal:
        ArweaveSigner({**WALLET, **change})
    assert refusal.value.reason is Reason.CONFIG
    assert WALLET["d"] not in refusal.value.detail


def test_a_signer_does_not_print_its_secret() -> None:
    seed = KEYS["ed25519_seed"]
    assert seed.hex() not in repr(Ed25519Signer(seed))
    assert Ed25519Signer(seed).seed == seed


def test_a_seed_of_another_length_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519Signer(b"short")
