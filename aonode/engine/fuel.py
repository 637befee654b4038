"""Fuel: what running code costs, counted by the code itself.

wasmtime can meter, at 20 to 45 % of a module's time: it counts in every basic block. We count
less often and never less: code pays in advance for what it may go on to run.

A function is cut into stretches. One starts

- at the start of the function, and at the start of every loop's body;
- after a `br_if`, and at the start of each arm of an `if`;
- after an `end` that jumps only can reach;
- after any other `end` of a construct out of which something may jump further than that `end`.

After the remaining `end`s the stretch goes on in which the construct began. An instruction that can
be reached counts 1 in its stretch, block, loop, try_table, else and end count 0. A stretch that
counts at most `MERGE` (after jumps: `MERGE_JUMPED`) is added to the one it lies in, the last one
first; functions and loops keep theirs, and count at least 1. Every stretch is paid for where it
starts, by subtracting from a global; at loops, and in functions that call others, a counter below
zero traps. All code between two such checks is without cycles, so it is bounded by its size.

Bulk memory instructions also pay for their bytes, and each throw a toll (`rewrite`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aonode.engine.code import after, catches, read_unsigned, skip_number

FUEL_RULES = "stretches-1"
"""Part of the profile: changes whenever any code would cost something else."""
MERGE = 48
MERGE_JUMPED = 12

_BLOCK, _LOOP, _IF, _ELSE, _TRY_TABLE, _END = 0x02, 0x03, 0x04, 0x05, 0x1F, 0x0B
_BR, _BR_IF, _BR_TABLE, _RETURN, _UNREACHABLE = 0x0C, 0x0D, 0x0E, 0x0F, 0x00
_THROW, _THROW_REF, _CALL, _CALL_INDIRECT = 0x08, 0x0A, 0x10, 0x11
_LEAVES = frozenset({_RETURN, _UNREACHABLE, _THROW, _THROW_REF})
_GLOBAL_GET, _I32_CONST, _LOCAL_GET = 0x23, 0x41, 0x20
_EQZ, _EQ, _OR = 0x45, 0x46, 0x72


@dataclass(slots=True)
class Stretch:
    """Instructions that are paid for together, at `at` (an offset in the file)."""

    at: int
    parent: Stretch | None
    """The one it may be added to; None for functions and loops."""
    merge: int = 0
    """It is added to its parent if it costs no more than this."""
    checks: bool = False
    cost: int = 0


@dataclass(slots=True)
class Decided:
    """An `if` or a `br_if` that goes one way only, because Asyncify's state is 0 for ever."""

    start: int
    """Offset of the instruction, and"""
    at: int
    """behind it."""
    taken: bool
    """Whether its condition is true."""
    other: int = 0
    """Of an `if`, offset of its `else`; 0 if it has none."""


@dataclass(slots=True)
class _Construct:
    opcode: int
    outer: Stretch
    alive: bool
    """Its start can be reached."""
    skips: bool = False
    """An `if` whose condition may be false, as long as no `else` came."""
    falls: bool = False
    """The end of an `if`'s first arm can be reached."""
    reached: bool = False
    """Something jumps to its end."""
    escaped: bool = False
    """Something in it may jump further than its end."""
    decided: Decided | None = None


@dataclass(slots=True)
class _Guesses:
    """Known values on top of the operand stack, None for unknown ones; -1 is 'not zero'."""

    values: list[int | None] = field(default_factory=list)

    def pop(self) -> int | None:
        return self.values.pop() if self.values else None

    def apply(self, opcode: int) -> None:
        """An instruction of `_EQZ`, `_EQ`, `_OR`; all others forget everything."""
        if opcode == _EQZ:
            value = self.pop()
            self.values.append(None if value is None else int(value == 0))
        elif opcode == _EQ:
            a, b = self.pop(), self.pop()
            known = a is not None and b is not None and a >= 0 and b >= 0
            self.values.append(int(a == b) if known else None)
        elif opcode == _OR:
            a, b = self.pop(), self.pop()
            if a == 0 or b == 0:
                self.values.append(b if a == 0 else a)
            else:
                self.values.append(None if a is None and b is None else -1)
        else:
            self.values.clear()


def stretches(
    raw: bytes, start: int, end: int, zero: int | None
) -> tuple[list[Stretch], list[Decided]]:
    """The stretches of one body (instructions in `raw[start:end]`) that have to be paid for.

    `zero`: a global known to be 0 for ever (Asyncify's state); the branches that this decides come
    second. The body has passed `scan_code`.
    """
    walk = _Walk(raw, start, -1 if zero is None else zero)
    walk.run(start, end)
    for stretch in reversed(walk.found):
        parent = stretch.parent
        if parent is not None and stretch.cost <= stretch.merge:
            parent.cost += stretch.cost
            stretch.cost = 0
        elif parent is None:
            stretch.cost = max(stretch.cost, 1)
    return [stretch for stretch in walk.found if stretch.cost], walk.decided


