"""Rewrites function bodies: fuel, and 64-bit addresses in a 32-bit memory.

Fuel (`fuel`) is a global that goes down: a subtraction where a stretch starts, with a trap below
zero where the stretch checks. Bulk memory instructions become calls of appended functions that
first pay for their bytes; a throw pays `TOLL`, because unwinding takes that long.

Narrowing (`NARROW_ID`): a 64-bit memory becomes a 32-bit one, which is up to a seventh faster
because the machine's page protection then checks addresses. An address counts modulo 2**32 (in bulk
instructions, and as a constant offset, a larger one traps): no limit here lets a memory reach that
far, so only a module that would trap can tell.
"""

from __future__ import annotations

from aonode.engine import wasm_reader as sections
from aonode.engine.code import (
    MEMORY_BULK,
    MEMORY_COPY,
    MEMORY_FILL,
    MEMORY_INIT,
    SIMD_LANE_MEMORY,
    Scan,
    after,
    first_instruction,
    read_unsigned,
    skip_number,
)
from aonode.engine.fuel import Decided, Stretch, stretches
from aonode.engine.leb import signed, unsigned, vector
from aonode.engine.pages import plain_constant
from aonode.engine.wasm_reader import Limits, Reader, WasmModule, refuse

TOLL = 2000
"""Fuel of a throw."""
NARROW_ID = "narrow-1"
"""Part of the profile: changes with every change of what a 64-bit module computes or costs."""
PAGES_MAX = 1 << 16
"""Most pages of a 32-bit memory."""

_I32, _I64, _F32, _F64, _V128 = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B
_WRAP, _EXTEND_S, _EXTEND_U = b"\xa7", b"\xac", b"\xad"
_TRAP_IF = b"\x04\x40\x00\x0b"
_UNREACHABLE = b"\x00"
_DROP = b"\x1a"
_LEAVE = b"\x0c\x00"
"""`br 0`: to the end of the block it stands in."""
_BR_IF = 0x0D
_STORED = {0x36: _I32, 0x37: _I64, 0x38: _F32, 0x39: _F64, 0x3A: _I32, 0x3B: _I32}
"""Type of what a store stores; the others, up to 0x3e, store parts of an i64."""
_BULK_TYPES = {
    MEMORY_INIT: (_I64, _I32, _I32),
    MEMORY_COPY: (_I64, _I64, _I64),
    MEMORY_FILL: (_I64, _I32, _I64),
}
"""Parameters with a 64-bit memory: address, source or value, length."""

Edit = tuple[int, int, bytes]
"""(offset in the file, how many bytes there go away, what comes instead)."""


