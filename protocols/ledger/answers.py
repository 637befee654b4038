"""What answers a demand: each kind is checked against what the ledger keeps of its subject.

All raise Invalid for anything else, so a wrong answer changes nothing and the demand stays open.
"""

from __future__ import annotations

from protocols import domains
from protocols.codec import digest
from protocols.court import (
    accepted_statement,
    first_leaf,
    last_leaf,
    leaves_of,
    roots_of,
    scheduled,
    shown_item,
    shown_process,
    signed_item,
)
from protocols.ids import Address, ProcessId
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import Case, Demanded
from protocols.outbox import FORMAT_CBOR, Bounds, Entry, OutAssignment, OutSpawn, derive
from protocols.wire.assignment import Assignment, Chain, assignment_of, scheduler_of, slot_of
from protocols.wire.demand import (
    ASSIGNMENT,
    KEPT_BYTES_MAX,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    PushAnswer,
    PushKept,
    ScheduleAnswer,
    ScheduleKept,
    SlotAnswer,
    SlotKept,
    StatementSlot,
    push_fields,
    read_answer,
)
from protocols.wire.evidence import ASSIGNMENT_BYTES_MAX
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import push_key
from protocols.wire.proof import Receipt, Statement, StateProof
from protocols.wire.pushed import Parent, entry_of, spawned_reply

FORMATS = ("json", FORMAT_CBOR)
"""Every Module-Format that `derive` tells apart. The outbox root says which one it was."""


def check_answer(draft: Draft, demanded: Demanded, blob: bytes) -> None:
    """Raise Invalid unless this encoded answer answers the demand."""
    answer = read_answer(demanded.kind, blob, draft.rules.parameters)
    match answer:
        case LeavesAnswer():
            statement = _statement(draft, demanded)
            leaves_of(statement, answer.peaks, answer.leaves, draft.rules.parameters)
        case PreviousAnswer():
            _previous(draft, _statement(draft, demanded), answer)
        case AssignmentAnswer():
            _assignment(draft, demanded, answer)
        case PushAnswer():
            _push(draft, demanded, answer)
        case SlotAnswer():
            _slot(draft, demanded, answer)
        case ScheduleAnswer():
            _schedule(draft, demanded, answer)


# A compute unit's statement


def _statement(draft: Draft, demanded: Demanded) -> Statement:
    raw = demanded.subject
    if demanded.kind == ASSIGNMENT:
        raw = StatementSlot.decode(raw, size_max=KEPT_BYTES_MAX).statement
    return accepted_statement(raw, draft.court())


def _previous(draft: Draft, statement: Statement, answer: PreviousAnswer) -> None:
    """It is what the statement continues: the unit's proof that ends right before it, or an
    anchor there, of the same log.

    A refuted anchor is an answer too: a unit that began with it is not guilty of it, and what
    rests on it is void. Before a receipt a proof may also just cross the block end, as one of a
    unit that was catching up does.
    """
    first = first_leaf(statement, draft.rules.parameters)
    root = roots_of(statement, draft.rules.parameters).get(first)
    if len(answer.proof) == 32:
        anchor = draft.anchor(answer.proof)
        if anchor is None:
            raise refused("no such anchor")
        process, head, ends = anchor.process, anchor.head, {anchor.slot: anchor.mmr_root}
    else:
        proof = accepted_statement(answer.proof, draft.court())
        own = draft.account_of(statement.cu)
        if not isinstance(proof, StateProof) or draft.account_of(proof.cu) != own:
            raise refused("not a state proof of the same unit")
        process, head, ends = proof.process, proof.head, {proof.last: proof.mmr_root}
        if isinstance(statement, Receipt):
            ends |= dict(proof.block_roots)
    if process != statement.process or root is None or ends.get(first - 1) != root:
        raise refused(f"it does not end with the range before slot {first}")
    if isinstance(statement, StateProof) and head != statement.head_before:
        raise refused("it ends in another log than the statement begins with")


def _assignment(draft: Draft, demanded: Demanded, answer: AssignmentAnswer) -> None:
    """The ids lead to the statement's head, and the one asked for is its scheduler's."""
    statement = _statement(draft, demanded)
    slot = StatementSlot.decode(demanded.subject, size_max=KEPT_BYTES_MAX).slot
    first, last = first_leaf(statement, draft.rules.parameters), last_leaf(statement)
    info = shown_process(answer.process, draft.court())
    if info.id != statement.process:
        raise refused("the process item is of another process")
    head = answer.head_before
    if not first and head != Chain.genesis(info.id).head:
        raise refused("the head before slot 0 is another one")
    if isinstance(statement, StateProof) and head != statement.head_before:
        raise refused("the head before is not the statement's")
    if len(answer.ids) != 32 * (last - first + 1):
        raise refused(f"not one assignment id for each slot of {first}..{last}")
    for at in range(0, len(answer.ids), 32):
        head = digest(domains.HEAD, head, answer.ids[at : at + 32])
    if head != statement.head:
        raise refused("the assignments do not lead to the statement's head")
    assignment = scheduled(answer.assignment, info, draft.court())
    start = 32 * (slot - first)
    if assignment.nonce != slot or assignment.id != answer.ids[start : start + 32]:
        raise refused(f"it is not the assignment of slot {slot}")


