"""Key files: private, never overwritten, and clear about what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aonode.crypto.keys import load_key, load_wallet, new_key
from aonode.crypto.signers import ArweaveSigner, Ed25519Signer
from protocols.errors import Invalid, Reason

SEED = bytes(range(32))
WALLET = (Path(__file__).parent / "wallet.json").read_bytes()


def private(path: Path, blob: bytes) -> Path:
    path.write_bytes(blob)
    path.chmod(0o600)
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(Invalid) as refusal:
        load_key(path)
    assert refusal.value.reason is Reason.CONFIG
    assert str(path) in refusal.value.detail
    return refusal.value.detail


def test_a_new_key_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    made = new_key(path, SEED)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).key == made.key == Ed25519Signer(SEED).key
    assert os.listdir(tmp_path) == ["node.key"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    new_key(path, SEED)
    before = path.read_bytes()
    with pytest.raises(Invalid, match="never overwritten"):
        new_key(path, b"\1" * 32)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["node.key"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be written"):
        new_key(tmp_path / "none" / "node.key", SEED)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    assert "aonode keys new" in refusal_of(tmp_path / "none.key")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    new_key(path, SEED)
    path.chmod(0o640)
    assert "chmod 600" in refusal_of(path)


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "not a key file"),
        (b"{" + b" " * (16 << 10) + b"}", "more than"),
        (b'{"kind": "aonode-ed25519-1"}', "32 bytes"),
        (b'{"kind": "aonode-ed25519-1", "seed": 5}', "32 bytes"),
        (b'{"kind": "aonode-ed25519-1", "seed": "AAAA"}', "32 bytes"),
        (WALLET, "not a key file"),
    ],
    ids=lambda v: v[:30],
)
def test_a_broken_key_file_is_refused(tmp_path: Path, blob: bytes, says: str) -> None:
    assert says in refusal_of(private(tmp_path / "node.key", blob))


def test_a_key_whose_halves_do_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    new_key(path, SEED)
    document = json.loads(path.read_text())
    document["public"] = document["public"][:-1] + "A"
    private(path, json.dumps(document).encode())
    assert "do not fit" in refusal_of(path)


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    refusal_of(tmp_path)


def test_wallets_of_both_kinds_are_read(tmp_path: Path) -> None:
    new_key(tmp_path / "node.key", SEED)
    assert isinstance(load_wallet(tmp_path / "node.key"), Ed25519Signer)
    wallet = private(tmp_path / "wallet.json", WALLET)
    assert isinstance(load_wallet(wallet), ArweaveSigner)
