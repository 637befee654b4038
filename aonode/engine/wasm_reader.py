"""Reads the sections of a WebAssembly binary: all that the validator, patch and hosts ask for.

Rule 1: sizes come from the file, so every read is bounded by the section it is in.
Rule 2: what this reader does not know is refused (`FORBIDDEN_MODULE`), never skipped; whether
function bodies are valid is the compiler's business.

Source: WebAssembly core specification 3.0, binary format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from protocols.errors import Invalid, Reason

MAGIC = b"\0asm\x01\0\0\0"
VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
REFERENCE_TYPES = {0x70: "funcref", 0x6F: "externref", 0x69: "exnref"}
KINDS = ("func", "table", "memory", "global", "tag")
TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT = 1, 2, 3, 4, 5, 6, 7
START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = 8, 9, 10, 11, 12, 13
_VECTORS = frozenset({TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, TAG})
_FUNCTION_TYPE = 0x60
_END = 0x0B


@dataclass(frozen=True, slots=True)
class FuncType:
    """Parameters and results, as names: `i32`, `funcref`, ..."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True, slots=True)
class Limits:
    """Size of a memory (64 KiB pages) or table (elements)."""

    minimum: int
    maximum: int | None
    shared: bool
    index64: bool


@dataclass(frozen=True, slots=True)
class GlobalType:
    """A global and the raw bytes of its initialiser, without the end marker."""

    type: str
    mutable: bool
    init: bytes = b""


@dataclass(frozen=True, slots=True)
class Import:
    """`desc` is a type index (func, tag), `Limits` (table, memory) or a `GlobalType`."""

    module: str
    name: str
    kind: str
    desc: int | Limits | GlobalType

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class WasmModule:
    """A module's declarations, and where its sections and function bodies lie in `raw`."""

    raw: bytes
    sections: list[tuple[int, int, int]] = field(default_factory=list)
    """(id, start of the content, size) in file order."""
    types: list[FuncType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    tables: list[tuple[str, Limits]] = field(default_factory=list)
    memories: list[Limits] = field(default_factory=list)
    globals: list[GlobalType] = field(default_factory=list)
    exports: dict[str, tuple[str, int]] = field(default_factory=dict)
    bodies: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) of each function body, locals included."""
    tags: list[int] = field(default_factory=list)

    def imported(self, kind: str) -> list[Import]:
        """Imports of one kind, in index order."""
        return [item for item in self.imports if item.kind == kind]

    def function_type(self, index: int) -> FuncType:
        """Type of a function by its index, imports first. Raises Invalid."""
        imported = self.imported("func")
        try:
            if index < len(imported):
                desc = imported[index].desc
                assert isinstance(desc, int)
                return self.types[desc]
            return self.types[self.functions[index - len(imported)]]
        except IndexError:
            refuse(f"function {index} or its type is not declared")

    def exported_function(self, name: str) -> FuncType | None:
        """Type of an exported function; None if there is none of that name."""
        kind, index = self.exports.get(name, ("", 0))
        return self.function_type(index) if kind == "func" else None


def refuse(detail: str) -> NoReturn:
    """Raise Invalid(FORBIDDEN_MODULE)."""
    raise Invalid(Reason.FORBIDDEN_MODULE, detail)


class Reader:
    """A cursor over `raw[at:end]`."""

    __slots__ = ("at", "end", "raw")

    def __init__(self, raw: bytes, at: int, end: int) -> None:
        self.raw = raw
        self.at = at
        self.end = end

    def byte(self) -> int:
        at = self.at
        if at >= self.end:
            refuse(f"the module ends inside a section, at byte {at}")
        self.at = at + 1
        return self.raw[at]

    def take(self, size: int) -> bytes:
        start = self.at
        if size > self.end - start:
            refuse(f"a field of {size} bytes at byte {start} crosses the end of its section")
        self.at = start + size
        return self.raw[start : self.at]

    def unsigned(self, bits: int = 32) -> int:
        """LEB128, at most `bits` bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                refuse(f"a number at byte {self.at} is longer than {bits} bits")
        if value >> bits:
            refuse(f"the number {value} at byte {self.at} is larger than {bits} bits")
        return value

    def name(self) -> str:
        raw = self.take(self.unsigned())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            refuse(f"the name {raw[:64]!r} is not UTF-8")

    def value_type(self) -> str:
        code = self.byte()
        known = VALUE_TYPES.get(code) or REFERENCE_TYPES.get(code)
        if known is None:
            refuse(f"value type {code:#x} (GC or typed references?) is not part of the profile")
        return known

    def limits(self) -> Limits:
        flags = self.byte()
        if flags > 7:
            refuse(f"limits flags {flags:#x} (custom page size?) are not part of the profile")
        bits = 64 if flags & 4 else 32
        minimum = self.unsigned(bits)
        maximum = self.unsigned(bits) if flags & 1 else None
        return Limits(minimum, maximum, shared=bool(flags & 2), index64=bool(flags & 4))

    def table(self) -> tuple[str, Limits]:
        code = self.byte()
        if code not in REFERENCE_TYPES:
            refuse(f"a table of element type {code:#x} is not part of the profile")
        return REFERENCE_TYPES[code], self.limits()

    def global_type(self) -> tuple[str, bool]:
        return self.value_type(), self.byte() == 1

    def constant(self) -> bytes:
        """A constant expression without its end marker."""
        start = self.at
        while True:
            code = self.byte()
            if code == _END:
                return self.raw[start : self.at - 1]
            if code in (0x41, 0x42, 0x23, 0xD2):  # i32.const i64.const global.get ref.func
                while self.byte() >= 0x80:
                    pass
            elif code in (0x43, 0x44):  # f32.const f64.const
                self.take(4 if code == 0x43 else 8)
            elif code == 0xD0:  # ref.null
                self.byte()
            elif code == 0xFD:
                if self.unsigned() != 12:  # v128.const
                    refuse("a constant expression has an instruction outside the profile")
                self.take(16)
            elif code not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):  # extended constants
                refuse(f"a constant expression has instruction {code:#x}, outside the profile")


