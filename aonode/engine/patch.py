"""What we change in a module before compiling it. None of it can be seen by a correct module.

1. Every mutable global, the memory and the table are exported, so that the host can hash, save
   and put back all state (names `aonode.g<index>`, `aonode.memory`, `aonode.table`).
2. Every `memory.grow` calls an appended function that applies the process's limit
   (`aonode.limit`, in pages) and tells a refusal by that limit, which is part of the protocol,
   from one by the machine, which is not: the latter sets `aonode.refused` and traps.
3. Every `throw` pays a toll of fuel first: unwinding costs thousands of instructions' time.
4. In emscripten modules built with Asyncify, its state global becomes the constant 0, so that the
   compiler drops every branch on it; the four functions that would start a suspension trap. Our
   hosts answer every import at once, so nothing ever suspends. Fuel does not change by it.

Unpatched modules may not use the reserved names (validator), so nothing collides.
"""

from __future__ import annotations

from aonode.engine import wasm_reader as sections
from aonode.engine.validator import RESERVED_PREFIX, Checked
from aonode.engine.wasm_reader import GlobalType, WasmModule

PATCH_ID = "patch-1"
"""Part of the profile: changes with every change of what a patched module computes or costs."""

TOLL = 2000
"""Fuel of a throw: a copy of that many bytes onto themselves, which fuel counts by the byte."""
LIMIT = f"{RESERVED_PREFIX}limit"
REFUSED = f"{RESERVED_PREFIX}refused"
MEMORY = f"{RESERVED_PREFIX}memory"
TABLE = f"{RESERVED_PREFIX}table"
_ASYNCIFY_STARTS = (
    "asyncify_start_unwind",
    "asyncify_stop_unwind",
    "asyncify_start_rewind",
    "asyncify_stop_rewind",
)
_CODES = {name: code for code, name in sections.VALUE_TYPES.items()}
_UNREACHABLE_BODY = b"\x00\x00\x0b"
_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""Non-custom sections as they must follow each other."""


def global_name(index: int) -> str:
    """Export name of mutable global `index`."""
    return f"{RESERVED_PREFIX}g{index}"


def unsigned(value: int) -> bytes:
    """LEB128 of an unsigned number."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def signed(value: int) -> bytes:
    """LEB128 of a signed number."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if value == (-1 if byte & 0x40 else 0):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


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


def patch(checked: Checked) -> bytes:
    """The binary to compile."""
    return _Patch(checked).binary()


class _Patch:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._module: WasmModule = checked.module
        self._state = asyncify_state(checked)
        self._first_global = len(self._module.globals)
        self._grow = len(self._module.imported("func")) + len(self._module.functions)

    def binary(self) -> bytes:
        module = self._module
        content: dict[int, bytes] = {}
        for section, start, size in module.sections:
            if section:
                content[section] = module.raw[start : start + size]
        count = len(module.types)
        index = "i64" if self._checked.memory.index64 else "i32"
        code = bytes([_CODES[index]])
        grow_type = b"\x60\x01" + code + b"\x01" + code
        content[sections.TYPE] = _append(content.get(sections.TYPE), count, [grow_type])
        content[sections.FUNCTION] = _append(
            content.get(sections.FUNCTION), len(module.functions), [unsigned(count)]
        )
        content[sections.GLOBAL] = self._globals()
        content[sections.EXPORT] = _append(
            content.get(sections.EXPORT), len(module.exports), self._exports()
        )
        content[sections.CODE] = self._code(index)
        parts = [sections.MAGIC]
        for section in _ORDER:
            if section in content:
                parts += [bytes([section]), unsigned(len(content[section])), content[section]]
        return b"".join(parts)

    def _globals(self) -> bytes:
        entries = []
        for number, item in enumerate(self._module.globals):
            mutable = item.mutable and number != self._state
            entries.append(bytes([_CODES[item.type], mutable]) + item.init + b"\x0b")
        start = self._checked.memory.minimum
        entries.append(b"\x7e\x01\x42" + signed(start) + b"\x0b")  # limit: mut i64
        entries.append(b"\x7f\x01\x41\x00\x0b")  # refused: mut i32
        return unsigned(len(entries)) + b"".join(entries)

    def _exports(self) -> list[bytes]:
        entries = [
            _export(global_name(index), 3, index) for index, _ in mutable_globals(self._checked)
        ]
        entries.append(_export(LIMIT, 3, self._first_global))
        entries.append(_export(REFUSED, 3, self._first_global + 1))
        entries.append(_export(MEMORY, 2, 0))
        if self._module.tables:
            entries.append(_export(TABLE, 1, 0))
        return entries

    def _code(self, index: str) -> bytes:
        module = self._module
        toll = _toll(index)
        call = b"\x10" + unsigned(self._grow)
        cuts: dict[int, list[tuple[int, int, bytes]]] = {}
        for number, at in self._checked.scan.grows:
            cuts.setdefault(number, []).append((at, 2, call))
        for number, at in self._checked.scan.throws:
            cuts.setdefault(number, []).append((at, 0, toll))
        stubs = set()
        if self._state is not None:
            first = len(module.imported("func"))
            stubs = {module.exports[name][1] - first for name in _ASYNCIFY_STARTS}
        parts = [unsigned(len(module.bodies) + 1)]
        for number, (start, end) in enumerate(module.bodies):
            body = module.raw[start:end]
            if number in stubs:
                body = _UNREACHABLE_BODY
            elif number in cuts:
                body = _splice(module.raw, start, end, sorted(cuts[number]))
            parts += [unsigned(len(body)), body]
        body = grow_body(index, self._first_global)
        return b"".join([*parts, unsigned(len(body)), body])


def grow_body(index: str, limit: int) -> bytes:
    """Code of the function that stands in for `memory.grow`; `limit` is its limit global.

    if pages == 0: return size
    if (u64)pages > limit - size: return -1
    if memory.grow(pages) == -1: refused = 1, trap
    """
    wide = index == "i64"
    extend = b"" if wide else b"\xad"  # i64.extend_i32_u
    minus_one = b"\x42\x7f" if wide else b"\x41\x7f"
    equal = b"\x51" if wide else b"\x46"
    zero = b"\x50" if wide else b"\x45"
    return (
        b"\x00"  # no locals
        + (b"\x20\x00" + zero + b"\x04\x40\x3f\x00\x0f\x0b")  # eqz if return memory.size
        + (b"\x20\x00" + extend + b"\x23" + unsigned(limit) + b"\x3f\x00" + extend + b"\x7d")
        + (b"\x56\x04\x40" + minus_one + b"\x0f\x0b")  # i64.gt_u if return -1
        + (b"\x20\x00\x40\x00\x22\x00" + minus_one + equal)  # grow, keep, == -1
        + (b"\x04\x40\x41\x01\x24" + unsigned(limit + 1) + b"\x00\x0b")  # refused = 1, trap
        + b"\x20\x00\x0b"
    )


def _append(content: bytes | None, count: int, entries: list[bytes]) -> bytes:
    """A vector section with more entries at its end."""
    old = b"" if content is None else content[len(_count_bytes(content)) :]
    return unsigned(count + len(entries)) + old + b"".join(entries)


def _count_bytes(content: bytes) -> bytes:
    """The leading count, which need not be in its shortest form."""
    at = 0
    while content[at] >= 0x80:
        at += 1
    return content[: at + 1]


def _export(name: str, kind: int, index: int) -> bytes:
    raw = name.encode()
    return unsigned(len(raw)) + raw + bytes([kind]) + unsigned(index)


def _toll(index: str) -> bytes:
    """memory.copy of the first TOLL bytes onto themselves."""
    code = b"\x42" if index == "i64" else b"\x41"
    return code + b"\x00" + code + b"\x00" + code + signed(TOLL) + b"\xfc\x0a\x00\x00"


def _splice(raw: bytes, start: int, end: int, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """`raw[start:end]`; at each of `cuts`, (offset, size, new): `size` bytes become `new`."""
    parts = []
    for at, size, new in cuts:
        parts += [raw[start:at], new]
        start = at + size
    return b"".join([*parts, raw[start:end]])
