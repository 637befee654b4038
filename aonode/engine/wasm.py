"""The Engine port on wasmtime: validates, compiles once, opens sessions.

Modules are known here by the hash of their bytes; compiled code is shared by all processes of a
module, in memory and on disk. Safe to use from several threads; a session from one at a time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import wasmtime
from blake3 import blake3

from aonode.engine import aos, small_abi
from aonode.engine.aos import AosGuest, AosModule, check_aos
from aonode.engine.calls import UNCAUGHT, Context, Trapped
from aonode.engine.compile_cache import CompileCache
from aonode.engine.config import MEMORY_RESERVATION_BYTES, make_engine, require_stack
from aonode.engine.instance import Instance
from aonode.engine.old_formats import with_new_names
from aonode.engine.pages import data_end
from aonode.engine.patch import mutable_globals, patch, patch_shim
from aonode.engine.profile import profile_id
from aonode.engine.session import Guest, WasmSession
from aonode.engine.shadow import Shadow
from aonode.engine.shims import shim_id
from aonode.engine.small_abi import SmallGuest, check_small
from aonode.engine.validator import Checked, check
from aonode.engine.witness import can_be
from aonode.ports import ModuleSpec, Session
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId
from protocols.limits import PAGE_BYTES
from protocols.outbox import Bounds
from protocols.outbox_quick import status_and_outbox
from protocols.wire.evidence import Witness
from protocols.wire.outcome import Status

MODULES_MAX = 64
"""Compiled modules kept in memory; the least recently used goes first."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    linked: wasmtime.Module | AosModule
    mutable: tuple[tuple[int, str], ...]
    image_pages: int
    initial_pages: int
    maximum_pages: int


