"""Sessions: statuses, fuel, and that a failed slot leaves no trace."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.engine.rewrite import TOLL
from aonode.engine.session import JOURNAL_CALLS_MAX
from aonode.ports import Session
from protocols.errors import Invalid, Reason
from protocols.wire.outcome import Status
from tests.aonode.engine.guests import (
    COUNTER,
    ERROR_OUTPUT,
    FUEL_MAX,
    OK_OUTPUT,
    PROCESS,
    make_engine,
    open_small,
    small,
    spec,
)

ENGINE = make_engine()


def counter() -> Session:
    return open_small(COUNTER, ENGINE)


def test_ok_commits_and_counts_fuel() -> None:
    session = counter()
    genesis = session.state_root()
    first = session.run_slot(b"x")
    second = session.run_slot(b"x")
    assert (first.status, first.raw) == (Status.OK, OK_OUTPUT)
    assert 0 < first.fuel == second.fuel < 1000
    assert session.state_root() != genesis
    assert session.memory()[8:16] == (1 + 2).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("call", "status", "raw", "full"),
    [
        (b"t", Status.TRAP, b"", True),
        (b"l", Status.OUT_OF_FUEL, b"", True),
        (b"e", Status.ERROR, ERROR_OUTPUT, False),
        (b"b", Status.BAD_OUTPUT, b"", False),
        (b"B", Status.BAD_OUTPUT, b"", False),
        (b"L", Status.TOO_LARGE, b"", False),
        (b"G", Status.TRAP, b"", True),
    ],
)
def test_failure_leaves_no_trace(call: bytes, status: Status, raw: bytes, full: bool) -> None:
    session, twin = counter(), counter()
    for good in (b"x", b"g", b"x"):
        session.run_slot(good)
        twin.run_slot(good)
    root = session.state_root()
    result = session.run_slot(call)
    assert (result.status, result.raw) == (status, raw)
    assert result.fuel == FUEL_MAX if full else 0 < result.fuel < 1000
    assert session.state_root() == root
    assert session.memory() == twin.memory()
    assert session.run_slot(b"x") == twin.run_slot(b"x")
    assert session.state_root() == twin.state_root()


def test_step_back_without_a_checkpoint_in_between() -> None:
    session, twin = counter(), counter()
    for number in range(JOURNAL_CALLS_MAX * 2 + 3):
        session.run_slot(b"x")
        twin.run_slot(b"x")
        if number % 5 == 4:
            assert session.run_slot(b"e").status == Status.ERROR
    assert session.memory() == twin.memory()
    assert session.state_root() == twin.state_root()


def test_growth_is_undone_exactly() -> None:
    session = counter()
    session.run_slot(b"x")
    size, root = len(session.memory()), session.state_root()
    assert session.run_slot(b"G").status == Status.TRAP
    assert len(session.memory()) == size
    assert session.state_root() == root
    session.run_slot(b"g")
    assert len(session.memory()) == size + 65536


def test_dry_run_forgets() -> None:
    session = counter()
    session.run_slot(b"x")
    root = session.state_root()
    for call in (b"x", b"g", b"e", b"t", b"x"):
        session.dry_run(call)
        assert session.state_root() == root
    assert session.dry_run(b"x") == session.run_slot(b"x")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([b"x", b"g", b"G", b"e", b"t", b"b", b"yy"]), max_size=30), st.data()
)
def test_same_log_same_root_whatever_the_grouping(log: list[bytes], data: st.DataObject) -> None:
    roots = []
    for _ in range(2):
        session = counter()
        asked = data.draw(st.sets(st.integers(0, max(len(log) - 1, 0))))
        results = []
        for number, call in enumerate(log):
            results.append(session.run_slot(call))
            if number in asked:
                session.state_root()
                session.dry_run(b"g")
        roots.append((results, session.state_root(), session.memory()))
        session.close()
    assert roots[0] == roots[1]


def test_threads_agree() -> None:
    engine = make_engine()
    log = [b"x", b"g", b"e", b"x", b"t", b"x"] * 20
    roots: list[bytes] = []

    def evaluate() -> None:
        session = open_small(COUNTER, engine)
        for call in log:
            session.run_slot(call)
        roots.append(session.state_root())

    threads = [threading.Thread(target=evaluate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == 3
    assert len(set(roots)) == 1


def test_memory_limit_is_the_protocols() -> None:
    grow_all = small(
        """(block $full (loop $more
          (br_if $full (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
          (br $more)))
        (i32.store (i32.const 0) (memory.size))"""
    )
    for pages in (1, 3, 100):
        session = open_small(grow_all, ENGINE, memory_max=pages * 65536 + 5)
        assert session.run_slot(b"x").status == Status.OK
        assert len(session.memory()) == pages * 65536
        assert session.memory()[:4] == pages.to_bytes(4, "little")


def test_memory_declared_maximum_and_initial_size() -> None:
    grow = small("(i32.store (i32.const 0) (memory.grow (i32.const 3)))", memory="2 4")
    session = open_small(grow, ENGINE)
    session.run_slot(b"x")
    assert session.memory()[:4] == b"\xff" * 4
    with pytest.raises(Invalid, match="Memory-Limit") as caught:
        open_small(grow, ENGINE, memory_max=65536)
    assert caught.value.reason is Reason.OVERSIZE


def test_stack_overflow_is_refused_and_leaves_no_trace() -> None:
    recursive = small(
        """(i32.store (i32.const 0) (i32.const 1))
        (if (i32.eq (local.get $op) (i32.const 114)) (then (drop (call $down (i32.const 0)))))""",
        declarations="""(func $down (param i32) (result i32)
          (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))""",
    )
    session = open_small(recursive, make_engine(fuel_max=10**9))
    root = session.state_root()
    with pytest.raises(Invalid, match="stack") as caught:
        session.run_slot(b"r")
    assert caught.value.reason is Reason.REFUSED
    assert session.state_root() == root
    assert session.run_slot(b"x").status == Status.OK


def test_uncaught_exception_is_a_trap() -> None:
    throws = small(
        "(if (i32.eq (local.get $op) (i32.const 116)) (then (throw $t)))",
        declarations="(tag $t)",
    )
    session = open_small(throws, ENGINE)
    for _ in range(3):
        assert session.run_slot(b"t").status == Status.TRAP
        assert session.run_slot(b"x").status == Status.OK


def test_throws_pay_a_toll_and_growing_by_nothing_is_the_size() -> None:
    throws = small(
        """(if (i32.eq (local.get $op) (i32.const 49))
          (then (block $c (try_table (catch $t $c) (throw $t)))))
        (if (i32.eq (local.get $op) (i32.const 50))
          (then (block $c (try_table (catch $t $c) (throw_ref (block $r (result exnref)
            (try_table (catch_all_ref $r) (throw $t)) unreachable))))))
        (i32.store (i32.const 0) (memory.grow (i32.const 0)))""",
        declarations="(tag $t)",
        memory="3",
    )
    session = open_small(throws, ENGINE)
    none, one, two = (session.run_slot(call) for call in (b"0", b"1", b"2"))
    assert none.status == one.status == two.status == Status.OK
    assert TOLL <= one.fuel - none.fuel < TOLL + 50
    assert 2 * TOLL <= two.fuel - none.fuel < 2 * TOLL + 50
    assert session.memory()[:4] == b"\x03\0\0\0"


def test_all_number_globals_are_state() -> None:
    binary = small(
        """(if (i32.eq (local.get $op) (i32.const 49)) (then
          (global.set $a (i32.const 1)) (global.set $b (f32.const nan:0x200001))
          (global.set $c (f64.const -0)) (global.set $d (v128.const i64x2 1 -1))))
        (if (i32.eq (local.get $op) (i32.const 50)) (then
          (global.set $d (v128.const i64x2 2 -1)) unreachable))""",
        declarations="""(global $a (mut i32) (i32.const 0)) (global $b (mut f32) (f32.const 0))
        (global $k i32 (i32.const 5))
        (global $c (mut f64) (f64.const 0)) (global $d (mut v128) (v128.const i64x2 0 0))""",
    )
    session = open_small(binary, ENGINE)
    genesis = session.state_root()
    session.run_slot(b"x")
    before = session.state_root()
    session.run_slot(b"1")
    after = session.state_root()
    assert len({genesis, before, after}) == 3
    assert session.run_slot(b"2").status == Status.TRAP
    assert session.state_root() == after


def test_start_and_initialize_run_once() -> None:
    binary = small(
        "(if (i32.eq (local.get $op) (i32.const 71)) "
        "(then (drop (memory.grow (i32.const 1))) unreachable))",
        declarations="""(func $start (i32.store (i32.const 0)
            (i32.add (i32.load (i32.const 0)) (i32.const 1))))
        (start $start)
        (func (export "_initialize") (i32.store (i32.const 4)
            (i32.add (i32.load (i32.const 4)) (i32.const 1))))""",
    )
    session = open_small(binary, ENGINE)
    root = session.state_root()
    assert session.run_slot(b"G").status == Status.TRAP
    assert session.memory()[:8] == bytes([1, 0, 0, 0, 1, 0, 0, 0])
    assert session.state_root() == root


@pytest.mark.parametrize(
    "declarations",
    [
        "(func $start unreachable) (start $start)",
        "(tag $t) (func $start (throw $t)) (start $start)",
        "(func $start (loop $l (br $l))) (start $start)",
        '(func (export "_initialize") unreachable)',
        '(func (export "_initialize") (loop $l (br $l)))',
    ],
)
def test_trapping_constructors_are_refused(declarations: str) -> None:
    with pytest.raises(Invalid, match=r"trap|exception") as caught:
        ENGINE.open(PROCESS, spec(small("", declarations=declarations)), b"", 1 << 20)
    assert caught.value.reason is Reason.FORBIDDEN_MODULE
