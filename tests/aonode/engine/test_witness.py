"""A witness is the state: what runs from it cannot be told from what never stopped."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.ports import ModuleSpec, Session
from aonode.processes.npm import MODULES, fetch_module
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId
from protocols.limits import PAGE_BYTES
from protocols.network import demo_parameters
from protocols.wire.evidence import Witness
from protocols.wire.outcome import Status
from tests.aonode.engine.aos import MESSAGES, Aos, encode, make_aos_engine
from tests.aonode.engine.guests import (
    COUNTER,
    MEMORY_MAX,
    OK_OUTPUT,
    PROCESS,
    make_engine,
    open_small,
    small,
    spec,
)

ENGINE = make_engine()
BYTES_MAX = 32 << 20


def restored(witness: Witness, binary: bytes = COUNTER, memory_max: int = MEMORY_MAX) -> Session:
    session = ENGINE.restore(PROCESS, spec(binary), b"", memory_max, witness)
    assert session is not None
    return session


def counted(*calls: bytes) -> Session:
    session = open_small(COUNTER, ENGINE)
    for call in calls:
        session.run_slot(call)
    return session


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([b"x", b"g", b"G", b"e", b"t", b"b", b"yy"]), max_size=20),
    st.lists(st.sampled_from([b"x", b"g", b"G", b"e", b"t", b"b", b"yy"]), max_size=20),
)
def test_restored_runs_on_as_if_it_had_never_stopped(
    before: list[bytes], after: list[bytes]
) -> None:
    live = counted(*before)
    root = live.state_root()
    witness = Witness.decode(live.witness(BYTES_MAX).encode(), size_max=BYTES_MAX)
    witness.check(demo_parameters())
    again = restored(witness)
    assert again.state_root() == root
    assert again.witness(BYTES_MAX) == witness
    for call in after:
        assert again.run_slot(call) == live.run_slot(call)
        assert again.state_root() == live.state_root()
    assert again.memory() == live.memory()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aos2_0_4_32", "aos2_0_6"])
def test_real_aos_restores_exactly(name: str) -> None:
    engine = make_aos_engine()
    live = Aos(engine, name)
    assert live.boot.status == Status.OK
    live.lua("Kept = {}; for i = 1, 5000 do Kept[i] = 'number ' .. i end; return #Kept")
    root = live.session.state_root()
    witness = live.session.witness(BYTES_MAX)
    witness.check(demo_parameters())
    module = ModuleSpec(ItemId(b"m" * 32), fetch_module(name), MODULES[name].format)
    env = encode(MESSAGES["env"])
    again = engine.restore(ProcessId(b"p" * 32), module, env, 1 << 30, witness)
    assert again is not None
    assert again.state_root() == root
    calls = [
        live.message("Eval", source)
        for source in (
            "Count = (Count or 0) + 1; return Count",
            "return error('no')",
            "for i = 1, 200000 do Kept[i] = i .. ' more' end; return #Kept",
            "return no.such.field",
            "Handlers.add('a', 'A', function (m) m.reply({ Data = Kept[7] }) end)",
            "return Kept[4999] .. tostring(math.random(1000))",
        )
    ]
    calls.append(live.message("A"))
    for call in calls:
        result = live.session.run_slot(call)
        assert again.run_slot(call) == result
        assert again.state_root() == live.session.state_root()
    assert b"7 more" in result.raw
    assert again.memory() == live.session.memory()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aos2_0_4_32", "aos2_0_6"])
def test_a_fresh_aos_fits_one_part(name: str) -> None:
    aos = Aos(make_aos_engine(), name)
    assert json.loads(aos.boot.raw)["ok"]
    assert len(aos.session.witness(1 << 20).frame) < 1 << 20


def test_what_is_dropped_by_a_page_of_zeros_stays_dropped() -> None:
    """Data of the module that the process has written over with zeros is no part of its state."""
    wiped = small("(memory.fill (i32.const 1024) (i32.const 0) (i32.const 128))", memory="2 8")
    session = open_small(wiped, ENGINE)
    session.run_slot(b"x")
    session.run_slot(b"x")
    again = ENGINE.restore(PROCESS, spec(wiped), b"", MEMORY_MAX, session.witness(BYTES_MAX))
    assert again is not None
    assert again.memory() == session.memory()
    assert again.state_root() == session.state_root()


SCATTERED = small(
    """(local.set $n (i32.const 0))
    (loop $next
      (i32.store (i32.mul (local.get $n) (i32.const 131072)) (i32.const 5))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const 40))))""",
    memory="80 200",
)


def test_scattered_pages_are_runs() -> None:
    session = open_small(SCATTERED, ENGINE)
    session.run_slot(b"x")
    witness = session.witness(BYTES_MAX)
    assert witness.runs == tuple((2 * number, 1) for number in range(40))
    assert restored(witness, SCATTERED).memory() == session.memory()


def test_more_runs_than_a_witness_has_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aonode.engine.witness.RUNS_MAX", 39)
    session = open_small(SCATTERED, ENGINE)
    session.run_slot(b"x")
    witness = session.witness(BYTES_MAX)
    assert witness.runs == ((0, 79),)
    assert restored(witness, SCATTERED).state_root() == session.state_root()


def test_another_state_has_another_root() -> None:
    live = counted(b"x", b"x")
    witness = live.witness(BYTES_MAX)
    index, code, _ = witness.globals[0]
    lies = (
        counted(b"x").witness(BYTES_MAX),
        replace(witness, pages=witness.pages + 1),
        replace(witness, globals=((index, code, bytes(8)),)),
    )
    for lie in lies:
        assert restored(lie).state_root() != live.state_root()


def test_what_can_be_no_state_of_the_process() -> None:
    witness = counted(b"x").witness(BYTES_MAX)
    index, code, value = witness.globals[0]
    for bad in (
        replace(witness, pages=0, runs=()),
        replace(witness, pages=MEMORY_MAX // PAGE_BYTES + 1),
        replace(witness, globals=()),
        replace(witness, globals=((index, code, value[:4]),)),
        replace(witness, globals=((index, 0x7F, value),)),
        replace(witness, globals=((index + 1, code, value),)),
    ):
        assert ENGINE.restore(PROCESS, spec(COUNTER), b"", MEMORY_MAX, bad) is None
    grown = counted(b"g").witness(BYTES_MAX)
    assert ENGINE.restore(PROCESS, spec(COUNTER), b"", PAGE_BYTES, grown) is None


def _frame(content: bytes, declared: int | None = None) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj(size=len(content))
    frame = packer.compress(content) + packer.flush()
    if declared is not None:
        # One segment, its size in four bytes after the descriptor.
        assert frame[4] & 0xE0 == 0xA0, "a frame whose declared size has four bytes"
        frame = frame[:5] + declared.to_bytes(4, "little") + frame[9:]
    return frame


@pytest.mark.parametrize(
    ("runs", "frame", "reason"),
    [
        (((0, 1), (0, 1)), _frame(bytes(2 * PAGE_BYTES)), Reason.MALFORMED),
        (((0, 0),), _frame(b""), Reason.MALFORMED),
        (((0, 4),), _frame(bytes(4 * PAGE_BYTES)), Reason.MALFORMED),
        (((0, 3),), _frame(bytes(range(256)) * 512, 3 * PAGE_BYTES), Reason.MALFORMED),
        (((0, 2),), _frame(bytes(3 * PAGE_BYTES), 2 * PAGE_BYTES), Reason.MALFORMED),
        (((0, 2),), b"not zstd", Reason.MALFORMED),
        (((0, 1),), _frame(bytes(PAGE_BYTES)) + b"more", Reason.MALFORMED),
        (((0, 2),), _frame(bytes(2 * PAGE_BYTES)) * 2, Reason.MALFORMED),
    ],
)
def test_a_frame_that_lies_is_refused(
    runs: tuple[tuple[int, int], ...], frame: bytes, reason: Reason
) -> None:
    witness = replace(counted(b"g", b"g").witness(BYTES_MAX), runs=runs, frame=frame)
    with pytest.raises(Invalid) as caught:
        ENGINE.restore(PROCESS, spec(COUNTER), b"", MEMORY_MAX, witness)
    assert caught.value.reason is reason


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_frame_never_gives_the_state(data: st.DataObject) -> None:
    live = counted(b"x", b"g", b"x")
    witness = live.witness(BYTES_MAX)
    at = data.draw(st.integers(0, len(witness.frame) - 1))
    flipped = bytes([witness.frame[at] ^ data.draw(st.integers(1, 255))])
    frame = witness.frame[:at] + flipped + witness.frame[at + 1 :]
    session: Session | None = None
    with contextlib.suppress(Invalid):
        session = restored(replace(witness, frame=frame))
    if session is not None:
        same = session.memory() == live.memory()
        assert (session.state_root() == live.state_root()) == same


def test_a_state_that_packs_too_large_has_no_witness() -> None:
    noise = small(
        f"""(local.set $n (i32.const 65536))
        (loop $next
          (local.set $out (i64.add (i64.mul (local.get $out) (i64.const 6364136223846793005))
            (i64.const 1442695040888963407)))
          (i64.store (local.get $n) (i64.xor (local.get $out)
            (i64.shr_u (local.get $out) (i64.const 33))))
          (local.set $n (i32.add (local.get $n) (i32.const 8)))
          (br_if $next (i32.lt_u (local.get $n) (i32.const 655360))))
        (local.set $out (i64.const {1024 << 32 | len(OK_OUTPUT)}))""",
        memory="10",
    )
    session = open_small(noise, ENGINE)
    session.run_slot(b"x")
    assert len(session.witness(BYTES_MAX).frame) > 500_000
    with pytest.raises(Invalid) as caught:
        session.witness(100_000)
    assert caught.value.reason is Reason.OVERSIZE