class _Entry:
    """A module being compiled, or compiled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.compiled: _Compiled | None = None


class WasmEngine:
    """`aonode.ports.Engine`: wasm evaluation under one profile."""

    def __init__(
        self,
        *,
        fuel_max: int,
        memory_max: int,
        output_bytes_max: int,
        outbox_max: int,
        cache_dir: Path | None = None,
    ) -> None:
        """The four limits are network parameters. `cache_dir` is private to this user; None: no
        disk cache. Make the engine before the threads that will use it (stack size).
        """
        if not PAGE_BYTES <= memory_max <= MEMORY_RESERVATION_BYTES:
            raise Invalid(
                Reason.CONFIG,
                f"memory_max is {memory_max}; it has to be between {PAGE_BYTES} and "
                f"{MEMORY_RESERVATION_BYTES} bytes",
            )
        self._fuel_max = fuel_max
        self._memory_max = memory_max
        self._bounds = Bounds(output_bytes_max, outbox_max)
        self._profile = profile_id(
            fuel_max=fuel_max,
            memory_max=memory_max,
            output_bytes_max=output_bytes_max,
            outbox_max=outbox_max,
            shims=(small_abi.SHIM_ID, shim_id()),
        )
        self._engine = make_engine()
        self._cache = CompileCache(cache_dir, self._profile)
        self._modules: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def profile(self) -> bytes:
        """32-byte id of the semantics."""
        return self._profile

    def validate(self, module: ModuleSpec) -> None:
        """Check and compile. Raises Invalid(FORBIDDEN_MODULE or UNSUPPORTED) naming the fault.

        Takes seconds for a large module that is new here: call it off the event loop.
        """
        self._load(module)

    def open(self, process: ProcessId, module: ModuleSpec, env: bytes, memory_max: int) -> Session:
        """A process at genesis. `memory_max`: Memory-Limit of the process, in bytes.

        Raises Invalid: what `validate` raises, OVERSIZE if the module starts with more memory
        than its limit, REFUSED if this machine cannot give it.
        """
        compiled = self._load(module)
        limit = self._limit_pages(compiled, memory_max)
        return self._session(module.format, compiled, limit, env, None)

    def restore(
        self,
        process: ProcessId,
        module: ModuleSpec,
        env: bytes,
        memory_max: int,
        witness: Witness,
    ) -> Session | None:
        """A process in a state somebody claims it had; None if no state of this process has that
        memory size or those globals. The caller compares `state_root`.

        Raises Invalid: as `open`, and MALFORMED or OVERSIZE for a frame that lies about its size.
        """
        compiled = self._load(module)
        limit = self._limit_pages(compiled, memory_max)
        least = compiled.initial_pages
        if not can_be(witness, compiled.mutable, pages_min=least, pages_max=limit):
            return None
        return self._session(module.format, compiled, limit, env, witness)

    def _limit_pages(self, compiled: _Compiled, memory_max: int) -> int:
        limit = min(memory_max, self._memory_max) // PAGE_BYTES
        limit = min(limit, compiled.maximum_pages)
        if compiled.initial_pages > limit:
            raise Invalid(
                Reason.OVERSIZE,
                f"the module starts with {compiled.initial_pages * PAGE_BYTES} bytes of memory "
                f"and the process's limit is {limit * PAGE_BYTES}; raise its Memory-Limit",
            )
        return limit

    def _session(
        self, format: str, compiled: _Compiled, limit: int, env: bytes, restored: Witness | None
    ) -> Session:
        return WasmSession(
            lambda: self._make_guest(compiled, limit, env),
            Shadow(compiled.mutable, compiled.image_pages),
            lambda raw: status_and_outbox(format, Status.OK, raw, self._bounds)[0],
            self._fuel_max,
            restored,
        )

    def _make_guest(self, compiled: _Compiled, limit: int, env: bytes) -> Guest:
        context = self._context()
        linked = compiled.linked
        most = self._bounds.output_bytes_max
        with _instantiating():
            if isinstance(linked, AosModule):
                main, run = linked.link(context)
                instance = Instance(context, main, compiled.mutable, limit)
                return AosGuest(instance, run, linked, env, most)
            main = wasmtime.Instance(context.store, linked, [])
        return SmallGuest(Instance(context, main, compiled.mutable, limit), most)

    def _context(self) -> Context:
        return Context(wasmtime.Store(self._engine))

    def _load(self, module: ModuleSpec) -> _Compiled:
        """Compiled module from memory, disk or scratch."""
        if module.format != small_abi.FORMAT and module.format not in aos.FORMATS:
            raise Invalid(
                Reason.UNSUPPORTED,
                f"Module-Format {module.format!r} is unknown; this node runs "
                + ", ".join((small_abi.FORMAT, *aos.FORMATS)),
            )
        key = (module.format, blake3(module.wasm).digest())
        with self._lock:
            entry = self._modules.setdefault(key, _Entry())
            self._modules.move_to_end(key)
            if len(self._modules) > MODULES_MAX:
                self._modules.popitem(last=False)
        # One module may take long to compile; others need not wait for it.
        with entry.lock:
            if entry.compiled is None:
                entry.compiled = self._compile(module, key[1])
            return entry.compiled

    def _compile(self, module: ModuleSpec, module_hash: bytes) -> _Compiled:
        raw = with_new_names(module.wasm, module.format)
        if raw is not module.wasm:
            module_hash = blake3(raw).digest()
        checked = check(raw)
        memory = checked.memory
        end = data_end(checked.module)
        if end is None:
            end = memory.minimum * PAGE_BYTES
        if module.format == small_abi.FORMAT:
            check_small(checked)
            linked: wasmtime.Module | AosModule = self._compile_patched(checked, module_hash)
        else:
            linked = self._compile_aos(checked, module_hash, end, module.format)
        most = MEMORY_RESERVATION_BYTES // PAGE_BYTES
        return _Compiled(
            linked,
            mutable_globals(checked),
            min(-(-end // PAGE_BYTES), memory.minimum),
            memory.minimum,
            most if memory.maximum is None else min(memory.maximum, most),
        )

    def _compile_patched(self, checked: Checked, module_hash: bytes) -> wasmtime.Module:
        def build() -> bytes:
            # Only a valid module may be patched: see there.
            wasmtime.Module.validate(self._engine, checked.module.raw)
            return patch(checked, self._fuel_max)

        try:
            return self._cache.load(self._engine, module_hash, build)
        except wasmtime.WasmtimeError as error:
            raise Invalid(
                Reason.FORBIDDEN_MODULE, f"the module does not compile: {error}"
            ) from None

    def _compile_aos(
        self, checked: Checked, module_hash: bytes, end: int, format: str
    ) -> AosModule:
        layout, shims = check_aos(checked, end, format)
        main = self._compile_patched(checked, module_hash)
        wide = checked.memory.index64
        pre = self._compile_shim(shims.pre, lambda raw: raw)
        post = self._compile_shim(shims.post, lambda raw: patch_shim(raw, wide))
        linked = AosModule(main, pre, post, layout)
        with _instantiating():
            linked.probe(self._context())
        return linked

    def _compile_shim(self, text: str, patched: Callable[[bytes], bytes]) -> wasmtime.Module:
        """A shim. It is ours, so it compiles."""
        binary = bytes(wasmtime.wat2wasm(text))
        return self._cache.load(self._engine, blake3(binary).digest(), lambda: patched(binary))


@contextmanager
def _instantiating() -> Iterator[None]:
    """Turns what wasmtime says of a failed instantiation into Invalid."""
    require_stack()
    try:
        yield
    except Trapped as trap:
        raise Invalid(
            Reason.REFUSED if trap.machine else Reason.FORBIDDEN_MODULE,
            f"the module traps before its first message: {trap}",
        ) from None
    except wasmtime.Trap as trap:
        machine = trap.trap_code is wasmtime.TrapCode.STACK_OVERFLOW
        raise Invalid(
            Reason.REFUSED if machine else Reason.FORBIDDEN_MODULE,
            f"the module's start function ends in a trap: {trap}",
        ) from None
    except wasmtime.WasmtimeError as error:
        guests = UNCAUGHT in str(error)
        raise Invalid(
            Reason.FORBIDDEN_MODULE if guests else Reason.REFUSED,
            f"an instance cannot be made: {error}",
        ) from None
