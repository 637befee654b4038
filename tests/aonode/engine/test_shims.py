"""Emscripten's conventions on a module small enough to read: imports, stack, limits."""

from __future__ import annotations

import re
import struct

import pytest

from aonode.engine.emscripten import CLOCK_MS, NATIVES
from aonode.ports import ModuleSpec, Session
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId
from protocols.wire.outcome import Status
from tests.aonode.engine.guests import MEMORY_MAX, PROCESS, bytes_literal, make_engine, wat

FORMATS = {"i32": "wasm32-unknown-emscripten4", "i64": "wasm64-unknown-emscripten-draft_2024_02_15"}
ANSWER = b'{"ok":true,"response":{"Output":"fine"}}\0'
ERROR = b'{"ok":true,"response":{"Error":"no"}}\0'
STACK_END, STACK_TOP = 4096, 65536

ENGINE = make_engine()


def tiny(
    pointer: str, handle: str = "", *, imports: str = "", more: str = "", memory: str = "2 64"
) -> bytes:
    """An emscripten-shaped module. `P` is the pointer type; `handle` sees `$message`, `$env`
    and may set `$answer` (ANSWER at 1024, ERROR at 1280)."""
    index = "i64 " if pointer == "i64" else ""
    text = f"""(module {imports}
      (memory (export "memory") {index}{memory})
      (table 4 4 funcref)
      (global $sp (mut P) (P.const {STACK_TOP}))
      (global $threw (mut i32) (i32.const 0))
      (data (P.const 1024) "{bytes_literal(ANSWER)}")
      (data (P.const 1280) "{bytes_literal(ERROR)}")
      (func (export "__wasm_call_ctors") (i32.store (P.const 512) (i32.const 1)))
      (func (export "emscripten_stack_init"))
      (func (export "emscripten_stack_get_end") (result P) (P.const {STACK_END}))
      (func (export "emscripten_stack_get_current") (result P) (global.get $sp))
      (func (export "setThrew") (param P i32) (global.set $threw (i32.const 1)))
      {more}
      (func (export "handle") (param $message P) (param $env P) (result P) (local $answer P)
        (local.set $answer (P.const 1024))
        {handle}
        (local.get $answer)))"""
    return wat(re.sub(r"\bP\b", pointer, text))


def open_tiny(pointer: str, binary: bytes, env: bytes = b"{}") -> Session:
    module = ModuleSpec(ItemId(b"m" * 32), binary, FORMATS[pointer])
    return ENGINE.open(PROCESS, module, env, MEMORY_MAX)


@pytest.fixture(params=("i32", "i64"))
def pointer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def word(session: Session, at: int) -> int:
    return int.from_bytes(session.memory()[at : at + 4], "little")


def test_genesis_cookies_and_constructors(pointer: str) -> None:
    memory = open_tiny(pointer, tiny(pointer)).memory()
    assert memory[:4] == (1668509029).to_bytes(4, "little")
    assert memory[STACK_END : STACK_END + 4] == (34821223).to_bytes(4, "little")
    assert memory[STACK_END + 4 : STACK_END + 8] == (2310721022).to_bytes(4, "little")
    assert memory[512] == 1


def test_message_and_environment_arrive_on_the_stack_which_is_then_zeroed(pointer: str) -> None:
    handle = """(i32.store (P.const 600) (i32.load8_u (local.get $message)))
      (i32.store (P.const 604) (i32.load8_u (local.get $env)))
      (i32.store (P.const 608) (i32.load8_u offset=5 (local.get $message)))
      (i32.store (P.const 5000) (i32.const 9))"""
    session = open_tiny(pointer, tiny(pointer, handle), b"env")
    result = session.run_slot(b"hello")
    assert (result.status, result.raw) == (Status.OK, ANSWER[:-1])
    assert [word(session, at) for at in (600, 604, 608)] == [ord("h"), ord("e"), 0]
    assert session.memory()[STACK_END + 8 : STACK_TOP] == bytes(STACK_TOP - STACK_END - 8)


