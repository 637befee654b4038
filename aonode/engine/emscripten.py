"""What an emscripten module may import, and what each import does.

One row per import: its type in both pointer widths, and its body as WebAssembly text. What is
not on the list is refused when the module is validated. The list has no way out: no clock (every
one says 10 000 ms), no randomness, no files (ENOENT), no commands; standard output is dropped.

In signatures `p` is a pointer (i32 or i64), `i` i32, `j` i64, `d` f64. 32-bit modules take 64-bit
values as two halves, low first, and return the upper half through `_emscripten_tempret_set`.

Source: AO's loader (behaviour of its emscripten 3.1 runtime); wasi_snapshot_preview1.
"""

from __future__ import annotations

from dataclasses import dataclass

from aonode.engine.wasm_reader import FuncType

CLOCK_MS = 10_000
"""What every clock says. The reference starts there too; aos seeds its string hash from it."""
EBADF, EINVAL, ENOENT, ENOSYS, ENOTTY, ERANGE, ESPIPE = 8, 28, 44, 52, 59, 68, 70
"""errno values of wasi and of emscripten's musl."""

_SYMBOLS = {"EBADF": EBADF, "EINVAL": EINVAL, "ERANGE": ERANGE}
_TYPES = {"i": "i32", "j": "i64", "d": "f64"}


def func_type(letters: str, pointer: str) -> FuncType:
    """The type that a signature in letters says, where pointers are `pointer`."""
    params, results = letters.split(":")
    types = _TYPES | {"p": pointer}
    return FuncType(tuple(types[c] for c in params), tuple(types[c] for c in results))


@dataclass(frozen=True, slots=True)
class Native:
    """One import. `wide`, `narrow`: its type in 64-bit and 32-bit modules."""

    wide: str
    body: str
    narrow: str = ""
    narrow_body: str = ""
    near: bool = False
    """The body needs neither memory nor table, so it need not be called through the late table."""
    needs: frozenset[str] = frozenset()
    """Parts of the library its body calls: `calendar`, `strftime`, `heap`, `tempret`, `tempret0`;
    and exports of the module: `malloc`, `errno`."""

    def type(self, pointer: str) -> FuncType:
        """Its type in a module whose pointers are `pointer`."""
        return func_type(self.narrow if pointer == "i32" and self.narrow else self.wide, pointer)

    def text(self, pointer: str) -> str:
        """Its body in such a module."""
        text = self.narrow_body if pointer == "i32" and self.narrow_body else self.body
        for symbol, value in _SYMBOLS.items():
            text = text.replace(symbol, str(value))
        size = 4 if pointer == "i32" else 8
        return (
            text.replace("DOUBLE", str(2 * size))
            .replace("BYTES", str(size))
            .replace("PTR", pointer)
        )


def _constant(signature: str, value: int, *, narrow: str = "") -> Native:
    return Native(signature, f"(i32.const {value})", narrow, near=True)


_TRAP = "unreachable"
_NOW = f"(f64.const {CLOCK_MS})"

_FD_WRITE = """(local $sum PTR) (local $k PTR)
  (if (i32.gt_u (i32.sub (local.get 0) (i32.const 1)) (i32.const 1))
    (then (return (i32.const EBADF))))
  (block $done (loop $next
    (br_if $done (PTR.ge_u (local.get $k) (local.get 2)))
    (local.set $sum (PTR.add (local.get $sum)
      (PTR.load offset=BYTES
        (PTR.add (local.get 1) (PTR.mul (local.get $k) (PTR.const DOUBLE))))))
    (local.set $k (PTR.add (local.get $k) (PTR.const 1)))
    (br $next)))
  (PTR.store (local.get 3) (local.get $sum))
  (i32.const 0)"""
_FD_READ = """(if (local.get 0) (then (return (i32.const EBADF))))
  (PTR.store (local.get 3) (PTR.const 0))
  (i32.const 0)"""
_FD_KNOWN = """(select (i32.const {known}) (i32.const EBADF)
  (i32.le_u (local.get 0) (i32.const 2)))"""
_FDSTAT = """(if (i32.gt_u (local.get 0) (i32.const 2)) (then (return (i32.const EBADF))))
  (i64.store (local.get 1) (i64.const 2))
  (i64.store offset=8 (local.get 1) (i64.const 0))
  (i64.store offset=16 (local.get 1) (i64.const 0))
  (i32.const 0)"""
_TZSET = """(PTR.store (local.get 0) (PTR.const 0)) (i32.store (local.get 1) (i32.const 0))
  (i32.store (local.get 2) (i32.const 0x435455)) (i32.store (local.get 3) (i32.const 0x435455))"""