class Rewriter:
    """New code for a module, and the functions appended to it."""

    def __init__(
        self, module: WasmModule, scan: Scan, *, fuel: int, wide: bool, zero: int | None = None
    ) -> None:
        """`fuel`: index of the global. `wide`: its addresses are 64 bits. `zero`: see `fuel`."""
        self._module = module
        self._fuel = unsigned(fuel)
        self._wide = wide
        self._zero = zero
        self._edits: dict[int, list[Edit]] = {}
        self._bulk: dict[bytes, int] = {}
        self._types: list[bytes] = []
        self._bodies: list[bytes] = []
        self._first = len(module.imported("func")) + len(module.functions)
        for number, at in scan.throws:
            self.edit(number, (at, 0, self.pay(TOLL)))
        for number, at in scan.bulk:
            end = after(module.raw, at)
            self.edit(number, (at, end - at, b"\x10" + unsigned(self._bulk_function(at))))

    def edit(self, number: int, edit: Edit) -> None:
        """Change body `number` besides."""
        self._edits.setdefault(number, []).append(edit)

    def append(self, params: tuple[int, ...], results: tuple[int, ...], body: bytes) -> int:
        """Append a function; its index."""
        self._types.append(
            b"\x60" + vector([bytes([t]) for t in params]) + vector([bytes([t]) for t in results])
        )
        self._bodies.append(body)
        return self._first + len(self._bodies) - 1

    def sections(self, stubs: dict[int, bytes]) -> dict[int, bytes]:
        """Contents of the type, function and code section. `stubs` replace whole bodies."""
        module, content = self._module, contents(self._module)
        bodies = [
            stubs[number] if number in stubs else self._body(number)
            for number in range(len(module.bodies))
        ]
        count = len(module.types)
        indexes = [unsigned(count + n) for n in range(len(self._types))]
        return {
            sections.TYPE: extended(content.get(sections.TYPE), count, self._types),
            sections.FUNCTION: extended(
                content.get(sections.FUNCTION), len(module.functions), indexes
            ),
            sections.CODE: vector([unsigned(len(body)) + body for body in bodies + self._bodies]),
        }

    def _body(self, number: int) -> bytes:
        raw = self._module.raw
        start, end = self._module.bodies[number]
        first = first_instruction(raw, start)
        params = len(self._module.types[self._module.functions[number]].params)
        scratch = _Scratch(params + _locals(raw, start))
        paid, decided = stretches(raw, first, end, self._zero)
        edits = [(stretch.at, 0, self._charge(stretch, scratch)) for stretch in paid]
        own = self._edits.get(number, [])
        if self._wide:
            taken = {at for at, size, _ in own if size}
            edits += _narrow(raw, first, end, taken, scratch)
        edits = _fold(raw, decided, sorted(edits + own, key=lambda edit: edit[:2]))
        return scratch.declare(raw[start:first]) + splice(raw, first, end, edits)

    def pay(self, cost: int) -> bytes:
        """Code that takes fuel without looking."""
        return b"\x23" + self._fuel + b"\x42" + signed(cost) + b"\x7d\x24" + self._fuel

    def _charge(self, stretch: Stretch, scratch: _Scratch) -> bytes:
        """get, subtract, set; where it checks also: below zero, trap."""
        if not stretch.checks:
            return self.pay(stretch.cost)
        left = scratch.index(_I64)
        return (
            (b"\x23" + self._fuel + b"\x42" + signed(stretch.cost) + b"\x7d\x22" + left)
            + (b"\x24" + self._fuel + b"\x20" + left + b"\x42\x00\x53" + _TRAP_IF)
        )  # fmt: skip

    def _bulk_function(self, at: int) -> int:
        """The appended function that stands in for the bulk instruction at `at`."""
        raw = self._module.raw
        instruction = raw[at : after(raw, at)]
        if instruction not in self._bulk:
            code = read_unsigned(raw, at + 1)
            assert code in MEMORY_BULK, "the scan lists those"
            params = _BULK_TYPES[code] if self._wide else (_I32, _I32, _I32)
            self._bulk[instruction] = self.append(params, (), self._bulk_body(instruction, params))
        return self._bulk[instruction]

    def _bulk_body(self, instruction: bytes, params: tuple[int, ...]) -> bytes:
        get = [b"\x20" + bytes([number]) for number in range(3)]
        wide = [number for number in range(3) if params[number] == _I64]
        body = b"\x00"  # no locals
        if wide:
            body += b"".join(get[number] for number in wide) + b"\x84" * (len(wide) - 1)
            body += b"\x42\x20\x88\x50\x45" + _TRAP_IF  # (a | b) >> 32 is not 0: trap
        length = get[2] + (b"" if params[2] == _I64 else _EXTEND_U)
        body += b"\x23" + self._fuel + length + b"\x7d\x24" + self._fuel
        body += b"\x23" + self._fuel + b"\x42\x00\x53" + _TRAP_IF
        for number in range(3):
            body += get[number] + (_WRAP if number in wide else b"")
        return body + instruction + b"\x0b"


def _fold(raw: bytes, decided: list[Decided], edits: list[Edit]) -> list[Edit]:
    """`edits`, and those that leave the other way of each decided branch out.

    The compiler does not look at code behind a `br`, and would keep every value alive that a way
    never taken could bring.
    """
    folded: list[Edit] = []
    dropped: list[tuple[int, int]] = []
    for each in decided:
        if raw[each.start] == _BR_IF:
            label = raw[each.start + 1 : each.at]
            new = _DROP + (b"\x0c" + label if each.taken else b"")
            folded.append((each.start, each.at - each.start, new))
            continue
        folded.append((each.start, 1, _DROP + b"\x02"))  # the arm that is left becomes a block
        if each.taken and each.other:
            folded.append((each.other, 1, _LEAVE))
        elif each.other:
            folded.append((each.at, each.other + 1 - each.at, b""))
            dropped.append((each.at, each.other + 1))
        elif not each.taken:
            folded.append((each.at, 0, _LEAVE))
    if dropped:
        edits = [edit for edit in edits if not any(a <= edit[0] < b for a, b in dropped)]
    return sorted(folded + edits, key=lambda edit: edit[:2])


class _Scratch:
    """Locals added to a function, made when they are first asked for."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._types: list[int] = []

    def index(self, kind: int) -> bytes:
        """Encoded index of the local of that type."""
        if kind not in self._types:
            self._types.append(kind)
        return unsigned(self._first + self._types.index(kind))

    def declare(self, declared: bytes) -> bytes:
        """The declarations of a body's locals, and these."""
        entries = [b"\x01" + bytes([kind]) for kind in self._types]
        return extended(declared, read_unsigned(declared, 0), entries)


