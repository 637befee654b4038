"""Older emscripten formats: their names are exchanged for today's, and the rest is one host.

- `wasm32-unknown-emscripten`: imports and exports have the one-letter names of one release build;
  times are passed by address, 64-bit results through `setTempRet0`; the clock stands at 0.
- `...2`: the same with full names, and a few more imports.
- `...3`: as today's 32-bit modules but for a few names.

All three run `main(0, 0)` after the constructors; today's loader does not. The first has no
exports that say where its stack ends, so nothing of it is ever zeroed: what lies there stays part
of the state. An import whose meaning differs from today's gets a name of its own, with the number
of the format: `NATIVES` has both.

Source: behaviour of AO's loader for these formats.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aonode.engine.leb import unsigned, vector
from aonode.engine.patch import binary
from aonode.engine.rewrite import contents
from aonode.engine.wasm_reader import EXPORT, IMPORT, KINDS, Import, read_module


@dataclass(frozen=True, slots=True)
class Names:
    """What a format calls otherwise."""

    imports: dict[str, str] = field(default_factory=dict)
    """`module.name` today, by `module.name` there."""
    exports: dict[str, str] = field(default_factory=dict)
    """Name today, by name there."""


_WASI = "wasi_snapshot_preview1."
_LETTERS = {
    "a": "env._emscripten_date_now/1",
    "b": "env.setTempRet0/1",
    "c": _WASI + "fd_close",
    "d": "env.__syscall_fcntl64",
    "e": "env.__syscall_unlinkat",
    "f": _WASI + "fd_write",
    "g": "env.__syscall_openat",
    "h": "env.getTempRet0/1",
    "i": "env._mktime_js/2",
    "j": "env._tzset_js/2",
    "k": "env.emscripten_memcpy_big",
    "l": "env.exit",
    "m": "env.system/1",
    "n": "env.strftime",
    "o": _WASI + "fd_seek",
    "p": "env._emscripten_throw_longjmp",
    "q": "env.emscripten_resize_heap",
    "r": "env.__syscall_lstat64",
    "s": "env.__syscall_renameat",
    "t": "env.__syscall_rmdir",
    "u": _WASI + "environ_get",
    "v": _WASI + "environ_sizes_get",
    "w": "env.__syscall_dup3",
    "x": "env.invoke_vii",
    "y": _WASI + "fd_read",
    "z": "env.__syscall_ioctl",
    "A": "env._emscripten_get_now_is_monotonic",
    "B": "env._gmtime_js/2",
    "C": "env._localtime_js/2",
    "D": "env.abort",
}
_SECOND = ("_gmtime_js", "_localtime_js", "_mktime_js", "_tzset_js", "_mmap_js", "_munmap_js")
"""Imports of the second format that differ from today's; and those that are as in the first:"""
_FIRST = ("_emscripten_date_now", "getTempRet0", "setTempRet0", "system")

OLD_FORMATS: dict[str, Names] = {
    "wasm32-unknown-emscripten": Names(
        imports={f"a.{letter}": name for letter, name in _LETTERS.items()},
        exports={
            "E": "memory",
            "F": "__wasm_call_ctors",
            "G": "handle",
            "H": "main",
            "I": "__indirect_function_table",
            "J": "malloc",
            "K": "__errno_location",
            "L": "setThrew",
            "M": "stackSave",
            "N": "stackRestore",
            "O": "stackAlloc",
        },
    ),
    "wasm32-unknown-emscripten2": Names(
        imports={
            **{f"env.{name}": f"env.{name}/2" for name in _SECOND},
            **{f"env.{name}": f"env.{name}/1" for name in _FIRST},
        }
    ),
    "wasm32-unknown-emscripten3": Names(exports={"setTempRet0": "_emscripten_tempret_set"}),
}
"""By Module-Format."""


def with_new_names(raw: bytes, format: str) -> bytes:
    """The module under today's names; `raw` itself if its format has them.

    Raises Invalid(FORBIDDEN_MODULE) for what is no module. One that may not be run is left for the
    validator to refuse.
    """
    names = OLD_FORMATS.get(format)
    return raw if names is None else renamed(raw, names)


def renamed(raw: bytes, names: Names) -> bytes:
    """A module that imports functions only, under other names; any other as it is."""
    module = read_module(raw)
    if any(item.kind != "func" for item in module.imports):
        return raw
    content = contents(module)
    if module.imports:
        content[IMPORT] = vector([_import(item, names) for item in module.imports])
    if module.exports:
        content[EXPORT] = vector(
            [
                _text(names.exports.get(name, name)) + bytes([KINDS.index(kind)]) + unsigned(index)
                for name, (kind, index) in module.exports.items()
            ]
        )
    return binary(content)


def _import(item: Import, names: Names) -> bytes:
    assert isinstance(item.desc, int), "a function import names its type"
    owner, _, name = names.imports.get(str(item), str(item)).partition(".")
    return _text(owner) + _text(name) + b"\0" + unsigned(item.desc)


def _text(text: str) -> bytes:
    raw = text.encode()
    return unsigned(len(raw)) + raw