_TZSET_OLD = """(local $zone PTR)
  (if (PTR.eqz (PTR.load (local.get 2))) (then
    (PTR.store (local.get 0) (PTR.const 0)) (i32.store (local.get 1) (i32.const 0))
    (local.set $zone (call $malloc (PTR.const 4)))
    (i32.store (local.get $zone) (i32.const 0x435455))
    (PTR.store (local.get 2) (local.get $zone))
    (PTR.store offset=BYTES (local.get 2) (local.get $zone))))"""
_SYSTEM_OLD = f"""(if (PTR.eqz (local.get 0)) (then (return (i32.const 0))))
  (i32.store (call $errno) (i32.const {ENOSYS}))
  (i32.const -1)"""
_GETCWD = """(if (PTR.eqz (local.get 1)) (then (return (i32.const -EINVAL))))
  (if (PTR.lt_u (local.get 1) (PTR.const 2)) (then (return (i32.const -ERANGE))))
  (i32.store16 (local.get 0) (i32.const 47))
  (i32.const 2)"""
_SECONDS = """(i64.or (i64.extend_i32_u (local.get 0))
  (i64.shl (i64.extend_i32_u (local.get 1)) (i64.const 32)))"""
_MKTIME_NARROW = """(local $t i64) (local.set $t (call $mktime (local.get 0)))
  (call $tempret (i32.wrap_i64 (i64.shr_u (local.get $t) (i64.const 32))))
  (i32.wrap_i64 (local.get $t))"""
_STRFTIME = "(call $strftime (local.get 0) (local.get 1) (local.get 2) (local.get 3))"
_CLOCK_GET = f"(i64.store (local.get {{at}}) (i64.const {CLOCK_MS * 1_000_000})) (i32.const 0)"
_COPY = "(memory.copy (local.get 0) (local.get 1) (local.get 2))"

_CAL = frozenset({"calendar"})

_WASI: dict[str, Native] = {
    "fd_write": Native("ippp:i", _FD_WRITE),
    "fd_read": Native("ippp:i", _FD_READ),
    "fd_close": Native("i:i", _FD_KNOWN.format(known=0), near=True),
    "fd_sync": Native("i:i", _FD_KNOWN.format(known=0), near=True),
    "fd_seek": Native("ijip:i", _FD_KNOWN.format(known=ESPIPE), "iiiip:i", near=True),
    "fd_fdstat_get": Native("ip:i", _FDSTAT),
    "environ_sizes_get": Native(
        "pp:i",
        "(PTR.store (local.get 0) (PTR.const 0)) (PTR.store (local.get 1) (PTR.const 0)) "
        "(i32.const 0)",
    ),
    "environ_get": _constant("pp:i", 0),
    "clock_time_get": Native("ijp:i", _CLOCK_GET.format(at=2), "iiip:i", _CLOCK_GET.format(at=3)),
    "proc_exit": Native("i:", _TRAP, near=True),
}

