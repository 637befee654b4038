"""Answers to demands that this node can give, for itself and for others. Part of `watching`.

The accused answers at once; everybody else waits for half of the window, and answers if nobody
has. So a unit whose node is down is not lost as long as one node holds what it stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from protocols.accumulator import mmr_of
from protocols.codec import digest
from protocols.court import first_leaf, last_leaf, roots_of
from protocols.domains import HEAD
from protocols.ids import ItemId, ProcessId
from protocols.ledger.entries import Demanded, Part
from protocols.machine.answers import push_answer
from protocols.machine.continued import continues
from protocols.machine.effects import Effect
from protocols.machine.replies import schedule_answer
from protocols.machine.watch import Watch
from protocols.wire.assignment import Chain, Slot
from protocols.wire.demand import (
    ASSIGNMENT,
    KEPT_BYTES_MAX,
    LEAVES,
    PREVIOUS,
    PUSH,
    SLOT,
    Answer,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    PushKept,
    ScheduleAnswer,
    ScheduleKept,
    SlotAnswer,
    SlotKept,
    StatementSlot,
)
from protocols.wire.evidence import statement_of
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import PART_BYTES_MAX, EvidencePart, Reply
from protocols.wire.proof import Receipt

SCAN_SLOTS = 64
"""Slots read at a time where a whole log is looked through."""
PART_OVERHEAD_BYTES = 4096
"""Of an item around a part, and of a reply around an answer."""


class Replying:
    """All open demands."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._replied: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._replied)

    def proceed(self) -> list[Effect]:
        """Answer what can be answered and is not yet."""
        watch, effects = self._watch, list[Effect]()
        open = {}
        for key, demanded in watch.state.all(Demanded):
            if demanded.answered:
                continue
            open[key] = demanded
            if key in self._replied or not self._is_time(demanded):
                continue
            answer, missing = self._answer(demanded)
            effects += missing
            if answer is not None:
                effects += self._send(key, answer.encode())
        self._replied = {key: None for key in self._replied if key in open}
        return effects

    def _is_time(self, demanded: Demanded) -> bool:
        watch = self._watch
        if demanded.accused == watch.account_of(watch.key):
            return True
        return watch.tick >= demanded.deadline - watch.parameters.demand_window // 2

    def _send(self, id: bytes, blob: bytes) -> list[Effect]:
        """In one transaction; a long answer in parts first, which must stand in the log."""
        watch = self._watch
        size = min(PART_BYTES_MAX, watch.parameters.item_bytes_max) - PART_OVERHEAD_BYTES
        if len(blob) <= size:
            self._replied[id] = None
            return watch.post(Reply(id, blob))
        starts = range(0, len(blob), size)
        parts = [EvidencePart(ItemId(id), blob[at : at + size]) for at in starts]
        ids = tuple(watch.item(part).id for part in parts)
        if all(watch.state.get(Part, id, each) is not None for each in ids):
            self._replied[id] = None
            return watch.post(Reply(id, b"", ids))
        return [effect for part in parts for effect in watch.post(part)]

    def _answer(self, demanded: Demanded) -> tuple[Answer | None, list[Effect]]:
        """The answer, if this node has it; and what it takes to have it."""
        raw = demanded.subject
        match demanded.kind:
            case kind if kind == LEAVES:
                return self._leaves(raw)
            case kind if kind == PREVIOUS:
                return self._previous(raw), []
            case kind if kind == ASSIGNMENT:
                return self._assignment(StatementSlot.decode(raw, size_max=KEPT_BYTES_MAX)), []
            case kind if kind == PUSH:
                kept = PushKept.decode(raw, size_max=KEPT_BYTES_MAX)
                return push_answer(self._watch, kept), []
            case kind if kind == SLOT:
                return self._slot(SlotKept.decode(raw, size_max=KEPT_BYTES_MAX)), []
        return self._schedule(ScheduleKept.decode(raw, size_max=KEPT_BYTES_MAX)), []

    def _leaves(self, raw: bytes) -> tuple[LeavesAnswer | None, list[Effect]]:
        watch = self._watch
        statement = statement_of(raw)
        first, last = first_leaf(statement, watch.parameters), last_leaf(statement)
        own = watch.own(statement.process, last)
        if own is None:
            if watch.evaluates(statement.process) or statement.process == watch.ledger:
                return None, []
            return None, watch.audit(statement.process, last)
        if any(
            own.roots[count] != root
            for count, root in sorted(roots_of(statement, watch.parameters).items())
        ):
            return None, []
        if isinstance(statement, Receipt) and statement.leaf.hash() != own.hashes[last]:
            return None, []
        peaks = mmr_of(own.hashes[:first]).peaks
        return LeavesAnswer(peaks, b"".join(own.hashes[first : last + 1])), []

    def _previous(self, raw: bytes) -> PreviousAnswer | None:
        watch = self._watch
        statement = statement_of(raw)
        first = first_leaf(statement, watch.parameters)
        for proof in watch.views.proofs(statement.process, statement.cu, first - 1):
            if continues(statement, proof, watch):
                return PreviousAnswer(proof)
        return None

    def _assignment(self, asked: StatementSlot) -> AssignmentAnswer | None:
        """The log this node has, if it leads to the statement's head."""
        watch = self._watch
        statement = statement_of(asked.statement)
        first, last = first_leaf(statement, watch.parameters), last_leaf(statement)
        slots = watch.views.slots(statement.process, 0, last)
        if len(slots) <= last:
            return None
        head = before = Chain.genesis(statement.process).head
        for slot in slots:
            if slot.nonce == first:
                before = head
            head = digest(HEAD, head, slot.assignment.id)
        if head != statement.head:
            return None
        return AssignmentAnswer(
            ItemHead.of(slots[0].message),
            before,
            b"".join(slot.assignment.id for slot in slots[first:]),
            slots[asked.slot].assignment.item.raw,
        )

    def _slot(self, kept: SlotKept) -> SlotAnswer | None:
        slots = self._watch.views.slots(kept.process, kept.slot, kept.slot)
        if not slots:
            return None
        return SlotAnswer(slots[0].assignment.item.raw, slots[0].message.raw)

    def _schedule(self, kept: ScheduleKept) -> ScheduleAnswer | None:
        if kept.push is None and self._watch.views.find(kept.item, kept.process) is None:
            return None
        return schedule_answer(kept, self._log(kept.process))

    def _log(self, process: ProcessId) -> Iterator[Slot]:
        """All slots of a log, read as they are looked at."""
        for first in count(0, SCAN_SLOTS):
            slots = self._watch.views.slots(process, first, first + SCAN_SLOTS - 1)
            yield from slots
            if len(slots) < SCAN_SLOTS:
                return
