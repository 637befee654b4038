"""Emscripten modules, aos among them: how one is checked, linked with its shims, and called.

A message and the environment are JSON texts, put with a NUL on the module's stack (or, where that
is small, on its heap); `handle(message, env)` answers the address of a JSON text. Between
messages the stack is dead, and it is zeroed, so that the state is canonical.

Genesis, as AO's loader does it: `emscripten_stack_init`, stack cookies, `__wasm_call_ctors`, and
in older formats `main`.
"""

from __future__ import annotations

import mmap
import re
import sys
from dataclasses import dataclass

import wasmtime

from aonode.engine.calls import Context, Function, Trapped, madvise, memchr, memset
from aonode.engine.emscripten import func_type
from aonode.engine.instance import Instance
from aonode.engine.old_formats import OLD_FORMATS
from aonode.engine.pages import plain_constant
from aonode.engine.patch import LONGJMP_TAG
from aonode.engine.session import Unreadable
from aonode.engine.shims import Shims, pointer_type, write_shims
from aonode.engine.validator import Checked
from aonode.engine.wasm_reader import FuncType, refuse
from protocols.limits import PAGE_BYTES
from protocols.wire.outcome import Status

FORMATS = (
    "wasm32-unknown-emscripten4",
    "wasm32-unknown-emscripten-metering",
    "wasm64-unknown-emscripten-draft_2024_02_15",
    "wasm64-unknown-emscripten-draft_2024_10_16-metering",
    *OLD_FORMATS,
)
"""Module-Formats of this convention. Fuel is ours, so the metering ones run like the others."""

_COOKIES = (34821223).to_bytes(4, "little") + (2310721022).to_bytes(4, "little")
_COOKIE_AT_ZERO = (1668509029).to_bytes(4, "little")
_STACK_SHARE = 4
"""A call's texts go on the stack if they fill at most this part (1/4) of it."""
_STACK_KEPT_BYTES = 64 << 10
"""So much of the stack's top is written over: giving pages back costs as much again when they are
touched, and most messages use no more."""
_MADV_DONTNEED = 4
_U32 = 0xFFFF_FFFF
_RETURNS_GLOBAL = re.compile(
    rb"(?:\x00|\x01\x01\x7f\x23[\x00-\x7f]\x21\x00)\x23([\x00-\x7f]|[\x80-\xff]\x80{3}\x00)\x0b"
)
"""A body that just returns a global, plain or with Asyncify's useless read of its state. The
global's number is as short as it can be, or as long, as linkers write it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the host has to know of a module beyond its types."""

    pointer: str
    stack_pointer: int
    """Index of that global."""
    stack_top: int
    """Address just above the stack: where the stack pointer stands between messages."""
    data_end: int
    """End of the module's data; below it a page dropped by the kernel would not be zero."""
    heap: bool
    """Whether `malloc` and `free` are exported."""
    bounded: bool
    """Whether the module says where its stack ends. If not, the stack is state like the rest."""
    main: int | None
    """How many parameters the `main` has that is to be called at genesis; None for no call."""


_EXPORTS = {"handle": "pp:p", "setThrew": "pi:", "__wasm_call_ctors": ":"}
_STACK_EXPORTS = {"emscripten_stack_init": ":", "emscripten_stack_get_end": ":p"}
_UNBOUNDED = "wasm32-unknown-emscripten"
"""The format without `_STACK_EXPORTS`."""


