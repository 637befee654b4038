"""Checks one result offline: receipt, outcome bytes, assignment and message, and nothing else.

`Verifier.check` proves that a listed compute unit signed exactly this outcome for exactly this
message in exactly this slot; `agree` that several units say the same. Neither asks the network.
What they do not prove: that the outcome is right (that is for replay and challenges), and that
the log is the only one (that is for whoever compares heads).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url, unb64url
from protocols.network import Network
from protocols.outbox import Bounds, Derived, Outbox, derive
from protocols.result import public_json
from protocols.wire.assignment import Assignment, Slot, assignment_of, slot_of
from protocols.wire.item import Item, decode_item, item_id
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import ProcessInfo, process_info
from protocols.wire.proof import Receipt

ASSIGNMENT_BYTES_MAX = 8 << 10
CACHE_ENTRIES_MAX = 4096
"""Verified slots remembered, so that the answers of several units cost one check of the log."""
OUTCOMES_MAX, OUTCOME_BYTES_MAX = 1024, 16 << 10
"""Outcomes remembered, and the largest of them: several units give out the same one."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a unit gives out about one slot, undecoded."""

    receipt: bytes
    outcome: bytes
    assignment: bytes
    message: bytes

    @classmethod
    def of_json(cls, edge: Mapping[str, object], log: Evidence | None = None) -> Evidence:
        """From an edge of `/results?receipts=1` or from `/proof`. Raises Invalid.

        `log` fills in assignment and message where the edge leaves them out (`log=0`)."""
        parts = {}
        for name in ("receipt", "outcome", "assignment", "message"):
            text = edge.get(name)
            if text is None and log is not None and name in ("assignment", "message"):
                parts[name] = getattr(log, name)
            elif isinstance(text, str):
                parts[name] = unb64url(text)
            else:
                raise Invalid(Reason.MALFORMED, f"the answer has no {name!r}; is this an aonode?")
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """One unit's statement, checked against the log and the outcome."""

    receipt: Receipt
    slot: Slot
    raw: bytes
    """The module's output."""

    @property
    def cu(self) -> NodeKey:
        return self.receipt.cu


@dataclass(frozen=True, slots=True)
class VerifiedResult:
    """What `quorum` different units agree on."""

    process: ProcessId
    nonce: int
    message: ItemId
    status: Status
    outbox: Outbox
    output: str
    """The Output as JSON text."""
    error: str
    raw: bytes
    fuel: int
    receipts: tuple[Receipt, ...]
    """One per unit, in the order asked."""
    format: str
    """Module-Format of the process."""
    bounds: Bounds

    @property
    def public(self) -> str:
        """The result as AO's units show it, JSON text."""
        return public_json(self.format, self.status, self.raw, self.bounds, self.fuel)


