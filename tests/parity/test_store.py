"""One suite for every Store: a fake that passes it may stand in for LevelDB."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from aonode.ports import Store
from tests.parity.stores import STORES, MakeStore

ROWS = [(bytes([key]), bytes([key]) * 3) for key in range(10)]


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


def test_empty(store: Store) -> None:
    assert store.get(b"") is None
    assert list(store.scan(b"", b"\xff")) == []


def test_rows_come_in_key_order_whatever_the_order_of_writing(store: Store) -> None:
    for row in ROWS[::-1]:
        store.write([row], sync=False)
    assert list(store.scan(b"", b"\xff")) == ROWS
    assert list(store.scan(b"", b"\xff", reverse=True)) == ROWS[::-1]


def test_bounds_are_half_open(store: Store) -> None:
    store.write(ROWS, sync=True)
    assert list(store.scan(b"\x02", b"\x05")) == ROWS[2:5]
    assert list(store.scan(b"\x02", b"\x05", reverse=True)) == ROWS[2:5][::-1]
    assert list(store.scan(b"\x02\x00", b"\x05\x00")) == ROWS[3:6]
    assert list(store.scan(b"\x02\x00", b"\x05\x00", reverse=True)) == ROWS[3:6][::-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_empty_ranges(store: Store, reverse: bool) -> None:
    store.write(ROWS, sync=True)
    for start, stop in ((b"\x05", b"\x05"), (b"\x05", b"\x02"), (b"\x80", b"\x90"), (b"", b"")):
        assert list(store.scan(start, stop, reverse=reverse)) == []


def test_one_row_in_reverse(store: Store) -> None:
    """plyvel 1.5.1's own reverse iterator finds nothing here."""
    store.write(ROWS, sync=True)
    assert list(store.scan(b"\x05", b"\x06", reverse=True)) == [ROWS[5]]
    assert list(store.scan(b"\x09", b"\xff", reverse=True)) == [ROWS[9]]
    assert list(store.scan(b"", b"\x01", reverse=True)) == [ROWS[0]]


def test_limit(store: Store) -> None:
    store.write(ROWS, sync=True)
    assert list(store.scan(b"\x02", b"\x09", limit=2)) == ROWS[2:4]
    assert list(store.scan(b"\x02", b"\x09", limit=2, reverse=True)) == ROWS[7:9][::-1]
    assert list(store.scan(b"\x02", b"\x04", limit=9)) == ROWS[2:4]
    assert list(store.scan(b"\x02", b"\x04", limit=0)) == []


def test_the_last_row_of_equal_keys_counts(store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"1"), (b"a", None), (b"b", None), (b"b", b"2")], sync=True)
    assert list(store.scan(b"", b"\xff")) == [(b"b", b"2")]


def test_deleting_what_is_not_there(store: Store) -> None:
    store.write([(b"a", None)], sync=True)
    assert store.get(b"a") is None


def test_an_empty_key_and_an_empty_value_are_values(store: Store) -> None:
    store.write([(b"", b"x"), (b"a", b"")], sync=True)
    assert store.get(b"") == b"x"
    assert store.get(b"a") == b""
    assert list(store.scan(b"", b"b")) == [(b"", b"x"), (b"a", b"")]


def test_an_empty_batch(store: Store) -> None:
    store.write([], sync=True)
    store.write([], sync=False)
    assert list(store.scan(b"", b"\xff")) == []


def test_a_scan_sees_the_rows_of_its_start(store: Store) -> None:
    store.write(ROWS, sync=True)
    scan = store.scan(b"", b"\xff")
    store.write([(b"\x00", b"new"), (b"\x01", None), (b"\x05\x05", b"new")], sync=False)
    assert next(scan) == ROWS[0]
    store.write([(b"\x09", None)], sync=True)
    assert list(scan) == ROWS[1:]


def test_large_values(store: Store) -> None:
    value = bytes(range(256)) * (8 << 10)
    store.write([(b"big", value)], sync=True)
    assert store.get(b"big") == value


def test_use_after_close_is_a_bug(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(AssertionError):
        store.get(b"a")
    with pytest.raises(AssertionError):
        store.write([(b"a", b"1")], sync=False)
    with pytest.raises(AssertionError):
        store.scan(b"", b"\xff")


class StoreMachine(RuleBasedStateMachine):
    """Random batches and scans against a dict."""

    make: MakeStore

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._store = type(self).make(Path(self._directory.name))
        self._model: dict[bytes, bytes] = {}

    keys = st.binary(max_size=3) | st.sampled_from([b"a", b"b", b"ab", b"\xff\xff"])
    batches = st.lists(st.tuples(keys, st.none() | st.binary(max_size=8)), max_size=6)

    @rule(batch=batches, sync=st.booleans())
    def write(self, batch: list[tuple[bytes, bytes | None]], sync: bool) -> None:
        self._store.write(batch, sync=sync)
        for key, value in batch:
            if value is None:
                self._model.pop(key, None)
            else:
                self._model[key] = value

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        assert self._store.get(key) == self._model.get(key)

    @rule(start=keys, stop=keys, limit=st.none() | st.integers(0, 5), reverse=st.booleans())
    def scan(self, start: bytes, stop: bytes, limit: int | None, reverse: bool) -> None:
        expected = sorted(row for row in self._model.items() if start <= row[0] < stop)
        if reverse:
            expected.reverse()
        assert list(self._store.scan(start, stop, limit=limit, reverse=reverse)) == expected[:limit]

    @invariant()
    def whole_table(self) -> None:
        assert list(self._store.scan(b"", b"\xff" * 4)) == sorted(self._model.items())

    def teardown(self) -> None:
        self._store.close()
        self._directory.cleanup()


def _check(name: str, steps: int, examples: int) -> None:
    machine = type(f"{name.title()}Machine", (StoreMachine,), {"make": staticmethod(STORES[name])})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STORES))
def test_against_a_dict(name: str) -> None:
    _check(name, steps=30, examples=25)