# A messenger's item


def _push(draft: Draft, demanded: Demanded, answer: PushAnswer) -> None:
    """A staked unit says the slot ended with an output, of which the entry is exactly the item."""
    kept = PushKept.decode(demanded.subject, size_max=KEPT_BYTES_MAX)
    _check_receipt(draft, kept, answer)
    info = shown_process(answer.process, draft.court())
    if info.id != kept.process:
        raise refused("the process item is of another process")
    entry = _entry(draft, kept, answer)
    if isinstance(entry, OutAssignment):
        raise refused(f"outbox entry {kept.index} is an assignment, which no item is made of")
    parent = Parent(info, kept.slot, kept.root)
    made = entry_of(kept.messenger, parent, kept.index, entry)
    if answer.child is not None:
        if not isinstance(entry, OutSpawn):
            raise refused(f"outbox entry {kept.index} spawns nothing")
        if not draft.facts.signed(kept.messenger, made.message(), answer.child):
            raise refused("the child is not signed by the messenger")
        made = spawned_reply(kept.messenger, made.signed(answer.child))
    if made.message() != kept.message:
        raise refused(f"outbox entry {kept.index} gives another item")


def _check_receipt(draft: Draft, kept: PushKept, answer: PushAnswer) -> None:
    """The receipt is of the slot, and of a unit that has or had something to lose by it.

    Whether it is right is a matter of evidence against its unit. One that has lost its stake
    counts too: an honest messenger may have believed it before.
    """
    receipt = accepted_statement(answer.receipt, draft.court())
    if not isinstance(receipt, Receipt):
        raise refused("a state proof does not say how a slot ended")
    if (receipt.process, receipt.slot) != (kept.process, kept.slot):
        raise refused("the receipt is of another slot")
    unit = draft.account_of(receipt.cu)
    if not draft.at_stake(unit) and draft.get(Case, unit) is None:
        raise refused("the receipt is of nobody with a stake")
    if receipt.leaf.status != Status.OK:
        raise refused(f"a slot with status {receipt.leaf.status} has no outbox")
    if receipt.leaf.outcome_hash != outcome_hash(answer.raw, answer.outbox_root):
        raise refused("the output is not the receipt's")


def _entry(draft: Draft, kept: PushKept, answer: PushAnswer) -> Entry:
    parameters = draft.rules.parameters
    bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
    for format in FORMATS:
        derived = derive(format, Status.OK, answer.raw, bounds)
        if derived.status is Status.OK and derived.outbox.root() == answer.outbox_root:
            entries = derived.outbox.entries()
            if kept.index < len(entries):
                return entries[kept.index]
            raise refused(f"the outbox has {len(entries)} entries, none of index {kept.index}")
    raise refused("the output has another outbox")


# A scheduler's log


def _slot(draft: Draft, demanded: Demanded, answer: SlotAnswer) -> None:
    """Any slot of this number that its scheduler has given: if there are two, that is evidence."""
    kept = SlotKept.decode(demanded.subject, size_max=KEPT_BYTES_MAX)
    assignment = _by(draft, answer.assignment, kept.process, kept.scheduler)
    if assignment.nonce != kept.slot:
        raise refused(f"the assignment is of slot {assignment.nonce}, not {kept.slot}")
    slot_of(assignment, signed_item(answer.item, draft.court()))


def _schedule(draft: Draft, demanded: Demanded, answer: ScheduleAnswer) -> None:
    kept = ScheduleKept.decode(demanded.subject, size_max=KEPT_BYTES_MAX)
    assignment = _by(draft, answer.assignment, kept.process, kept.scheduler)
    if assignment.assigned == kept.item:
        return
    if kept.push is None or answer.process is None or answer.copy is None:
        raise refused("the assignment is of another item")
    info = shown_process(answer.process, draft.court())
    copy = shown_item(answer.copy, draft.court())
    if info.id != kept.process or copy.id != assignment.assigned:
        raise refused("the copy is not the assigned item")
    if push_fields(push_key(copy, info)) != kept.push:
        raise refused("the assigned item is no copy of the demanded one")


def _by(draft: Draft, raw: bytes, process: ProcessId, scheduler: Address) -> Assignment:
    """An assignment of this log by this scheduler."""
    item = signed_item(raw, draft.court(), size_max=ASSIGNMENT_BYTES_MAX)
    assignment = assignment_of(item)
    if assignment.process != process or scheduler_of(assignment) != scheduler:
        raise refused("the assignment is of another log, or not by its scheduler")
    return assignment