class Verifier:
    """Checks results of one network. Keeps the process items and slots it has verified."""

    def __init__(self, network: Network, cu_keys: Container[NodeKey] | None = None) -> None:
        """`cu_keys` are the units whose word counts; the network file's unless stated."""
        listed = frozenset(unit.key for unit in network.units if "compute" in unit.roles)
        self.network = network
        self.cu_keys = listed if cu_keys is None else cu_keys
        self._bounds = Bounds(network.parameters.output_bytes_max, network.parameters.outbox_max)
        self._processes: dict[ProcessId, tuple[ProcessInfo, str]] = {}
        self._items: dict[ProcessId, Item] = {}
        self._slots: dict[tuple[bytes, bytes], Slot] = {}
        self._outcomes: dict[tuple[str, Status, bytes], tuple[Derived, bytes]] = {}

    def know_process(self, process: Item, format: str) -> None:
        """Take a process's rules from its signed item. Raises Invalid if it is no process.

        `format` is its module's Module-Format. It may come from anybody: under a wrong one no
        outcome hash fits (JSON is never canonical CBOR of an array), so nothing verifies.
        """
        verify_item(process)
        info = process_info(process)
        self._processes[info.id] = (info, format)
        self._items[info.id] = process

    def process_item(self, process: ProcessId) -> tuple[Item, str]:
        """What `know_process` was called with for it."""
        return self._items[process], self._processes[process][1]

    def knows(self, process: ProcessId) -> bool:
        """Whether `know_process` has been called for it."""
        return process in self._processes

    def check(
        self,
        process: ProcessId,
        evidence: Evidence,
        *,
        message: ItemId | None = None,
        sent: Container[bytes] = (),
    ) -> VerifiedReceipt:
        """Raise Invalid, naming message and unit, unless every part fits every other.

        `message` is the one that was asked for, if one was. `sent` are messages the caller knows:
        where the parts name different ones, the error names one of those.
        """
        who = "a unit"
        try:
            receipt = Receipt.decode(evidence.receipt)
            who = f"unit {b64url(receipt.cu)}"
            slot = self.check_slot(process, evidence)
            if message is not None and slot.message.id != message:
                raise _mismatch(f"the answer is about message {b64url(slot.message.id)}")
            self.check_receipt(process, receipt, slot)
            self.check_outcome(process, receipt, evidence.outcome)
        except Invalid as error:
            raise Invalid(
                error.reason,
                f"{_name(evidence, message, sent)} of process {b64url(process)}: what {who} "
                f"answered does not verify: {error.detail or error.reason}",
            ) from None
        return VerifiedReceipt(receipt, slot, evidence.outcome)

    def check_slot(self, process: ProcessId, evidence: Evidence) -> Slot:
        """The slot that assignment and message make, both signatures checked. Raises Invalid."""
        key = (evidence.assignment, evidence.message)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._check_slot(process, evidence)
            if len(self._slots) >= CACHE_ENTRIES_MAX:
                self._slots.pop(next(iter(self._slots)))
            self._slots[key] = slot
        if slot.process != process:
            raise _mismatch(f"the assignment is of process {b64url(slot.process)}")
        return slot

    def _check_slot(self, process: ProcessId, evidence: Evidence) -> Slot:
        info, _ = self._processes[process]
        item = decode_item(evidence.assignment, size_max=ASSIGNMENT_BYTES_MAX)
        assignment: Assignment = assignment_of(item)
        if address_of(item.owner) != info.scheduler:
            raise _mismatch(
                f"the assignment is signed by {b64url(address_of(item.owner))}, but the process's "
                f"scheduler is {b64url(info.scheduler)}"
            )
        verify_item(item)
        size_max = self.network.parameters.item_bytes_max
        message = decode_item(evidence.message, size_max=size_max)
        verify_item(message)
        return slot_of(assignment, message)

    def check_receipt(self, process: ProcessId, receipt: Receipt, slot: Slot) -> None:
        """Raise Invalid unless a unit whose word counts has signed it about this slot."""
        assignment = slot.assignment
        if receipt.network != self.network.id:
            raise Invalid(
                Reason.WRONG_NETWORK, f"the receipt is of network {b64url(receipt.network)}"
            )
        if receipt.cu not in self.cu_keys:
            raise Invalid(
                Reason.WRONG_SENDER,
                "the network file lists no such compute unit, nor has it a stake",
            )
        if receipt.process != process or assignment.process != process:
            raise _mismatch(f"the receipt is of process {b64url(receipt.process)}")
        if receipt.slot != assignment.nonce:
            raise _mismatch(f"the receipt is of slot {receipt.slot}, not {assignment.nonce}")
        if receipt.leaf.assignment_id != assignment.id:
            raise _mismatch(f"the leaf is of assignment {b64url(receipt.leaf.assignment_id)}")
        if receipt.profile != self.network.profile:
            raise _mismatch(f"the receipt is of profile {b64url(receipt.profile)}")
        receipt.check(self.network.parameters)
        if not verify_ed25519(receipt.cu, receipt.signing_bytes(), receipt.signature):
            raise Invalid(Reason.BAD_SIGNATURE, "the receipt's signature is not the unit's")

    def check_outcome(self, process: ProcessId, receipt: Receipt, raw: bytes) -> None:
        """Raise Invalid unless `raw` is the module output that the receipt states."""
        leaf = receipt.leaf
        try:
            stated = Status(leaf.status)
        except ValueError:
            raise Invalid(Reason.MALFORMED, f"status {leaf.status} does not exist") from None
        if raw and not stated.has_output:
            raise _mismatch(f"status {stated.name} has no outcome bytes, but {len(raw)} came")
        derived, hash = self._outcome(process, stated, raw)
        if derived.status != stated:
            raise _mismatch(f"the outcome means {derived.status.name}, signed is {stated.name}")
        if leaf.outcome_hash != hash:
            raise _mismatch("the outcome bytes are not those whose hash is signed")

    def _outcome(self, process: ProcessId, status: Status, raw: bytes) -> tuple[Derived, bytes]:
        """What output bytes mean, and their outcome hash."""
        key = (self._processes[process][1], status, raw)
        known = self._outcomes.get(key)
        if known is None:
            derived = derive(*key, self._bounds)
            known = (derived, outcome_hash(raw, derived.outbox.root()))
            if len(raw) <= OUTCOME_BYTES_MAX:
                if len(self._outcomes) >= OUTCOMES_MAX:
                    self._outcomes.pop(next(iter(self._outcomes)))
                self._outcomes[key] = known
        return known

    def agree(self, checked: Sequence[VerifiedReceipt], *, quorum: int) -> VerifiedResult:
        """What all of `checked`, answers about one slot, say. Raises Invalid unless they are
        equal and of at least `quorum` different units."""
        assert checked, "nothing to compare"
        first = checked[0]
        message = first.slot.message.id
        units = {each.cu for each in checked}
        if len(units) < quorum:
            raise Invalid(
                Reason.UNAVAILABLE,
                f"message {b64url(message)}: {len(units)} compute units answered, "
                f"{quorum} are asked for; give more --cu addresses or a smaller quorum",
            )
        for other in checked[1:]:
            _compare(first, other)
        receipt, raw = first.receipt, first.raw
        status = Status(receipt.leaf.status)
        format = self._processes[receipt.process][1]
        derived, _ = self._outcome(receipt.process, status, raw)
        return VerifiedResult(
            process=receipt.process,
            nonce=receipt.slot,
            message=message,
            status=status,
            outbox=derived.outbox,
            output=derived.output,
            error=derived.error,
            raw=raw,
            fuel=receipt.leaf.fuel,
            receipts=tuple(each.receipt for each in checked),
            format=format,
            bounds=self._bounds,
        )


