"""Small modules in WebAssembly text, and what the engine tests share."""

from __future__ import annotations

from pathlib import Path

import wasmtime

from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session
from protocols.codec import encode
from protocols.ids import ItemId, ProcessId

FUEL_MAX = 20_000_000
MEMORY_MAX = 1 << 24
OUTPUT_BYTES_MAX = 4096
PROCESS = ProcessId(b"p" * 32)
OK_OUTPUT = encode([0, None, [], None])
ERROR_OUTPUT = encode([1, None, [], "no"])


def make_engine(cache_dir: Path | None = None, *, fuel_max: int = FUEL_MAX) -> WasmEngine:
    """An engine with small limits."""
    return WasmEngine(
        fuel_max=fuel_max,
        memory_max=MEMORY_MAX,
        output_bytes_max=OUTPUT_BYTES_MAX,
        outbox_max=8,
        cache_dir=cache_dir,
    )


def wat(text: str) -> bytes:
    """Binary of WebAssembly text."""
    return bytes(wasmtime.wat2wasm(text))


def spec(binary: bytes) -> ModuleSpec:
    """An ao-cbor-1 module."""
    return ModuleSpec(ItemId(b"m" * 32), binary, "ao-cbor-1")


def bytes_literal(raw: bytes) -> str:
    """`raw` as a WebAssembly text string."""
    return "".join(f"\\{byte:02x}" for byte in raw)


def small(handle: str, *, declarations: str = "", memory: str = "1") -> bytes:
    """An ao-cbor-1 module whose `handle` runs `handle` and returns `$out`.

    The input lies at 4096; its first byte is `$op`. `$out` starts as OK_OUTPUT, at 1024;
    ERROR_OUTPUT is at 1088.
    """
    return wat(
        f"""(module
        (memory (export "memory") {memory})
        (data (i32.const 1024) "{bytes_literal(OK_OUTPUT)}")
        (data (i32.const 1088) "{bytes_literal(ERROR_OUTPUT)}")
        {declarations}
        (func (export "alloc") (param i32) (result i32) (i32.const 4096))
        (func (export "handle") (param $p i32) (param $n i32) (result i64)
          (local $op i32) (local $out i64)
          (local.set $op (i32.load8_u (local.get $p)))
          (local.set $out (i64.const {1024 << 32 | len(OK_OUTPUT)}))
          {handle}
          (local.get $out)))"""
    )


FAIL = f"(local.set $out (i64.const {1088 << 32 | len(ERROR_OUTPUT)}))"
"""Makes `handle` return ERROR_OUTPUT."""

COUNTER = small(
    f"""(global.set $n (i64.add (global.get $n) (i64.const 1)))
    (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (global.get $n)))
    (block $done
      (if (i32.eq (local.get $op) (i32.const 116)) (then unreachable))
      (if (i32.eq (local.get $op) (i32.const 108)) (then (loop $l (br $l))))
      (if (i32.eq (local.get $op) (i32.const 101)) (then {FAIL}))
      (if (i32.eq (local.get $op) (i32.const 103))
        (then (drop (memory.grow (i32.const 1))) (i32.store (i32.const 65536) (i32.const 7))))
      (if (i32.eq (local.get $op) (i32.const 71))
        (then (drop (memory.grow (i32.const 1))) (i32.store (i32.const 65536) (i32.const 7))
          unreachable))
      (if (i32.eq (local.get $op) (i32.const 98)) (then (local.set $out (i64.const -1))))
      (if (i32.eq (local.get $op) (i32.const 66))
        (then (local.set $out (i64.const {1024 << 32 | 3}))))
      (if (i32.eq (local.get $op) (i32.const 76))
        (then (local.set $out (i64.const {OUTPUT_BYTES_MAX + 1})))))""",
    declarations="(global $n (mut i64) (i64.const 0))",
)
"""Counts in memory and in a global, then does what the input's first letter says: `t`rap,
`l`oop, `e`rror, `g`row, `G`row and trap, `b`ad address, `B`ad bytes, too `L`arge; else fine."""


def open_small(binary: bytes, engine: WasmEngine | None = None, **kwargs: int) -> Session:
    """A session at genesis."""
    engine = engine or make_engine()
    return engine.open(PROCESS, spec(binary), b"", kwargs.get("memory_max", MEMORY_MAX))