def read_module(raw: bytes) -> WasmModule:
    """The declarations of a binary. Raises Invalid(FORBIDDEN_MODULE) naming what is wrong."""
    if raw[:8] != MAGIC:
        refuse(f"the module starts with {raw[:8].hex()}, which is no WebAssembly 1 binary")
    module = WasmModule(raw)
    reader = Reader(raw, 8, len(raw))
    while reader.at < reader.end:
        section = reader.byte()
        size = reader.unsigned()
        start = reader.at
        reader.take(size)
        if section > TAG:
            refuse(f"section {section} at byte {start} is unknown")
        module.sections.append((section, start, size))
        _read_section(module, section, Reader(raw, start, start + size))
    if len(module.bodies) != len(module.functions):
        refuse(f"{len(module.functions)} functions are declared, {len(module.bodies)} have code")
    return module


def _read_section(module: WasmModule, section: int, reader: Reader) -> None:
    if section == CODE:
        for _ in range(reader.unsigned()):
            size = reader.unsigned()
            start = reader.at
            reader.take(size)
            module.bodies.append((start, start + size))
    elif section in _VECTORS:
        for _ in range(reader.unsigned()):
            _read_entry(module, section, reader)


def _read_entry(module: WasmModule, section: int, reader: Reader) -> None:
    if section == TYPE:
        form = reader.byte()
        if form != _FUNCTION_TYPE:
            refuse(f"type {len(module.types)} has form {form:#x}: GC types are not in the profile")
        params = tuple(reader.value_type() for _ in range(reader.unsigned()))
        results = tuple(reader.value_type() for _ in range(reader.unsigned()))
        module.types.append(FuncType(params, results))
    elif section == IMPORT:
        module.imports.append(_read_import(reader))
    elif section == FUNCTION:
        module.functions.append(reader.unsigned())
    elif section == TABLE:
        module.tables.append(reader.table())
    elif section == MEMORY:
        module.memories.append(reader.limits())
    elif section == GLOBAL:
        kind, mutable = reader.global_type()
        module.globals.append(GlobalType(kind, mutable, reader.constant()))
    elif section == EXPORT:
        name = reader.name()
        code = reader.byte()
        if code >= len(KINDS):
            refuse(f"export {name!r} has unknown kind {code}")
        if name in module.exports:
            refuse(f"two exports are named {name!r}")
        module.exports[name] = (KINDS[code], reader.unsigned())
    else:
        reader.byte()
        module.tags.append(reader.unsigned())


def _read_import(reader: Reader) -> Import:
    module, name = reader.name(), reader.name()
    code = reader.byte()
    if code == 0:
        return Import(module, name, "func", reader.unsigned())
    if code == 1:
        return Import(module, name, "table", reader.table()[1])
    if code == 2:
        return Import(module, name, "memory", reader.limits())
    if code == 3:
        return Import(module, name, "global", GlobalType(*reader.global_type()))
    if code == 4:
        reader.byte()
        return Import(module, name, "tag", reader.unsigned())
    refuse(f"import {module}.{name} has unknown kind {code}")
