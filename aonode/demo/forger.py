"""A compute unit that states what it likes, in a form that no check of shape can tell from truth.

It wraps the real evaluation machine and makes anew what that machine signs: receipts and their
rows, leaves, MMRs, state proofs, all consistent with each other. What is bent is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aonode.ports import Signer
from aonode.roles.runner import Machine
from protocols import keyspace
from protocols.accumulator import Mmr
from protocols.ids import ProcessId
from protocols.keyspace import Prefix
from protocols.machine.effects import Effect, Event, Notify, Persist, Publish, Table
from protocols.machine.events import Extended, ProofSealed
from protocols.machine.results import StoredResult, result_parts
from protocols.parameters import Parameters
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status
from protocols.wire.proof import Leaf, Receipt, StateProof, block_end_before
from protocols.wire.topics import Topic

Bend = Callable[[Slot, Leaf, bytes], tuple[Leaf, bytes]]
"""What to state of a slot, instead of its true leaf and output."""

_STATUSES = frozenset(Status)
_ROWS = (Prefix.RESULT, Prefix.LEAF, Prefix.MMR)


class Forger:
    """The machine of a compute unit, bent."""

    def __init__(
        self, machine: Machine, signer: Signer, bend: Bend, parameters: Parameters
    ) -> None:
        self._machine = machine
        self._signer = signer
        self._bend = bend
        self._parameters = parameters
        self._slots: dict[tuple[ProcessId, int], Slot] = {}
        """Scheduled, and not stated yet."""
        self._forged: dict[tuple[ProcessId, int], tuple[Receipt, bytes]] = {}
        """Stated by the true machine in this group: the forged receipt and output."""
        self.ranges: dict[ProcessId, list[Mmr]] = {}
        """Of what is stated, by number of leaves."""
        self._leaves: dict[ProcessId, list[Leaf]] = {}

    def on(self, event: Event, now: int) -> list[Effect]:
        """As the true machine, but for what is signed."""
        if isinstance(event, Extended):
            for slot in event.slots:
                self._slots[event.process, slot.nonce] = slot
        effects = self._machine.on(event, now)
        outputs = self._outputs(effects)
        forged = [self._forge(effect, outputs) for effect in effects]
        self._forged.clear()
        return forged

    def status(self) -> dict[str, Any]:
        """As the true machine."""
        return self._machine.status()

    def _outputs(self, effects: Sequence[Effect]) -> dict[tuple[ProcessId, int], bytes]:
        outputs = {}
        size_max = self._parameters.output_bytes_max
        for effect in effects:
            if isinstance(effect, Persist) and effect.value and effect.key[0] == Prefix.RESULT:
                parts = result_parts(effect.value, output_bytes_max=size_max)
                receipt = Receipt.decode(parts[3])
                outputs[receipt.process, receipt.slot] = parts[2]
        return outputs

    def _forge(self, effect: Effect, outputs: dict[tuple[ProcessId, int], bytes]) -> Effect:
        match effect:
            case Persist(table=Table.SIGN_ONCE, value=bytes(value)):
                if effect.key[0] == Prefix.RECEIPT:
                    return replace(effect, value=self._receipt(Receipt.decode(value), outputs))
                if effect.key[0] == Prefix.PROOF:
                    return replace(effect, value=self._proof(StateProof.decode(value)).encode())
            case Persist(value=bytes(value)) if effect.key[0] in _ROWS:
                return replace(effect, value=self._row(effect.key, value))
            case Publish(topic=Topic.PROOFS, entry=entry):
                return replace(effect, entry=self._proof(StateProof.decode(entry)).encode())
            case Notify(event=ProofSealed(proof=proof)):
                return Notify(ProofSealed(self._proof(proof)))
        return effect

    def _receipt(self, true: Receipt, outputs: dict[tuple[ProcessId, int], bytes]) -> bytes:
        process, slot = true.process, true.slot
        scheduled = self._slots.pop((process, slot))
        leaf, raw = self._bend(scheduled, true.leaf, outputs[process, slot])
        ranges = self.ranges.setdefault(process, [Mmr()])
        ranges.append(ranges[-1].append(leaf.hash()))
        self._leaves.setdefault(process, []).append(leaf)
        end = block_end_before(slot, self._parameters.proof_every)
        block = None if end is None else ranges[end + 1].root()
        draft = replace(true, leaf=leaf, mmr_root=ranges[-1].root(), block_root=block)
        receipt = draft.signed(self._signer.sign(draft.signing_bytes()))
        self._forged[process, slot] = receipt, raw
        return receipt.encode()

    def _row(self, key: bytes, value: bytes) -> bytes:
        """The row of a slot that this group states."""
        process, slot = ProcessId(keyspace.id_of(key)), keyspace.nonce_of(key)
        if (process, slot) not in self._forged:
            return value
        receipt, raw = self._forged[process, slot]
        match key[0]:
            case Prefix.LEAF:
                return receipt.leaf.hash()
            case Prefix.MMR:
                return self.ranges[process][slot + 1].encode()
        leaf = receipt.leaf
        # A status outside the table stands in the receipt only: no reader takes such a row.
        status = Status(leaf.status) if leaf.status in _STATUSES else Status.TRAP
        return StoredResult(status, leaf.fuel, raw, receipt).encode()

    def _proof(self, true: StateProof) -> StateProof:
        ranges, leaves = self.ranges[true.process], self._leaves[true.process]
        draft = replace(
            true,
            mmr_before=ranges[true.first].root(),
            mmr_root=ranges[true.last + 1].root(),
            block_roots=tuple((end, ranges[end + 1].root()) for end, _ in true.block_roots),
            state_root=leaves[true.last].root,
            fuel=sum(leaf.fuel for leaf in leaves[true.first : true.last + 1]),
        )
        return draft.signed(self._signer.sign(draft.signing_bytes()))
