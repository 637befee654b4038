"""A scheduler that dies between syncs, or gets an old disk back, never signs a slot twice."""

from __future__ import annotations

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols import keyspace
from protocols.ids import ItemId, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.effects import (
    Answered,
    Effect,
    Event,
    Persist,
    Refusal,
    Reply,
    Send,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import LogArrived, Offered, Scheduled
from protocols.machine.rows import push_key_row
from protocols.machine.slot_log import SlotLog
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, decode_item
from protocols.wire.process import process_info, push_key
from protocols.wire.streams import Head, Heads, LogRequest
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import notices, only
from tests.protocols.machine.world import (
    PARAMETERS,
    Disk,
    Key,
    chain_of,
    message_item,
    process_item,
    verified,
)

SU, USER = Key.of("scheduler"), Key.of("user")
MUS = (Key.of("messenger 1"), Key.of("messenger 2"))
PEERS = (Key.of("peer 1").public, Key.of("peer 2").public)
PROCESSES = [
    process_item(USER, SU, *(("Authority", b64url(mu.address)) for mu in MUS), anchor=number)
    for number in range(2)
]


def _messages() -> list[Item]:
    """Plain messages, and one outbox entry as two messengers push it."""
    items = []
    for process in PROCESSES:
        items += [message_item(USER, process.id, anchor=10 + number) for number in range(3)]
        tags = (("From-Process", b64url(PROCESSES[0].id)), ("Outbox", "1.0"))
        items += [message_item(mu, process.id, *tags, anchor=20) for mu in MUS]
    return items


ITEMS = [*PROCESSES, *_messages()]
_ITEM = st.integers(0, len(ITEMS) - 1)


class SchedulerLife(RuleBasedStateMachine):
    """Offers, crashes and old disks; peers keep every slot that was ever shown."""

    @initialize()
    def begin(self) -> None:
        self.disk = Disk()
        self.copies = [Disk()]
        self.shown: dict[ProcessId, list[Slot]] = {}
        self.now = 0
        self.ticket = 0
        self.asked: dict[int, Item] = {}
        self.answered: dict[ItemId, int] = {}
        self.boot(sole_copy=True)

    def boot(self, *, sole_copy: bool) -> None:
        self.machine = SlotLog(
            key=SU.public, parameters=PARAMETERS, sign=SU.sign, sole_copy=sole_copy
        )
        chains, tail = [], []
        for process, slots in self.signed().items():
            chains.append((chain_of(slots), process_info(slots[0].message)))
            shown = self.shown.get(process, [])
            assert slots[: len(shown)] == shown[: len(slots)]
            tail += slots[len(shown) :]
        self.machine.recover(chains, clean=bool(chains), tail=verified(tail))
        self.on(Started(PEERS))

    def signed(self) -> dict[ProcessId, list[Slot]]:
        logs: dict[ProcessId, list[Slot]] = {}
        rows = self.disk.scan(Table.SIGN_ONCE, *keyspace.prefix_range(Prefix.ASSIGNMENT))
        for _, raw in rows:
            assignment = assignment_of(decode_item(raw, size_max=1 << 20))
            item = self.disk.tables[Table.ITEMS][keyspace.item_key(assignment.assigned)]
            slot = slot_of(assignment, decode_item(item, size_max=1 << 20))
            logs.setdefault(assignment.process, []).append(slot)
        return logs

    def on(self, *events: Event, crash_after: int | None = None) -> None:
        """One group: commit table by table, then show what it did."""
        self.now += 7
        effects = [effect for event in events for effect in self.machine.on(event, self.now)]
        for number, table in enumerate((Table.ITEMS, Table.SIGN_ONCE)):
            if crash_after == number:
                self.boot(sole_copy=True)
                return
            self.disk.write(e for e in effects if isinstance(e, Persist) and e.table is table)
        if crash_after is not None:
            self.boot(sole_copy=True)
            return
        self.show(effects)

    def show(self, effects: list[Effect]) -> None:
        for event in notices(effects, Scheduled):
            for each in event.slots:
                log = self.shown.setdefault(each.value.process, [])
                assert each.value.nonce <= len(log), "a slot was skipped"
                if each.value.nonce == len(log):
                    chain_of([*log, each.value])
                    log.append(each.value)
                assert log[each.value.nonce] == each.value, "I3: a slot in two versions"
        for reply in only(effects, Reply):
            item = self.asked.pop(reply.ticket)
            if not isinstance(reply.value, Refusal):
                assert self.answered.setdefault(item.id, reply.value) == reply.value
        for send in only(effects, Send):
            self.answer(send)

    def answer(self, send: Send) -> None:
        """Peers tell the truth: all they were shown."""
        if send.protocol is Protocol.HEADS:
            heads = [
                Head(process, len(slots) - 1, chain_of(slots).head)
                for process, slots in self.shown.items()
            ]
            self.on(Answered(send.tag, send.peer, (Heads(tuple(heads)).encode(),)))
        else:
            request = LogRequest.decode(send.body)
            slots = self.shown[request.process][request.first : request.last + 1]
            self.on(LogArrived(request.process, verified(slots[:2]), send.peer, send.tag))

    def offered(self, item: Item) -> Offered:
        """What the adapter makes of an item: both look-ups on the durable table."""
        process = ProcessId(item.id if item in PROCESSES else item.target or b"")
        rows = self.disk.tables[Table.SIGN_ONCE]
        known = pushed = None
        if (nonce := rows.get(keyspace.assigned_key(item.id, process))) is not None:
            known = self.signed()[process][keyspace.nonce_of(nonce)]
        home = next(each for each in PROCESSES if ProcessId(each.id) == process)
        push = None if item is home else push_key(item, process_info(home))
        if push is not None and (row := rows.get(push_key_row(push))) is not None:
            pushed = keyspace.nonce_of(row)
        self.ticket += 1
        self.asked[self.ticket] = item
        return Offered(Verified(item), USER.public, self.ticket, known, pushed)

    @rule(
        items=st.lists(_ITEM, min_size=1, max_size=5),
        crash=st.sampled_from([None, None, None, 0, 1, 2]),
    )
    def offer(self, items: list[int], crash: int | None) -> None:
        self.on(*[self.offered(ITEMS[item]) for item in items], crash_after=crash)

    @rule()
    def keep_a_copy(self) -> None:
        self.copies.append(copy.deepcopy(self.disk))

    @rule(number=st.integers(0, 9), during=st.lists(_ITEM, max_size=4))
    def put_back_a_copy(self, number: int, during: list[int]) -> None:
        """An old disk; offers come in while the scheduler finds out."""
        self.disk = copy.deepcopy(self.copies[number % len(self.copies)])
        self.boot(sole_copy=False)
        self.on(*[self.offered(ITEMS[item]) for item in during])
        self.on(TimerFired(("restore", "window")))
        assert self.machine.status()["restoring"]["logs_behind"] == 0
        assert self.machine.status()["waiting"] == 0

    @invariant()
    def every_shown_log_is_a_chain_without_repeats(self) -> None:
        for process, slots in getattr(self, "shown", {}).items():
            chain = Chain.genesis(process)
            for slot in slots:
                chain = chain.next(slot)
            ids = [slot.message.id for slot in slots]
            assert len(set(ids)) == len(ids)
            entries = [slot.message.first("Outbox") for slot in slots]
            assert entries.count("1.0") <= 1


TestSchedulerLife = pytest.mark.slow(SchedulerLife.TestCase)
TestSchedulerLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
