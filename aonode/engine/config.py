"""How wasmtime is set up: everything that could make two machines disagree, fixed in one place.

The semantic half (`SEMANTICS`) enters the profile id; the rest only costs time or space.
"""

from __future__ import annotations

import ctypes
import sys
import threading

import wasmtime
from wasmtime import _ffi as ffi

from protocols.errors import Invalid, Reason

WASM_STACK_BYTES = 4 << 20
"""Native stack wasm may use. Running out of it depends on the compiler, so it ends as REFUSED."""
THREAD_STACK_BYTES = 8 << 20
"""Stack of threads that run wasm: `WASM_STACK_BYTES`, the host's own frames, and room."""
_THREAD_STACK_BYTES_MIN = 6 << 20
"""What is asked of a thread: the main thread of an 8 MiB limit has a little less than 8 MiB."""
MEMORY_RESERVATION_BYTES = 4 << 30
"""Address space per instance: all a 32-bit memory can reach, so that it never moves."""

SEMANTICS: tuple[tuple[str, bool], ...] = (
    ("bulk_memory", True),
    ("exceptions", True),
    ("memory64", True),
    ("multi_value", True),
    ("reference_types", True),
    ("simd", True),
    ("component_model", False),
    ("custom_page_sizes", False),
    ("function_references", False),
    ("gc", False),
    ("multi_memory", False),
    ("relaxed_simd", False),
    ("stack_switching", False),
    ("tail_call", False),
    ("threads", False),
    ("wide_arithmetic", False),
)
"""WebAssembly proposals of the profile, each set explicitly: no release default decides."""

_checked = threading.local()


def make_engine() -> wasmtime.Engine:
    """A wasmtime engine of the profile; raises `threading.stack_size` for threads yet to start."""
    if threading.stack_size() < THREAD_STACK_BYTES:
        threading.stack_size(THREAD_STACK_BYTES)
    config = wasmtime.Config()
    for proposal, enabled in SEMANTICS:
        setattr(config, f"wasm_{proposal}", enabled)
    config.cranelift_nan_canonicalization = True
    config.cranelift_opt_level = "speed"
    # Guests have no clock and no other tenant's secrets in reach: Spectre fences buy nothing.
    config.cranelift_flag_set("enable_heap_access_spectre_mitigation", "false")
    config.cranelift_flag_set("enable_table_access_spectre_mitigation", "false")
    # wasmtime asks that this is no smaller, though nothing here is asynchronous.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), 2 * WASM_STACK_BYTES)
    config.max_wasm_stack = WASM_STACK_BYTES
    config.memory_reservation = MEMORY_RESERVATION_BYTES
    config.memory_reservation_for_growth = 0
    config.memory_may_move = False
    config.memory_init_cow = True
    return wasmtime.Engine(config)


def require_stack() -> None:
    """Raise Invalid(REFUSED) on a thread whose stack is too small to run wasm safely.

    Threads that started before the engine may have any size; wasmtime would run off their end.
    """
    if getattr(_checked, "ok", False):
        return
    size = _stack_bytes()
    if size is not None and size < _THREAD_STACK_BYTES_MIN:
        raise Invalid(
            Reason.REFUSED,
            f"this thread's stack has {size} bytes and wasm needs {_THREAD_STACK_BYTES_MIN}; make "
            "the engine before the threads that use it; for the main thread raise `ulimit -s`",
        )
    _checked.ok = True


def _stack_bytes() -> int | None:
    """Stack size of the current thread in bytes; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "pthread_getattr_np"):
        return None
    libc.pthread_self.restype = ctypes.c_ulong
    attributes = ctypes.create_string_buffer(256)
    size = ctypes.c_size_t()
    if libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes):
        return None
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    libc.pthread_attr_destroy(attributes)
    return size.value
