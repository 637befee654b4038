"""A compute unit's machine: which slots to run, and what to sign about them.

Rule 1: a leaf is a function of the log alone. How slots were grouped, when they ran and how often
        this node restarted leave no trace in it.
Rule 2: one receipt per (process, slot, head, profile), for ever. A durable one is never signed
        again, and never contradicted: if evaluating the slot again gives another leaf, the
        process stops here with an alarm, and nothing more is signed for it.
Rule 3: nothing is signed at or after a slot that the engine refuses, nor of a branch of a log
        once the ledger has selected another.

    Extended --> Execute(run) --Executed--> leaf, MMR, receipt --> Persist, Notify(Evaluated)
                     ^------------'   |
                                      '--not what was signed--> Alarm, stopped
                 ExecutionRefused ------------------------------> Alarm, stopped

On a network with a ledger the receipts of a process are gathered in state proofs (`proving`), and
nothing is run before peers have been asked what this unit has signed (`recall`). If they hold more
than its table, the process is evaluated up to there without signing, compared, and then again.

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
from protocols.codec import digest
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey, ProcessId, b64url
from protocols.machine import proving, recall
from protocols.machine.effects import (
    Alarm,
    Effect,
    Event,
    Notify,
    Persist,
    Publish,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import (
    Evaluated,
    Executed,
    ExecutedSlot,
    ExecutionRefused,
    Extended,
    LedgerMoved,
    PeersChanged,
    ProofsArrived,
)
from protocols.machine.recall import Recall
from protocols.machine.results import StoredResult, leaf_of
from protocols.machine.sealing import Sealer
from protocols.machine.standing import Standing
from protocols.parameters import Parameters
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt, is_border
from protocols.wire.topics import Topic

STATUS_PROCESSES_MAX = 16
PUBLISHED_AGAIN_MAX = 256
"""Newest proofs published again after a start: the node may have died before they went out."""


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
        ledger: ProcessId | None = None,
        lost: Callable[[ProcessId], str] = lambda process: "",
    ) -> None:
        """`profile` is the engine's 32-byte id; `sign` the node's Ed25519 signature; `lost` a view:
        why the log that this node has of a process is not the one that holds.

        On a network with a ledger receipts are gathered in state proofs; the `ledger` itself is
        folded by every node and evaluated by none."""
        self.ledger = ledger
        self._lost = lost
        self._network = network
        self._parameters = parameters
        self._profile = profile
        self._key = key
        self._sign = sign
        self._sealer = Sealer(network, profile, key, sign)
        self._recall = Recall(key, decided=ledger is None)
        self._tick = 0
        self._processes: dict[ProcessId, Standing] = {}
        self._signed = 0

    def recover(
        self,
        process: ProcessId,
        *,
        tip: int,
        leaves: Iterable[bytes] = (),
        receipts: Iterable[bytes] = (),
        proofs: Iterable[bytes] = (),
    ) -> None:
        """Take up a process whose durable log ends at slot `tip`.

        `leaves` are its leaf rows in slot order, from slot 0 without a gap; `receipts` its
        sign-once rows of slots that have no leaf row (others are passed over); `proofs` all of
        its state proofs there. Raises Invalid(STORAGE, MALFORMED).
        """
        self._of(process).recover(
            tip=tip, leaves=leaves, receipts=receipts, proofs=proofs, profile=self._profile
        )

    def _of(self, process: ProcessId) -> Standing:
        state = self._processes.get(process)
        if state is None:
            state = Standing(process, self._sealer, self._parameters)
            self._processes[process] = state
        return state

    def on(self, event: Event, now: int) -> list[Effect]:
        """Decide. `now` only says when an interim proof is due: what a receipt or proof says is a
        function of the log."""
        match event:
            case Extended(process=process, slots=slots) if process != self.ledger:
                state = self._of(process)
                state.tip = max(state.tip, slots[-1].nonce)
                return state.run() if self._recall.decided else []
            case Executed(process=process):
                return self._executed(self._processes[process], event, now)
            case ExecutionRefused(process=process):
                return self._refused(self._processes[process], event)
            case TimerFired(key=(proving.TIMER, process)):
                return self._interim(self._processes[process])
            case LedgerMoved(state=ledger):
                self._tick = ledger.totals().tick
                return self._stop_lost()
            case Started() if self._recall.decided:
                return self._begin()
            case Started() | PeersChanged() | ProofsArrived() | TimerFired(key=recall.TIMER):
                was_decided = self._recall.decided
                effects = self._recall.on(event, now)
                begins = self._recall.decided and not was_decided
                return effects + self._begin() if begins else effects
        return []

    def _stop_lost(self) -> list[Effect]:
        """What was signed about a branch that does not hold is void; no more of it is signed."""
        going = [state for state in self._processes.values() if not state.stopped]
        lost = [(state, why) for state in going if (why := self._lost(state.id))]
        return [_stop(state, Invalid(Reason.FORK, why)) for state, why in lost]

    def _begin(self) -> list[Effect]:
        """Hold what peers have shown to be old here, say again what was said last, and run."""
        effects: list[Effect] = []
        for proof in self._recall.found.values():
            state = self._of(proof.process)
            try:
                if not state.stopped and proof.process != self.ledger:
                    state.proving.claim(proof)
            except Invalid as error:
                effects.append(_stop(state, error))
        states = list(self._processes.values())
        newest = [last for state in states if (last := state.proving.newest())]
        effects += [
            Publish(Topic.PROOFS, last.process, last.encode())
            for last in newest[:PUBLISHED_AGAIN_MAX]
            if self.ledger is not None
        ]
        return effects + [effect for state in states for effect in state.run()]

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
            "recall": {
                **self._recall.status(),
                "processes_behind": sum(state.proving.is_claimed() for state in states),
            },
        }

    def last(self, process: ProcessId) -> int:
        """Last slot evaluated since the start; -1 for none."""
        state = self._processes.get(process)
        return -1 if state is None else state.next - 1

    def stopped(self, process: ProcessId) -> str:
        """Why this unit evaluates `process` no further; empty while it does."""
        state = self._processes.get(process)
        return "" if state is None else state.stopped

    def _executed(self, state: Standing, event: Executed, now: int) -> list[Effect]:
        if state.stopped:
            return []
        assert state.running, "the engine answered a run nobody asked for"
        assert event.results, "an answer holds one slot at least"
        effects: list[Effect] = []
        first = state.next
        is_checking = state.proving.is_claimed()
        for result in event.results:
            try:
                effects += self._slot(state, result, now)
            except Invalid as error:
                effects.append(_stop(state, error))
                break
            if is_checking and not state.proving.is_claimed():
                state.again()  # now that it is known to be right, everything is signed
                break
        if state.next > first and not is_checking:
            effects.append(Notify(Evaluated(state.id, state.next - 1)))
        state.ran(sum(result.fuel for result in event.results) // len(event.results))
        return effects + state.run()

    def _refused(self, state: Standing, event: ExecutionRefused) -> list[Effect]:
        state.running = False
        if state.stopped or event.slot < state.next:
            return []
        error = Invalid(Reason.REFUSED, f"slot {event.slot}: {event.detail}")
        return [_stop(state, error)]

    def _interim(self, state: Standing) -> list[Effect]:
        return [] if state.stopped else state.proving.interim(self._tick)

    def _slot(self, state: Standing, result: ExecutedSlot, now: int) -> list[Effect]:
        """Take in the next slot. Raises Invalid(MISMATCH), and leaves `state`, if this node has
        signed something else."""
        slot = result.slot
        assert slot == state.next, f"slot {slot} evaluated, slot {state.next} comes first"
        assert (result.root is not None) == is_border(slot, self._parameters.root_every), (
            f"slot {slot} has a state root iff it is a segment border"
        )
        assert not result.raw or Status(result.status).has_output, "an output the status denies"
        leaf = leaf_of(state.id, result)
        leaf_hash = leaf.hash()
        mmr = state.mmr.append(leaf_hash)
        draft = Receipt(
            self._network,
            state.id,
            slot,
            digest(domains.HEAD, state.head, result.assignment),
            leaf,
            mmr.root(),
            state.block_root,
            self._profile,
            self._key,
        )
        durable = state.leaf(slot)
        effects: list[Effect] = []
        if durable and durable != leaf_hash:
            raise _mismatch(slot, "leaf", durable, leaf_hash)
        if state.proving.is_claimed():
            effects = state.proving.check(slot, draft.head, draft.mmr_root)
        else:
            if not durable:
                effects = self._sign_and_keep(state, draft, leaf_hash, result.raw, mmr)
            if self.ledger is not None:
                effects += state.proving.add(draft, tip=state.tip, tick=self._tick, now=now)
        state.advance(draft.head, mmr, draft.mmr_root)
        return effects

    def _sign_and_keep(
        self, state: Standing, draft: Receipt, leaf_hash: bytes, raw: bytes, mmr: Mmr
    ) -> list[Effect]:
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
            raise _mismatch(slot, "receipt", receipt.leaf.hash(), leaf_hash)
        stored = StoredResult(Status(leaf.status), leaf.fuel, raw, receipt)
        result_key = keyspace.result_key(state.id, slot)
        rows.append(Persist(Table.LOG, result_key, stored.encode()))
        rows.append(Persist(Table.LOG, keyspace.leaf_key(state.id, slot), leaf_hash))
        if is_border(slot, self._parameters.proof_every):
            rows.append(Persist(Table.LOG, keyspace.mmr_key(state.id, slot), mmr.encode()))
        return rows


def _stop(state: Standing, error: Invalid) -> Alarm:
    state.stopped = str(error)
    return Alarm(error.reason, state.id, error.detail)


def _mismatch(slot: int, what: str, durable: bytes, now: bytes) -> Invalid:
    return Invalid(
        Reason.MISMATCH,
        f"slot {slot}: this node signed {what} {b64url(durable)} and now computes {b64url(now)}; "
        "the engine or the disk has changed. Nothing more is signed for this process",
    )
