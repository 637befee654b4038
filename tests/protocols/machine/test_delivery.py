"""A messenger keeps its word: what it took is scheduled, and what that sends is pushed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from protocols import keyspace
from protocols.errors import Reason
from protocols.ids import ProcessId, b64url
from protocols.machine import outbound, pushing, waiting
from protocols.machine.delivery import Delivery
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Persist,
    Publish,
    Reply,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import Extended, ReceiptsArrived, Submit, Undeliverable
from protocols.machine.outbound import RESEND_MS
from protocols.network import Unit
from protocols.trust import Verified
from protocols.wire import batch
from protocols.wire.assignment import Slot
from protocols.wire.item import Item, decode_item
from protocols.wire.process import process_info, push_key
from protocols.wire.streams import (
    AssignRequest,
    MessageAnswer,
    MessageFate,
    ResultRequest,
)
from protocols.wire.topics import Protocol, Topic
from tests.protocols.machine.effects_of import notices, only, reply
from tests.protocols.machine.outcomes import leaf_of, out_message, out_spawn, output, receipt
from tests.protocols.machine.world import (
    PARAMETERS,
    Disk,
    Key,
    chain_of,
    log,
    message_item,
    next_slot,
    process_item,
)

SU, MU, USER, OTHER_MU = (Key.of(name) for name in ("su", "mu", "user", "other mu"))
CUS = sorted((Key.of(f"cu-{n}") for n in range(3)), key=lambda key: key.public)
UNITS = (
    Unit(SU.public, ("scheduler",), ()),
    *(Unit(cu.public, ("compute",), ()) for cu in CUS),
)


class World:
    """A messenger, and a scheduler that does what the test says."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.machine = Delivery(key=MU.public, parameters=PARAMETERS, sign=MU.sign, units=UNITS)
        self.logs: dict[bytes, list[Slot]] = {}
        self.on(Started(), 0)

    def on(self, event: Any, now: int) -> list[Effect]:
        effects = self.machine.on(event, now)
        self.disk.write(effects)
        return effects

    def submit(self, item: Item, now: int = 0) -> list[Effect]:
        return self.on(Submit(1, Verified(item)), now)

    def schedule(self, item: Item, now: int = 0) -> list[Effect]:
        """Give `item` the next slot of its log."""
        process = item.target or item.id
        slots = self.logs.setdefault(process, [])
        if slots:
            slots.append(next_slot(SU, chain_of(slots), item, 1_000))
        else:
            slots += log(SU, [item])
        slot = slots[-1]
        return self.on(Extended(slot.process, (slot,), (chain_of(slots).head,)), now)

    def process(self, *tags: tuple[str, str]) -> Item:
        """A new process, which is not this messenger's business."""
        item = process_item(USER, SU, *tags)
        self.schedule(item)
        return item

    def rows(self) -> list[Item]:
        start, stop = keyspace.prefix_range(keyspace.Prefix.DELIVERY)
        return [
            decode_item(raw, size_max=1 << 20)
            for key, raw in self.disk.tables[Table.ITEMS].items()
            if start <= key < stop
        ]

    def outcome(self, sends: Sequence[Send], raw: bytes, now: int = 0) -> list[Effect]:
        """All units that are asked answer truly that their slots gave `raw`."""
        effects: list[Effect] = []
        for send in sends:
            request = ResultRequest.decode(send.body)
            cu = next(cu for cu in CUS if cu.public == send.peer)
            entries = tuple(
                (receipt(cu, leaf_of(slot, raw)), raw if request.with_raw else None)
                for slot in self.logs[request.process][request.first : request.last + 1]
            )
            effects += self.on(ReceiptsArrived(request.process, cu.public, entries, send.tag), now)
        return effects


def results(effects: Sequence[Effect]) -> list[Send]:
    return [send for send in only(effects, Send) if send.protocol is Protocol.RESULT]


def offered(effects: Sequence[Effect]) -> list[Item]:
    return [
        decode_item(ref.raw, size_max=1 << 20)
        for publish in only(effects, Publish)
        for ref in batch.unpack_messages(batch.pack([publish.entry]))
        if isinstance(ref, batch.InlineItem)
    ]


# Taking items


