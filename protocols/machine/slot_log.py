"""The scheduler's machine: which item gets which slot of which log.

Rule 1: one item has at most one slot in a log, and so has one outbox entry.
Rule 2: an assignment leaves this node only after its sign-once rows are durable, and one nonce is
        signed once: the bytes of a slot are a pure function of the log before it, item and time.
Rule 3: nothing is signed for a log that a peer may know better than we do (`restore`).

    Offered --known id or outbox entry--> publish the slot again, Reply(nonce)
       |----not admissible, not ours----> Reply(Refusal)
       |----restoring-------------------> waits, bounded; beyond: Reply(Refusal BUSY)
       '----else-----> Persist(item, assignment, id, outbox entry), Publish, Notify, Reply(nonce)

This file does not know peers, sockets or stores; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.ledger.hosting import Marks, all_hosted, check_open
from protocols.machine.effects import (
    Answered,
    Effect,
    Event,
    Notify,
    Publish,
    Refusal,
    Reply,
    Started,
    TimerFired,
)
from protocols.machine.events import LogArrived, Offered, PeersChanged, Scheduled
from protocols.machine.held_offers import HeldOffers
from protocols.machine.recent import Recent
from protocols.machine.restore import Restore
from protocols.machine.rows import sign_once_rows
from protocols.network import Parameters
from protocols.trust import Verified
from protocols.wire import batch
from protocols.wire.assignment import BLOCK_HEIGHT_NONE, Assignment, Chain, Slot
from protocols.wire.item import Item
from protocols.wire.process import (
    ProcessInfo,
    PushKey,
    admissible,
    enterable,
    home_of,
    process_info,
    push_key,
)
from protocols.wire.topics import Topic

RECENT_MAX = 1 << 16
"""Ids, and outbox entries, remembered since their slot was signed. More than an inbox and a group
of events, so that a look-up made before an event was posted is never too old."""
AGAIN_MS = 5_000
"""A known item offered sooner after the slot was last published is answered, not published."""


class Hosted:
    """One log of this scheduler."""

    __slots__ = ("chain", "info")

    def __init__(self, chain: Chain, info: ProcessInfo) -> None:
        self.chain = chain
        self.info = info


class SlotLog:
    """All logs of one scheduler."""

    def __init__(
        self,
        *,
        key: NodeKey,
        parameters: Parameters,
        sign: Callable[[bytes], bytes],
        sole_copy: bool = False,
        marks: Marks = all_hosted,
    ) -> None:
        """`sign` is the node's Ed25519 signature. `sole_copy`: nobody else holds these logs.
        `marks` is a view of the ledger."""
        self._marks = marks
        self._key = key
        self._address = address_of(key)
        self._parameters = parameters
        self._sign = sign
        self._hosted: dict[ProcessId, Hosted] = {}
        self._assigned: Recent[tuple[ProcessId, ItemId], int] = Recent(RECENT_MAX)
        self._pushed: Recent[PushKey, int] = Recent(RECENT_MAX)
        self._published: Recent[tuple[ProcessId, int], int] = Recent(RECENT_MAX)
        self._held = HeldOffers()
        self._tail: tuple[Verified[Slot], ...] = ()
        self._restore = Restore(
            key=key, quorum=parameters.restore_quorum, sole_copy=sole_copy, chain=self._chain
        )
        self._slots = 0

    def recover(
        self,
        chains: Iterable[tuple[Chain, ProcessInfo]],
        *,
        clean: bool,
        tail: Sequence[Verified[Slot]] = (),
    ) -> None:
        """Take up the durable logs.

        `chains` end at the last signed slot. `clean`: the sign-once table is not empty and was
        not found damaged. `tail`: signed slots that the log replica of this node does not hold
        yet, in order; they are told again.
        """
        for chain, info in chains:
            self._hosted[info.id] = Hosted(chain, info)
        self._tail = tuple(tail)
        self._restore.recover(clean=clean and bool(self._hosted))

    def hosts(self, process: bytes) -> bool:
        """Whether this scheduler has the log of `process`; for cheap checks at the door."""
        return ProcessId(process) in self._hosted

    def on(self, event: Event, now: int) -> list[Effect]:
        match event:
            case Offered():
                return self._offer(event, now)
            case Started():
                return self._tell_tail() + self._restoring(event, now)
            case PeersChanged() | Answered() | TimerFired():
                return self._restoring(event, now)
            case LogArrived():
                return self._caught_up(event, now)
        return []

    def status(self) -> dict[str, Any]:
        return {
            "processes": len(self._hosted),
            "slots_signed": self._slots,
            "waiting": self._held.count,
            "restoring": self._restore.status(),
        }

    # Offers

    def _offer(self, offered: Offered, now: int) -> list[Effect]:
        item = offered.item.value
        process = home_of(item) if offered.into is None else offered.into
        if process is None:
            return _refuse(offered, Reason.INADMISSIBLE, "it names no process as its target")
        if self._restore.holds(process):
            return self._wait(offered, process)
        try:
            return self._assign(offered, process, now)
        except Invalid as error:
            return _refuse(offered, error.reason, error.detail)

    def _assign(self, offered: Offered, process: ProcessId, now: int) -> list[Effect]:
        item = offered.item.value
        hosted = self._hosted.get(process)
        nonce = self._assigned.get((process, item.id))
        if offered.known is not None:
            return self._again(offered, offered.known, now)
        if nonce is None and hosted is not None and ProcessId(item.id) == process:
            nonce = 0
        if nonce is not None:
            return _answer(offered, nonce)
        if hosted is None:
            info = self._new_process(item, process)
            hosted = Hosted(Chain.genesis(process), info)
            push = None
        else:
            enterable(item, hosted.info, offered.exclude, self._parameters)
            push = push_key(item, hosted.info)
            if push is not None:
                nonce = offered.pushed if offered.pushed is not None else self._pushed.get(push)
                if nonce is not None:
                    return _answer(offered, nonce)
        check_open(process, self._marks)
        slot = self._next(hosted, item, offered.exclude, now)
        self._hosted[process] = hosted
        self._published.put((process, slot.nonce), now)
        effects: list[Effect] = [*self._record(slot, push)]
        effects.append(Publish(Topic.SLOTS, process, self._entry(slot)))
        effects.append(Notify(Scheduled((Verified(slot),))))
        return effects + _answer(offered, slot.nonce)

    def _new_process(self, item: Item, process: ProcessId) -> ProcessInfo:
        if ProcessId(item.id) != process:
            raise Invalid(
                Reason.UNKNOWN_PROCESS,
                f"process {b64url(process)} has no log at scheduler {b64url(self._address)}",
            )
        admissible(item, None, self._parameters)
        info = process_info(item)
        if info.scheduler != self._address:
            raise Invalid(
                Reason.UNKNOWN_PROCESS,
                f"process {b64url(process)} names scheduler {b64url(info.scheduler)}, "
                f"this is {b64url(self._address)}",
            )
        return info

    def _next(self, hosted: Hosted, item: Item, exclude: tuple[str, ...], now: int) -> Slot:
        """Sign the next assignment of a log and move on."""
        chain = hosted.chain
        message = None if chain.nonce < 0 else item.id
        draft = chain.draft(self._key, now, message, exclude)
        # As `assignment_of` would read it; parsing what was just written costs a sixth of a slot.
        assignment = Assignment(
            item=draft.signed(self._sign(draft.message())),
            process=chain.process,
            epoch=0,
            nonce=chain.nonce + 1,
            hash_chain=chain.hash_chain_next(),
            block_height=BLOCK_HEIGHT_NONE,
            timestamp=max(chain.timestamp, now),
            message=message,
            exclude=exclude,
        )
        hosted.chain = chain.next_assignment(assignment)
        return Slot(assignment, item)

    def _record(self, slot: Slot, push: PushKey | None) -> Sequence[Effect]:
        """Remember a slot, and the rows that make it so."""
        self._slots += 1
        self._assigned.put((slot.process, slot.message.id), slot.nonce)
        if push is not None:
            self._pushed.put(push, slot.nonce)
        return sign_once_rows(slot, push)

    def _again(self, offered: Offered, slot: Slot, now: int) -> list[Effect]:
        """Answer for an item that has a slot, and let the network hear of it again."""
        place = (slot.process, slot.nonce)
        last = self._published.get(place)
        if last is not None and now - last < AGAIN_MS:
            return _answer(offered, slot.nonce)
        self._published.put(place, now)
        publish = Publish(Topic.SLOTS, slot.process, self._entry(slot))
        return [publish, *_answer(offered, slot.nonce)]

    def _entry(self, slot: Slot) -> bytes:
        item = slot.message
        return batch.slot_entry(
            slot.assignment.item.raw,
            batch.item_entry(item.raw, item.id, self._parameters.inline_bytes_max),
        )

    # Restoring

    def _chain(self, process: ProcessId) -> Chain | None:
        hosted = self._hosted.get(process)
        return None if hosted is None else hosted.chain

    def _tell_tail(self) -> list[Effect]:
        """Slots that a crash kept between the sign-once table and the log."""
        effects: list[Effect] = [
            Publish(Topic.SLOTS, slot.value.process, self._entry(slot.value)) for slot in self._tail
        ]
        if self._tail:
            effects.append(Notify(Scheduled(self._tail)))
        self._tail = ()
        return effects

    def _restoring(self, event: Event, now: int) -> list[Effect]:
        return self._restore.on(event, now) + self._release(now)

    def _caught_up(self, event: LogArrived, now: int) -> list[Effect]:
        """Take over own slots that peers hold and this node has lost."""
        effects: list[Effect] = []
        taken: list[Slot] = []
        wrong = event.wrong
        for verified in event.slots or ():
            slot = verified.value
            try:
                if slot.process == event.process and not self._is_behind(slot):
                    effects += self._take(slot)
                    taken.append(slot)
            except Invalid as error:
                wrong = str(error)
                break
        if taken:
            effects.append(Notify(Scheduled(tuple(Verified(slot) for slot in taken))))
            self._held.mark(self._hosted[event.process].info, taken)
        effects += self._restore.arrived(replace(event, wrong=wrong), now)
        return effects + self._release(now)

    def _is_behind(self, slot: Slot) -> bool:
        chain = self._chain(slot.process)
        return chain is not None and slot.nonce <= chain.nonce

    def _take(self, slot: Slot) -> Sequence[Effect]:
        """Follow one own slot. Raises Invalid if it is not ours or not the next."""
        if slot.assignment.item.owner != self._key:
            raise Invalid(
                Reason.WRONG_SENDER,
                f"slot {slot.nonce} of {b64url(slot.process)} is not signed by this scheduler",
            )
        hosted = self._hosted.get(slot.process)
        chain = Chain.genesis(slot.process) if hosted is None else hosted.chain
        chain = chain.next(slot)
        if hosted is None:
            self._hosted[slot.process] = hosted = Hosted(chain, process_info(slot.message))
        hosted.chain = chain
        push = push_key(slot.message, hosted.info) if slot.nonce else None
        return self._record(slot, push)

    def _wait(self, offered: Offered, process: ProcessId) -> list[Effect]:
        if self._held.add(offered, process):
            return []
        return _refuse(offered, Reason.BUSY, "this scheduler is restoring; try again later")

    def _release(self, now: int) -> list[Effect]:
        """Answer the offers whose log is held no longer."""
        effects: list[Effect] = []
        if self._held.count and self._restore.decided:
            for _, offered in self._held.take(self._restore.holds):
                effects += self._offer(offered, now)
        return effects


def _answer(offered: Offered, nonce: int) -> list[Effect]:
    return [] if offered.ticket is None else [Reply(offered.ticket, nonce)]


def _refuse(offered: Offered, reason: Reason, detail: str) -> list[Effect]:
    return [] if offered.ticket is None else [Reply(offered.ticket, Refusal(reason, detail))]