def _locals(raw: bytes, at: int) -> int:
    """How many locals a body declares."""
    groups = read_unsigned(raw, at)
    at = skip_number(raw, at)
    count = 0
    for _ in range(groups):
        count += read_unsigned(raw, at)
        at = skip_number(raw, at) + 1
    return count


def _narrow(raw: bytes, at: int, end: int, taken: set[int], scratch: _Scratch) -> list[Edit]:
    """Edits that make 64-bit addresses 32-bit ones, but where `taken` says it is done."""
    edits: list[Edit] = []
    while at < end:
        code, start, at = raw[at], at, after(raw, at)
        if start in taken:
            continue
        if 0x28 <= code <= 0x3E:
            stored = None if code < 0x36 else _STORED.get(code, _I64)
            edits.append(_narrow_access(raw, (start, start + 1, at), stored, scratch))
        elif code == 0x3F:  # memory.size
            edits.append((at, 0, _EXTEND_U))
        elif code == 0x40:  # memory.grow
            edits += [(start, 0, _WRAP), (at, 0, _EXTEND_S)]
        elif code == 0xFD:
            number = read_unsigned(raw, start + 1)
            if number <= 11 or number in SIMD_LANE_MEMORY or number in (92, 93):
                stored = _V128 if number == 11 or number in SIMD_LANE_MEMORY else None
                place = skip_number(raw, start + 1)
                edits.append(_narrow_access(raw, (start, place, at), stored, scratch))
    return edits


def _narrow_access(
    raw: bytes, where: tuple[int, int, int], stored: int | None, scratch: _Scratch
) -> Edit:
    """Of a load, or of a store of type `stored`.

    `where`: offsets of the instruction, of its alignment and offset, and of what follows.
    """
    start, place, end = where
    if read_unsigned(raw, skip_number(raw, place)) >> 32:
        return start, end - start, _UNREACHABLE
    if stored is None:
        return start, 0, _WRAP
    value = scratch.index(stored)
    return start, 0, b"\x21" + value + _WRAP + b"\x20" + value


def narrow_memory(limits: Limits) -> Limits:
    """The 32-bit memory for a 64-bit one."""
    most = limits.maximum
    return Limits(limits.minimum, None if most is None else min(most, PAGES_MAX), False, False)


def narrow_sections(module: WasmModule) -> dict[int, bytes]:
    """Contents of the memory and data section. Raises Invalid(FORBIDDEN_MODULE)."""
    (memory,) = module.memories
    if memory.minimum > PAGES_MAX:
        refuse(f"the memory starts with {memory.minimum} pages; at most {PAGES_MAX} are allowed")
    limits = narrow_memory(memory)
    flags = b"\x00" if limits.maximum is None else b"\x01"
    most = b"" if limits.maximum is None else unsigned(limits.maximum)
    content = contents(module)
    found = {sections.MEMORY: b"\x01" + flags + unsigned(limits.minimum) + most}
    if sections.DATA in content:
        found[sections.DATA] = _narrow_data(content[sections.DATA])
    return found


def _narrow_data(raw: bytes) -> bytes:
    reader = Reader(raw, 0, len(raw))
    segments = []
    for _ in range(reader.unsigned()):
        flags = reader.unsigned()
        segment = unsigned(flags)
        if flags == 2:
            segment += unsigned(reader.unsigned())
        if flags != 1:
            offset = plain_constant(reader.constant())
            if offset is None or offset >> 32:
                refuse("a data segment's offset is not a constant below 2**32")
            offset -= (offset >> 31) << 32
            segment += b"\x41" + signed(offset) + b"\x0b"
        size = reader.unsigned()
        segments.append(segment + unsigned(size) + reader.take(size))
    return vector(segments)


def contents(module: WasmModule) -> dict[int, bytes]:
    """Raw contents of all but the custom sections."""
    return {
        section: module.raw[start : start + size]
        for section, start, size in module.sections
        if section
    }


def extended(content: bytes | None, count: int, entries: list[bytes]) -> bytes:
    """A vector of `count` entries with more at its end."""
    old = b"" if content is None else content[skip_number(content, 0) :]
    return unsigned(count + len(entries)) + old + b"".join(entries)


def splice(raw: bytes, start: int, end: int, edits: list[Edit]) -> bytes:
    """`raw[start:end]` with `edits`, which are in order and do not overlap."""
    parts = []
    for at, size, new in edits:
        parts += [raw[start:at], new]
        start = at + size
    return b"".join([*parts, raw[start:end]])