def test_an_item_is_durable_before_the_yes() -> None:
    world = World()
    process = world.process()
    message = message_item(USER, process.id)
    effects = world.submit(message)
    (row,) = only(effects, Persist)
    assert (row.table, row.key) == (Table.ITEMS, keyspace.delivery_key(message.id))
    assert row.value == message.raw
    assert reply(effects) == message.id
    (publish,) = only(effects, Publish)
    assert publish.topic is Topic.MESSAGES
    assert only(effects, SetTimer) == [SetTimer(outbound.TIMER, RESEND_MS)]
    again = world.submit(message)
    assert again == [Reply(1, message.id)]
    assert world.on(Submit(2, Verified(message), (process.id, 5)), 0) == [Reply(2, message.id)]  # type: ignore[arg-type]


def test_what_cannot_be_scheduled_is_refused() -> None:
    world = World()
    process = world.process()
    stranger = Key.of("unknown scheduler")
    for item, reason in (
        (message_item(USER, process.id, ("x+link", "y")), Reason.INADMISSIBLE),
        (process_item(USER, stranger), Reason.UNKNOWN_SCHEDULER),
        (process_item(USER, SU, ("Memory-Limit", "much")), Reason.INADMISSIBLE),
    ):
        effects = world.submit(item)
        assert reply(effects).reason is reason
        assert len(effects) == 1


def test_an_unknown_process_is_waited_for() -> None:
    world = World()
    process = process_item(USER, SU)
    message = message_item(USER, process.id)
    assert world.submit(message) == [SetTimer(("client-waits", process.id), 2_000)]
    effects = world.schedule(process, 100)
    assert reply(effects) == message.id
    assert offered(effects) == [message]
    lost = message_item(USER, b"q" * 32)
    (timer,) = world.submit(lost, 1_000)
    assert isinstance(timer, SetTimer)
    assert reply(world.on(TimerFired(timer.key), timer.at_ms)).reason is Reason.UNKNOWN_PROCESS
    assert world.rows() == [message]


def test_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "SCHEDULER_OPEN_MAX", 1)
    monkeypatch.setattr(waiting, "CLIENTS_MAX", 1)
    world = World()
    process = world.process()
    world.submit(message_item(USER, process.id))
    assert reply(world.submit(message_item(USER, process.id))).reason is Reason.BUSY
    world.submit(message_item(USER, b"q" * 32))
    assert reply(world.submit(message_item(USER, b"q" * 32))).reason is Reason.BUSY


def test_standing_in_another_log_is_not_what_was_promised() -> None:
    world = World()
    process, other = world.process(), world.process()
    message = message_item(USER, process.id)
    elsewhere = (world.logs[other.id][0].process, 1)
    assert only(world.on(Submit(1, Verified(message), elsewhere), 0), Persist)
    slots = world.logs[other.id]
    slots.append(next_slot(SU, chain_of(slots), message, 1_000))
    extended = Extended(slots[1].process, (slots[1],), (chain_of(slots).head,))
    assert not results(world.on(extended, 0))
    assert world.machine.status()["open"] == 1
    assert len(results(world.schedule(message))) == PARAMETERS.push_quorum


# Until the slot is seen


def fates(*fates: MessageFate) -> Answered:
    return Answered(outbound.TAG, SU.public, (MessageAnswer(fates).encode(),))


def test_a_slot_that_the_replica_passed_earlier_counts() -> None:
    world = World()
    process = world.process()
    message = message_item(USER, process.id)
    world.schedule(message)
    world.machine._seen = type(world.machine._seen)(1)
    world.submit(message)
    assert not results(world.on(fates(MessageFate(message.id, 9, None)), 1))
    effects = world.on(fates(MessageFate(message.id, 1, None)), 2)
    assert len(results(effects)) == PARAMETERS.push_quorum
    world.outcome(results(effects), output())
    assert world.rows() == []


def test_a_refusing_scheduler_is_told_of_once() -> None:
    world = World()
    process = world.process()
    message = message_item(USER, process.id)
    world.submit(message)
    world.on(TimerFired(outbound.TIMER), RESEND_MS)
    refusal = fates(MessageFate(message.id, None, "inadmissible: no"))
    assert only(world.on(refusal, 1), Alarm)
    world.on(TimerFired(outbound.TIMER), 3 * RESEND_MS)
    assert world.on(refusal, 2) == []
    assert only(world.on(Answered(outbound.TAG, SU.public, (b"junk",)), 3), Alarm)
    assert world.rows() == [message]


# Pushing


def deliver(world: World, item: Item) -> list[Send]:
    """Submit and schedule an item; the requests for its outcome."""
    world.submit(item)
    return results(world.schedule(item))