def test_error_answer_rolls_back(pointer: str) -> None:
    handle = """(i32.store (P.const 600) (i32.const 5))
      (if (i32.eq (i32.load8_u (local.get $message)) (i32.const 101))
        (then (local.set $answer (P.const 1280))))"""
    session = open_tiny(pointer, tiny(pointer, handle))
    root = session.state_root()
    result = session.run_slot(b"e")
    assert (result.status, result.raw) == (Status.ERROR, ERROR[:-1])
    assert session.state_root() == root
    assert session.run_slot(b"x").status == Status.OK
    assert session.state_root() != root


@pytest.mark.parametrize(
    ("handle", "status"),
    [
        ("(local.set $answer (P.const 0))", Status.BAD_OUTPUT),
        ("(local.set $answer (P.const 131072))", Status.BAD_OUTPUT),
        ("(local.set $answer (P.const -1))", Status.BAD_OUTPUT),
        (
            "(memory.fill (P.const 66000) (i32.const 65) (P.const 60000)) "
            "(local.set $answer (P.const 66000))",
            Status.TOO_LARGE,
        ),
        (
            "(memory.fill (P.const 131000) (i32.const 65) (P.const 72)) "
            "(local.set $answer (P.const 131000))",
            Status.BAD_OUTPUT,
        ),
    ],
)
def test_unreadable_answers(pointer: str, handle: str, status: Status) -> None:
    session = open_tiny(pointer, tiny(pointer, handle))
    root = session.state_root()
    assert session.run_slot(b"x").status == status
    assert session.state_root() == root


def test_longjmp_unwinds_to_the_invoke(pointer: str) -> None:
    imports = """(import "env" "invoke_vp" (func $invoke (param P P)))
      (import "env" "_emscripten_throw_longjmp" (func $throw))"""
    more = """(elem (i32.const 1) $thrower $quiet)
      (func $thrower (param P) (global.set $sp (P.const 4242))
        (i32.store (P.const 604) (i32.const 7)) (call $throw))
      (func $quiet (param P) (i32.store (P.const 608) (i32.const 8)))"""
    handle = """(call $invoke (P.const 2) (P.const 0))
      (i32.store (P.const 612) (global.get $threw))
      (call $invoke (P.const 1) (P.const 0))
      (i32.store (P.const 616) (global.get $threw))
      (P.store (P.const 620) (global.get $sp))
      (if (i32.eq (i32.load8_u (local.get $message)) (i32.const 116)) (then (call $throw)))"""
    session = open_tiny(pointer, tiny(pointer, handle, imports=imports, more=more))
    assert session.run_slot(b"x").status == Status.OK
    assert [word(session, at) for at in (604, 608, 612, 616)] == [7, 8, 0, 1]
    assert STACK_END < word(session, 620) < STACK_TOP
    assert session.run_slot(b"t").status == Status.TRAP


def test_constants_of_the_world(pointer: str) -> None:
    imports = """(import "env" "emscripten_date_now" (func $now (result f64)))
      (import "env" "__syscall_openat" (func $open (param i32 P i32 P) (result i32)))
      (import "env" "_emscripten_system" (func $system (param P) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 P P P) (result i32)))"""
    size = 4 if pointer == "i32" else 8
    handle = f"""(f64.store (P.const 600) (call $now))
      (i32.store (P.const 608) (call $open (i32.const -100) (P.const 1024) (i32.const 0)
        (P.const 0)))
      (i32.store (P.const 612) (call $system (P.const 1024)))
      (i32.store (P.const 616) (call $system (P.const 0)))
      (P.store (P.const {700 + size}) (P.const 11)) (P.store (P.const {700 + 3 * size})
        (P.const 5))
      (i32.store (P.const 620) (call $write (i32.const 1) (P.const 700) (P.const 2)
        (P.const 628)))
      (i32.store (P.const 624) (call $write (i32.const 3) (P.const 700) (P.const 2)
        (P.const 800)))"""
    session = open_tiny(pointer, tiny(pointer, handle, imports=imports))
    assert session.run_slot(b"x").status == Status.OK

    assert struct.unpack("<d", session.memory()[600:608]) == (float(CLOCK_MS),)
    signed = [word(session, at) - (word(session, at) >> 31 << 32) for at in (608, 612, 616)]
    assert signed == [-44, -52, 0]
    assert [word(session, at) for at in (620, 624, 628, 800)] == [0, 8, 16, 0]


def test_exits_trap(pointer: str) -> None:
    imports = """(import "env" "exit" (func $exit (param i32)))"""
    session = open_tiny(pointer, tiny(pointer, "(call $exit (i32.const 0))", imports=imports))
    assert session.run_slot(b"x").status == Status.TRAP


