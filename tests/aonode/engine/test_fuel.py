"""Fuel: never less than what runs, the same however it is cut, and an end to everything."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.engine.code import first_instruction
from aonode.engine.fuel import MERGE, MERGE_JUMPED, stretches
from aonode.engine.patch import FUEL, asyncify_state, patch
from aonode.engine.validator import check
from aonode.engine.wasm_reader import read_module
from protocols.wire.outcome import Status
from tests.aonode.engine.guests import make_engine, open_small, small, wat

PLAIN = wasmtime.Engine()
CONFIG = wasmtime.Config()
CONFIG.consume_fuel = True
METERED = wasmtime.Engine(CONFIG)
START = 1 << 40
DEPTH = 4


def noise(count: int) -> str:
    return "(global.set $n (i32.add (global.get $n) (i32.const 7)))" * count


@st.composite
def code(draw: st.DrawFn, depth: int = 0, labels: int = 1) -> str:
    """Statements that end: loops count down `$k<depth>`, jumps go outwards only.

    `labels` is how many constructs can be left; the outermost is the function.
    """
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        kinds = ["noise", "leave", "choose", "call", "return"]
        if depth < DEPTH:
            kinds += ["block", "if", "loop", "try", "known"] * 2
        parts.append(draw(_statement(draw(st.sampled_from(kinds)), depth, labels)))
    return "\n".join(parts)


@st.composite
def _statement(draw: st.DrawFn, kind: str, depth: int, labels: int) -> str:
    bit = (
        f"(i32.and (i32.shr_u (local.get $x) (i32.const {draw(st.integers(0, 9))})) (i32.const 1))"
    )
    inner = code(depth + 1, labels + 1)
    label = draw(st.integers(0, labels - 1))
    if kind == "noise":
        return noise(draw(st.sampled_from([1, 3, 12, 13, 40])))
    if kind == "leave":
        return f"(br_if {label} {bit})" if draw(st.booleans()) else f"(br {label})"
    if kind == "choose":
        others = " ".join(str(draw(st.integers(0, labels - 1))) for _ in range(2))
        return f"(br_table {others} {label} {bit})"
    if kind == "call":
        return "(call $leaf)"
    if kind == "return":
        return f"(if {bit} (then return))"
    if kind == "block":
        return f"(block {draw(inner)})"
    if kind == "if":
        arms = f"(then {draw(inner)})"
        return (
            f"(if {bit} {arms} (else {draw(inner)}))"
            if draw(st.booleans())
            else f"(if {bit} {arms})"
        )
    if kind == "known":
        return draw(_known(bit, depth, labels))
    if kind == "loop":
        count = f"$k{depth}"
        # The body may leave the loop, and may not start it again by itself.
        return f"""(local.set {count} (i32.const 3))
          (loop $l{depth} (block {draw(code(depth + 1, 1))})
            (local.set {count} (i32.sub (local.get {count}) (i32.const 1)))
            (br_if $l{depth} (local.get {count})))"""
    return f"""(block $c{depth} nop (try_table (catch $t $c{depth})
      {draw(code(depth + 1, labels + 2))} (if {bit} (then (throw $t)))))"""


@st.composite
def _known(draw: st.DrawFn, bit: str, depth: int, labels: int) -> str:
    """A branch on a global that stays zero, as Asyncify writes them and otherwise."""
    word = draw(
        st.sampled_from(
            [
                "(i32.eqz (global.get $zero))",
                "(global.get $zero)",
                "(i32.eq (global.get $zero) (i32.const 2))",
                f"(i32.or {bit} (i32.eqz (global.get $zero)))",
                f"(i32.or {bit} (i32.eq (global.get $zero) (i32.const 2)))",
            ]
        )
    )
    inner = code(depth + 1, labels + 1)
    shape = draw(st.sampled_from(["if", "else", "result", "jump", "value"]))
    if shape == "if":
        return f"(if {word} (then {draw(inner)}))"
    if shape == "else":
        return f"(if {word} (then {draw(inner)}) (else {draw(inner)}))"
    if shape == "jump":
        return f"(br_if {draw(st.integers(0, labels - 1))} {word})"
    inner = code(depth + 2, 1).map(lambda text: f"(block {text})")  # others want a value
    if shape == "value":
        value = f"(br_if 0 (i32.const 1) {word})"
        return f"(global.set $n (block (result i32) {value} {draw(inner)}))"
    arms = (f"{draw(inner)} (i32.load8_u AT {bit} TA)" for _ in range(2))
    return "(global.set $n (if (result i32) {} (then {}) (else {})))".format(word, *arms)


ASYNCIFY = """
    (func (export "asyncify_get_state") (result i32) (global.get $zero))
    (func (export "asyncify_start_unwind") (global.set $zero (i32.const 1)))
    (func (export "asyncify_stop_unwind") (global.set $zero (i32.const 0)))
    (func (export "asyncify_start_rewind") (global.set $zero (i32.const 2)))
    (func (export "asyncify_stop_rewind") (global.set $zero (i32.const 0)))"""


def module(body: str, *, more: str = "", wide: bool = False) -> bytes:
    """`go` runs `body`. The nops, which wasmtime does not count, weigh up what it counts and we do
    not: one per function and try_table.
    """
    pointer = "i64" if wide else "i32"
    body = body.replace("AT", "(i64.extend_i32_u").replace("TA", ")") if wide else body
    body = body.replace("AT", "").replace("TA", "")
    counters = " ".join(f"(local $k{depth} i32)" for depth in range(DEPTH + 2))
    return wat(
        f"""(module (memory (export "memory") {pointer} 1) (tag $t)
        (data ({pointer}.const 0) "ab")
        (global $zero (mut i32) (i32.const 0)) (global $n (export "n") (mut i32) (i32.const 0))
        (func $leaf nop {noise(2)})
        (func (export "go") (param $x i32) {counters} nop {body})
        {more})"""
    )


def counted(engine: wasmtime.Engine, binary: bytes, argument: int) -> tuple[int, int]:
    """Fuel by wasmtime's count where that is on, and by ours where the module counts."""
    store = wasmtime.Store(engine)
    if engine is METERED:
        store.set_fuel(START)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, binary), []).exports(store)
    go = exports["go"]
    assert isinstance(go, wasmtime.Func)
    go(store, argument)
    theirs = START - store.get_fuel() if engine is METERED else 0
    ours = 0
    if FUEL in exports:
        counter = exports[FUEL]
        assert isinstance(counter, wasmtime.Global)
        ours = START - counter.value(store)
    return theirs, ours


