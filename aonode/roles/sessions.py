"""Live engine sessions of a compute unit: one per process, run off the event loop, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from aonode.env import Env
from aonode.ports import Engine, ModuleSpec, Session, SlotResult
from protocols import abi
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.machine.effects import Event
from protocols.machine.events import Executed, ExecutedSlot, ExecutionRefused
from protocols.machine.results import executed_slot
from protocols.network import Parameters
from protocols.outbox import Bounds
from protocols.wire.assignment import Slot
from protocols.wire.item import Item
from protocols.wire.process import ProcessInfo, memory_bytes, process_info

FetchModule = Callable[[ItemId], Awaitable[Item]]
"""Finds a verified Module item, here or at a peer; waits for it if it has to."""


@dataclass(slots=True)
class _Live:
    """A session and what it stands for."""

    session: Session
    info: ProcessInfo
    format: str
    lock: trio.Lock
    next: int = 0
    """First slot not yet run."""


class Sessions:
    """Opens, runs and closes sessions. Processes run in parallel, each one slot after another."""

    def __init__(
        self, *, env: Env, engine: Engine, parameters: Parameters, fetch_module: FetchModule
    ) -> None:
        self._env = env
        self._engine = engine
        self._parameters = parameters
        self._bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
        self._fetch_module = fetch_module
        self._live: dict[ProcessId, _Live] = {}

    async def run(self, process: ProcessId, slots: list[Slot]) -> Event:
        """Evaluate consecutive slots. The answer is `Executed` or `ExecutionRefused`."""
        first = slots[0].nonce
        try:
            live = await self._open(process, slots[0])
        except Invalid as error:
            return ExecutionRefused(process, first, str(error))
        async with live.lock:
            assert live.next == first, f"session at slot {live.next}, asked to run {first}"
            done, refused = await self._env.offload(
                lambda: self._evaluate(live, slots), cost=lambda out: sum(r.fuel for r in out[0])
            )
            live.next += len(done)
        if done:
            return Executed(process, tuple(done))
        return ExecutionRefused(process, first, refused)

    def _evaluate(self, live: _Live, slots: list[Slot]) -> tuple[list[ExecutedSlot], str]:
        done: list[ExecutedSlot] = []
        for slot in slots:
            call = abi.call_for(live.format, slot, live.info)
            try:
                result = live.session.run_slot(call)
            except Invalid as error:
                if error.reason is not Reason.REFUSED:
                    raise
                return done, str(error)
            border = (slot.nonce + 1) % self._parameters.root_every == 0
            root = live.session.state_root() if border else None
            done.append(
                executed_slot(
                    slot,
                    live.format,
                    result.status,
                    result.raw,
                    fuel=result.fuel,
                    root=root,
                    bounds=self._bounds,
                )
            )
        return done, ""

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult:
        """Evaluate `call` on the current state and forget it."""
        live = self._of(process)
        async with live.lock:
            return await self._env.offload(
                lambda: live.session.dry_run(call), cost=lambda result: result.fuel
            )

    async def memory(self, process: ProcessId) -> bytes:
        """Linear memory of a process."""
        live = self._of(process)
        async with live.lock:
            return await self._env.offload(live.session.memory)

    def close(self) -> None:
        """Close every session."""
        for live in self._live.values():
            live.session.close()
        self._live.clear()

    def _of(self, process: ProcessId) -> _Live:
        live = self._live.get(process)
        if live is None:
            raise Invalid(
                Reason.UNKNOWN_PROCESS, f"process {b64url(process)} has not been evaluated here"
            )
        return live

    async def _open(self, process: ProcessId, slot: Slot) -> _Live:
        if live := self._live.get(process):
            return live
        assert slot.nonce == 0, f"{b64url(process)} must be opened with its slot 0"
        info = process_info(slot.message)
        module = await self._fetch_module(info.module)
        spec = ModuleSpec(module.id, module.data, module.first("Module-Format") or "")
        env = abi.env_for(spec.format, info, module)
        limit = memory_bytes(info, module, self._parameters)
        session = await self._env.offload(lambda: self._engine.open(process, spec, env, limit))
        live = self._live[process] = _Live(session, info, spec.format, trio.Lock())
        return live