def check_aos(checked: Checked, data_end: int, format: str) -> tuple[Layout, Shims]:
    """Layout and shims of a module. Raises Invalid(FORBIDDEN_MODULE) naming what is wrong."""
    pointer = pointer_type(checked)
    if pointer == "i64" and not format.startswith("wasm64"):
        refuse(f"a 64-bit memory; {format} has a 32-bit one")
    bounded = format != _UNBOUNDED
    for name, letters in (_EXPORTS | (_STACK_EXPORTS if bounded else {})).items():
        found = checked.module.exported_function(name)
        wanted = func_type(letters, pointer)
        if found != wanted:
            refuse(f"export {name!r} is {found or 'missing'}; an emscripten module has {wanted}")
    if not checked.module.tables:
        refuse("the module has no table, which emscripten modules have")
    stack_pointer = _stack_pointer(checked, pointer)
    top = plain_constant(checked.module.globals[stack_pointer].init)
    if top is None or top % 16 or top > checked.memory.minimum << 16:
        refuse(f"the stack starts at {top}, which is not an aligned address of the memory")
    exported = checked.module.exported_function
    heap = exported("malloc") == FuncType((pointer,), (pointer,))
    heap = heap and exported("free") == FuncType((pointer,), ())
    main = _main(checked) if format in OLD_FORMATS else None
    layout = Layout(pointer, stack_pointer, top, data_end, heap, bounded, main)
    return layout, write_shims(checked, stack_pointer)


def _main(checked: Checked) -> int | None:
    found = checked.module.exported_function("main")
    if found is not None and found not in (FuncType(("i32",) * n, ("i32",)) for n in (0, 2)):
        refuse(f"export 'main' is {found}; an emscripten module has (i32, i32) -> (i32), or none")
    return None if found is None else len(found.params)


def _stack_pointer(checked: Checked, pointer: str) -> int:
    """Index of the stack pointer: the global that `emscripten_stack_get_current` returns, or what
    older modules call `stackSave`."""
    module = checked.module
    saves = module.exports.get("stackSave", ("", 0))
    kind, index = module.exports.get("emscripten_stack_get_current", saves)
    own = index - len(module.imported("func"))
    if kind == "func" and 0 <= own < len(module.bodies):
        start, end = module.bodies[own]
        body = _RETURNS_GLOBAL.fullmatch(module.raw[start:end])
        number = body[1][0] & 0x7F if body else len(module.globals)
        if number < len(module.globals):
            found = module.globals[number]
            if found.mutable and found.type == pointer:
                return number
    refuse("'emscripten_stack_get_current' does not just return the stack pointer")


class AosModule:
    """A compiled module with its compiled shims: makes linked instances."""

    def __init__(
        self,
        module: wasmtime.Module,
        pre: wasmtime.Module,
        post: wasmtime.Module,
        layout: Layout,
    ) -> None:
        self._module = module
        self._pre = pre
        self._post = post
        self._imports = tuple(
            name if (owner, name) == LONGJMP_TAG else f"{owner}.{name}"
            for owner, name in ((item.module, item.name or "") for item in module.imports)
        )
        self.layout = layout
        self.stack_end = 0

    def probe(self, context: Context) -> None:
        """Learn where the stack ends, from an instance that is thrown away. Raises as `link`."""
        main, _ = self.link(context)
        if not self.layout.bounded:
            # Nothing is known of it but what it cannot reach below: the data, or address 0.
            below = self.layout.data_end <= self.layout.stack_top
            self.stack_end = self.layout.data_end if below else 0
            return
        exports = main.exports(context.store)
        for name in ("emscripten_stack_init", "emscripten_stack_get_end"):
            function = exports[name]
            assert isinstance(function, wasmtime.Func), f"checked: {name} is a function"
            end = Function(context, function, 1)()
        end &= _U32 if self.layout.pointer == "i32" else -1
        # The loader keeps address 0 for another cookie.
        self.stack_end = end or 4
        if self.stack_end + len(_COOKIES) > self.layout.stack_top:
            refuse(f"the stack ends at {end}, above its start at {self.layout.stack_top}")

    def link(self, context: Context) -> tuple[wasmtime.Instance, Function]:
        """A fresh instance and its `run`. Raises WasmtimeError or Trap."""
        store = context.store
        pre = wasmtime.Instance(store, self._pre, []).exports(store)
        main = wasmtime.Instance(store, self._module, [pre[name] for name in self._imports])
        sources = {"main": main.exports(store), "pre": pre}
        wanted = [sources[item.module][item.name or ""] for item in self._post.imports]
        run = wasmtime.Instance(store, self._post, wanted).exports(store)["run"]
        assert isinstance(run, wasmtime.Func), "the shims export run"
        return main, Function(context, run, 3)


