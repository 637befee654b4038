"""What a module may be, and that a refusal names the offender."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.engine.patch import PATCH_ID, patch
from aonode.engine.validator import check
from aonode.engine.wasm_reader import MAGIC, read_module
from aonode.ports import ModuleSpec
from aonode.processes import token_wasm
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId
from tests.aonode.engine.guests import COUNTER, make_engine, small, spec, wat

ENGINE = make_engine()
TABLE = "(table $t 2 8 funcref) (func $f) (elem (i32.const 0) $f)"


@pytest.mark.parametrize(
    ("handle", "declarations", "offender"),
    [
        ("(data.drop $d)", '(data $d "x")', "data.drop"),
        ("(elem.drop $e)", "(func $g) (elem $e func $g)", "elem.drop"),
        ("(table.set $t (i32.const 0) (ref.null func))", TABLE, "table.set"),
        ("(drop (table.grow $t (ref.null func) (i32.const 1)))", TABLE, "table.grow"),
        ("(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))", TABLE, "table.fill"),
        ("(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))", TABLE, "table.copy"),
        (
            "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
            f"{TABLE} (elem $e func $f)",
            "table.init",
        ),
        ("", "(global $g (mut funcref) (ref.null func))", "global 0"),
        ("", "(global $g (mut externref) (ref.null extern))", "global 0"),
        ("", "(global $g funcref (ref.null func))", "global 0"),
        ("", "(table 1 externref)", "externref"),
        ("", "(table 1 funcref) (table 1 funcref)", "2 tables"),
        ("", "(memory 1)", "2 memories"),
        ("", "(type (struct (field i32)))", "GC"),
        ("(drop (i32.atomic.load (i32.const 0)))", "", "atomic"),
        (
            "(drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0)))",
            "",
            "relaxed vector",
        ),
        (
            "(return_call $h (i32.const 0))",
            "(func $h (param i32) (result i64) (i64.const 0))",
            "return_call",
        ),
        ("", '(func (export "aonode.limit"))', "reserved"),
        ("", '(import "env" "f" (func))', "imports nothing"),
        ("", '(import "env" "g" (global i32))', "env.g is a global"),
        ("", f"(table {(1 << 20) + 1} funcref)", "elements"),
    ],
)
def test_forbidden(handle: str, declarations: str, offender: str) -> None:
    text = small_text(handle, declarations)
    with pytest.raises(Invalid, match=offender) as caught:
        ENGINE.validate(spec(wat(text)))
    assert caught.value.reason is Reason.FORBIDDEN_MODULE


def small_text(handle: str, declarations: str) -> str:
    """As `small`, with imports allowed among the declarations."""
    return f"""(module {declarations}
      (memory (export "memory") 1)
      (func (export "alloc") (param i32) (result i32) (i32.const 0))
      (func (export "handle") (param i32 i32) (result i64) {handle} (i64.const 0)))"""


@pytest.mark.parametrize(
    ("text", "offender"),
    [
        ("(module)", "0 memories"),
        ('(module (memory (export "memory") 1 2 shared))', "shared"),
        ('(module (memory (export "memory") i64 1))', "64-bit"),
        ("(module (memory 1))", "not exported as 'memory'"),
        ('(module (memory (export "memory") 1))', "'alloc' is missing"),
        (
            '(module (memory (export "memory") 1) (func (export "alloc") (param i64)))',
            "'alloc' is",
        ),
        (
            """(module (memory (export "memory") 1)
            (func (export "alloc") (param i32) (result i32) (i32.const 0))
            (func (export "handle") (param i32) (result i64) (i64.const 0)))""",
            "'handle' is",
        ),
        (
            """(module (memory (export "memory") 1)
            (func (export "alloc") (param i32) (result i32) (i32.const 0))
            (func (export "handle") (param i32 i32) (result i64) (i64.const 0))
            (func (export "_initialize") (param i32)))""",
            "'_initialize' is",
        ),
    ],
)
def test_wrong_convention(text: str, offender: str) -> None:
    with pytest.raises(Invalid, match=offender) as caught:
        ENGINE.validate(spec(wat(text)))
    assert caught.value.reason is Reason.FORBIDDEN_MODULE


def test_unknown_format_names_the_known_ones() -> None:
    module = ModuleSpec(ItemId(b"m" * 32), COUNTER, "wasm32-unknown-emscripten9")
    with pytest.raises(Invalid, match="ao-cbor-1") as caught:
        ENGINE.validate(module)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_what_does_not_compile_is_refused() -> None:
    # `unreachable` becomes an instruction that leaves nothing on the stack.
    binary = small("unreachable").replace(b"\x00\x20", b"\x01\x1a", 1)
    with pytest.raises(Invalid) as caught:
        ENGINE.validate(spec(binary))
    assert caught.value.reason is Reason.FORBIDDEN_MODULE


def test_legacy_exceptions_are_named() -> None:
    # try ... end, which the text format of the compiler no longer writes
    binary = small("(block (nop))").replace(b"\x02\x40\x01\x0b", b"\x06\x40\x01\x0b")
    with pytest.raises(Invalid, match="legacy exceptions"):
        ENGINE.validate(spec(binary))


def test_allowed_instructions_pass() -> None:
    text = small(
        """(memory.copy (i32.const 0) (i32.const 1) (i32.const 2))
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))
        (drop (table.get $t (i32.const 0))) (drop (table.size $t))
        (drop (i32.trunc_sat_f64_s (f64.const 1)))
        (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
          (v128.const i64x2 0 0) (v128.load8_lane 3 (i32.const 0) (v128.const i64x2 0 0))))
        (drop (i8x16.extract_lane_s 1 (v128.load32_zero (i32.const 0))))
        (block $b (try_table (catch_all $b) (throw $e)))
        (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 0)))
        (block $x (block $y (br_table $x $y (i32.const 1))))""",
        declarations=f'{TABLE} (data $d "x") (tag $e)',
    )
    ENGINE.validate(spec(text))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    """Whatever a module upload holds, it is refused or accepted: nothing else."""
    raw = bytearray(data.draw(st.sampled_from([COUNTER, token_wasm()[:4000], MAGIC])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    reasons = []
    try:
        ENGINE.validate(spec(bytes(raw)))
    except Invalid as refusal:
        reasons.append(refusal.reason)
    assert not set(reasons) - {Reason.FORBIDDEN_MODULE, Reason.REFUSED}


def test_patched_module_reads_and_exports_state() -> None:
    patched = read_module(patch(check(COUNTER), 1))
    own = {name for name in patched.exports if name.startswith("aonode.")}
    assert own == {"aonode.g0", "aonode.limit", "aonode.refused", "aonode.fuel", "aonode.memory"}
    assert len(patched.functions) == len(read_module(COUNTER).functions) + 1
    assert PATCH_ID
