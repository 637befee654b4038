"""A messenger that dies at any commit, with lost offers and a lying unit, keeps every promise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols import keyspace
from protocols.ids import ItemId, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.delivery import Delivery
from protocols.machine.effects import (
    Answered,
    Effect,
    Event,
    Publish,
    Refusal,
    Reply,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import Extended, ReceiptsArrived, Submit
from protocols.network import Unit
from protocols.trust import Verified
from protocols.wire import batch
from protocols.wire.assignment import Slot
from protocols.wire.item import Item, decode_item
from protocols.wire.process import PushKey, process_info, push_key
from protocols.wire.streams import MessageAnswer, MessageFate, MessageRequest, ResultRequest
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import only
from tests.protocols.machine.outcomes import leaf_of, out_message, out_spawn, output, receipt
from tests.protocols.machine.world import (
    MODULE,
    PARAMETERS,
    Disk,
    Key,
    chain_of,
    log,
    message_item,
    next_slot,
    process_item,
)

SU, MU, USER = Key.of("su"), Key.of("mu"), Key.of("user")
CUS = tuple(Key.of(f"cu-{number}") for number in range(3))
LIAR = CUS[0]
UNITS = (
    Unit(SU.public, ("scheduler",), ()),
    *(Unit(cu.public, ("compute",), ()) for cu in CUS),
)
PROCESSES = [
    process_item(USER, SU, ("Authority", b64url(MU.address)), anchor=number) for number in range(3)
]


def _data(first: int, second: int) -> bytes:
    """Sends to one process a message that sends to another; and spawns a child."""
    last = out_message(b64url(PROCESSES[second].id), data=output().decode())
    child = out_spawn(("Module", b64url(MODULE)), ("Authority", b64url(MU.address)))
    return output(
        [
            out_message(b64url(PROCESSES[first].id), data=output([last]).decode()),
            out_message("a wallet"),
        ],
        [child] if first == second else [],
    )


MESSAGES = [
    message_item(USER, PROCESSES[number].id, data=_data(first, second), anchor=10)
    for number in range(3)
    for first in range(2)
    for second in range(2)
]
LATER = process_item(USER, SU, anchor=9)
"""Nobody sends to it from an outbox, so it may come at any time."""
ITEMS = [LATER, message_item(USER, LATER.id, anchor=10), *MESSAGES]
_ITEM = st.integers(0, len(ITEMS) - 1)


class MessengerLife(RuleBasedStateMachine):
    """An honest scheduler, three compute units of which one lies, and a careless world."""

    @initialize()
    def begin(self) -> None:
        self.disk = Disk()
        self.now = 0
        self.logs: dict[ProcessId, list[Slot]] = {}
        self.places: dict[ItemId, tuple[ProcessId, int]] = {}
        self.entries: dict[PushKey, int] = {}
        self.promised: dict[ItemId, Item] = {}
        self.asked: dict[int, Item] = {}
        self.boot()
        for process in PROCESSES:
            self.schedule(process)

    def boot(self) -> None:
        """The replica's log of this node is whole: it is another machine's business."""
        self.timers: dict[Any, int] = {}
        self.offers: list[Item] = []
        self.sends: list[Send] = []
        self.asked.clear()
        self.machine = Delivery(key=MU.public, parameters=PARAMETERS, sign=MU.sign, units=UNITS)
        rows = self.disk.scan(Table.ITEMS, *keyspace.prefix_range(Prefix.DELIVERY))
        self.machine.recover(
            [decode_item(raw, size_max=1 << 20) for _, raw in rows],
            [(chain_of(slots), process_info(slots[0].message)) for slots in self.logs.values()],
            self.places.get,
        )
        self.on(Started())

    def on(self, event: Event, crash: str = "") -> None:
        effects = self.machine.on(event, self.now)
        if crash != "before":
            self.disk.write(effects)
        if crash:
            self.boot()
            return
        self.release(effects)

    def release(self, effects: list[Effect]) -> None:
        for timer in only(effects, SetTimer):
            self.timers[timer.key] = timer.at_ms
        for publish in only(effects, Publish):
            (ref,) = batch.unpack_messages(batch.pack([publish.entry]))
            assert isinstance(ref, batch.InlineItem)
            self.offers.append(decode_item(ref.raw, size_max=1 << 20))
        self.sends += only(effects, Send)
        for reply in only(effects, Reply):
            item = self.asked.pop(reply.ticket)
            if not isinstance(reply.value, Refusal):
                self.promised[item.id] = item

    # The scheduler

    def schedule(self, item: Item, crash: str = "") -> int | None:
        """What an honest scheduler does with an offer: the nonce, None if it is not its log."""
        home = ProcessId(item.id if item.first("Type") == "Process" else item.target or b"")
        slots = self.logs.get(home)
        if item.id in self.places:
            return self.places[item.id][1]
        if slots is None and ProcessId(item.id) != home:
            return None
        if slots is None:
            self.logs[home] = slots = log(SU, [item])
        else:
            key = push_key(item, process_info(slots[0].message))
            if key is not None and key in self.entries:
                return self.entries[key]
            slots.append(next_slot(SU, chain_of(slots), item, 1_000))
            if key is not None:
                self.entries[key] = slots[-1].nonce
        self.places[item.id] = (home, slots[-1].nonce)
        self.on(Extended(home, (slots[-1],), (chain_of(slots).head,)), crash)
        return self.places[item.id][1]

    @rule(index=st.integers(0, 99), crash=st.sampled_from(["", "", "", "before", "after"]))
    def gossip_arrives(self, index: int, crash: str) -> None:
        if self.offers:
            self.schedule(self.offers.pop(index % len(self.offers)), crash)

    @rule()
    def gossip_is_lost(self) -> None:
        if self.offers:
            self.offers.pop()

    # Clients, streams, time

    @rule(number=_ITEM, ticket=st.integers(1, 1 << 40), look=st.booleans())
    def submit(self, number: int, ticket: int, look: bool) -> None:
        """`look`: the adapter saw the log as it is; else before anything stood in it."""
        if ticket not in self.asked:
            self.asked[ticket] = ITEMS[number]
            known = self.places.get(ITEMS[number].id) if look else None
            self.on(Submit(ticket, Verified(ITEMS[number]), known))

    @rule(
        index=st.integers(0, 99),
        lost=st.integers(0, 3),
        crash=st.sampled_from(["", "", "", "before", "after"]),
    )
    def stream_is_answered(self, index: int, lost: int, crash: str) -> None:
        if self.sends:
            self._answer(self.sends.pop(index % len(self.sends)), lost == 0, crash)

    def _answer(self, send: Send, lost: bool, crash: str = "") -> None:
        if send.protocol is Protocol.MESSAGE:
            life = self.machine
            items = [
                decode_item(ref.raw, size_max=1 << 20)
                for ref in MessageRequest.decode(send.body)
                if isinstance(ref, batch.InlineItem)
            ]
            fates = tuple(MessageFate(item.id, self.schedule(item), None) for item in items)
            if self.machine is life:
                frames = None if lost else (MessageAnswer(fates).encode(),)
                self.on(Answered(send.tag, send.peer, frames), crash)
            return
        request = ResultRequest.decode(send.body)
        cu = next(cu for cu in CUS if cu.public == send.peer)
        entries = None if lost else tuple(self._receipts(cu, request))
        self.on(ReceiptsArrived(request.process, cu.public, entries, send.tag), crash)

    def _receipts(self, cu: Key, request: ResultRequest) -> list[Any]:
        entries = []
        for slot in self.logs[request.process][request.first : request.last + 1]:
            raw = outcome(slot)
            if cu is LIAR:
                raw = output([out_message(b64url(PROCESSES[0].id), data="a lie")])
            entries.append((receipt(cu, leaf_of(slot, raw)), raw if request.with_raw else None))
        return entries

    @rule()
    def time_passes(self) -> None:
        if self.timers:
            key, at = min(self.timers.items(), key=lambda pair: pair[1])
            del self.timers[key]
            self.now = max(self.now, at)
            self.on(TimerFired(key))

    @rule(crash=st.just("after"))
    def restart(self, crash: str) -> None:
        self.boot()

    # What must hold

    @invariant()
    def a_promise_is_in_the_log_or_on_disk(self) -> None:
        for id in self.promised if hasattr(self, "promised") else ():
            key = keyspace.delivery_key(id)
            assert id in self.places or key in self.disk.tables[Table.ITEMS]

    def teardown(self) -> None:
        """With nothing lost any more, all is delivered, once."""
        if not hasattr(self, "disk"):
            return
        for _ in range(3_000):
            while self.offers:
                self.schedule(self.offers.pop(0))
            while self.sends:
                self._answer(self.sends.pop(0), False)
            if not self.disk.scan(Table.ITEMS, *keyspace.prefix_range(Prefix.DELIVERY)):
                break
            self.time_passes()
        else:
            raise AssertionError(f"not delivered: {self.machine.status()}")
        assert all(id in self.places for id in self.promised)
        self._check_outboxes()

    def _check_outboxes(self) -> None:
        arrived: Counter[Any] = Counter()
        expected: Counter[Any] = Counter()
        for process, slots in self.logs.items():
            for slot in slots:
                item = slot.message
                if slot.nonce and item.owner == MU.public:
                    place = (item.first("From-Process"), item.first("Outbox"))
                    arrived[process, place] += 1
                if item.id not in self.promised and item.owner != MU.public:
                    continue  # its client never heard yes, so it may not have been ours to push
                for index, target in enumerate(_targets(slot)):
                    place = (b64url(process), f"{slot.nonce}.{index}")
                    if target is not None:
                        expected[target, place] += 1
        assert not expected - arrived
        assert max(arrived.values(), default=1) == 1


def outcome(slot: Slot) -> bytes:
    """The toy module: a message's data is the output."""
    data = slot.message.data
    return data if data.startswith(b"{") else output()


def _targets(slot: Slot) -> list[ProcessId | None]:
    """Where each outbox entry must arrive; a spawn's is the reply to its parent."""
    for number, message in enumerate(MESSAGES):
        if message.id == slot.message.id:
            first, second = number // 2 % 2, number % 2
            spawned = [slot.process] if first == second else []
            return [ProcessId(PROCESSES[first].id), None, *spawned]
    return []


TestMessengerLife = pytest.mark.slow(MessengerLife.TestCase)
TestMessengerLife.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