class AosGuest:
    """One emscripten instance."""

    def __init__(
        self,
        instance: Instance,
        run: Function,
        module: AosModule,
        env: bytes,
        output_bytes_max: int,
    ) -> None:
        self.instance = instance
        self._run = run
        self._layout = layout = module.layout
        self._stack_end = stack_end = module.stack_end
        self._env = env + b"\0"
        self._output_bytes_max = output_bytes_max
        self._mask = _U32 if layout.pointer == "i32" else -1
        start = -(-(stack_end + len(_COOKIES)) // PAGE_BYTES)
        if layout.bounded:
            instance.dead = range(start, max(start, layout.stack_top // PAGE_BYTES))
        self._room = (layout.stack_top - stack_end) // _STACK_SHARE
        self._heap: tuple[Function, Function] | None = None
        if layout.heap:
            self._heap = instance.function("malloc", 1), instance.function("free", 1)

    def initialize(self) -> None:
        """Genesis. Raises Trapped."""
        if self._layout.bounded:
            self.instance.function("emscripten_stack_init", 0)()
            view = self.instance.view
            view[self._stack_end : self._stack_end + len(_COOKIES)] = _COOKIES
            view[: len(_COOKIE_AT_ZERO)] = _COOKIE_AT_ZERO
        self.instance.function("__wasm_call_ctors", 0)()
        if self._layout.main is not None:
            self.instance.function("main", max(self._layout.main, 1))(*[0] * self._layout.main)

    def call(self, message: bytes) -> bytes:
        """Evaluate one message; its output. Raises Trapped or Unreadable."""
        text = message + b"\0"
        if len(text) + len(self._env) + 32 > self._room:
            return self._call_on_heap(text)
        top = self._layout.stack_top
        first = (top - len(text)) & ~15
        second = (first - len(self._env)) & ~15
        self._put(first, text)
        self._put(second, self._env)
        return self._output(self._run(first, second, second))

    def _call_on_heap(self, text: bytes) -> bytes:
        if self._heap is None:
            raise Trapped("the message does not fit on the stack, and malloc is not exported")
        allocate, release = self._heap
        addresses = []
        for part in (text, self._env):
            address = allocate(len(part)) & self._mask
            if not address or address + len(part) > self.instance.size():
                raise Trapped(f"malloc({len(part)}) gave {address}")
            self._put(address, part)
            addresses.append(address)
        output = self._output(self._run(*addresses, self._layout.stack_top))
        for address in addresses:
            release(address)
        return output

    def _put(self, address: int, text: bytes) -> None:
        self.instance.view[address : address + len(text)] = text

    def _output(self, raw: int) -> bytes:
        """The C string at an address. Raises Unreadable."""
        address = raw & self._mask
        left = self.instance.size() - address
        if not address or left <= 0:
            raise Unreadable(Status.BAD_OUTPUT)
        base = self.instance.base
        end = memchr(base + address, 0, min(left, self._output_bytes_max + 1))
        if end:
            return bytes(self.instance.view[address : end - base])
        bad = left <= self._output_bytes_max
        raise Unreadable(Status.BAD_OUTPUT if bad else Status.TOO_LARGE)

    def settle(self) -> None:
        """Zero the dead stack, if it is known which that is."""
        if not self._layout.bounded:
            return
        start = self._stack_end + len(_COOKIES)
        end = self._layout.stack_top
        base = self.instance.base
        low = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        high = (end - _STACK_KEPT_BYTES) & -mmap.PAGESIZE
        if low >= high or self._layout.data_end > low or sys.platform != "linux":
            memset(base + start, 0, end - start)
            return
        memset(base + start, 0, low - start)
        error = madvise(base + low, high - low, _MADV_DONTNEED)
        assert not error, "madvise of memory that is ours"
        memset(base + high, 0, end - high)
