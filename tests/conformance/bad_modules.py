"""Modules that loop, grow, trap, recurse, hide state, or answer nonsense: small enough to read."""

from __future__ import annotations

from dataclasses import dataclass

from tests.aonode.engine.guests import bytes_literal, small, wat
from tests.aonode.engine.test_shims import FORMATS, tiny

CBOR, JSON = "ao-cbor-1", FORMATS["i32"]
NESTED = 1200
DIGITS = 5000


@dataclass(frozen=True)
class Bad:
    """A module, and what `GET /result` says of a message to a process of it."""

    wasm: bytes
    format: str
    error: str
    """Part of the `Error` (200), or of the `error` of a refusal (503)."""
    refused: bool = False
    """Nothing is ever signed at that slot: the CU stops there, and says why."""


def raw_small(
    handle: str,
    declarations: str = "",
    *,
    alloc: str = "(i32.const 4096)",
    memory: str = "1",
) -> bytes:
    """An ao-cbor-1 module with a free hand in all that `guests.small` fixes."""
    return wat(
        f"""(module {declarations}
        (memory (export "memory") {memory})
        (func (export "alloc") (param i32) (result i32) {alloc})
        (func (export "handle") (param i32 i32) (result i64) {handle} (i64.const 0)))"""
    )


def answering(text: bytes) -> bytes:
    """An emscripten module that answers every message with `text`."""
    place = 131072
    return tiny(
        "i32",
        f"(local.set $answer (P.const {place}))",
        more=f'(data (i32.const {place}) "{bytes_literal(text)}")',
        memory="4 64",
    )


def response(output: bytes) -> bytes:
    """AO's response object around an Output."""
    return b'{"ok":true,"response":{"Output":' + output + b',"Messages":[]}}'


BAD: dict[str, Bad] = {
    "loops for ever": Bad(
        small("(loop $l (br $l))"), CBOR, "fuel than a slot may, which is 5000000000"
    ),
    "grows without end": Bad(
        small("(loop $l (drop (memory.grow (i32.const 1))) (br $l))"),
        CBOR,
        "fuel than a slot may, which is 5000000000",
    ),
    "grows, and touches what it did not get": Bad(
        small(
            """(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
            (drop (i32.load (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))))"""
        ),
        CBOR,
        "the module trapped",
    ),
    "traps": Bad(small("unreachable"), CBOR, "the module trapped"),
    "recurses": Bad(
        small(
            "(drop (call $deeper (i64.const 1)))",
            declarations="""(func $deeper (param i64) (result i64)
              (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))""",
        ),
        CBOR,
        "stack",
        refused=True,
    ),
    "loops before its first message": Bad(
        raw_small("", "(func $s (loop $l (br $l))) (start $s)"),
        CBOR,
        "start function",
        refused=True,
    ),
    "data outside its memory": Bad(
        raw_small("", '(data (i32.const 70000) "x")'), CBOR, "out of bounds", refused=True
    ),
    "starts with more memory than it may have": Bad(
        raw_small("", memory="65536"), CBOR, "4294967296 bytes", refused=True
    ),
    "data.drop": Bad(raw_small("(data.drop $d)", '(data $d "x")'), CBOR, "data.drop", refused=True),
    "an ABI without handle": Bad(
        wat(
            """(module (memory (export "memory") 1)
            (func (export "alloc") (param i32) (result i32) (i32.const 0)))"""
        ),
        CBOR,
        "'handle' is missing",
        refused=True,
    ),
    "an ABI of 64-bit addresses": Bad(
        wat(
            """(module (memory (export "memory") 1)
            (func (export "alloc") (param i64) (result i64) (i64.const 0))
            (func (export "handle") (param i64 i64) (result i64) (i64.const 0)))"""
        ),
        CBOR,
        "'alloc' is",
        refused=True,
    ),
    "an import nobody offers": Bad(
        tiny("i32", imports='(import "env" "getaddrinfo" (func (param i32) (result i32)))'),
        JSON,
        "env.getaddrinfo",
        refused=True,
    ),
    "a format nobody knows": Bad(
        small(""), "wasm32-unknown-emscripten99", "wasm32-unknown-emscripten99", refused=True
    ),
    "no Wasm at all": Bad(b"#!/bin/sh\n", CBOR, "no WebAssembly", refused=True),
    "room outside its memory": Bad(
        raw_small("", alloc="(i32.const -16)"),
        CBOR,
        "output cannot be read: it is not what Module-Format",
    ),
    "an answer that is no CBOR": Bad(
        small("(local.set $out (i64.const 0x0000040000000003))"),
        CBOR,
        "output cannot be read: it is not what Module-Format",
    ),
    "an output nested 1200 deep": Bad(
        answering(response(b"[" * NESTED + b"]" * NESTED)),
        JSON,
        "output cannot be read: it is not what Module-Format",
    ),
    "an answer that is no JSON": Bad(
        answering(b"{ok}"), JSON, "output cannot be read: it is not what Module-Format"
    ),
}
"""By what is wrong with them."""
