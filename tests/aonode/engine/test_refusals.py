"""What depends on the machine ends as REFUSED, never as a status."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from aonode.engine import patch
from aonode.engine.session import Guest, WasmSession
from aonode.engine.wasm import WasmEngine
from protocols.errors import Invalid, Reason
from protocols.wire.outcome import Status
from tests.aonode.engine.guests import MEMORY_MAX, PROCESS, make_engine, open_small, small, spec

GROW = small(
    """(i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (if (i32.eq (local.get $op) (i32.const 103))
      (then (i32.store (i32.const 4) (memory.grow (i32.const 2)))))"""
)


def test_memory_denied_by_the_machine() -> None:
    session = open_small(GROW)
    assert isinstance(session, WasmSession)
    instance = session._guest.instance
    # The machine gives one page less than the limit says.
    instance.context.store.set_limits(memory_size=65536 * 2)
    session.run_slot(b"x")
    root = session.state_root()
    with pytest.raises(Invalid, match="memory") as caught:
        session.run_slot(b"g")
    assert caught.value.reason is Reason.REFUSED
    assert session.state_root() == root
    assert session.run_slot(b"x").status == Status.OK
    assert patch.REFUSED in instance.exports


def test_a_session_that_lost_its_state_says_so() -> None:
    session = open_small(GROW)
    assert isinstance(session, WasmSession)
    session.run_slot(b"x")
    session.run_slot(b"g")
    session.dry_run(b"x")  # takes a checkpoint

    def none_left() -> Guest:
        raise Invalid(Reason.REFUSED, "no address space")

    session._make = none_left
    session._guest.instance.grow_to(65536 * 8)
    with pytest.raises(Invalid, match="open the process again") as caught:
        session.dry_run(b"x")
    assert caught.value.reason is Reason.REFUSED
    for use in (session.state_root, session.memory, lambda: session.run_slot(b"x")):
        with pytest.raises(Invalid, match="has ended") as caught:
            use()
        assert caught.value.reason is Reason.REFUSED


def test_a_closed_session_says_so() -> None:
    session = open_small(GROW)
    session.close()
    session.close()
    for use in (session.state_root, session.memory, lambda: session.dry_run(b"x")):
        with pytest.raises(Invalid, match="closed"):
            use()


def test_growth_above_the_limit_is_an_answer_not_a_refusal() -> None:
    session = open_small(GROW, memory_max=65536 * 2)
    assert session.run_slot(b"g").status == Status.OK
    assert session.memory()[4:8] == b"\xff" * 4


def in_thread(stack_bytes: int, call: Callable[[], object]) -> list[BaseException]:
    """Run `call` on a thread with that stack; what it raised."""
    caught: list[BaseException] = []

    def body() -> None:
        try:
            call()
        except Invalid as error:
            caught.append(error)

    before = threading.stack_size(stack_bytes)
    thread = threading.Thread(target=body)
    thread.start()
    threading.stack_size(before)
    thread.join()
    return caught


def test_a_thread_with_a_small_stack_is_refused() -> None:
    engine = make_engine()
    session = engine.open(PROCESS, spec(GROW), b"", MEMORY_MAX)
    caught = in_thread(1 << 20, lambda: session.run_slot(b"x"))
    assert len(caught) == 1
    assert isinstance(caught[0], Invalid)
    assert caught[0].reason is Reason.REFUSED
    assert in_thread(8 << 20, lambda: session.run_slot(b"x")) == []


def test_engine_raises_the_stack_of_threads_to_come() -> None:
    before = threading.stack_size(1 << 20)
    try:
        make_engine()
        assert threading.stack_size() == 8 << 20
    finally:
        threading.stack_size(max(before, 8 << 20))


def test_memory_max_beyond_the_reservation_is_a_config_error() -> None:
    for memory_max in (0, (4 << 30) + 1):
        with pytest.raises(Invalid, match="memory_max") as caught:
            WasmEngine(
                fuel_max=1, memory_max=memory_max, output_bytes_max=1, outbox_max=1, cache_dir=None
            )
        assert caught.value.reason is Reason.CONFIG
