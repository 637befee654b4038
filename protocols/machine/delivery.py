"""The messenger's machine: an item answered with 202 is scheduled, and what it causes is pushed.

Rule 1: nobody hears yes before the item is durable here and admissible where it goes.
Rule 2: a durable item is offered until its slot is seen; then the outcome of that slot is asked
        for until a quorum agrees, and what it sends is durable before the item is forgotten.
Rule 3: pushed items are a pure function of the outbox entry (`pushed`), so doing all this twice,
        after a crash, schedules nothing twice.

    Submit --unknown process--> waits for slot 0, then Reply(Refusal)
      '--admissible--> OPEN: row, Reply, Publish; no slot after 2 s: by stream, backing off
           OPEN --Extended shows it--> FOLLOWED (`pushing`) --quorum--> rows of what it sends, OPEN
           OPEN --its outbox entry has a slot by another messenger--> forgotten

A delivery row holds the raw item and nothing else: how far it has come is in the log. A
transaction of the ledger has no outcome to wait for: it is delivered once it has its slot. No
process sends any: what this node pushes is signed by this node, whose coins are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.ledger.hosting import Marks, all_hosted, check_open
from protocols.machine import assigning, outbound, pushing, waiting
from protocols.machine.assigning import Assigning, Settled
from protocols.machine.directory import Directory
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Event,
    Notify,
    Refusal,
    Reply,
    Started,
    TimerFired,
)
from protocols.machine.events import (
    AssignAsked,
    AssignmentArrived,
    Extended,
    ReceiptsArrived,
    Submit,
    Undeliverable,
    UnitSeen,
)
from protocols.machine.outbound import OPEN_MAX, Outbound
from protocols.machine.pushing import Opened, Pushing
from protocols.machine.quorum import Outcome
from protocols.machine.recent import Recent
from protocols.machine.rows import delivered_row, delivery_row
from protocols.machine.waiting import Waiting, WaitingRoom
from protocols.network import Parameters, Unit
from protocols.outbox import Bounds, OutAssignment
from protocols.wire.assignment import Assignment, Chain, assignment_of
from protocols.wire.item import Item, Unsigned
from protocols.wire.process import ProcessInfo, home_of, push_key
from protocols.wire.pushed import (
    Parent,
    entry_of,
    is_spawned,
    root_of,
    spawned_reply,
)

FOLLOWED_MAX = 1 << 18
"""Slots whose outcome may be missing before clients are refused."""
RECENT_MAX = 1 << 16
"""Scheduled items remembered: more than the slots in an inbox, so that a look-up made before an
event was posted is never too old."""

_CLIENTS, _TARGETS = "client-waits", "target-waits"

Place = tuple[ProcessId, int]
"""Where an item stands: process and nonce."""


class Delivery:
    """All items this messenger has promised to deliver."""

    def __init__(
        self,
        *,
        key: NodeKey,
        parameters: Parameters,
        sign: Callable[[bytes], bytes],
        units: Sequence[Unit] = (),
        ledger: ProcessId | None = None,
        marks: Marks = all_hosted,
    ) -> None:
        """`sign` is the node's Ed25519 signature; `units` are those of the network file, `ledger`
        its ledger; `marks` is a view of that."""
        self._key = key
        self._sign = sign
        self._ledger = ledger
        self._marks = marks
        self._directory = Directory(parameters=parameters, units=units)
        self._outbound = Outbound(
            inline_bytes_max=parameters.inline_bytes_max,
            scheduler_key=self._directory.scheduler_key,
            marks=marks,
        )
        self._pushing = Pushing(
            quorum=parameters.push_quorum,
            bounds=Bounds(parameters.output_bytes_max, parameters.outbox_max),
            computes=[unit.key for unit in units if "compute" in unit.roles],
        )
        self._clients = WaitingRoom(
            _CLIENTS, count_max=waiting.CLIENTS_MAX, bytes_max=waiting.CLIENTS_BYTES_MAX
        )
        self._targets = WaitingRoom(
            _TARGETS, count_max=waiting.PUSHED_MAX, bytes_max=waiting.PUSHED_BYTES_MAX
        )
        self._assigning = Assigning(self._scheduler_of)
        self._assigned: list[Assignment] = []
        """Assignments by id whose outcome was not pushed before a restart."""
        self._seen: Recent[ItemId, Place] = Recent(RECENT_MAX)
        self._recovered: list[tuple[Item, Place | None]] = []
        self._undeliverable = 0

    def recover(
        self,
        items: Iterable[Item],
        logs: Iterable[tuple[Chain, ProcessInfo]],
        place: Callable[[ItemId], Place | None],
        orders: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Take up the delivery rows, the durable logs and the outbox rows (`orders`). `place` looks
        an item up in the logs; it is called during this call only."""
        self._directory.recover(logs)
        self._assigning.recover(orders)
        for item in items:
            if item.first("Type") == "Assignment":
                self._assigned.append(assignment_of(item))
                continue
            placed = place(item.id)
            if placed is not None and placed[0] != home_of(item):
                placed = None  # assigned to another log as well; its own is what was promised
            self._recovered.append((item, placed))
            if placed is not None and is_spawned(item, self._key):
                told = self._signed(partial(spawned_reply, self._key, item))
                at = None if isinstance(told, str) else place(told.id)
                if not isinstance(told, str) and at is not None:
                    self._seen.put(told.id, at)

    def on(self, event: Event, now: int) -> list[Effect]:
        match event:
            case Submit():
                return self._submit(event, now)
            case Extended():
                return self._extended(event, now) + self._ask(now)
            case ReceiptsArrived():
                return self._receipts(event, now) + self._ask(now)
            case TimerFired(key=outbound.TIMER):
                return self._due(now) + self._ask(now)
            case TimerFired(key=(pushing.TIMER, process)):
                self._pushing.resume(process)
                return self._ask(now)
            case TimerFired(key=(name, process)) if name == _CLIENTS:
                return self._expire(self._clients, process, now)
            case TimerFired(key=(name, process)) if name == _TARGETS:
                return self._expire(self._targets, process, now)
            case AssignAsked():
                return self._assign(event, now)
            case AssignmentArrived():
                settled = self._assigning.arrived(event, now)
                effects = [] if settled is None else self._settle(settled)
                return effects + self._assigning.requests(now) + self._ask(now)
            case TimerFired(key=assigning.TIMER):
                lost = [each for one in self._assigning.expired(now) for each in self._settle(one)]
                return lost + self._assigning.due(now)
            case Answered(tag=outbound.TAG):
                return self._scheduler_answered(event, now) + self._ask(now)
            case UnitSeen(unit=unit):
                return self._unit_seen(unit.value.key, unit.value.roles, now)
            case Started():
                return self._start(now) + self._ask(now)
        return []

    def status(self) -> dict[str, Any]:
        return {
            "open": len(self._outbound),
            "waiting_for_process": len(self._clients) + len(self._targets),
            "waiting_for_outcome": self._pushing.count,
            "assigning": len(self._assigning),
            "offered_again": self._outbound.resent,
            "undeliverable": self._undeliverable,
        }

    def _ask(self, now: int) -> list[Effect]:
        # With too many items without a slot, opening outboxes would only add to them.
        return self._pushing.requests(now) if len(self._outbound) < OPEN_MAX else []

    # Taking items

    def _submit(self, event: Submit, now: int) -> list[Effect]:
        item = event.item.value
        stands = event.known is not None and event.known[0] == home_of(item)
        if stands or self._has(item.id):
            return [Reply(event.ticket, item.id)]
        try:
            self._check_room()
            info = self._directory.process_for(item)
            if info is None:
                wanted = Waiting(item, event.ticket, now + waiting.CLIENT_WAIT_MS)
                return self._clients.add(ProcessId(item.target or b""), wanted)
            self._check_open(info)
            effects = self._open(item, info, now, pushed=False)
        except Invalid as error:
            return [Reply(event.ticket, Refusal(error.reason, error.detail))]
        return [delivery_row(item), *effects, Reply(event.ticket, item.id)]

    def _check_room(self) -> None:
        if self._pushing.count >= FOLLOWED_MAX:
            raise Invalid(
                Reason.BUSY,
                f"the outcome of {FOLLOWED_MAX} messages is missing; try again later",
            )

    def _check_open(self, info: ProcessInfo) -> None:
        check_open(info.id, self._marks)
        self._directory.check_scheduler(info)

    def _has(self, id: ItemId) -> bool:
        return id in self._outbound or self._seen.get(id) is not None

    def _open(self, item: Item, info: ProcessInfo, now: int, *, pushed: bool) -> list[Effect]:
        """Offer an item that is (about to be) durable. Raises Invalid(BUSY)."""
        self._outbound.check_room(item, info.scheduler, pushed=pushed)
        return self._offer(item, info, now)

    def _offer(self, item: Item, info: ProcessInfo, now: int) -> list[Effect]:
        is_process = ProcessId(item.id) == info.id
        push = None if is_process else push_key(item, info)
        return self._outbound.add(item, info.id, info.scheduler, push, now)

    # Waiting for slot 0

    def _release(self, process: ProcessId, now: int) -> list[Effect]:
        """Slot 0 is here."""
        effects: list[Effect] = []
        for wanted in (*self._clients.take(process), *self._targets.take(process)):
            item, ticket = wanted.item, wanted.ticket
            if not self._has(item.id):
                try:
                    info = self._directory.process_for(item)
                    assert info is not None, "slot 0 has just made it known"
                    opened = self._open(item, info, now, pushed=ticket is None)
                except Invalid as error:
                    effects += self._refuse(wanted, error)
                    continue
                effects += [] if ticket is None else [delivery_row(item)]
                effects += opened
            effects += [] if ticket is None else [Reply(ticket, item.id)]
        return effects

    def _expire(self, room: WaitingRoom, process: ProcessId, now: int) -> list[Effect]:
        """Slot 0 did not come in time."""
        over, effects = room.expired(process, now)
        error = Invalid(
            Reason.UNKNOWN_PROCESS,
            f"process {b64url(process)} is not known here; check the id, or wait for its slot 0",
        )
        for wanted in over:
            effects += self._refuse(wanted, error)
        return effects

    def _refuse(self, wanted: Waiting, error: Invalid) -> list[Effect]:
        if wanted.ticket is not None:
            return [Reply(wanted.ticket, Refusal(error.reason, error.detail))]
        item = wanted.item.id
        return [delivered_row(item), *self._cannot_deliver(item, error.detail)]

    def _cannot_deliver(self, item: ItemId, detail: str) -> list[Effect]:
        self._undeliverable += 1
        return [Notify(Undeliverable(item, detail))]

    # Slots

    def _extended(self, event: Extended, now: int) -> list[Effect]:
        process = event.process
        known = self._directory.extend(event)
        effects: list[Effect] = []
        for slot in event.slots:
            item, place = slot.message, (process, slot.nonce)
            if process != home_of(item):
                continue  # assigned by its id: not what its messenger has promised
            self._seen.put(item.id, place)
            if self._outbound.take(item.id) is not None:
                effects += self._follow(item, place, slot.assignment.id, now)
            elif self._outbound.has_pushes and slot.nonce:
                effects += self._superseded(item, known.info)
        return effects + self._release(process, now)

    def _superseded(self, item: Item, info: ProcessInfo) -> list[Effect]:
        """Another messenger's copy of one of our outbox entries has the slot: it pushes on."""
        try:
            push = push_key(item, info)
        except Invalid:
            return []  # assigned by a scheduler that should have refused it; not ours
        ours = None if push is None else self._outbound.take_push(push)
        return [] if ours is None else [delivered_row(ours.item.id)]

    def _follow(
        self, item: Item, place: Place, assignment: ItemId | None, now: int
    ) -> list[Effect]:
        """One of our items has its slot: its outcome is next."""
        process, nonce = place
        if process == self._ledger:
            return [delivered_row(item.id)]
        outcome = Outcome(item.id, root_of(item, self._key), assignment)
        self._pushing.follow(process, nonce, outcome)
        if not is_spawned(item, self._key):
            return []
        reply = self._signed(partial(spawned_reply, self._key, item))
        if isinstance(reply, str):
            return self._cannot_deliver(item.id, reply)
        return self._push(reply, item.id, now)

    def _due(self, now: int) -> list[Effect]:
        """Offer items again; those whose log has lost its host meanwhile will have no slot."""
        effects = self._outbound.due(now)
        for id in self._outbound.take_closed():
            effects += [delivered_row(id), *self._cannot_deliver(id, "its log is closed")]
        return effects

    def _scheduler_answered(self, event: Answered, now: int) -> list[Effect]:
        try:
            fates = self._outbound.answered(event)
        except Invalid as error:
            detail = f"scheduler {b64url(event.peer)} answered with no fates: {error.detail}"
            return [Alarm(error.reason, ProcessId(bytes(32)), detail)]
        effects: list[Effect] = []
        for found, fate in fates:
            known = self._directory.known(found.process)
            item = found.item
            if fate.nonce is not None and known is not None and fate.nonce <= known.nonce:
                # Our replica passed that slot before the item was opened here.
                self._outbound.take(item.id)
                if found.push is not None:
                    effects.append(delivered_row(item.id))
                else:
                    effects += self._follow(item, (found.process, fate.nonce), None, now)
            elif fate.refusal is not None and found.attempts == 1:
                detail = f"its scheduler does not take item {b64url(item.id)}: {fate.refusal}"
                effects.append(Alarm(Reason.UNAVAILABLE, found.process, detail))
        return effects

    # Assigning by id

    def _scheduler_of(self, process: ProcessId) -> NodeKey | None:
        known = self._directory.known(process)
        return None if known is None else self._directory.scheduler_key(known.info.scheduler)

    def _assign(self, event: AssignAsked, now: int) -> list[Effect]:
        try:
            self._check_room()
            check_open(event.process, self._marks)
            return self._assigning.ask(event, now)
        except Invalid as error:
            return [Reply(event.ticket, Refusal(error.reason, error.detail))]

    def _settle(self, settled: Settled) -> list[Effect]:
        """An order is served, or never will be."""
        effects, ticket = list(settled.effects), settled.order.ticket
        if settled.assignment is not None:
            effects += self._follow_assigned(settled.assignment)
            id = settled.assignment.id
            return effects + ([] if ticket is None else [Reply(ticket, id)])
        assert settled.error is not None, "an order ends with an assignment or an error"
        reason, detail = settled.error.reason, settled.error.detail
        if ticket is not None:
            return [*effects, Reply(ticket, Refusal(reason, detail))]
        return effects + self._cannot_deliver(settled.order.item, detail)

    def _follow_assigned(self, assignment: Assignment) -> list[Effect]:
        """We asked for this slot, so its outcome is ours to push. Its chain of pushes begins with
        the item, also after a restart: what is pushed must not depend on that."""
        if assignment.process == self._ledger:
            return []
        outcome = Outcome(assignment.id, assignment.assigned, assignment.id)
        if self._pushing.follow(assignment.process, assignment.nonce, outcome):
            return [delivery_row(assignment.item)]
        return []

    # Pushing

    def _receipts(self, event: ReceiptsArrived, now: int) -> list[Effect]:
        opened, effects = self._pushing.arrived(event, now)
        for each in opened:
            effects += self._push_outbox(each, now)
        return effects

    def _push_outbox(self, opened: Opened, now: int) -> list[Effect]:
        """Make what a slot sends durable, and forget its message, in one group."""
        known = self._directory.known(opened.process)
        assert known is not None, "only slots of known logs are followed"
        parent = Parent(known.info, opened.nonce, opened.root)
        effects: list[Effect] = []
        for index, entry in enumerate(opened.outbox.entries()):
            if isinstance(entry, OutAssignment):
                effects += self._order(opened, index, entry, now)
                continue
            item = self._signed(partial(entry_of, self._key, parent, index, entry))
            if isinstance(item, str):
                detail = f"outbox entry {index} of slot {opened.nonce}: {item}"
                effects += self._cannot_deliver(opened.item, detail)
            else:
                effects += self._push(item, opened.item, now)
        effects.append(delivered_row(opened.item))
        return effects

    def _order(self, opened: Opened, index: int, entry: OutAssignment, now: int) -> list[Effect]:
        place = (opened.process, opened.nonce, index)
        effects, errors = self._assigning.place(place, entry, now)
        for error in errors:
            detail = f"outbox entry {index} of slot {opened.nonce}: {error}"
            effects += self._cannot_deliver(opened.item, detail)
        return effects

    def _signed(self, make: Callable[[], Unsigned]) -> Item | str:
        """The item that `make` drafts, or why there can be none."""
        try:
            draft = make()
        except Invalid as error:
            return error.detail
        return draft.signed(self._sign(draft.message()))

    def _push(self, item: Item, parent: ItemId, now: int) -> list[Effect]:
        """Deliver an item of our own; durable from here on."""
        if item.target is not None and ProcessId(item.target) == self._ledger:
            return self._cannot_deliver(parent, "a process has no account on the ledger")
        if self._has(item.id):
            return []
        try:
            info = self._directory.process_for(item)
            if info is None:
                wanted = Waiting(item, None, now + waiting.PUSHED_WAIT_MS)
                opened = self._targets.add(ProcessId(item.target or b""), wanted)
            else:
                self._check_open(info)
                opened = self._open(item, info, now, pushed=True)
        except Invalid as error:
            alarm = [Alarm(error.reason, ProcessId(item.target or item.id), error.detail)]
            return [
                *(alarm if error.reason is Reason.BUSY else []),
                *self._cannot_deliver(parent, f"pushed item {b64url(item.id)}: {error.detail}"),
            ]
        return [delivery_row(item), *opened]

    # Starting, and whom we know

    def _start(self, now: int) -> list[Effect]:
        effects: list[Effect] = self._assigning.start(now)
        assigned, self._assigned = self._assigned, []
        for assignment in assigned:
            if self._directory.known(assignment.process) is None:
                effects.append(delivered_row(assignment.id))  # its log is not here any more
            else:
                self._follow_assigned(assignment)
        recovered, self._recovered = self._recovered, []
        for item, place in recovered:
            if place is not None:
                effects += self._follow(item, place, None, now)
            elif not self._has(item.id):
                effects += self._resume(item, now)
        return effects

    def _resume(self, item: Item, now: int) -> list[Effect]:
        """Go on with an item that was promised before a restart and has no slot."""
        try:
            info = self._directory.process_for(item)
        except Invalid as error:
            return [delivered_row(item.id), *self._cannot_deliver(item.id, error.detail)]
        if info is not None:
            return self._offer(item, info, now)
        until = now + waiting.RECOVERED_WAIT_MS if item.owner == self._key else None
        wanted = Waiting(item, None, until)
        return self._targets.add(ProcessId(item.target or b""), wanted, force=True)

    def _unit_seen(self, key: NodeKey, roles: Sequence[str], now: int) -> list[Effect]:
        if "scheduler" in roles:
            self._directory.add_scheduler(key)
        if "compute" in roles:
            self._pushing.add_compute(key)
        return self._ask(now)
