"""The two modules around an emscripten module, written for its exact imports.

A module needs its imports before it exists, and the imports need its memory and table. So `pre`
exports what the module imports, as jumps through a table that is empty at first; `post`, made
last, imports memory, table and stack pointer and fills that table with the bodies. No import
calls Python. `post` counts fuel, and gets its addresses down to 32 bits, by `patch.patch_shim`.

`invoke_*` is emscripten's try block: longjmp throws the tag `lj`, and the invoke that catches it
puts the stack pointer back and says so by `setThrew`.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from aonode.engine import patch
from aonode.engine.emscripten import NATIVES, Native, func_type
from aonode.engine.rewrite import narrow_memory
from aonode.engine.shim_time import calendar, strftime
from aonode.engine.validator import Checked
from aonode.engine.wasm_reader import FuncType, Import, Limits, refuse

INVOKE = "invoke_"
_BORROWED = {
    "tempret": ("_emscripten_tempret_set", "i:"),
    "malloc": ("malloc", "p:p"),
    "errno": ("__errno_location", ":p"),
}
"""Exports of the module that bodies call, by the name they have there, and their types."""

_CASTS = {
    "i32": """(func $wide (param i32) (result i64) (i64.extend_i32_u (local.get 0)))
(func $narrow (param i64) (result i32) (i32.wrap_i64 (local.get 0)))""",
    "i64": """(func $wide (param i64) (result i64) (local.get 0))
(func $narrow (param i64) (result i64) (local.get 0))""",
}
_HEAP = """
(func $resize_heap (param $asked PTR) (result i32)
  (local $old i64) (local $new i64) (local $max i64) (local $need i64)
  (local.set $max (i64.mul (global.get $limit) (i64.const 65536)))
  (local.set $old (i64.mul (call $wide (memory.size)) (i64.const 65536)))
  (local.set $need (call $wide (local.get $asked)))
  (if (i64.gt_u (local.get $need) (local.get $max)) (then (return (i32.const 0))))
  ;; a fifth more than there was, but at most 96 MiB more than asked
  (local.set $new (i64.add (local.get $old) (i64.div_u (local.get $old) (i64.const 5))))
  (if (i64.gt_u (local.get $new) (i64.add (local.get $need) (i64.const 100663296)))
    (then (local.set $new (i64.add (local.get $need) (i64.const 100663296)))))
  (if (i64.lt_u (local.get $new) (local.get $need))
    (then (local.set $new (local.get $need))))
  (local.set $new (i64.and (i64.add (local.get $new) (i64.const 65535)) (i64.const -65536)))
  (if (i64.gt_u (local.get $new) (local.get $max)) (then (local.set $new (local.get $max))))
  (if (i64.le_u (local.get $new) (local.get $old)) (then (return (i32.const 1))))
  (if (PTR.eq (PTR.const -1) (memory.grow (call $narrow (i64.div_u
      (i64.sub (local.get $new) (local.get $old)) (i64.const 65536)))))
    (then (global.set $refused (i32.const 1)) unreachable))
  (i32.const 1))
"""
_RUN = """
(func (export "run") (param $message PTR) (param $env PTR) (param $stack PTR) (result PTR)
  (local $kept PTR) (local $answer PTR)RESET
  (local.set $kept (global.get $sp))
  (global.set $sp (local.get $stack))
  (local.set $answer (call $handle (local.get $message) (local.get $env)))
  (global.set $sp (local.get $kept))
  (local.get $answer))
"""
_TEMPRET0 = "(global $tempret0 (mut i32) (i32.const 0))"
_RESET = "\n  (global.set $tempret0 (i32.const 0))"
"""The upper halves of 64-bit values that older modules keep outside their memory are no state."""
_LIBRARY = ("calendar", "strftime", "heap")
"""Parts that bodies may need, in the order they are written."""


@dataclass(frozen=True, slots=True)
class Shims:
    """Text of the two modules."""

    pre: str
    post: str


def pointer_type(checked: Checked) -> str:
    """i32 or i64: the type of the module's addresses."""
    return "i64" if checked.memory.index64 else "i32"


def shim_id() -> str:
    """Part of the profile: changes with any byte of a body here or in `emscripten`."""
    parts = []
    for pointer in ("i32", "i64"):
        parts += [_library(pointer, name) for name in _LIBRARY]
        parts += [_CASTS[pointer], _RUN, _throw(0), _TEMPRET0, _RESET]
        parts += [_invoke(FuncType((pointer, "i32"), ("i32",)), 0, pointer)]
        for (module, name), native in sorted(NATIVES.items()):
            parts += [module, name, str(native.type(pointer)), native.text(pointer)]
    return "emscripten/" + blake3("\0".join(parts).encode()).hexdigest()


