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
_SIMD_LANE_MEMORY = range(84, 92)
_SIMD_MEMORY = frozenset({*range(12), 92, 93})
_SIMD_LANE = range(21, 35)
_SIMD_END = 256


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
            at = self._locals(start)
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

    def _leb(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7

    def _locals(self, at: int) -> int:
        groups, at = self._leb(at)
        for _ in range(groups):
            _, at = self._leb(at)
            at += 1
        return at

    def _special(self, code: int, at: int) -> int:
        """Instructions with other immediates, and those the scan collects."""
        if code == 0x24:  # global.set
            index, at = self._leb(at)
            self._scan.global_sets.add((self._number, index))
            return at
        if code == 0x40:  # memory.grow
            index, after = self._leb(at)
            if index or after != at + 1:
                self._forbid(f"memory.grow of memory {index}")
            self._scan.grows.append((self._number, at - 1))
            return after
        if code in (0x08, 0x0A):  # throw, throw_ref
            self._scan.throws.append((self._number, at - 1))
            return self._leb(at)[1] if code == 0x08 else at
        if code == 0x0E:  # br_table
            count, at = self._leb(at)
            for _ in range(count + 1):
                _, at = self._leb(at)
            return at
        if code == 0x1C:  # select with types
            count, at = self._leb(at)
            return at + count
        if code == 0x1F:
            return self._try_table(at)
        return self._bulk(at) if code == 0xFC else self._simd(at)

    def _try_table(self, at: int) -> int:
        _, at = self._leb(at)
        count, at = self._leb(at)
        for _ in range(count):
            kind = self._raw[at]
            at += 1
            if kind < 2:  # catch, catch_ref name a tag
                _, at = self._leb(at)
            _, at = self._leb(at)
        return at

    def _bulk(self, at: int) -> int:
        code, at = self._leb(at)
        if code in FORBIDDEN_FC:
            self._forbid(FORBIDDEN_FC[code])
        if code > 17:
            self._forbid(f"the unknown instruction 0xfc {code}")
        for _ in range({8: 2, 10: 2, 11: 1, 16: 1}.get(code, 0)):
            _, at = self._leb(at)
        return at

    def _simd(self, at: int) -> int:
        code, at = self._leb(at)
        if code >= _SIMD_END:
            self._forbid(f"the relaxed vector instruction 0xfd {code}")
        if code in _SIMD_CONST:
            return at + 16
        if code in _SIMD_LANE:
            return at + 1
        if code in _SIMD_MEMORY or code in _SIMD_LANE_MEMORY:
            _, at = self._leb(at)
            _, at = self._leb(at)
            return at + (code in _SIMD_LANE_MEMORY)
        return at
