"""`ao-cbor-1`: the small clean convention for any language that compiles to WebAssembly.

A module exports its 32-bit `memory`, `alloc(length: i32) -> address: i32` and
`handle(address: i32, length: i32) -> i64`, and imports nothing. For each message the host asks
`alloc` for room, writes the input there and calls `handle`; the result is
`address << 32 | length` of the output. An exported `_initialize` runs once, at genesis.

In and out are CBOR (`protocols.abi`, `protocols.outbox`). What `alloc` gives is free again when
`handle` returns; the output may lie anywhere and is read before the next call. An address
outside the memory, from either, is BAD_OUTPUT.
"""

from __future__ import annotations

from aonode.engine.instance import Instance
from aonode.engine.session import Unreadable
from aonode.engine.validator import Checked
from aonode.engine.wasm_reader import FuncType, refuse
from protocols.wire.outcome import Status

FORMAT = "ao-cbor-1"
SHIM_ID = "ao-cbor-1/1"
"""Part of the profile: changes whenever the host would call a module otherwise."""
_INITIALIZE = "_initialize"
_EXPORTS = {
    "alloc": FuncType(("i32",), ("i32",)),
    "handle": FuncType(("i32", "i32"), ("i64",)),
}
_LOW = 0xFFFF_FFFF


def check_small(checked: Checked) -> None:
    """Raise Invalid(FORBIDDEN_MODULE) unless the module follows the convention."""
    module = checked.module
    if module.imports:
        refuse(f"import {module.imports[0]}: an {FORMAT} module imports nothing")
    if checked.memory.index64:
        refuse(f"a 64-bit memory; an {FORMAT} module has a 32-bit one")
    if module.exports.get("memory", ("", 0))[0] != "memory":
        refuse(f"the memory is not exported as 'memory', which {FORMAT} asks for")
    for name, wanted in _EXPORTS.items():
        found = module.exported_function(name)
        if found != wanted:
            refuse(f"export {name!r} is {found or 'missing'}; {FORMAT} asks for {wanted}")
    start = module.exported_function(_INITIALIZE)
    if start not in (None, FuncType((), ())):
        refuse(f"export {_INITIALIZE!r} is {start}; {FORMAT} asks for () -> ()")


class SmallGuest:
    """One `ao-cbor-1` instance."""

    def __init__(self, instance: Instance, output_bytes_max: int) -> None:
        self.instance = instance
        self._output_bytes_max = output_bytes_max
        self._alloc = instance.function("alloc", 1)
        self._handle = instance.function("handle", 2)

    def initialize(self) -> None:
        """Run the constructors, if the module has any. Raises Trapped."""
        if _INITIALIZE in self.instance.exports:
            self.instance.function(_INITIALIZE, 0)()

    def call(self, message: bytes) -> bytes:
        """Evaluate one message; its output. Raises Trapped or Unreadable."""
        length = len(message)
        address = self._alloc(length) & _LOW
        if address + length > self.instance.size():
            raise Unreadable(Status.BAD_OUTPUT)
        view = self.instance.view
        view[address : address + length] = message
        packed = self._handle(address, length)
        address, length = packed >> 32, packed & _LOW
        if address + length > self.instance.size():
            raise Unreadable(Status.BAD_OUTPUT)
        if length > self._output_bytes_max:
            raise Unreadable(Status.TOO_LARGE)
        return bytes(view[address : address + length])

    def settle(self) -> None:
        """Nothing is dead here: all of the memory is the module's."""
