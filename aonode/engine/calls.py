"""The raw path into wasm: ctypes straight onto wasmtime's C functions.

wasmtime-py's own call converts types for every argument and costs tens of microseconds; this path
costs about one. Functions that run guest code release the interpreter lock; the short ones keep
it, because getting it back from a busy thread can take milliseconds.
"""

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

_PATH = ffi.dll._name
_UNLOCKED = ctypes.CDLL(_PATH)
_LOCKED = ctypes.PyDLL(_PATH)
_LIBC = ctypes.PyDLL(None)

_VALUE_BYTES = 16
"""sizeof(wasmtime_val_raw_t): one argument or result."""


def _bind(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = library[name]
    function.restype = result
    function.argtypes = list(arguments)
    return function


_POINTER = ctypes.c_void_p
_call = _bind(
    _UNLOCKED, "wasmtime_func_call_unchecked", _POINTER, *[_POINTER] * 3, ctypes.c_size_t, _POINTER
)
_global_get = _bind(_LOCKED, "wasmtime_global_get", None, *[_POINTER] * 3)
_global_set = _bind(_LOCKED, "wasmtime_global_set", _POINTER, *[_POINTER] * 3)
memory_bytes = _bind(_LOCKED, "wasmtime_memory_data_size", ctypes.c_size_t, _POINTER, _POINTER)
"""Size of a memory in bytes, by context and memory address."""

memcmp = _bind(_LIBC, "memcmp", ctypes.c_int, _POINTER, _POINTER, ctypes.c_size_t)
memmove = _bind(_LIBC, "memmove", _POINTER, _POINTER, _POINTER, ctypes.c_size_t)
memchr = _bind(_LIBC, "memchr", _POINTER, _POINTER, ctypes.c_int, ctypes.c_size_t)
madvise = _bind(_LIBC, "madvise", ctypes.c_int, _POINTER, ctypes.c_size_t, ctypes.c_int)
memset = _bind(_LIBC, "memset", _POINTER, _POINTER, ctypes.c_int, ctypes.c_size_t)

_VALUE_OFFSET = ffi.wasmtime_val_t.of.offset
_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "v128": 4}
NUMBER_BYTES = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}


UNCAUGHT = "thrown Wasm exception"
"""What wasmtime says of an exception that nothing caught; it has no trap code."""
_GUESTS = frozenset(
    {
        wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS,
        wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS,
        wasmtime.TrapCode.INDIRECT_CALL_TO_NULL,
        wasmtime.TrapCode.BAD_SIGNATURE,
        wasmtime.TrapCode.INTEGER_OVERFLOW,
        wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO,
        wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER,
        wasmtime.TrapCode.UNREACHABLE,
        wasmtime.TrapCode.NULL_REFERENCE,
    }
)
"""Traps that follow from the module and its input alone, on every machine."""


class Trapped(Exception):
    """Guest code ended in a trap, or with an exception that nothing caught."""

    def __init__(self, text: str, *, machine: bool = False) -> None:
        """`machine`: the machine's doing, not the guest's."""
        super().__init__(text)
        self.machine = machine


def _raise_trap(pointer: int) -> None:
    trap = wasmtime.Trap._from_ptr(ctypes.cast(pointer, ctypes.POINTER(ffi.wasm_trap_t)))
    code, text = trap.trap_code, str(trap.message)
    raise Trapped(text, machine=code not in _GUESTS and UNCAUGHT not in text)


def _raise_error(pointer: int) -> None:
    error = wasmtime.WasmtimeError._from_ptr(
        ctypes.cast(pointer, ctypes.POINTER(ffi.wasmtime_error_t))
    )
    text = str(error)
    raise Trapped(text, machine=UNCAUGHT not in text)


class Context:
    """Raw address of a store's context; valid while `store` lives."""

    __slots__ = ("address", "store")

    def __init__(self, store: wasmtime.Store) -> None:
        self.store = store
        self.address = ctypes.cast(store._context(), _POINTER).value


class Function:
    """An exported function of integer parameters and at most one integer result."""

    __slots__ = ("_address", "_at", "_buffer", "_context", "_func", "_slots", "_trap", "_trap_at")

    def __init__(self, context: Context, func: wasmtime.Func, slots: int) -> None:
        self._context = context
        self._func = func
        self._address = ctypes.addressof(func._func)
        self._slots = max(slots, 1)
        self._buffer = (ctypes.c_uint64 * (self._slots * _VALUE_BYTES // 8))()
        self._at = ctypes.addressof(self._buffer)
        self._trap = _POINTER()
        self._trap_at = ctypes.addressof(self._trap)

    def __call__(self, *arguments: int) -> int:
        """Raw 64 bits of the result; of an i32, only the lower half has meaning.

        Raises Trapped.
        """
        buffer = self._buffer
        for index, argument in enumerate(arguments):
            buffer[2 * index] = argument
        error = _call(self._context.address, self._address, self._at, self._slots, self._trap_at)
        if error:
            _raise_error(error)
        trap = self._trap.value
        if trap:
            self._trap.value = None
            _raise_trap(trap)
        return buffer[0]


class Number:
    """A mutable global of a number type, as its little-endian bytes."""

    __slots__ = ("_address", "_context", "_global", "_size", "_value", "_value_at")

    def __init__(self, context: Context, item: wasmtime.Global, type_name: str) -> None:
        self._context = context
        self._global = item
        self._address = ctypes.addressof(item._global)
        self._size = NUMBER_BYTES[type_name]
        self._value = ffi.wasmtime_val_t()
        self._value.kind = ctypes.c_uint8(_KINDS[type_name])
        self._value_at = ctypes.addressof(self._value)

    def get(self) -> bytes:
        """The bits, little-endian."""
        _global_get(self._context.address, self._address, self._value_at)
        return ctypes.string_at(self._value_at + _VALUE_OFFSET, self._size)

    def set(self, raw: bytes) -> None:
        """Put back bits that `get` gave."""
        memmove(self._value_at + _VALUE_OFFSET, raw, self._size)
        error = _global_set(self._context.address, self._address, self._value_at)
        assert not error, "a mutable global takes a value of its own type"