def _name(evidence: Evidence, message: ItemId | None, sent: Container[bytes]) -> str:
    """The message some evidence is about, as far as damaged parts still tell."""
    if message is not None:
        return f"message {b64url(message)}"
    named = []
    with suppress(Invalid):
        named.append(item_id(evidence.message))
    with suppress(Invalid):
        assignment = decode_item(evidence.assignment, size_max=ASSIGNMENT_BYTES_MAX)
        named.append(assignment_of(assignment).assigned)
    if not named:
        return "a message"
    known = [id for id in named if id in sent]
    return f"message {b64url((known or named)[-1])}"


def _compare(a: VerifiedReceipt, b: VerifiedReceipt) -> None:
    """Raise Invalid(MISMATCH or FORK) naming the first thing two units differ in."""
    left, right = a.receipt, b.receipt
    facts = (
        (Reason.MISMATCH, "message", a.slot.message.id, b.slot.message.id),
        (Reason.FORK, "log head", left.head, right.head),
        (Reason.MISMATCH, "leaf", left.leaf.hash(), right.leaf.hash()),
        (Reason.MISMATCH, "MMR root", left.mmr_root, right.mmr_root),
        (Reason.MISMATCH, "block root", left.block_root, right.block_root),
    )
    for reason, name, ours, theirs in facts:
        if ours != theirs:
            raise Invalid(
                reason,
                f"message {b64url(a.slot.message.id)}: units {b64url(a.cu)} and {b64url(b.cu)} "
                f"signed different {name}s for slot {left.slot}; one of them is wrong",
            )


def _mismatch(detail: str) -> Invalid:
    return Invalid(Reason.MISMATCH, detail)
