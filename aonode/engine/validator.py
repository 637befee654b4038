"""What a module may be: all of its state lies in one linear memory and in number globals.

Refused is what would hide state elsewhere or depend on the machine: dropping segments, changing
tables, reference-typed globals, several or shared memories, GC, and every import that is not on
the list of its convention. What is refused here is refused by every node alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from aonode.engine.code import Scan, scan_code
from aonode.engine.wasm_reader import GlobalType, Limits, WasmModule, read_module, refuse

VALIDATOR_ID = "validator-1"
"""Part of the profile: changes whenever a module that was accepted would be refused, or back."""

RESERVED_PREFIX = "aonode."
"""Export names that the patch uses."""
TABLE_ELEMENTS_MAX = 1 << 20
"""Largest initial table. The real modules have about a thousand."""
FUNCTIONS_MAX = 1 << 17
"""Most functions of one module."""
GLOBALS_MAX = 1 << 12
"""Most globals of one module: each mutable one is in every state root."""
_NUMBERS = frozenset({"i32", "i64", "f32", "f64", "v128"})


@dataclass(frozen=True, slots=True)
class Checked:
    """A module that passed, and what the walk through its code found."""

    module: WasmModule
    scan: Scan
    mutable: tuple[tuple[int, GlobalType], ...]
    """(index, type) of its mutable globals: its state outside memory."""

    @property
    def memory(self) -> Limits:
        return self.module.memories[0]


def check(raw: bytes) -> Checked:
    """Validate a binary. Raises Invalid(FORBIDDEN_MODULE) naming the offender."""
    module = read_module(raw)
    _check_counts(module)
    _check_memory(module)
    for name in module.exports:
        if name.startswith(RESERVED_PREFIX):
            refuse(f"export {name!r}: names that start with {RESERVED_PREFIX!r} are reserved")
    for item in module.imports:
        if item.kind != "func":
            refuse(f"import {item} is a {item.kind}; a module may import functions only")
    for index, (element, limits) in enumerate(module.tables):
        if limits.minimum > TABLE_ELEMENTS_MAX:
            refuse(f"table {index} has {limits.minimum} elements, more than {TABLE_ELEMENTS_MAX}")
        if element != "funcref":
            refuse(f"table {index} holds {element}; only funcref tables are allowed")
    for index, own in enumerate(module.globals):
        if own.type not in _NUMBERS:
            refuse(f"global {index} has type {own.type}; reference-typed globals hide state")
    mutable = tuple((i, g) for i, g in enumerate(module.globals) if g.mutable)
    return Checked(module, scan_code(module), mutable)


def _check_counts(module: WasmModule) -> None:
    for what, count, most in (
        ("functions", len(module.functions), FUNCTIONS_MAX),
        ("globals", len(module.globals), GLOBALS_MAX),
        ("types", len(module.types), FUNCTIONS_MAX),
        ("tables", len(module.tables), 1),
        ("tags", len(module.tags), GLOBALS_MAX),
    ):
        if count > most:
            refuse(f"the module has {count} {what}; at most {most} are allowed")


def _check_memory(module: WasmModule) -> None:
    if len(module.memories) != 1:
        refuse(f"the module has {len(module.memories)} memories; exactly one is allowed")
    if not module.memories[0].minimum:
        refuse("the module's memory starts with no pages; give it at least one")
    if module.memories[0].shared:
        refuse("the module's memory is shared between threads")
