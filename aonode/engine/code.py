"""Walks function bodies: which instructions stand where.

The compiler checks that bodies are valid. This walk finds what is valid and yet forbidden
(state outside memory and globals), and the places that the patch rewrites.

Source: WebAssembly core specification 3.0, section 5.4 (instructions).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aonode.engine.wasm_reader import WasmModule, refuse

FORBIDDEN = {
    0x06: "try (legacy exceptions; rebuild with exnref exceptions)",
    0x07: "catch (legacy exceptions)",
    0x09: "rethrow (legacy exceptions)",
    0x12: "return_call",
    0x13: "return_call_indirect",
    0x14: "call_ref",
    0x15: "return_call_ref",
    0x18: "delegate (legacy exceptions)",
    0x19: "catch_all (legacy exceptions)",
    0x26: "table.set",
    0xD3: "ref.eq",
    0xD4: "ref.as_non_null",
    0xD5: "br_on_null",
    0xD6: "br_on_non_null",
    0xFB: "a GC instruction",
    0xFE: "an atomic instruction",
}
"""One-byte instructions that hide state, depend on the machine, or are outside the profile."""
FORBIDDEN_FC = {
    9: "data.drop",
    12: "table.init",
    13: "elem.drop",
    14: "table.copy",
    15: "table.grow",
    17: "table.fill",
}
"""The same, of those after prefix 0xfc."""

_NONE, _LEB, _LEB2, _FIXED4, _FIXED8, _SPECIAL, _BAD = range(7)
_SIMD_CONST = frozenset({12, 13})
SIMD_LANE_MEMORY = range(84, 92)
_SIMD_MEMORY = frozenset({*range(12), 92, 93})
_SIMD_LANE = range(21, 35)
_SIMD_END = 256
MEMORY_INIT, MEMORY_COPY, MEMORY_FILL = MEMORY_BULK = (8, 10, 11)
"""After prefix 0xfc."""
_BULK_NUMBERS = {8: 2, 10: 2, 11: 1, 16: 1}


def _immediates() -> bytes:
    """What follows each one-byte opcode."""
    table = bytearray([_BAD] * 256)
    for code in (0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)):
        table[code] = _NONE
    for code in (2, 3, 4, 0x0C, 0x0D, 0x10, *range(0x20, 0x26), 0x3F, 0x41, 0x42, 0xD0, 0xD2):
        table[code] = _LEB
    for code in (0x11, *range(0x28, 0x3F)):
        table[code] = _LEB2
    table[0x43] = _FIXED4
    table[0x44] = _FIXED8
    for code in (0x08, 0x0A, 0x0E, 0x1C, 0x1F, 0x24, 0x40, 0xFC, 0xFD):
        table[code] = _SPECIAL
    return bytes(table)


_IMMEDIATES = _immediates()


@dataclass(slots=True)
class Scan:
    """What the walk found."""

    grows: list[tuple[int, int]] = field(default_factory=list)
    """(body number, offset in the file) of every `memory.grow`, which is two bytes long."""
    throws: list[tuple[int, int]] = field(default_factory=list)
    """The same of every `throw` and `throw_ref`."""
    bulk: list[tuple[int, int]] = field(default_factory=list)
    """The same of every `memory.init`, `memory.copy` and `memory.fill`."""
    global_sets: set[tuple[int, int]] = field(default_factory=set)
    """(body number, global index) of every `global.set`."""


def scan_code(module: WasmModule) -> Scan:
    """Walk all bodies. Raises Invalid(FORBIDDEN_MODULE) naming function and instruction."""
    scan = Scan()
    walk = _Walk(module.raw, scan, len(module.imported("func")))
    for number, (start, end) in enumerate(module.bodies):
        walk.body(number, start, end)
    return scan


class _Walk:
    def __init__(self, raw: bytes, scan: Scan, imported: int) -> None:
        self._raw = raw
        self._scan = scan
        self._imported = imported
        self._number = 0

    def body(self, number: int, start: int, end: int) -> None:
        raw, table = self._raw, _IMMEDIATES
        self._number = number
        try:
            at = first_instruction(raw, start)
            while at < end:
                code = raw[at]
                kind = table[code]
                at += 1
                if kind == _NONE:
                    continue
                if kind == _LEB2:
                    while raw[at] >= 0x80:
                        at += 1
                    at += 1
                    kind = _LEB
                if kind == _LEB:
                    while raw[at] >= 0x80:
                        at += 1
                    at += 1
                elif kind == _FIXED4:
                    at += 4
                elif kind == _FIXED8:
                    at += 8
                elif kind == _SPECIAL:
                    at = self._special(code, at)
                else:
                    self._forbid(FORBIDDEN.get(code, f"the unknown instruction {code:#x}"))
        except IndexError:
            refuse(f"function {self._imported + number} ends inside an instruction")
        if at != end:
            refuse(f"function {self._imported + number} ends inside an instruction")

    def _forbid(self, what: str) -> None:
        function = self._imported + self._number
        refuse(f"function {function} uses {what}, which the module validator forbids")

    def _special(self, code: int, at: int) -> int:
        """Instructions with other immediates, and those the scan collects."""
        raw, number = self._raw, self._number
        if code == 0x24:  # global.set
            self._scan.global_sets.add((number, read_unsigned(raw, at)))
        elif code == 0x40:  # memory.grow
            if read_unsigned(raw, at) or raw[at]:
                self._forbid(f"memory.grow of memory {read_unsigned(raw, at)}")
            self._scan.grows.append((number, at - 1))
        elif code in (0x08, 0x0A):  # throw, throw_ref
            self._scan.throws.append((number, at - 1))
        elif code == 0xFC:
            self._bulk(at)
        elif code == 0xFD and read_unsigned(raw, at) >= _SIMD_END:
            self._forbid(f"the relaxed vector instruction 0xfd {read_unsigned(raw, at)}")
        return after(raw, at - 1)

    def _bulk(self, at: int) -> None:
        code = read_unsigned(self._raw, at)
        if code in FORBIDDEN_FC:
            self._forbid(FORBIDDEN_FC[code])
        if code > 17:
            self._forbid(f"the unknown instruction 0xfc {code}")
        if code in MEMORY_BULK:
            self._scan.bulk.append((self._number, at - 1))


def read_unsigned(raw: bytes, at: int) -> int:
    """The LEB128 number at `at`. Raises IndexError if `raw` ends in it."""
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def skip_number(raw: bytes, at: int) -> int:
    """Offset behind the LEB128 number at `at`."""
    while raw[at] >= 0x80:
        at += 1
    return at + 1


def after(raw: bytes, at: int) -> int:
    """Offset behind the instruction at `at`, which must be one that `scan_code` lets through."""
    code = raw[at]
    kind = _IMMEDIATES[code]
    at += 1
    if kind == _NONE:
        return at
    if kind == _LEB:
        return skip_number(raw, at)
    if kind == _LEB2:
        return skip_number(raw, skip_number(raw, at))
    if kind == _FIXED4:
        return at + 4
    if kind == _FIXED8:
        return at + 8
    return _after_special(raw, code, at)


def _after_special(raw: bytes, code: int, at: int) -> int:
    if code == 0x0A:  # throw_ref
        return at
    if code in (0x08, 0x24, 0x40):  # throw, global.set, memory.grow
        return skip_number(raw, at)
    if code == 0x0E:  # br_table
        return _skip_numbers(raw, at, read_unsigned(raw, at) + 2)
    if code == 0x1C:  # select with types
        return skip_number(raw, at) + read_unsigned(raw, at)
    if code == 0x1F:
        return catches(raw, at)[1]
    number = read_unsigned(raw, at)
    at = skip_number(raw, at)
    if code == 0xFC:
        return _skip_numbers(raw, at, _BULK_NUMBERS.get(number, 0))
    if number in _SIMD_CONST:
        return at + 16
    if number in _SIMD_LANE:
        return at + 1
    if number in _SIMD_MEMORY or number in SIMD_LANE_MEMORY:
        return _skip_numbers(raw, at, 2) + (number in SIMD_LANE_MEMORY)
    return at


def _skip_numbers(raw: bytes, at: int, count: int) -> int:
    for _ in range(count):
        at = skip_number(raw, at)
    return at


def catches(raw: bytes, at: int) -> tuple[list[int], int]:
    """Labels that a try_table's catches jump to, and the offset behind the instruction.

    `at` is the offset behind the opcode.
    """
    at = skip_number(raw, at)  # block type
    count = read_unsigned(raw, at)
    at = skip_number(raw, at)
    labels = []
    for _ in range(count):
        # catch and catch_ref name a tag
        at = skip_number(raw, at + 1) if raw[at] < 2 else at + 1
        labels.append(read_unsigned(raw, at))
        at = skip_number(raw, at)
    return labels, at


def first_instruction(raw: bytes, at: int) -> int:
    """Offset behind the declarations of a body's locals, which start at `at`."""
    groups = read_unsigned(raw, at)
    at = skip_number(raw, at)
    for _ in range(groups):
        at = skip_number(raw, at) + 1
    return at
