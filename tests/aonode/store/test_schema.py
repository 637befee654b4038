"""The version row: stamp, accept, migrate, refuse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aonode.ports import Store
from aonode.store.memory import MemoryStore
from aonode.store.schema import SCHEMA_KEY, Batch, prepare
from protocols.errors import Invalid, Reason


def test_an_empty_store_is_stamped_and_accepted_again() -> None:
    store = MemoryStore()
    prepare(store, "log", 3)
    prepare(store, "log", 3)
    assert store.get(SCHEMA_KEY) == b"log/3"


def _refusal(store: Store, kind: str, version: int) -> str:
    with pytest.raises(Invalid) as refusal:
        prepare(store, kind, version)
    assert refusal.value.reason is Reason.STORAGE
    return refusal.value.detail


def test_newer_data_is_refused() -> None:
    store = MemoryStore()
    prepare(store, "log", 3)
    assert "version 3, this release knows up to 2" in _refusal(store, "log", 2)


def test_another_kind_is_refused() -> None:
    store = MemoryStore()
    prepare(store, "log", 1)
    assert "this is a log store where a sign-once store" in _refusal(store, "sign-once", 1)


def test_foreign_rows_are_refused() -> None:
    store = MemoryStore()
    store.write([(b"k", b"v")], sync=True)
    assert "no version row" in _refusal(store, "log", 1)


@pytest.mark.parametrize("row", [b"", b"log", b"log/0", b"log/01", b"log/x", b"log/1\n"])
def test_a_broken_version_row_is_refused(row: bytes) -> None:
    store = MemoryStore()
    store.write([(SCHEMA_KEY, row)], sync=True)
    assert "not kind/version" in _refusal(store, "log", 1)


def test_older_data_climbs_one_version_at_a_time() -> None:
    def upper(store: Store) -> Iterator[Batch]:
        for key, value in store.scan(b"a", b"z"):
            yield [(key, value.upper())]

    def twice(store: Store) -> Iterator[Batch]:
        yield [(key, value * 2) for key, value in store.scan(b"a", b"z")]

    store = MemoryStore()
    prepare(store, "log", 1)
    store.write([(b"k", b"v")], sync=True)
    prepare(store, "log", 3, {1: upper, 2: twice})
    assert store.get(b"k") == b"VV"
    assert store.get(SCHEMA_KEY) == b"log/3"


def test_no_way_up_is_refused_before_anything_is_written() -> None:
    store = MemoryStore()
    prepare(store, "log", 1)
    assert "cannot migrate from version 1" in _refusal(store, "log", 2)
    assert store.get(SCHEMA_KEY) == b"log/1"
