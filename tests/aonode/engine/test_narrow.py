"""64-bit modules on a 32-bit memory: every access reaches the byte it names."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from aonode.engine.patch import patch
from aonode.engine.rewrite import PAGES_MAX
from aonode.engine.validator import check
from aonode.engine.wasm_reader import read_module
from protocols.errors import Invalid, Reason
from tests.aonode.engine.guests import wat

ENGINE = wasmtime.Engine()
ADDRESS = "(local.get $a)"


def instance(text: str, declarations: str) -> tuple[wasmtime.Store, wasmtime.Instance]:
    """A patched instance; `text` is the body of `go`, from an address to an i64."""
    binary = wat(
        f"""(module (memory (export "memory") i64 1 4) {declarations}
        (func (export "go") (param $a i64) (result i64) {text}))"""
    )
    wasmtime.Module.validate(ENGINE, binary)
    patched = patch(check(binary), 1 << 40)
    assert not read_module(patched).memories[0].index64
    store = wasmtime.Store(ENGINE)
    return store, wasmtime.Instance(store, wasmtime.Module(ENGINE, patched), [])


def run(text: str, address: int, declarations: str = "") -> int:
    store, made = instance(text, declarations)
    found = made.exports(store)
    go = found["go"]
    assert isinstance(go, wasmtime.Func)
    limit = found["aonode.limit"]
    assert isinstance(limit, wasmtime.Global)
    limit.set_value(store, 4)
    return int(go(store, address))


STORES = {
    "i32.store": ("(i32.const -2)", "(i64.load32_u {})", 0xFFFF_FFFE),
    "i32.store8": ("(i32.const 258)", "(i64.load8_u {})", 2),
    "i32.store16": ("(i32.const 258)", "(i64.load16_u {})", 258),
    "i64.store": ("(i64.const -2)", "(i64.load {})", -2),
    "i64.store8": ("(i64.const 258)", "(i64.load8_s {})", 2),
    "i64.store16": ("(i64.const -1)", "(i64.load16_s {})", -1),
    "i64.store32": ("(i64.const 7)", "(i64.load32_s {})", 7),
    "f32.store": ("(f32.const 1)", "(i64.extend_i32_u (i32.load {}))", 0x3F80_0000),
    "f64.store": ("(f64.const 1)", "(i64.reinterpret_f64 (f64.load {}))", 0x3FF0 << 48),
    "v128.store": ("(v128.const i64x2 5 6)", "(i64x2.extract_lane 0 (v128.load {}))", 5),
    "v128.store64_lane": (
        "1 (v128.const i64x2 5 6)",
        "(i64x2.extract_lane 1 (v128.load64_lane 1 {} (v128.const i64x2 0 0)))",
        6,
    ),
}


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("address", [0, 4000, 65536 - 16])
def test_stores_and_loads(name: str, address: int) -> None:
    value, load, expected = STORES[name]
    lane, value = value.split(" ", 1) if value[0].isdigit() else ("", value)
    text = f"({name} {lane} {ADDRESS} {value}) {load.format(ADDRESS)}"
    assert run(text, address) == expected
    at = "(i64.const 0)"
    offset = f"({name} offset={address} {lane} {at} {value})"
    assert run(f"{offset} {load.format(ADDRESS)}", address) == expected


@pytest.mark.parametrize("address", [65536 - 3, 1 << 31, (1 << 32) - 8, -8])
def test_outside_traps(address: int) -> None:
    for text in (f"(i64.load {ADDRESS})", f"(i32.store {ADDRESS} (i32.const 1)) (i64.const 0)"):
        with pytest.raises(wasmtime.Trap, match="out of bounds"):
            run(text, address)


@pytest.mark.parametrize(
    "text",
    [
        "(i64.load offset=0x100000000 (i64.const 0))",
        "(i64.store offset=0x100000000 (i64.const 0) (i64.const 1)) (i64.const 0)",
        "(memory.fill (i64.const 0x100000000) (i32.const 0) (i64.const 0)) (i64.const 0)",
        "(memory.fill (i64.const 0) (i32.const 0) (i64.const 0x100000000)) (i64.const 0)",
        "(memory.copy (i64.const 0) (i64.const -1) (i64.const 0)) (i64.const 0)",
        "(memory.init $d (i64.const 0x100000000) (i32.const 0) (i32.const 0)) (i64.const 0)",
    ],
)
def test_what_is_too_large_by_itself_traps(text: str) -> None:
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        run(text, 0, '(data $d "abc")')


def test_addresses_count_modulo_4_gib() -> None:
    assert run(f"(i64.load8_u {ADDRESS})", (5 << 32) + 1, '(data (i64.const 0) "ab")') == ord("b")


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 50))
def test_bulk_memory(to: int, source: int, size: int) -> None:
    text = f"""(memory.init $d (i64.const 0) (i32.const 0) (i32.const 256))
      (memory.copy (i64.const {to}) (i64.const {source}) (i64.const {size}))
      (i64.load8_u {ADDRESS})"""
    data = "".join(f"\\{value:02x}" for value in range(256))
    memory = bytearray(range(256))
    memory[to : to + size] = memory[source : source + size]
    for address in (to, to + size, source):
        assert run(text, address, f'(data $d "{data}")') == memory[address]


def test_growing() -> None:
    grow = "(memory.grow {})"
    assert run(grow.format("(i64.const 0)"), 0) == 1
    assert run(f"(drop {grow.format('(i64.const 2)')}) (memory.size)", 0) == 3
    for pages in (4, 1 << 32, -1):
        assert run(grow.format(ADDRESS), pages) == -1
    assert run(f"(drop {grow.format('(i64.const 1)')}) (i64.load8_u {ADDRESS})", 131071) == 0


@pytest.mark.parametrize(
    ("text", "offender"),
    [
        (f"(memory i64 {PAGES_MAX + 1})", "pages"),
        ('(memory i64 1) (data (i64.const 0x100000000) "x")', "offset"),
        ('(memory i64 1) (data (i64.add (i64.const 0) (i64.const 1)) "x")', "offset"),
    ],
)
def test_what_cannot_be_narrow_is_refused(text: str, offender: str) -> None:
    with pytest.raises(Invalid, match=offender) as caught:
        patch(check(wat(f"(module {text})")), 1)
    assert caught.value.reason is Reason.FORBIDDEN_MODULE