def effect(binary: bytes, argument: int) -> object:
    """What `go` leaves in `$n`."""
    store = wasmtime.Store(PLAIN)
    exports = wasmtime.Instance(store, wasmtime.Module(PLAIN, binary), []).exports(store)
    go, n = exports["go"], exports["n"]
    assert isinstance(go, wasmtime.Func)
    assert isinstance(n, wasmtime.Global)
    go(store, argument)
    return n.value(store)


@settings(max_examples=60)
@given(code(), st.integers(0, 1023))
def test_never_less_than_what_runs(body: str, argument: int) -> None:
    binary = module(body)
    checked = check(binary)
    wasmtime.Module.validate(METERED, binary)
    theirs, _ = counted(METERED, binary, argument)
    _, ours = counted(PLAIN, patch(checked, START), argument)
    assert ours >= theirs


@settings(max_examples=20)
@given(code())
def test_a_global_that_stays_zero_decides_branches(body: str) -> None:
    binary = module(body)
    checked = check(binary)
    start, end = checked.module.bodies[1]
    first = first_instruction(binary, start)
    known, _ = stretches(binary, first, end, 0)
    unknown, decided = stretches(binary, first, end, None)
    assert not decided
    assert len(known) <= len(unknown)
    assert sum(s.cost for s in known) <= sum(s.cost for s in unknown)


@settings(max_examples=60)
@given(code(), st.integers(0, 1023), st.booleans())
def test_ways_never_taken_can_be_left_out(body: str, argument: int, wide: bool) -> None:
    binary = module(body, more=ASYNCIFY, wide=wide)
    checked = check(binary)
    assert asyncify_state(checked) == 0
    assert effect(patch(checked, START), argument) == effect(binary, argument)


def costs(body: str) -> list[tuple[int, bool]]:
    binary = module(body)
    start, end = read_module(binary).bodies[1]
    found, _ = stretches(binary, first_instruction(binary, start), end, None)
    return [(stretch.cost, stretch.checks) for stretch in found]


