"""What we change in a module before compiling it. None of it can be seen by a correct module.

1. Every mutable global, the memory and the table are exported, so that the host can hash, save
   and put back all state (names `aonode.g<index>`, `aonode.memory`, `aonode.table`).
2. Every `memory.grow` calls an appended function that applies the process's limit
   (`aonode.limit`, in pages) and tells a refusal by that limit, which is part of the protocol,
   from one by the machine, which is not: the latter sets `aonode.refused` and traps.
3. The code counts its own fuel in `aonode.fuel`, and traps when there is none left (`fuel`).
4. A 64-bit memory becomes a 32-bit one (`rewrite`).
5. In emscripten modules built with Asyncify, its state global becomes the constant 0, so that the
   compiler drops every branch on it, and ways that are never taken are left out (a tenth of an
   aos message's time); the four functions that would start a suspension trap. Our hosts answer
   every import at once, so nothing ever suspends.
6. In emscripten modules, a call of the import that throws longjmp becomes that throw: unwinding
   takes its time by the frame.

Unpatched modules may not use the reserved names (validator), so nothing collides. They have to be
valid before: what is appended here would make some invalid ones valid.
"""

from __future__ import annotations

from collections.abc import Iterator

from aonode.engine import wasm_reader as sections
from aonode.engine.code import after, first_instruction, read_unsigned, scan_code
from aonode.engine.leb import signed, unsigned, vector
from aonode.engine.rewrite import TOLL, Rewriter, contents, extended, narrow_sections
from aonode.engine.validator import RESERVED_PREFIX, Checked
from aonode.engine.wasm_reader import FuncType, GlobalType, WasmModule, read_module

PATCH_ID = "patch-3"
"""Part of the profile: changes with every change of what a patched module computes."""

BUILD_ID = "folded"
"""Part of the name of compiled code: changes with what only costs time, so that it is made anew."""

LIMIT = f"{RESERVED_PREFIX}limit"
REFUSED = f"{RESERVED_PREFIX}refused"
FUEL = f"{RESERVED_PREFIX}fuel"
MEMORY = f"{RESERVED_PREFIX}memory"
TABLE = f"{RESERVED_PREFIX}table"
LONGJMP = "env._emscripten_throw_longjmp"
LONGJMP_TAG = ("pre", "lj")
"""The import that a patched emscripten module takes the tag of longjmp from (`shims`)."""
_ASYNCIFY_STARTS = (
    "asyncify_start_unwind",
    "asyncify_stop_unwind",
    "asyncify_start_rewind",
    "asyncify_stop_rewind",
)
_CODES = {name: code for code, name in sections.VALUE_TYPES.items()}
_NEW_GLOBALS = (LIMIT, REFUSED, FUEL)
"""Appended behind the module's own."""
_UNREACHABLE_BODY = b"\x00\x00\x0b"
_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""Non-custom sections as they must follow each other."""


def global_name(index: int) -> str:
    """Export name of mutable global `index`."""
    return f"{RESERVED_PREFIX}g{index}"


def asyncify_state(checked: Checked) -> int | None:
    """Index of the Asyncify state global if it can be folded to 0; None otherwise."""
    module = checked.module
    kind, index = module.exports.get("asyncify_get_state", ("", 0))
    starts = [module.exports.get(name, ("", -1)) for name in _ASYNCIFY_STARTS]
    first = len(module.imported("func"))
    if kind != "func" or index < first or any(k != "func" or i < first for k, i in starts):
        return None
    start, end = module.bodies[index - first]
    body = sections.Reader(module.raw, start, end)
    if body.byte() != 0 or body.byte() != 0x23:  # no locals, global.get
        return None
    state = body.unsigned()
    if module.raw[body.at : end] != b"\x0b" or state >= len(module.globals):
        return None
    if module.globals[state] != GlobalType("i32", True, b"\x41\x00"):
        return None
    stubs = {i - first for _, i in starts}
    setters = {number for number, target in checked.scan.global_sets if target == state}
    return state if setters <= stubs else None


def mutable_globals(checked: Checked) -> tuple[tuple[int, str], ...]:
    """(index, type) of the mutable globals of the patched module: its state outside memory."""
    state = asyncify_state(checked)
    return tuple((index, item.type) for index, item in checked.mutable if index != state)


def patch(checked: Checked, fuel: int) -> bytes:
    """The binary to compile. `fuel` is what it starts with.

    Raises Invalid(FORBIDDEN_MODULE) for a 64-bit memory that cannot be made a 32-bit one.
    """
    module = checked.module
    first_global = len(module.globals)
    state = asyncify_state(checked)
    wide = checked.memory.index64
    rewriter = Rewriter(
        module, checked.scan, fuel=first_global + _NEW_GLOBALS.index(FUEL), wide=wide, zero=state
    )
    index = _CODES["i64" if wide else "i32"]
    grow = rewriter.append((index,), (index,), grow_body(wide, first_global))
    for number, at in checked.scan.grows:
        rewriter.edit(number, (at, 2, b"\x10" + unsigned(grow)))
    content = contents(module)
    longjmp = _longjmp(module)
    if longjmp is not None:
        tag = _name(LONGJMP_TAG[0]) + _name(LONGJMP_TAG[1]) + b"\x04\x00" + unsigned(longjmp[1])
        content[sections.IMPORT] = extended(content[sections.IMPORT], len(module.imports), [tag])
        for number, at, size in _calls(module, longjmp[0]):
            rewriter.edit(number, (at, size, rewriter.pay(TOLL) + b"\x08\x00"))
    stubs = {}
    if state is not None:
        first = len(module.imported("func"))
        stubs = {module.exports[name][1] - first: _UNREACHABLE_BODY for name in _ASYNCIFY_STARTS}
    content |= rewriter.sections(stubs)
    if wide:
        content |= narrow_sections(module)
    content[sections.GLOBAL] = _globals(checked, state, fuel)
    content[sections.EXPORT] = extended(
        content.get(sections.EXPORT), len(module.exports), _exports(checked)
    )
    return binary(content)


def _longjmp(module: WasmModule) -> tuple[int, int] | None:
    """Indices of the import that throws emscripten's longjmp, and of its type () -> ()."""
    if module.tags or module.imported("tag"):
        return None
    for index, item in enumerate(module.imported("func")):
        if str(item) == LONGJMP and module.function_type(index) == FuncType((), ()):
            assert isinstance(item.desc, int), "a function import names its type"
            return index, item.desc
    return None


