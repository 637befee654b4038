"""Compute unit: runs what its machine asks for, serves results and receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import trio

from aonode.api import EvaluatedSlot, LeafRange
from aonode.ports import SlotResult, Store, Wire
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from aonode.roles.sessions import Sessions
from aonode.roles.waiters import Waiters
from protocols import keyspace
from protocols.accumulator import Mmr
from protocols.court import first_leaf, last_leaf, leaves_of
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.effects import Event, Execute
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import Evaluated
from protocols.machine.results import result_parts
from protocols.network import Parameters
from protocols.wire.demand import LeavesAnswer
from protocols.wire.evidence import CLAIM_SLOTS_MAX, statement_of
from protocols.wire.proof import block_end_before
from protocols.wire.proof_streams import LeavesRequest, encode_leaves
from protocols.wire.streams import ResultEntry, ResultRequest, encode_results
from protocols.wire.topics import Protocol


class ComputeRole:
    """Adapter of `protocols.machine.evaluation`; `aonode.api.ComputeApi`."""

    def __init__(
        self,
        *,
        machine: Evaluation,
        db: Store,
        sign_once: Store,
        replica: ReplicaRole,
        sessions: Sessions,
        parameters: Parameters,
    ) -> None:
        self._machine = machine
        self._db = db
        self._sign_once = sign_once
        self._replica = replica
        self._sessions = sessions
        self._parameters = parameters
        self._evaluated: dict[ProcessId, int] = {}
        """Last slot with a durable result, by process."""
        self._waiters = Waiters()
        self.runner: Runner | None = None
        self.nursery: trio.Nursery | None = None

    def recover(self) -> None:
        """Tell the machine what this node has signed; it replays and compares.

        Also of processes whose log is not here any more: it may come from peers again.
        """
        for process in sorted({*self._replica.processes(), *self._signed()}):
            if process == self._machine.ledger:
                continue
            chain = self._replica.chain(process)
            leaves = [
                row for _, row in self._db.scan(*keyspace.process_range(Prefix.LEAF, process))
            ]
            self._evaluated[process] = len(leaves) - 1
            start, _ = keyspace.nonce_range(Prefix.RECEIPT, process, len(leaves), len(leaves))
            _, stop = keyspace.process_range(Prefix.RECEIPT, process)
            proofs = self._sign_once.scan(*keyspace.process_range(Prefix.PROOF, process))
            self._machine.recover(
                process,
                tip=-1 if chain is None else chain.nonce,
                leaves=leaves,
                receipts=(row for _, row in self._sign_once.scan(start, stop)),
                proofs=(row for _, row in proofs),
            )

    def _signed(self) -> Iterator[ProcessId]:
        """Processes of which something is signed."""
        for prefix in (Prefix.RECEIPT, Prefix.PROOF):
            start, stop = keyspace.prefix_range(prefix)
            while rows := list(self._sign_once.scan(start, stop, limit=1)):
                process = ProcessId(keyspace.id_of(rows[0][0]))
                yield process
                _, start = keyspace.process_range(prefix, process)

    def serve(self, wire: Wire) -> None:
        """Give peers results and receipts, and the leaf hashes behind statements."""
        wire.serve(Protocol.RESULT, self._result)
        wire.serve(Protocol.LEAVES, self._leaves)

    def execute(self, effect: Execute) -> None:
        """Evaluate in a task of its own: processes run in parallel."""
        assert self.nursery is not None, "a role is run by its node"
        self.nursery.start_soon(self._execute, effect)

    async def _execute(self, effect: Execute) -> None:
        assert self.runner is not None, "a role is run by its node"
        count = effect.last - effect.first + 1
        slots = self._replica.slots(effect.process, effect.first, effect.last, count)
        assert len(slots) == count, "the machine runs durable slots only"
        await self.runner.send(await self._sessions.run(effect.process, slots))

    def evaluated(self, event: Event) -> None:
        """Results became durable: wake whoever waits for them."""
        assert isinstance(event, Evaluated)
        process, last = event.process, self._evaluated.get(event.process, -1)
        self._evaluated[process] = max(event.last, last)
        # Each waits for one slot: waking all who wait for the process costs its square.
        for nonce in range(last + 1, event.last + 1):
            self._waiters.tell((process, nonce), None)

    # ComputeApi

    async def result(self, process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        # What has stopped goes on after a restart at the earliest: nobody waits for that.
        patience_s = 0.0 if self._machine.stopped(process) else timeout_s
        if not await self._reached(process, nonce, patience_s):
            if why := self._machine.stopped(process):
                raise Invalid(Reason.REFUSED, f"process {b64url(process)} stopped here: {why}")
            raise Invalid(
                Reason.TIMEOUT,
                f"slot {nonce} of {b64url(process)} is not evaluated after {timeout_s:g} s; "
                "try again",
            )
        (found,) = self.results(process, nonce, nonce, 1)
        return found

    def results(
        self, process: ProcessId, first: int, last: int, limit: int, *, reverse: bool = False
    ) -> list[EvaluatedSlot]:
        top = min(last, self._evaluated.get(process, -1))
        if first > top:
            return []
        start, stop = keyspace.nonce_range(Prefix.RESULT, process, first, top)
        rows = self._db.scan(start, stop, limit=limit, reverse=reverse)
        return [self._stored(keyspace.nonce_of(key), row) for key, row in rows]

    def leaves(self, process: ProcessId, first: int, last: int) -> LeafRange:
        top = min(last, self._evaluated.get(process, -1))
        if first > top:
            return LeafRange((), ())
        end = block_end_before(first, self._parameters.proof_every)
        mmr = Mmr()
        if end is not None:
            stored = self._db.get(keyspace.mmr_key(process, end))
            assert stored is not None, f"no MMR row for block end {end}, which is evaluated"
            mmr = Mmr.decode(stored)
        rows = self._db.scan(*keyspace.nonce_range(Prefix.LEAF, process, mmr.count, top))
        hashes = tuple(row for _, row in rows)
        before = first - mmr.count
        return LeafRange(mmr.extend(hashes[:before]).peaks, hashes[before:])

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult:
        return await self._sessions.dry_run(process, call)

    async def state(self, process: ProcessId) -> bytes:
        return await self._sessions.memory(process)

    def last(self, process: ProcessId) -> int:
        """Last slot with a durable result; -1 for none."""
        return self._evaluated.get(process, -1)

    async def _reached(self, process: ProcessId, nonce: int, timeout_s: float) -> bool:
        with trio.move_on_after(timeout_s):
            if self._evaluated.get(process, -1) < nonce:
                with self._waiters.wait((process, nonce)) as told:
                    await told()
        return self._evaluated.get(process, -1) >= nonce

    def _stored(self, nonce: int, row: bytes) -> EvaluatedSlot:
        size_max = self._parameters.output_bytes_max
        status, fuel, raw, receipt = result_parts(row, output_bytes_max=size_max)
        return EvaluatedSlot(nonce, int(status), raw, fuel, receipt)

    async def _leaves(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        """The leaf hashes behind a statement, whoever made it, if they are this unit's too."""
        statement = statement_of(LeavesRequest.decode(body).statement)
        statement.check(self._parameters)
        first, last = first_leaf(statement, self._parameters), last_leaf(statement)
        if last - first >= CLAIM_SLOTS_MAX:
            raise Invalid(Reason.OVERSIZE, f"{last - first + 1} leaves, at most {CLAIM_SLOTS_MAX}")
        if last > self.last(statement.process):
            return
        own = self.leaves(statement.process, first, last)
        answer = LeavesAnswer(own.peaks, b"".join(own.leaves))
        try:
            leaves_of(statement, answer.peaks, answer.leaves, self._parameters)
        except Invalid:
            return  # not the leaves of this statement
        for frame in encode_leaves(answer):
            yield frame

    async def _result(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        request = ResultRequest.decode(body)
        await self._reached(request.process, request.last, request.wait_ms / 1000)
        found = self.results(
            request.process, request.first, request.last, request.last - request.first + 1
        )
        entries = [
            ResultEntry(each.receipt, each.raw if request.with_raw else None) for each in found
        ]
        for frame in encode_results(entries):
            yield frame