def test_an_agreed_outbox_is_pushed_and_the_message_forgotten() -> None:
    world = World()
    sender, target = world.process(), world.process(("Authority", b64url(MU.address)))
    message = message_item(USER, sender.id)
    sends = deliver(world, message)
    assert len(sends) == PARAMETERS.push_quorum
    assert [ResultRequest.decode(send.body).with_raw for send in sends] == [True, False]
    raw = output(
        [
            out_message(b64url(target.id), ("Action", "Hi"), ("Type", "x"), ("Outbox", "9.9")),
            out_message("not an id"),
        ],
        assignments=[{"Processes": [b64url(target.id)], "Message": b64url(message.id)}],
    )
    effects = world.outcome(sends, raw)
    (pushed,) = world.rows()
    assert offered(effects) == [pushed]
    assert pushed.target == target.id
    assert pushed.owner == MU.public
    assert [tuple(tag) for tag in pushed.tags] == [
        ("Action", "Hi"),
        ("Data-Protocol", "ao"),
        ("Type", "Message"),
        ("From-Process", b64url(sender.id)),
        ("From-Module", b64url(b"m" * 32)),
        ("Pushed-For", b64url(message.id)),
        ("Outbox", "1.0"),
    ]
    assert pushed.anchor == b"0" * 31 + b"1"
    key = push_key(pushed, process_info(target))
    assert key is not None
    assert key.owner is None
    assert [event.item for event in notices(effects, Undeliverable)] == [message.id]
    (asked,) = (send for send in only(effects, Send) if send.protocol is Protocol.ASSIGN)
    assert AssignRequest.decode(asked.body) == AssignRequest(
        ProcessId(target.id), message.id, exclude=()
    )
    second = output([out_message(b64url(sender.id))])
    world.outcome(results(world.schedule(pushed)), second)
    (back,) = world.rows()
    assert back.first("Pushed-For") == b64url(message.id)


def test_a_target_that_never_appears_is_dropped() -> None:
    world = World()
    sender = world.process()
    later = process_item(USER, SU)
    raw = output([out_message(b64url(b"w" * 32)), out_message(b64url(later.id))])
    sends = deliver(world, message_item(USER, sender.id))
    effects = world.outcome(sends, raw, 100)
    assert len(world.rows()) == 2
    assert offered(effects) == []
    (pushed,) = offered(world.schedule(later, 200))
    effects = world.on(TimerFired(("target-waits", b"w" * 32)), 15_100)
    assert len(notices(effects, Undeliverable)) == 1
    assert world.rows() == [pushed]


def test_a_spawned_process_is_told_to_its_parent() -> None:
    world = World()
    parent = world.process()
    message = message_item(USER, parent.id)
    spawn = out_spawn(("Module", b64url(b"m" * 32)), ("Reference", "7"), ("Action", "Boot"))
    world.outcome(deliver(world, message), output(spawns=[spawn]))
    (child,) = world.rows()
    info = process_info(child)
    assert info.scheduler == SU.address
    assert child.first("From-Process") == b64url(parent.id)
    effects = world.schedule(child)
    (told,) = offered(effects)
    assert told.target == parent.id
    assert (told.all("Action"), told.all("Reference")) == (("Spawned",), ("7",))
    assert told.first("Process") == b64url(child.id)
    key = push_key(told, process_info(parent))
    assert key is not None
    assert (key.slot, key.index) == (1, 0)
    world.outcome(results(effects), output())
    assert world.rows() == [told]


def test_another_messengers_copy_of_an_entry_ends_ours() -> None:
    world = World()
    authorities = (("Authority", b64url(MU.address)), ("Authority", b64url(OTHER_MU.address)))
    sender, target = world.process(), world.process(*authorities)
    raw = output([out_message(b64url(target.id))])
    world.outcome(deliver(world, message_item(USER, sender.id)), raw)
    (ours,) = world.rows()
    theirs = message_item(
        OTHER_MU, target.id, ("From-Process", b64url(sender.id)), ("Outbox", "1.0")
    )
    stranger = message_item(USER, target.id, ("From-Process", b64url(sender.id)), ("Outbox", "1.0"))
    world.schedule(stranger)
    assert world.rows() == [ours]
    assert not results(world.schedule(theirs))
    assert world.rows() == []


def test_a_lying_unit_is_outvoted() -> None:
    world = World()
    sender, target = world.process(), world.process()
    truth, lie = output([out_message(b64url(target.id))]), output()
    sends = deliver(world, message_item(USER, sender.id))
    slot = world.logs[sender.id][1]
    liar, honest = sends
    by_key = {cu.public: cu for cu in CUS}
    world.on(
        ReceiptsArrived(
            slot.process,
            liar.peer,
            ((receipt(by_key[liar.peer], leaf_of(slot, lie)), lie),),
            liar.tag,
        ),
        0,
    )
    effects = world.outcome([honest], truth)
    (third,) = results(effects)
    assert third.peer not in (liar.peer, honest.peer)
    effects = world.outcome([third], truth)
    if again := results(effects):
        effects = world.outcome(again, truth)
    (pushed,) = offered(effects)
    assert pushed.first("Outbox") == "1.0"