def write_shims(checked: Checked, stack_pointer: int) -> Shims:
    """Shims for one module. Raises Invalid(FORBIDDEN_MODULE) naming an import it may not have.

    `stack_pointer` is the index of that global.
    """
    pointer = pointer_type(checked)
    pre = ['(module (tag $lj (export "lj"))']
    late: list[str] = []
    needs: set[str] = set()
    for item in checked.module.imports:
        kind = _type_of(checked, item)
        throws = str(item) == patch.LONGJMP and kind == FuncType((), ())
        native = None if throws or _is_invoke(item) else _native(item, kind, pointer)
        if native is not None and native.near:
            pre.append(f'(func (export "{item}") {_signature(kind)} {native.text(pointer)})')
            continue
        number = len(late)
        pre.append(_jump(item, kind, number))
        if throws:
            late.append(_throw(number))
        elif native is None:
            late.append(_invoke(kind, number, pointer))
        else:
            needs |= native.needs
            late.append(f"(func $late{number} {_signature(kind)} {native.text(pointer)})")
    pre.append(f'(table $late (export "late") {len(late)} {len(late)} funcref))')
    post = ["(module", _imports(checked, pointer, stack_pointer, len(late), needs)]
    post += [_CASTS[pointer]]
    post += [_library(pointer, name) for name in _LIBRARY if name in needs]
    post += late
    functions = " ".join(f"$late{number}" for number in range(len(late)))
    post.append(f"(elem (table $late) (i32.const 0) func {functions})")
    if "tempret0" in needs:
        post.append(_TEMPRET0)
    reset = _RESET if "tempret0" in needs else ""
    post.append(_RUN.replace("PTR", pointer).replace("RESET", reset) + ")")
    return Shims("\n".join(pre), "\n".join(post))


def _library(pointer: str, name: str) -> str:
    if name == "heap":
        return _HEAP.replace("PTR", pointer)
    return calendar(pointer) if name == "calendar" else strftime(pointer)


def _type_of(checked: Checked, item: Import) -> FuncType:
    assert isinstance(item.desc, int), "the validator lets functions only be imported"
    if item.desc >= len(checked.module.types):
        refuse(f"import {item} has type {item.desc}, which is not declared")
    return checked.module.types[item.desc]


def _is_invoke(item: Import) -> bool:
    return item.module == "env" and item.name.startswith(INVOKE)


def _native(item: Import, kind: FuncType, pointer: str) -> Native:
    native = NATIVES.get((item.module, item.name))
    if native is None:
        refuse(f"import {item} {kind} is not on the list of what a module may call")
    if native.type(pointer) != kind:
        refuse(f"import {item} has type {kind}; it is {native.type(pointer)}")
    return native


def _signature(kind: FuncType) -> str:
    params = "".join(f"(param {name})" for name in kind.params)
    return params + "".join(f"(result {name})" for name in kind.results)


def _arguments(kind: FuncType) -> str:
    return " ".join(f"(local.get {number})" for number in range(len(kind.params)))


def _jump(item: Import, kind: FuncType, number: int) -> str:
    return (
        f"(type $t{number} (func {_signature(kind)}))"
        f'(func (export "{item}") (type $t{number}) '
        f"(call_indirect $late (type $t{number}) {_arguments(kind)} (i32.const {number})))"
    )


def _throw(number: int) -> str:
    """longjmp. It pays what a throw in a module pays (`rewrite.TOLL`)."""
    return f"(func $late{number} (throw $lj))"


def _invoke(kind: FuncType, number: int, pointer: str) -> str:
    """`invoke_x(index, arguments...)`: call the table entry, catch a longjmp."""
    if not kind.params or kind.params[0] != pointer:
        refuse(f"an invoke import has type {kind}, which does not start with a function's address")
    callee = FuncType(kind.params[1:], kind.results)
    arguments = " ".join(f"(local.get {number})" for number in range(1, len(kind.params)))
    index = "(local.get 0)" if pointer == "i32" else "(i32.wrap_i64 (local.get 0))"
    nothing = " ".join(f"({name}.const 0)" for name in kind.results)
    return f"""(type $callee{number} (func {_signature(callee)}))
(func $late{number} {_signature(kind)} (local $kept {pointer})
  (local.set $kept (global.get $sp))
  (block $caught
    (try_table (catch $lj $caught)
      (call_indirect $table (type $callee{number}) {arguments} {index}) return)
    unreachable)
  (global.set $sp (local.get $kept))
  (call $setThrew ({pointer}.const 1) (i32.const 0))
  {nothing})"""


def _imports(checked: Checked, pointer: str, stack_pointer: int, late: int, needs: set[str]) -> str:
    memory, table = checked.memory, checked.module.tables[0][1]
    if memory.index64:
        memory = narrow_memory(memory)
    lines = [
        f'(import "main" "{patch.MEMORY}" (memory {_limits(memory)}))',
        f'(import "main" "{patch.TABLE}" (table $table {_limits(table)} funcref))',
        f'(import "main" "{patch.global_name(stack_pointer)}" (global $sp (mut {pointer})))',
        f'(import "main" "{patch.LIMIT}" (global $limit (mut i64)))',
        f'(import "main" "{patch.REFUSED}" (global $refused (mut i32)))',
        f'(import "main" "{patch.FUEL}" (global (mut i64)))',
        f'(import "main" "setThrew" (func $setThrew (param {pointer} i32)))',
        f'(import "main" "handle" (func $handle (param {pointer} {pointer}) (result {pointer})))',
        '(import "pre" "lj" (tag $lj))',
        f'(import "pre" "late" (table $late {late} {late} funcref))',
    ]
    for need, (name, letters) in _BORROWED.items():
        if need not in needs or (need == "tempret" and pointer == "i64"):
            continue
        found, wanted = checked.module.exported_function(name), func_type(letters, pointer)
        if found != wanted:
            refuse(
                f"export {name!r} is {found or 'missing'}; what the module imports needs {wanted}"
            )
        lines.append(f'(import "main" "{name}" (func ${need} {_signature(wanted)}))')
    return "\n".join(lines)


def _limits(limits: Limits) -> str:
    return f"{limits.minimum}" if limits.maximum is None else f"{limits.minimum} {limits.maximum}"
