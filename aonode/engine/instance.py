"""One live instance: its store, memory, globals and functions, reached without conversions.

The memory never moves (`config`), so its address is read once. Guest addresses are checked
against the memory's present size before every host access: behind it lies a hole.
"""

from __future__ import annotations

import ctypes

import wasmtime

from aonode.engine import patch
from aonode.engine.calls import Context, Function, Number, memory_bytes
from protocols.limits import PAGE_BYTES


class Instance:
    """A patched module in a store of its own, or with shims linked in by `aos`."""

    def __init__(
        self,
        context: Context,
        instance: wasmtime.Instance,
        mutable: tuple[tuple[int, str], ...],
        limit_pages: int,
    ) -> None:
        """`mutable`: (index, type) of the state's globals; `limit_pages`: its memory limit."""
        self.context = context
        self.exports = instance.exports(context.store)
        memory = self.exports[patch.MEMORY]
        assert isinstance(memory, wasmtime.Memory), "the patch exports the memory"
        self._memory = memory
        self._memory_at = ctypes.addressof(memory._memory)
        self.base: int = ctypes.addressof(memory.data_ptr(context.store).contents)
        reach = max(limit_pages * PAGE_BYTES, 1)
        self.view = memoryview((ctypes.c_ubyte * reach).from_address(self.base)).cast("B")
        self._numbers = tuple(
            self.number(patch.global_name(index), kind) for index, kind in mutable
        )
        self._refused = self.number(patch.REFUSED, "i32")
        self._fuel = self.number(patch.FUEL, "i64")
        self.dead = range(0)
        """Pages that are zero whenever the guest is settled."""
        self.number(patch.LIMIT, "i64").set(limit_pages.to_bytes(8, "little"))

    def number(self, name: str, type_name: str) -> Number:
        """An exported mutable global."""
        item = self.exports[name]
        assert isinstance(item, wasmtime.Global), f"{name} is a global of the patch"
        return Number(self.context, item, type_name)

    def function(self, name: str, slots: int) -> Function:
        """An exported function with at most `slots` parameters or results."""
        item = self.exports[name]
        assert isinstance(item, wasmtime.Func), f"the convention checked that {name} is a function"
        return Function(self.context, item, slots)

    def size(self) -> int:
        """Memory size in bytes."""
        return int(memory_bytes(self.context.address, self._memory_at))

    def grow_to(self, size: int) -> None:
        """Grow to `size` bytes when state is put back. Raises WasmtimeError if there is none."""
        pages = (size - self.size()) // PAGE_BYTES
        if pages:
            self._memory.grow(self.context.store, pages)

    def globals(self) -> tuple[bytes, ...]:
        """Bits of the state's globals."""
        return tuple(number.get() for number in self._numbers)

    def set_globals(self, values: tuple[bytes, ...]) -> None:
        """Put back what `globals` gave, and forget a refusal."""
        for number, value in zip(self._numbers, values, strict=True):
            number.set(value)
        self._refused.set(bytes(4))

    def was_refused(self) -> bool:
        """True iff the machine, not the limit, denied memory in the last call."""
        return self._refused.get() != bytes(4)

    def set_fuel(self, fuel: int) -> None:
        """Fuel the next calls may use."""
        self._fuel.set(fuel.to_bytes(8, "little", signed=True))

    def fuel(self) -> int:
        """Fuel left; below zero if more was asked for than there was."""
        return int.from_bytes(self._fuel.get(), "little", signed=True)

    def close(self) -> None:
        """Free the store. Nothing of this instance may be used afterwards."""
        self.view.release()
        self.context.store.close()
