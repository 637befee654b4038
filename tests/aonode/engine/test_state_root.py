"""State roots are a function of content: equal to the plain tree, however the pages changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.engine import pages as pages_module
from aonode.engine.pages import data_end, plain_constant, touched
from aonode.engine.state_root import ZERO_LEAF, ZERO_PAGE, PageTree, state_root
from aonode.engine.wasm_reader import read_module
from protocols.accumulator import merkle_leaf, merkle_root, merkle_root_of_hashes
from protocols.domains import STATE
from protocols.limits import PAGE_BYTES
from tests.aonode.engine.guests import COUNTER, open_small, small, wat

GENERATION = small(
    """(i32.store (i32.mul (local.get $op) (i32.const 65536)) (local.get $n))
    (if (i32.eqz (local.get $op)) (then (drop (memory.grow (i32.const 7)))))""",
    memory="70 200",
)


CHANGES = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=32, max_size=32)))


def plain_root(memory: bytes, mutable: list[tuple[int, str]], values: list[bytes]) -> bytes:
    """The definition, page by page."""
    split = [memory[at : at + PAGE_BYTES] for at in range(0, len(memory), PAGE_BYTES)]
    return state_root(len(split), merkle_root(STATE, split), mutable, values)


def test_zero_leaf() -> None:
    assert merkle_leaf(STATE, ZERO_PAGE) == ZERO_LEAF
    assert len(ZERO_PAGE) == PAGE_BYTES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=32, max_size=32))),
        ),
        max_size=6,
    )
)
def test_incremental_tree_is_the_plain_tree(
    steps: list[tuple[int, list[tuple[int, bytes]]]],
) -> None:
    tree = PageTree()
    leaves: list[bytes] = []
    for grow, changes in steps:
        leaves += [ZERO_LEAF] * grow
        kept = {number: leaf for number, leaf in changes if number < len(leaves)}
        for number, leaf in kept.items():
            leaves[number] = leaf
        tree.update(len(leaves), kept.items())
        assert tree.root() == merkle_root_of_hashes(STATE, leaves)


def test_session_root_is_the_definition() -> None:
    session = open_small(COUNTER)
    for number, call in enumerate((b"x", b"g", b"x", b"e", b"g"), 1):
        session.run_slot(call)
        count = (1, 2, 3, 3, 4)[number - 1]
        values = [count.to_bytes(8, "little")]
        assert session.state_root() == plain_root(session.memory(), [(0, "i64")], values)


def test_root_does_not_depend_on_checkpoints() -> None:
    calm, shaken = open_small(COUNTER), open_small(COUNTER)
    calls = [b"x", b"g", b"e", b"x"] + [b"x"] * 70 + [b"g", b"x"]
    for number, call in enumerate(calls):
        calm.run_slot(call)
        shaken.run_slot(call)
        shaken.run_slot(b"t")
        root = shaken.state_root()
        if number % 5 == 0 or number > len(calls) - 3:
            assert calm.state_root() == root
    assert calm.memory() == shaken.memory()


@pytest.mark.slow
@pytest.mark.parametrize("tracked", [True, False])
def test_large_memory_tracked_or_not(tracked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tracked:
        monkeypatch.setattr(pages_module, "_PAGEMAP", None)
    session = open_small(GENERATION)
    twin = open_small(GENERATION)
    for call in (b"\x05", b"\x45x", b"\x00", b"\x4axx", b"\x05xxx", b"\xff", b"\x05"):
        result = session.run_slot(call)
        assert twin.run_slot(call) == result
        assert session.state_root() == plain_root(session.memory(), [], [])
    assert session.state_root() == twin.state_root()
    assert len(session.memory()) == 77 * PAGE_BYTES


def test_touched_never_misses_a_page() -> None:
    session = open_small(GENERATION)
    instance = session._guest.instance  # type: ignore[attr-defined]
    session.run_slot(b"\x44")
    found = touched(instance.base, 70)
    assert 0x44 in found
    assert list(found) == sorted(found)


def test_data_end() -> None:
    module = wat(
        '(module (memory 2) (data (i32.const 10) "abc") (data "xyz") (data (i32.const 5) ""))'
    )
    assert data_end(read_module(module)) == 13
    computed = wat('(module (global $g i32 (i32.const 9)) (memory 2) (data (global.get $g) "abc"))')
    assert data_end(read_module(computed)) is None
    assert data_end(read_module(wat("(module)"))) == 0
    assert plain_constant(b"\x41\x7f") is None
    assert plain_constant(b"\x42\x80\x80\x04") == 65536
    assert plain_constant(b"\x41\x01\x6a") is None
