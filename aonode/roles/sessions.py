"""Live engine sessions of a compute unit: one per process, run off the event loop, in order.

A session takes address space and memory for good, so only so many are awake at a time. The one
used longest ago is set aside as a witness of its state, and goes on from there when it is needed
again: nobody can tell, but by the time it takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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
from protocols.wire.evidence import Witness
from protocols.wire.process import process_info

AWAKE_MAX = 256
"""An aos process takes 4 MiB of memory and 4 GiB of address space while it is awake."""
WITNESS_BYTES_MAX = 16 << 20
"""A state that compresses to more than this is never set aside."""


@dataclass(slots=True)
class _Live:
    """A process as evaluated so far. Whoever holds the lock may use or change it."""

    program: Program
    session: Session | None
    """None while it is set aside."""
    witness: Witness | None = None
    """Its state while it is."""
    lock: trio.Lock = field(default_factory=trio.Lock)
    next: int = 0
    """First slot not yet run."""


class Sessions:
    """Opens, runs and closes sessions. Processes run in parallel, each one slot after another."""

    def __init__(
        self,
        *,
        env: Env,
        engine: Engine,
        parameters: Parameters,
        fetch_module: FetchModule,
        awake_max: int = AWAKE_MAX,
    ) -> None:
        self._env = env
        self._engine = engine
        self._parameters = parameters
        self._fetch_module = fetch_module
        self._live: OrderedDict[ProcessId, _Live] = OrderedDict()
        """The one used last comes last."""
        self._awake_max = awake_max
        self._turns = trio.CapacityLimiter(awake_max)
        """No more are in use at a time than may be awake, so that one can always be set aside."""
        self.awake = 0
        """Sessions that are there, or about to be."""

    async def run(self, process: ProcessId, slots: list[Slot]) -> Event:
        """Evaluate consecutive slots; slot 0 begins the process anew. The answer is `Executed` or
        `ExecutionRefused`."""
        first = slots[0].nonce
        if first == 0:
            await self._forget(process)
        try:
            if process not in self._live:
                await self._open(process, slots[0])
            async with self._used(process) as (live, session):
                assert live.next == first, f"session at slot {live.next}, asked to run {first}"
                program = live.program
                done, refused = await self._env.offload(
                    lambda: self._evaluate(session, program, slots),
                    cost=lambda out: sum(r.fuel for r in out[0]),
                )
                live.next += len(done)
        except Invalid as error:
            return ExecutionRefused(process, first, str(error))
        if done:
            return Executed(process, tuple(done))
        return ExecutionRefused(process, first, refused)

    def _evaluate(
        self, session: Session, program: Program, slots: list[Slot]
    ) -> tuple[list[ExecutedSlot], str]:
        return evaluate(session, program, slots, self._parameters)

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult:
        """Evaluate `call` on the current state and forget it."""
        async with self._used(process) as (_, session):
            return await self._env.offload(
                lambda: session.dry_run(call), cost=lambda result: result.fuel
            )

    async def memory(self, process: ProcessId) -> bytes:
        """Linear memory of a process."""
        async with self._used(process) as (_, session):
            return await self._env.offload(session.memory)

    def close(self) -> None:
        """Close every session."""
        for live in self._live.values():
            self._close(live)
        self._live.clear()

    @asynccontextmanager
    async def _used(self, process: ProcessId) -> AsyncIterator[tuple[_Live, Session]]:
        """The session of a process, for one task. Raises Invalid(UNKNOWN_PROCESS), and REFUSED if
        it was set aside and this machine cannot hold it again."""
        if process not in self._live:
            raise Invalid(
                Reason.UNKNOWN_PROCESS, f"process {b64url(process)} has not been evaluated here"
            )
        live = self._live[process]
        async with self._turns, live.lock:
            if process in self._live:
                self._live.move_to_end(process)
            if live.session is None:
                await self._wake(live)
            assert live.session is not None, "a witness of our own is one of the process's states"
            yield live, live.session

    async def _wake(self, live: _Live) -> None:
        witness = live.witness
        assert witness is not None, "what is set aside has a witness"
        await self._make_room()
        try:
            live.session = await self._env.offload(
                lambda: live.program.restore(self._engine, witness)
            )
            live.witness = None
        finally:
            self.awake -= live.session is None

    async def _make_room(self) -> None:
        """Count one more session as awake, and set others aside for it, the one used longest ago
        first; those in use, or too large to set aside, stay."""
        others = list(self._live.values()) if self.awake >= self._awake_max else []
        for other in others:
            if self.awake < self._awake_max:
                break
            if other.session is None or other.lock.locked():
                continue
            async with other.lock:
                await self._set_aside(other)
        self.awake += 1

    async def _set_aside(self, live: _Live) -> None:
        session = live.session
        if session is None:
            return
        try:
            live.witness = await self._env.offload(lambda: session.witness(WITNESS_BYTES_MAX))
        except Invalid:
            # Too large, or of a session that has ended: it stays as it is.
            return
        self._close(live)

    async def _forget(self, process: ProcessId) -> None:
        if live := self._live.get(process):
            async with live.lock:
                self._close(live)
                del self._live[process]

    def _close(self, live: _Live) -> None:
        if live.session is not None:
            live.session.close()
            live.session = None
            self.awake -= 1

    async def _open(self, process: ProcessId, slot: Slot) -> None:
        assert slot.nonce == 0, f"{b64url(process)} must be opened with its slot 0"
        module = await self._fetch_module(process_info(slot.message).module)
        program = Program.of(slot.message, module, self._parameters)
        async with self._turns:
            await self._make_room()
            session = None
            try:
                session = await self._env.offload(lambda: program.open(self._engine))
            finally:
                self.awake -= session is None
            self._live[process] = _Live(program, session)