class _Walk:
    def __init__(self, raw: bytes, start: int, zero: int) -> None:
        self._raw = raw
        self._zero = zero
        self._now = self._entry = Stretch(start, None)
        self.found = [self._entry]
        self.decided: list[Decided] = []
        self._open = [_Construct(_BLOCK, self._entry, True)]
        self._alive = True
        self._guesses = _Guesses()

    def run(self, at: int, end: int) -> None:
        raw = self._raw
        while at < end:
            opcode = raw[at]
            start, at = at, after(raw, at)
            if opcode <= _CALL_INDIRECT or opcode == _TRY_TABLE:
                if opcode in (_CALL, _CALL_INDIRECT):
                    self._entry.checks = True
                    self._now.cost += self._alive
                else:
                    self._control(opcode, start, at)
                if opcode != _BLOCK:
                    self._guesses.values.clear()
            else:
                self._now.cost += self._alive
                self._guess(opcode, start)

    def _guess(self, opcode: int, at: int) -> None:
        guesses = self._guesses
        if opcode == _GLOBAL_GET:
            known = read_unsigned(self._raw, at + 1) == self._zero
            guesses.values.append(0 if known else None)
        elif opcode == _I32_CONST:
            value = self._raw[at + 1]
            guesses.values.append(value if value < 64 else None)
        elif opcode == _LOCAL_GET:
            guesses.values.append(None)
        else:
            guesses.apply(opcode)

    def _control(self, opcode: int, start: int, at: int) -> None:
        """`at` is the offset behind the instruction."""
        if opcode == _END:
            self._end(at)
        elif opcode == _ELSE:
            self._else(start, at)
        elif opcode in (_BLOCK, _LOOP, _IF, _TRY_TABLE):
            self._begin(opcode, start, at)
        else:
            self._now.cost += self._alive
            if self._alive and opcode in _LEAVES:
                self._jump(len(self._open) - 1)
                self._alive = False
            elif opcode in (_BR, _BR_IF):
                self._branch(opcode, start, at)
            elif opcode == _BR_TABLE:
                self._table(start + 1)

    def _stretch(self, at: int, parent: Stretch | None, merge: int = MERGE) -> None:
        self._now = Stretch(at, parent, merge)
        self.found.append(self._now)

    def _begin(self, opcode: int, start: int, at: int) -> None:
        construct = _Construct(opcode, self._now, self._alive)
        if opcode == _TRY_TABLE and self._alive:
            for label in catches(self._raw, start + 1)[0]:
                self._jump(label)
        if opcode == _IF:
            self._now.cost += self._alive
            known = self._guesses.pop()
            if self._alive and known is not None:
                construct.decided = self._decide(start, at, known)
            construct.skips = self._alive and not known
            self._alive = self._alive and known != 0
            if construct.skips and self._alive:
                self._stretch(at, self._now)
        elif opcode == _LOOP and self._alive:
            self._stretch(at, None)
            self._now.checks = True
        self._open.append(construct)

    def _decide(self, start: int, at: int, known: int) -> Decided:
        decided = Decided(start, at, known != 0)
        self.decided.append(decided)
        return decided

    def _else(self, start: int, at: int) -> None:
        construct = self._open[-1]
        if construct.decided is not None:
            construct.decided.other = start
        construct.falls = self._alive
        self._alive = construct.skips
        construct.skips = False
        if self._alive:
            self._stretch(at, construct.outer)

    def _end(self, at: int) -> None:
        construct = self._open.pop()
        falls = self._alive or construct.falls or construct.skips
        jumped = construct.reached and construct.opcode != _LOOP
        self._alive = falls or jumped
        if not self._open:
            return
        if jumped and not falls:
            self._stretch(at, construct.outer, MERGE_JUMPED)
        elif construct.escaped and falls:
            self._stretch(at, construct.outer)
        else:
            self._now = construct.outer

    def _branch(self, opcode: int, start: int, at: int) -> None:
        known = self._guesses.pop() if opcode == _BR_IF else -1
        if opcode == _BR_IF and self._alive and known is not None:
            self._decide(start, at, known)
        if not self._alive or known == 0:
            return
        self._jump(read_unsigned(self._raw, start + 1))
        if known is None:
            self._stretch(at, self._now)
        else:
            self._alive = False

    def _table(self, at: int) -> None:
        raw = self._raw
        count = read_unsigned(raw, at) + 1
        for _ in range(count if self._alive else 0):
            at = skip_number(raw, at)
            self._jump(read_unsigned(raw, at))
        self._alive = False

    def _jump(self, label: int) -> None:
        """Something here may go to the end (of a loop: to the start) of that construct."""
        inside = len(self._open) - label
        self._open[inside - 1].reached = True
        for construct in self._open[inside:]:
            construct.escaped = True
