"""A compute unit's machine: which slots to run, and what to sign about them.

Rule 1: a leaf is a function of the log alone. How slots were grouped, when they ran and how often
        this node restarted leave no trace in it.
Rule 2: one receipt per (process, slot, head, profile), for ever. A durable one is never signed
        again, and never contradicted: if evaluating the slot again gives another leaf, the
        process stops here with an alarm, and nothing more is signed for it.
Rule 3: nothing is signed at or after a slot that the engine refuses.

    Extended --> Execute(run) --Executed--> leaf, MMR, receipt --> Persist, Notify(Evaluated)
                     ^------------'   |
                                      '--not what was signed--> Alarm, stopped
                 ExecutionRefused ------------------------------> Alarm, stopped

State is in the engine only, so after a restart a process is evaluated again from slot 0. Slots
whose leaves are durable are compared and not written again.

This file does not know modules, stores or clocks; `sign` is a pure function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from protocols import domains, keyspace
from protocols.accumulator import Mmr
from protocols.codec import HASH_BYTES, digest
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey, ProcessId, b64url
from protocols.machine.effects import (
    Alarm,
    Effect,
    Event,
    Execute,
    Notify,
    Persist,
    Started,
    Table,
)
from protocols.machine.events import (
    Evaluated,
    Executed,
    ExecutedSlot,
    ExecutionRefused,
    Extended,
)
from protocols.machine.results import StoredResult
from protocols.network import Parameters
from protocols.wire.assignment import Chain
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import Leaf, Receipt, is_border

RUN_SLOTS_MAX = 64
"""Slots of one `Execute`: bounds what is in memory between the engine and the commit."""
RUN_FUEL = 1_000_000_000
"""Fuel one run should take, judged by the run before: about a fifth of a second until the first
result of a run is visible."""
STATUS_PROCESSES_MAX = 16


class _Process:
    """One process as this unit has evaluated it since its start."""

    __slots__ = (
        "block_root",
        "head",
        "id",
        "leaves",
        "mmr",
        "next",
        "receipts",
        "run_slots",
        "running",
        "stopped",
        "tip",
    )

    def __init__(self, id: ProcessId) -> None:
        self.id = id
        self.tip = -1
        """Last slot of the durable log."""
        self.next = 0
        """First slot not evaluated since the start."""
        self.head = Chain.genesis(id).head
        """Log head before `next`."""
        self.mmr = Mmr()
        """Over the leaves before `next`."""
        self.block_root: bytes | None = None
        """MMR root at the last proof-block end before `next`."""
        self.running = False
        self.run_slots = 1
        self.stopped = ""
        """Why nothing more is evaluated; empty while it is."""
        self.leaves = b""
        """Durable leaf hashes from slot 0 on, one after another."""
        self.receipts: dict[tuple[int, bytes], Receipt] = {}
        """Durable receipts, by slot and head, of slots that have no durable result."""


class Evaluation:
    """All processes of one compute unit."""

    def __init__(
        self,
        *,
        network: NetworkId,
        parameters: Parameters,
        profile: bytes,
        key: NodeKey,
        sign: Callable[[bytes], bytes],
    ) -> None:
        """`profile` is the engine's 32-byte id; `sign` the node's Ed25519 signature."""
        self._network = network
        self._parameters = parameters
        self._profile = profile
        self._key = key
        self._sign = sign
        self._processes: dict[ProcessId, _Process] = {}
        self._signed = 0

    def recover(
        self,
        process: ProcessId,
        *,
        tip: int,
        leaves: Iterable[bytes] = (),
        receipts: Iterable[bytes] = (),
    ) -> None:
        """Take up a process whose durable log ends at slot `tip`.

        `leaves` are its leaf rows in slot order, from slot 0 without a gap; `receipts` its
        sign-once rows of slots that have no leaf row (others are passed over). Raises
        Invalid(STORAGE, MALFORMED).
        """
        state = self._processes[process] = _Process(process)
        state.tip = tip
        state.leaves = b"".join(leaves)
        if len(state.leaves) % HASH_BYTES:
            raise Invalid(Reason.STORAGE, f"leaf rows of {b64url(process)} are not hashes")
        for row in receipts:
            receipt = Receipt.decode(row)
            if receipt.process != process:
                raise Invalid(
                    Reason.STORAGE, f"a receipt row of {b64url(process)} is of another process"
                )
            has_leaf = (receipt.slot + 1) * HASH_BYTES <= len(state.leaves)
            if receipt.profile == self._profile and not has_leaf:
                state.receipts[receipt.slot, receipt.head] = receipt

    def on(self, event: Event, now: int) -> list[Effect]:
        """Decide. `now` changes nothing: what is signed is a function of the log."""
        match event:
            case Started():
                return [effect for state in self._processes.values() for effect in _run(state)]
            case Extended(process=process, slots=slots):
                if process not in self._processes:
                    self._processes[process] = _Process(process)
                state = self._processes[process]
                state.tip = max(state.tip, slots[-1].nonce)
                return _run(state)
            case Executed(process=process):
                return self._executed(self._processes[process], event)
            case ExecutionRefused(process=process):
                return self._refused(self._processes[process], event)
        return []

    def status(self) -> dict[str, Any]:
        states = self._processes.values()
        stopped = [state for state in states if state.stopped]
        return {
            "processes": len(states),
            "slots_behind": sum(state.tip + 1 - state.next for state in states),
            "slots_signed": self._signed,
            "running": sum(state.running for state in states),
            "stopped": {
                b64url(state.id): state.stopped for state in stopped[:STATUS_PROCESSES_MAX]
            },
            "stopped_count": len(stopped),
        }

    def last(self, process: ProcessId) -> int:
        """Last slot evaluated since the start; -1 for none."""
        state = self._processes.get(process)
        return -1 if state is None else state.next - 1

    def stopped(self, process: ProcessId) -> str:
        """Why this unit evaluates `process` no further; empty while it does."""
        state = self._processes.get(process)
        return "" if state is None else state.stopped

    def _executed(self, state: _Process, event: Executed) -> list[Effect]:
        if state.stopped:
            return []
        assert state.running, "the engine answered a run nobody asked for"
        assert event.results, "an answer holds one slot at least"
        state.running = False
        effects: list[Effect] = []
        first = state.next
        for result in event.results:
            try:
                effects += self._slot(state, result)
            except Invalid as error:
                effects.append(_stop(state, error))
                break
        if state.next > first:
            effects.append(Notify(Evaluated(state.id, state.next - 1)))
        fuel = sum(result.fuel for result in event.results) // len(event.results)
        state.run_slots = max(1, min(RUN_SLOTS_MAX, RUN_FUEL // max(1, fuel)))
        return effects + _run(state)

    def _refused(self, state: _Process, event: ExecutionRefused) -> list[Effect]:
        state.running = False
        if state.stopped or event.slot < state.next:
            return []
        error = Invalid(Reason.REFUSED, f"slot {event.slot}: {event.detail}")
        return [_stop(state, error)]

    def _slot(self, state: _Process, result: ExecutedSlot) -> list[Effect]:
        """Take in the next slot. Raises Invalid(MISMATCH), and leaves `state`, if this node has
        signed something else."""
        parameters = self._parameters
        slot = result.slot
        assert slot == state.next, f"slot {slot} evaluated, slot {state.next} comes first"
        assert (result.root is not None) == is_border(slot, parameters.root_every), (
            f"slot {slot} has a state root iff it is a segment border"
        )
        raw = result.raw
        assert not raw or Status(result.status).has_output, "an output that the status denies"
        leaf = Leaf(
            state.id,
            slot,
            result.assignment,
            result.root,
            outcome_hash(raw, result.outbox_root),
            result.fuel,
            result.status,
        )
        leaf_hash = leaf.hash()
        head = digest(domains.HEAD, state.head, result.assignment)
        mmr = state.mmr.append(leaf_hash)
        mmr_root = mmr.root()
        durable = state.leaves[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]
        effects: list[Effect] = []
        if not durable:
            draft = Receipt(
                self._network,
                state.id,
                slot,
                head,
                leaf,
                mmr_root,
                state.block_root,
                self._profile,
                self._key,
            )
            effects = self._sign_and_keep(state, draft, raw, mmr)
        elif durable != leaf_hash:
            raise _mismatch(slot, "leaf", durable, leaf_hash)
        state.next = slot + 1
        state.head = head
        state.mmr = mmr
        if is_border(slot, parameters.proof_every):
            state.block_root = mmr_root
        return effects

    def _sign_and_keep(self, state: _Process, draft: Receipt, raw: bytes, mmr: Mmr) -> list[Effect]:
        """Rows of one new slot. A receipt that is durable already is used again."""
        slot, leaf = draft.slot, draft.leaf
        rows: list[Effect] = []
        receipt = state.receipts.pop((slot, draft.head), None)
        if receipt is None:
            receipt = draft.signed(self._sign(draft.signing_bytes()))
            self._signed += 1
            key = keyspace.receipt_key(state.id, slot, draft.head, self._profile)
            rows.append(Persist(Table.SIGN_ONCE, key, receipt.encode()))
        elif replace(receipt, signature=b"") != draft:
            raise _mismatch(slot, "receipt", receipt.leaf.hash(), leaf.hash())
        stored = StoredResult(Status(leaf.status), leaf.fuel, raw, receipt)
        result_key = keyspace.result_key(state.id, slot)
        rows.append(Persist(Table.LOG, result_key, stored.encode()))
        rows.append(Persist(Table.LOG, keyspace.leaf_key(state.id, slot), leaf.hash()))
        if is_border(slot, self._parameters.proof_every):
            rows.append(Persist(Table.LOG, keyspace.mmr_key(state.id, slot), mmr.encode()))
        return rows


def _run(state: _Process) -> list[Effect]:
    """The next run, if there is something to run and the engine is not at it."""
    if state.running or state.stopped or state.tip < state.next:
        return []
    state.running = True
    return [Execute(state.id, state.next, min(state.tip, state.next + state.run_slots - 1))]


def _stop(state: _Process, error: Invalid) -> Alarm:
    state.stopped = str(error)
    return Alarm(error.reason, state.id, error.detail)


def _mismatch(slot: int, what: str, durable: bytes, now: bytes) -> Invalid:
    return Invalid(
        Reason.MISMATCH,
        f"slot {slot}: this node signed {what} {b64url(durable)} and now computes {b64url(now)}; "
        "the engine or the disk has changed. Nothing more is signed for this process",
    )