def test_how_code_is_cut() -> None:
    unit, go = 4, 1  # instructions of noise(1); the nop in `go`
    assert costs("") == [(go, False)]
    assert costs("(call $leaf)") == [(go + 1, True)]
    assert costs("(loop)") == [(go, False), (1, True)]
    small_arm, large_arm = noise(MERGE // unit), noise(MERGE // unit + 1)
    test = "(if (local.get $x) (then {}) (else {}))"
    assert costs(test.format(small_arm, "")) == [(go + 2 + MERGE, False)]
    both = [(go + 2 + MERGE, False), (MERGE + unit, False)]
    assert costs(test.format(large_arm, small_arm)) == both
    # Behind a br_if, and behind an end that only jumps can reach.
    left = [(go + 2, False), (MERGE + unit, False)]
    assert costs(f"(block (br_if 0 (local.get $x)) {large_arm})") == left
    jumped = f"(block (br_if 0 (local.get $x)) return) {noise(MERGE_JUMPED // unit + 1)}"
    assert costs(jumped) == [(go + 3, False), (MERGE_JUMPED + unit, False)]
    # What cannot be reached costs nothing.
    assert costs(f"return {large_arm}") == [(go + 1, False)]


@pytest.mark.parametrize(
    "body",
    [
        "(loop $l (br $l))",
        "(loop $l (br_if $l (i32.const 1)))",
        "(call $again)",
        "(loop $l (call_indirect (type $nothing) (i32.const 0)) (br $l))",
        "(loop $l (block $c (try_table (catch $t $c) (throw $t))) (br $l))",
        "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 60000)) (br $l))",
        "(loop $l (br_table $l $l (i32.const 1)))",
        "(block $c (loop $l (try_table (catch_all $l) (throw $t))))",
    ],
)
def test_everything_ends(body: str) -> None:
    binary = small(
        f"(if (i32.eq (local.get $op) (i32.const 103)) (then {body}))",
        declarations="""(tag $t) (type $nothing (func))
        (table 1 funcref) (elem (i32.const 0) $leaf) (func $leaf)
        (func $again (call $leaf) (if (i32.const 1) (then (call $twice))))
        (func $twice (loop $l (call $leaf) (br $l)))""",
    )
    session = open_small(binary, make_engine(fuel_max=1_000_000))
    assert session.run_slot(b"x").status == Status.OK
    spun = session.run_slot(b"g")
    assert (spun.status, spun.fuel) == (Status.OUT_OF_FUEL, 1_000_000)
    assert session.run_slot(b"x").status == Status.OK


def test_bulk_memory_pays_by_the_byte_and_needs_fuel_for_all() -> None:
    binary = small(
        """(memory.fill (i32.const 8192) (i32.const 1)
          (i32.mul (i32.sub (local.get $op) (i32.const 48)) (i32.const 1000)))
        (memory.copy (i32.const 20000) (i32.const 8192)
          (i32.mul (i32.sub (local.get $op) (i32.const 48)) (i32.const 100)))
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))""",
        declarations='(data $d "abc")',
    )
    session = open_small(binary)
    none, one, nine = (session.run_slot(call) for call in (b"0", b"1", b"9"))
    assert one.fuel - none.fuel == 1100
    assert nine.fuel - none.fuel == 9900
    assert session.memory()[:3] == b"abc"
    assert session.memory()[8192:8194] == b"\x01\x01"
    # A negative length is a large one: it cannot be paid for.
    assert session.run_slot(b"/").status == Status.OUT_OF_FUEL


def test_code_without_checks_still_ends_as_out_of_fuel() -> None:
    binary = small(
        "(call $long)", declarations=f"(global $n (mut i32) (i32.const 0)) (func $long {noise(40)})"
    )
    enough = open_small(binary).run_slot(b"x")
    assert enough.status == Status.OK
    for fuel_max, status in ((enough.fuel, Status.OK), (enough.fuel - 1, Status.OUT_OF_FUEL)):
        result = open_small(binary, make_engine(fuel_max=fuel_max)).run_slot(b"x")
        assert (result.status, result.fuel) == (status, fuel_max)


def test_a_module_cannot_reach_the_counter() -> None:
    # The first global behind its own would be `aonode.limit`, and so on.
    binary = small(
        "", declarations="(global $n (mut i64) (i64.const 0)) (func (global.set $n (i64.const 9)))"
    )
    assert binary.count(b"\x42\x09\x24\x00\x0b") == 1
    for index in range(1, 4):
        forged = binary.replace(b"\x42\x09\x24\x00\x0b", b"\x42\x09\x24" + bytes([index]) + b"\x0b")
        with pytest.raises(Exception, match="does not compile"):
            open_small(forged)