def _calls(module: WasmModule, function: int) -> Iterator[tuple[int, int, int]]:
    """(body number, offset, size) of every direct call of a function."""
    raw = module.raw
    call = b"\x10" + unsigned(function)
    for number, (start, end) in enumerate(module.bodies):
        if raw.find(call, start, end) < 0:
            continue
        at = first_instruction(raw, start)
        while at < end:
            begin, at = at, after(raw, at)
            if raw[begin] == 0x10 and read_unsigned(raw, begin + 1) == function:
                yield number, begin, at - begin


def patch_shim(raw: bytes, wide: bool) -> bytes:
    """A shim that counts fuel in the global it imports.

    `wide`: its code is written as if addresses in its memory, a 32-bit one, were 64 bits.
    """
    module = read_module(raw)
    names = [item.name for item in module.imported("global")]
    rewriter = Rewriter(module, scan_code(module), fuel=names.index(FUEL), wide=wide)
    return binary(contents(module) | rewriter.sections({}))


def binary(content: dict[int, bytes]) -> bytes:
    """A module of these sections."""
    parts = [sections.MAGIC]
    for section in _ORDER:
        if section in content:
            parts += [bytes([section]), unsigned(len(content[section])), content[section]]
    return b"".join(parts)


def _globals(checked: Checked, state: int | None, fuel: int) -> bytes:
    entries = []
    for number, item in enumerate(checked.module.globals):
        mutable = item.mutable and number != state
        entries.append(bytes([_CODES[item.type], mutable]) + item.init + b"\x0b")
    entries.append(b"\x7e\x01\x42" + signed(checked.memory.minimum) + b"\x0b")  # limit: mut i64
    entries.append(b"\x7f\x01\x41\x00\x0b")  # refused: mut i32
    entries.append(b"\x7e\x01\x42" + signed(fuel) + b"\x0b")  # fuel: mut i64
    return vector(entries)


def _exports(checked: Checked) -> list[bytes]:
    entries = [_export(global_name(index), 3, index) for index, _ in mutable_globals(checked)]
    first = len(checked.module.globals)
    entries += [_export(name, 3, first + n) for n, name in enumerate(_NEW_GLOBALS)]
    entries.append(_export(MEMORY, 2, 0))
    if checked.module.tables:
        entries.append(_export(TABLE, 1, 0))
    return entries


def grow_body(wide: bool, limit: int) -> bytes:
    """Code of the function that stands in for `memory.grow`; `limit` is its limit global.

    if pages == 0: return size
    if (u64)pages > limit - size: return -1
    pages = memory.grow(pages)
    if pages == -1: refused = 1, trap
    return pages

    The memory's own indices are 32 bits; with `wide`, the function's are 64.
    """
    pages = b"\x20\x00"
    size = b"\x3f\x00" + (b"\xad" if wide else b"")
    size64 = b"\x3f\x00\xad"
    pages64 = pages + (b"" if wide else b"\xad")
    minus_one = b"\x42\x7f" if wide else b"\x41\x7f"
    zero, equal = (b"\x50", b"\x51") if wide else (b"\x45", b"\x46")
    grown = pages + (b"\xa7\x40\x00\xac" if wide else b"\x40\x00")
    return (
        b"\x00"  # no locals
        + (pages + zero + b"\x04\x40" + size + b"\x0f\x0b")
        + (pages64 + b"\x23" + unsigned(limit) + size64 + b"\x7d")  # pages, limit - size
        + (b"\x56\x04\x40" + minus_one + b"\x0f\x0b")  # i64.gt_u if return -1
        + (grown + b"\x22\x00" + minus_one + equal)
        + (b"\x04\x40\x41\x01\x24" + unsigned(limit + 1) + b"\x00\x0b")  # refused = 1, trap
        + pages
        + b"\x0b"
    )


def _export(name: str, kind: int, index: int) -> bytes:
    return _name(name) + bytes([kind]) + unsigned(index)


def _name(text: str) -> bytes:
    raw = text.encode()
    return unsigned(len(raw)) + raw