_ENV: dict[str, Native] = {
    "_emscripten_memcpy_js": Native("ppp:", _COPY),
    "emscripten_memcpy_big": Native("ppp:", _COPY),
    "emscripten_memcpy_js": Native("ppp:", _COPY),
    "emscripten_date_now": Native(":d", _NOW, near=True),
    "_emscripten_date_now": Native(":d", _NOW, near=True),
    "emscripten_get_now": Native(":d", _NOW, near=True),
    "_emscripten_get_now_is_monotonic": _constant(":i", 1),
    "emscripten_resize_heap": Native(
        "p:i", "(call $resize_heap (local.get 0))", needs=frozenset({"heap"})
    ),
    "emscripten_get_heap_max": Native(
        ":p",
        "(i64.mul (global.get $limit) (i64.const 65536))",
        narrow_body="(i32.wrap_i64 (select (i64.const 0xffff0000) "
        "(i64.mul (global.get $limit) (i64.const 65536)) "
        "(i64.ge_u (global.get $limit) (i64.const 65535))))",
        needs=frozenset({"heap"}),
    ),
    "_abort_js": Native(":", _TRAP, near=True),
    "abort": Native(":", _TRAP, near=True),
    "exit": Native("i:", _TRAP, near=True),
    "__assert_fail": Native("ppip:", _TRAP, near=True),
    "__cxa_throw": Native("ppp:", _TRAP, near=True),
    "emscripten_err": Native("p:", "", near=True),
    "_emscripten_system": Native(
        "p:i", f"(select (i32.const 0) (i32.const -{ENOSYS}) (PTR.eqz (local.get 0)))", near=True
    ),
    "_mmap_js": Native("piiijpp:i", f"(i32.const -{EBADF})", "piiiiipp:i", near=True),
    "_munmap_js": Native("ppiiij:i", f"(i32.const -{EINVAL})", "ppiiiii:i", near=True),
    "_tzset_js": Native("pppp:", _TZSET),
    "_gmtime_js": Native(
        "jp:",
        "(call $gmtime (local.get 0) (local.get 1))",
        "iip:",
        f"(call $gmtime {_SECONDS} (local.get 2))",
        needs=_CAL,
    ),
    "_localtime_js": Native(
        "jp:",
        "(call $localtime (local.get 0) (local.get 1))",
        "iip:",
        f"(call $localtime {_SECONDS} (local.get 2))",
        needs=_CAL,
    ),
    "_mktime_js": Native(
        "p:j",
        "(call $mktime (local.get 0))",
        "p:i",
        _MKTIME_NARROW,
        needs=_CAL | {"tempret"},
    ),
    "strftime": Native("pppp:p", _STRFTIME, needs=_CAL | {"strftime"}),
    "strftime_l": Native("ppppp:p", _STRFTIME, needs=_CAL | {"strftime"}),
    # AO's file extension, which this node does not offer: nothing to open.
    "__asyncjs__weavedrive_open": _constant("pp:i", 0),
    "__asyncjs__weavedrive_read": _constant("ipp:i", 0),
    "__asyncjs__weavedrive_close": _constant("i:i", 0),
    "metering_gasUsed": _constant(":i", 0),
    "__syscall_getcwd": Native("pp:i", _GETCWD),
    "__syscall_openat": _constant("ipip:i", -ENOENT),
    "__syscall_stat64": _constant("pp:i", -ENOENT),
    "__syscall_lstat64": _constant("pp:i", -ENOENT),
    "__syscall_newfstatat": _constant("ippi:i", -ENOENT),
    "__syscall_unlinkat": _constant("ipi:i", -ENOENT),
    "__syscall_rmdir": _constant("p:i", -ENOENT),
    "__syscall_renameat": _constant("ipip:i", -ENOENT),
    "__syscall_mkdirat": _constant("ipi:i", -ENOENT),
    "__syscall_readlinkat": _constant("ippp:i", -ENOENT),
    "__syscall_faccessat": _constant("ipii:i", -ENOENT),
    "__syscall_chmod": _constant("pi:i", -ENOENT),
    "__syscall_utimensat": _constant("ippi:i", -ENOENT),
    "__syscall_fstat64": _constant("ip:i", -EBADF),
    "__syscall_fchmod": _constant("ii:i", -EBADF),
    "__syscall_fchown32": _constant("iii:i", -EBADF),
    "__syscall_ftruncate64": _constant("ij:i", -EBADF, narrow="iii:i"),
    "__syscall_fcntl64": _constant("iip:i", -ENOSYS),
    "__syscall_dup3": _constant("iii:i", -ENOSYS),
    "__syscall_ioctl": _constant("iip:i", -ENOTTY),
}

# Of older 32-bit formats (`old_formats`), where they differ from the above.
_OLD: dict[str, Native] = {
    "_emscripten_date_now/1": Native(":d", "(f64.const 0)", near=True),
    "getTempRet0/1": Native(":i", "(global.get $tempret0)", needs=frozenset({"tempret0"})),
    "setTempRet0/1": Native(
        "i:", "(global.set $tempret0 (local.get 0))", needs=frozenset({"tempret0"})
    ),
    "system/1": Native("p:i", _SYSTEM_OLD, needs=frozenset({"errno"})),
    "_gmtime_js/2": Native(
        "pp:", "(call $gmtime (i64.load32_s (local.get 0)) (local.get 1))", needs=_CAL
    ),
    "_localtime_js/2": Native(
        "pp:", "(call $localtime (i64.load32_s (local.get 0)) (local.get 1))", needs=_CAL
    ),
    "_mktime_js/2": Native("p:i", "(i32.wrap_i64 (call $mktime (local.get 0)))", needs=_CAL),
    "_tzset_js/2": Native("ppp:", _TZSET_OLD, needs=frozenset({"malloc"})),
    "_mmap_js/2": _constant("iiiiii:i", -EBADF),
    "_munmap_js/2": _constant("iiiiii:i", -EINVAL),
    "_dlinit": Native("p:", "", near=True),
    "_dlopen_js": Native("pi:p", _TRAP, near=True),
    "_dlsym_js": Native("pp:p", _TRAP, near=True),
}

NATIVES: dict[tuple[str, str], Native] = {
    **{("wasi_snapshot_preview1", name): native for name, native in _WASI.items()},
    **{("env", name): native for name, native in (_ENV | _OLD).items()},
}
"""Every import but `env.invoke_*` and `env._emscripten_throw_longjmp`, which `shims` makes."""