def test_heap_grows_to_the_limit_and_no_further(pointer: str) -> None:
    imports = """(import "env" "emscripten_resize_heap" (func $grow (param P) (result i32)))"""
    handle = """(i32.store (P.const 600) (call $grow (P.const 200000)))
      (i32.store (P.const 604) (call $grow (P.const 3000000)))
      (i32.store (P.const 608) (call $grow (P.const 4194305)))
      (i32.store (P.const 612) (call $grow (P.const 4194304)))
      (P.store (P.const 616) (memory.size))"""
    session = open_tiny(pointer, tiny(pointer, handle, imports=imports))
    assert session.run_slot(b"x").status == Status.OK
    assert [word(session, at) for at in (600, 604, 608, 612, 616)] == [1, 1, 0, 1, 64]


def test_large_messages_go_on_the_heap(pointer: str) -> None:
    more = """(func (export "malloc") (param P) (result P)
        (P.store (P.const 608) (P.add (P.load (P.const 608)) (P.const 24000)))
        (P.add (P.const 40000) (P.load (P.const 608))))
      (func (export "free") (param P)
        (i32.store (P.const 624) (i32.add (i32.load (P.const 624)) (i32.const 1))))"""
    handle = "(i32.store (P.const 600) (i32.load8_u offset=19999 (local.get $message)))"
    session = open_tiny(pointer, tiny(pointer, handle, more=more))
    assert session.run_slot(b"x" * 20_000).status == Status.OK
    assert [word(session, 600), word(session, 624)] == [ord("x"), 2]
    assert open_tiny(pointer, tiny(pointer)).run_slot(b"x" * 20_000).status == Status.TRAP


@pytest.mark.parametrize(
    ("imports", "what"),
    [
        ('(import "env" "system" (func (param i32) (result i32)))', "env.system"),
        ('(import "wasi_snapshot_preview1" "random_get" (func))', "random_get"),
        ('(import "wasi_snapshot_preview1" "sock_recv" (func))', "sock_recv"),
        ('(import "other" "fd_write" (func))', "other.fd_write"),
        ('(import "env" "exit" (func (param f32)))', "env.exit has type"),
        ('(import "env" "invoke_v" (func))', "invoke"),
        ('(import "env" "memory" (memory 1))', "env.memory"),
    ],
)
def test_ways_out_are_refused(pointer: str, imports: str, what: str) -> None:
    with pytest.raises(Invalid, match=what) as caught:
        open_tiny(pointer, tiny(pointer, imports=imports))
    assert caught.value.reason is Reason.FORBIDDEN_MODULE


def test_every_import_on_the_list_links(pointer: str) -> None:
    lines = []
    for (module, name), native in sorted(NATIVES.items()):
        kind = native.type(pointer)
        params = " ".join(kind.params)
        results = " ".join(kind.results)
        lines.append(f'(import "{module}" "{name}" (func (param {params}) (result {results})))')
    exports = {
        "_emscripten_tempret_set": "(param i32)",
        "malloc": "(param P) (result P) (P.const 0)",
        "__errno_location": "(result P) (P.const 0)",
    }
    functions = {name: f'(func (export "{name}") {body})' for name, body in exports.items()}
    more = "".join(functions.values())
    session = open_tiny(pointer, tiny(pointer, imports="".join(lines), more=more))
    assert session.run_slot(b"x").status == Status.OK
    for name in exports:
        without = "".join(each for other, each in functions.items() if other != name)
        if (name, pointer) == ("_emscripten_tempret_set", "i64"):
            continue  # 64-bit modules take 64-bit values whole
        with pytest.raises(Invalid, match=f"{name}' is missing"):
            open_tiny(pointer, tiny(pointer, imports="".join(lines), more=without))


@pytest.mark.parametrize("missing", ["handle", "setThrew", "emscripten_stack_init", "__wasm_call_"])
def test_missing_exports_are_named(pointer: str, missing: str) -> None:
    binary = tiny(pointer).replace(missing.encode(), b"x" * len(missing))
    with pytest.raises(Invalid, match=missing) as caught:
        open_tiny(pointer, binary)
    assert caught.value.reason is Reason.FORBIDDEN_MODULE
