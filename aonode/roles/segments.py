"""Runs slots apart from live sessions: segments for verdicts, whole processes for audits.

A segment starts from genesis or from a witness, whose root decides whether it is the state. What
is wrong with evidence gives no leaves, here as everywhere; `refused` is only what this machine
could not do, and then nobody may conclude anything.

One segment and one audit at a time, beside each other: the ledger waits for segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import trio

from aonode.env import Env
from aonode.ports import Engine, Session
from aonode.roles.programs import FetchModule, Program, evaluate
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from protocols.court import Segment
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import Audit, RunSegment
from protocols.machine.events import Audited, ExecutedSlot, SegmentRun
from protocols.machine.results import leaf_of
from protocols.network import Parameters
from protocols.wire.evidence import Witness
from protocols.wire.process import process_info
from protocols.wire.proof import Leaf

AUDIT_RUN_SLOTS = 16
"""Slots of an audit between which others get its thread."""
AUDIT_SLOTS_MAX = 1 << 18
"""Slots of one audit: their leaves are held in memory."""

_Ran = tuple[list[ExecutedSlot], str]


class Segments:
    """Executes the effects RunSegment and Audit; the answer goes to the runner that asked."""

    def __init__(
        self,
        *,
        env: Env,
        engine: Engine,
        parameters: Parameters,
        replica: ReplicaRole,
        fetch_module: FetchModule,
    ) -> None:
        self._env = env
        self._engine = engine
        self._parameters = parameters
        self._replica = replica
        self._fetch_module = fetch_module
        self._segments, self._audits = trio.Lock(), trio.Lock()
        self.nursery: trio.Nursery | None = None
        """Where they run; set by the node while it runs."""

    def run_segment(self, runner: Runner, effect: RunSegment) -> None:
        """Answers with `SegmentRun`."""
        assert self.nursery is not None, "segments run inside the node's nursery"
        self.nursery.start_soon(self._answer_segment, runner, effect.segment)

    def audit(self, runner: Runner, effect: Audit) -> None:
        """Answers with `Audited`."""
        assert self.nursery is not None, "audits run inside the node's nursery"
        self.nursery.start_soon(self._answer_audit, runner, effect)

    # Segments

    async def _answer_segment(self, runner: Runner, segment: Segment) -> None:
        async with self._segments:
            answer = await self.segment(segment)
        await runner.send(answer)

    async def segment(self, segment: Segment) -> SegmentRun:
        """Run one segment. Waits for the module for as long as no peer has it."""
        module = await self._fetch_module(segment.module)

        def run() -> _Ran | None:
            program = Program.of(segment.process, module, self._parameters)
            session = self._state_before(segment, program)
            if session is None:
                return None
            try:
                return evaluate(session, program, segment.slots, self._parameters)
            finally:
                session.close()

        try:
            ran = await self._env.offload(run, cost=_fuel)
        except Invalid as error:
            if error.reason is Reason.REFUSED:
                return SegmentRun(segment.fact, None, str(error))
            # Of the witness, the process's tags or the module: the same on every node.
            return SegmentRun(segment.fact, None)
        if ran is None:
            return SegmentRun(segment.fact, None)
        done, refused = ran
        if refused:
            return SegmentRun(segment.fact, None, refused)
        process = ProcessId(segment.process.id)
        return SegmentRun(segment.fact, tuple(leaf_of(process, each).hash() for each in done))

    def _state_before(self, segment: Segment, program: Program) -> Session | None:
        """Blocks. None for what is not the state before the segment. Raises Invalid."""
        if segment.root_before is None:
            return program.open(self._engine)
        if segment.witness is None:
            return None
        segment.witness.check(self._parameters)
        session = program.restore(self._engine, segment.witness)
        if session is not None and session.state_root() != segment.root_before:
            session.close()
            return None
        return session

    # Audits

    async def _answer_audit(self, runner: Runner, effect: Audit) -> None:
        async with self._audits:
            answer = await self.audited(effect)
        await runner.send(answer)

    async def audited(self, effect: Audit) -> Audited:
        """Run a process from slot 0 on in a session of its own."""
        work = _Work([], None)
        refused = ""
        try:
            await self._replay(effect, work)
        except Invalid as error:
            refused = str(error)
        return Audited(effect.process, tuple(work.leaves), effect.witness_at, work.witness, refused)

    async def _replay(self, effect: Audit, work: _Work) -> None:
        """Raises Invalid where it cannot go on; `work` holds what was done."""
        process = effect.process
        if effect.last >= AUDIT_SLOTS_MAX and effect.witness_at is None:
            raise Invalid(
                Reason.OVERSIZE,
                f"an audit of {b64url(process)} up to slot {effect.last} is longer than "
                f"{AUDIT_SLOTS_MAX} slots; only a compute unit that follows it can judge it",
            )
        genesis = self._replica.slot(process, 0)
        if genesis is None:
            return
        module = await self._fetch_module(process_info(genesis.message).module)
        program = Program.of(genesis.message, module, self._parameters)
        session = await self._env.offload(lambda: program.open(self._engine))
        try:
            await self._run_all(effect, program, session, work)
        finally:
            session.close()

    async def _run_all(
        self, effect: Audit, program: Program, session: Session, work: _Work
    ) -> None:
        """As `_replay`, with an open session."""
        process, border = effect.process, effect.witness_at
        bytes_max = self._parameters.witness_bytes_max
        while (first := work.done) <= effect.last:
            last = min(effect.last, first + AUDIT_RUN_SLOTS - 1)
            if border is not None and first < border:
                last = min(last, border - 1)
            slots = self._replica.slots(process, first, last, last - first + 1)
            if not slots:
                return
            run = partial(evaluate, session, program, slots, self._parameters)
            done, refused = await self._env.offload(run, cost=_fuel)
            work.done += len(done)
            if border is None:
                work.leaves += [leaf_of(process, each) for each in done]
            if refused:
                raise Invalid(Reason.REFUSED, refused)
            if work.done == border:
                work.witness = await self._env.offload(lambda: session.witness(bytes_max))


@dataclass(slots=True)
class _Work:
    """What an audit has done so far."""

    leaves: list[Leaf]
    witness: Witness | None
    done: int = 0
    """Slots."""


def _fuel(ran: _Ran | None) -> int:
    return sum(result.fuel for result in ran[0]) if ran else 0