def test_outcome_bytes_that_nobody_signed_are_not_pushed() -> None:
    world = World()
    sender, target = world.process(), world.process()
    truth, lie = output(), output([out_message(b64url(target.id))])
    with_raw, without = deliver(world, message_item(USER, sender.id))
    slot = world.logs[sender.id][1]
    cu = next(cu for cu in CUS if cu.public == with_raw.peer)
    entry = (receipt(cu, leaf_of(slot, truth)), lie)
    effects = world.on(ReceiptsArrived(slot.process, cu.public, (entry,), with_raw.tag), 0)
    effects += world.outcome([without], truth)
    again = [send for send in results(effects) if ResultRequest.decode(send.body).with_raw]
    assert again
    world.outcome(again, truth)
    assert world.rows() == []


def test_units_that_do_not_answer_are_replaced() -> None:
    world = World()
    sender = world.process()
    first, second = deliver(world, message_item(USER, sender.id))
    effects = world.on(ReceiptsArrived(sender.id, first.peer, None, first.tag), 0)  # type: ignore[arg-type]
    (third,) = results(effects)
    assert third.peer not in (first.peer, second.peer)
    assert [timer.key for timer in only(effects, SetTimer)] == [(pushing.TIMER, sender.id)]
    while sends := results(effects):
        effects = world.outcome([second, *sends] if third in sends else sends, output())
    assert world.rows() == []


def test_many_slots_share_a_request() -> None:
    world = World()
    sender = world.process()
    first = deliver(world, message_item(USER, sender.id))
    for _ in range(40):
        assert deliver(world, message_item(USER, sender.id)) == []
    effects = world.outcome(first, output())
    ranges = [ResultRequest.decode(send.body) for send in results(effects)]
    assert {(each.first, each.last) for each in ranges} == {(2, 41)}
    world.outcome(results(effects), output())
    assert world.rows() == []
    assert world.machine.status()["waiting_for_outcome"] == 0


# Restarting


def test_recovery_goes_on_where_the_log_says() -> None:
    world = World()
    process = world.process()
    parent = world.process()
    unplaced, placed = message_item(USER, process.id), message_item(USER, process.id)
    spawn = out_spawn(("Module", b64url(b"m" * 32)))
    world.outcome(deliver(world, message_item(USER, parent.id)), output(spawns=[spawn]))
    (child,) = world.rows()
    slots = log(SU, [process, placed])
    child_log = log(SU, [child])
    places = {
        placed.id: (slots[1].process, 1),
        child.id: (child_log[0].process, 0),
    }
    machine = Delivery(key=MU.public, parameters=PARAMETERS, sign=MU.sign, units=UNITS)
    logs = [(chain_of(each), process_info(each[0].message)) for each in (slots, child_log)]
    logs.append((chain_of(log(SU, [parent])), process_info(parent)))
    stray = message_item(USER, b"q" * 32)
    machine.recover([unplaced, placed, child, stray], logs, places.get)
    effects = machine.on(Started(), 0)
    told, resumed = sorted(offered(effects), key=lambda item: item.id == unplaced.id)
    assert resumed == unplaced
    assert told.first("Action") == "Spawned"
    asked = {ResultRequest.decode(send.body).process for send in results(effects)}
    assert sorted(asked) == sorted([slots[0].process, child_log[0].process])
    assert machine.status()["waiting_for_process"] == 1


def test_a_told_parent_is_not_told_again_after_a_restart() -> None:
    world = World()
    parent = world.process()
    spawn = out_spawn(("Module", b64url(b"m" * 32)))
    world.outcome(deliver(world, message_item(USER, parent.id)), output(spawns=[spawn]))
    (child,) = world.rows()
    (told,) = offered(world.schedule(child))
    at = {child.id: (child.id, 0), told.id: (parent.id, 2)}
    machine = Delivery(key=MU.public, parameters=PARAMETERS, sign=MU.sign, units=UNITS)
    logs = [(chain_of(world.logs[each.id]), process_info(each)) for each in (parent, child)]
    machine.recover([child], logs, at.get)  # type: ignore[arg-type]
    assert offered(machine.on(Started(), 0)) == []
