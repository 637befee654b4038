"""Live engine sessions of a compute unit: one per process, run off the event loop, in order."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from aonode.env import Env
from aonode.ports import Engine, Session, SlotResult
from aonode.roles.programs import FetchModule, Program, evaluate
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import Event
from protocols.machine.events import Executed, ExecutedSlot, ExecutionRefused
from protocols.network import Parameters
from protocols.wire.assignment import Slot
from protocols.wire.process import process_info


@dataclass(slots=True)
class _Live:
    """A session and what it stands for."""

    session: Session
    program: Program
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
        self._fetch_module = fetch_module
        self._live: dict[ProcessId, _Live] = {}

    async def run(self, process: ProcessId, slots: list[Slot]) -> Event:
        """Evaluate consecutive slots; slot 0 begins the process anew. The answer is `Executed` or
        `ExecutionRefused`."""
        first = slots[0].nonce
        if first == 0:
            await self._forget(process)
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
        return evaluate(live.session, live.program, slots, self._parameters)

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

    async def _forget(self, process: ProcessId) -> None:
        if live := self._live.get(process):
            async with live.lock:
                live.session.close()
                del self._live[process]

    async def _open(self, process: ProcessId, slot: Slot) -> _Live:
        if live := self._live.get(process):
            return live
        assert slot.nonce == 0, f"{b64url(process)} must be opened with its slot 0"
        module = await self._fetch_module(process_info(slot.message).module)
        program = Program.of(slot.message, module, self._parameters)
        session = await self._env.offload(lambda: program.open(self._engine))
        live = self._live[process] = _Live(session, program, trio.Lock())
        return live
