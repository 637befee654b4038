"""Assigning by id: a client's question has one answer, a process's order outlives a crash."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.machine import assigning
from protocols.machine.assigning import CLIENTS_MAX, REQUESTS_MAX, Assigning
from protocols.machine.delivery import Delivery
from protocols.machine.effects import (
    Effect,
    Persist,
    Refusal,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import AssignAsked, AssignmentArrived, Undeliverable
from protocols.trust import Verified
from protocols.wire.assignment import Slot, assignment_of
from protocols.wire.item import Item
from protocols.wire.process import process_info
from protocols.wire.streams import AssignRequest, ResultRequest
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import notices, only, reply
from tests.protocols.machine.outcomes import out_message, out_spawn, output
from tests.protocols.machine.test_delivery import MU, SU, UNITS, World, deliver, results
from tests.protocols.machine.world import PARAMETERS, Key, chain_of, message_item, next_slot

USER = Key.of("user")


def asked(effects: Sequence[Effect]) -> list[Send]:
    return [send for send in only(effects, Send) if send.protocol is Protocol.ASSIGN]


def assign(world: World, process: Item, item: ItemId, ticket: int = 7) -> list[Effect]:
    return world.on(AssignAsked(ticket, ProcessId(process.id), item, ("Data",)), 0)


def slot_of(world: World, process: Item, item: Item) -> Slot:
    """What the scheduler makes of the request: the next slot of that log."""
    slots = world.logs[process.id]
    slots.append(next_slot(SU, chain_of(slots), item, 1_000))
    return slots[-1]


def answer(world: World, send: Send, slot: Slot, now: int = 0) -> list[Effect]:
    event = AssignmentArrived(Verified(slot.assignment), None, send.peer, send.tag)
    return world.on(event, now)


def refuse(world: World, send: Send, reason: Reason, now: int = 0) -> list[Effect]:
    return world.on(AssignmentArrived(None, Refusal(reason, "no"), send.peer, send.tag), now)


def orders(world: World) -> list[tuple[bytes, bytes]]:
    start, stop = keyspace.prefix_range(keyspace.Prefix.OUTBOX)
    rows = world.disk.tables[Table.ITEMS].items()
    return [(key, row) for key, row in rows if start <= key < stop]


def restarted(world: World) -> Delivery:
    machine = Delivery(key=MU.public, parameters=PARAMETERS, sign=MU.sign, units=UNITS)
    logs = [(chain_of(slots), process_info(slots[0].message)) for slots in world.logs.values()]
    machine.recover(world.rows(), logs, lambda id: None, orders(world))
    world.machine = machine
    return machine


def test_a_client_hears_of_the_durable_assignment_and_its_outbox_is_pushed() -> None:
    world = World()
    source, target = world.process(), world.process(("Authority", b64url(MU.address)))
    message = message_item(USER, source.id)
    world.schedule(message)
    (send,) = asked(assign(world, target, message.id))
    assert send.peer == SU.public
    assert AssignRequest.decode(send.body) == AssignRequest(
        ProcessId(target.id), message.id, ("Data",)
    )
    slot = slot_of(world, target, message)
    effects = answer(world, send, slot)
    assert reply(effects) == slot.assignment.id
    assert world.rows() == [slot.assignment.item]
    raw = output([out_message(b64url(source.id), ("Action", "Seen"))])
    world.outcome(results(effects), raw)
    (pushed,) = world.rows()
    assert pushed.first("From-Process") == b64url(target.id)
    assert pushed.first("Pushed-For") == b64url(message.id)


def test_a_client_hears_why_not() -> None:
    world = World()
    target = world.process()
    nobody = message_item(USER, bytes(32))
    unknown = assign(world, nobody, nobody.id)
    assert reply(unknown).reason is Reason.UNKNOWN_PROCESS
    for reason in (Reason.INADMISSIBLE, Reason.UNKNOWN_ITEM, Reason.UNAVAILABLE):
        (send,) = asked(assign(world, target, nobody.id))
        assert reply(refuse(world, send, reason)).reason is reason
    assert not world.rows()
    assert world.machine.status()["assigning"] == 0


def test_an_assignment_of_something_else_is_refused() -> None:
    world = World()
    target, other = world.process(), world.process()
    message, wanted = (message_item(USER, other.id) for _ in range(2))
    (send,) = asked(assign(world, target, wanted.id))
    wrong = answer(world, send, slot_of(world, target, message))
    assert reply(wrong).reason is Reason.UNAVAILABLE
    assert b64url(wanted.id) in reply(wrong).detail
    (send,) = asked(assign(world, target, wanted.id))
    slots = world.logs[target.id]
    forged = next_slot(Key.of("other scheduler"), chain_of(slots), wanted, 1_000)
    assert reply(answer(world, send, forged)).reason is Reason.UNAVAILABLE


def test_an_outcome_that_is_not_pushed_yet_survives_a_restart() -> None:
    world = World()
    source, target = world.process(), world.process()
    message = message_item(USER, source.id)
    (send,) = asked(assign(world, target, message.id))
    slot = slot_of(world, target, message)
    first = results(answer(world, send, slot))
    machine = restarted(world)
    again = results(machine.on(Started(), 5))
    assert [ResultRequest.decode(each.body) for each in again] == [
        ResultRequest.decode(each.body) for each in first
    ]
    spawns = [out_spawn(("Module", b64url(b"m" * 32)))]
    world.outcome(again, output(spawns=spawns))
    (child,) = world.rows()
    assert child.first("Pushed-For") == b64url(message.id)


def test_asking_twice_pushes_once() -> None:
    world = World()
    source, target = world.process(), world.process()
    message = message_item(USER, source.id)
    slot = None
    for ticket in (1, 2):
        (send,) = asked(assign(world, target, message.id, ticket))
        slot = slot or slot_of(world, target, message)
        effects = answer(world, send, slot)
        assert reply(effects) == slot.assignment.id
        assert len(results(effects)) == (PARAMETERS.push_quorum if ticket == 1 else 0)
    assert len(world.rows()) == 1


def ordered(world: World, *processes: str, item: bytes) -> list[Effect]:
    """A slot whose outbox assigns `item` to `processes`."""
    sender = world.process()
    raw = output(assignments=[{"Processes": list(processes), "Message": b64url(item)}])
    return world.outcome(deliver(world, message_item(USER, sender.id)), raw)


def test_a_process_order_is_durable_until_every_log_has_the_item() -> None:
    world = World()
    first, second = world.process(), world.process()
    item = message_item(USER, first.id)
    effects = ordered(world, b64url(first.id), b64url(second.id), b64url(first.id), item=item.id)
    one, two = asked(effects)
    assert len(orders(world)) == 1
    answer(world, one, slot_of(world, first, item))
    assert len(orders(world)) == 1
    later = refuse(world, two, Reason.BUSY, 100)
    (timer,) = (timer for timer in only(later, SetTimer) if timer.key == assigning.TIMER)
    assert timer.at_ms == 100 + assigning.RETRY_MS
    (again,) = asked(world.on(TimerFired(timer.key), timer.at_ms))
    assert again.body == two.body
    answer(world, again, slot_of(world, second, item))
    assert orders(world) == []
    assert len(world.rows()) == 2
    assert all(assignment_of(row).assigned == item.id for row in world.rows())


def test_a_process_order_goes_on_after_a_restart() -> None:
    world = World()
    target = world.process()
    item = message_item(USER, target.id)
    (send,) = asked(ordered(world, b64url(target.id), item=item.id))
    machine = restarted(world)
    (again,) = asked(machine.on(Started(), 10))
    assert again.body == send.body
    answer(world, again, slot_of(world, target, item))
    assert orders(world) == []


@pytest.mark.parametrize("reason", [Reason.INADMISSIBLE, Reason.UNKNOWN_ITEM])
def test_a_process_order_that_can_never_be_served_is_given_up(reason: Reason) -> None:
    world = World()
    target = world.process()
    (send,) = asked(ordered(world, b64url(target.id), item=bytes(32)))
    effects = refuse(world, send, reason, assigning.PATIENCE_MS)
    assert [event.item for event in notices(effects, Undeliverable)] == [bytes(32)]
    assert orders(world) == []
    assert not [effect for effect in only(effects, Persist) if effect.value is not None]


def test_a_process_order_for_nobody_is_given_up_in_time() -> None:
    world = World()
    effects = ordered(world, b64url(b"w" * 32), "not an id", item=bytes(32))
    assert len(notices(effects, Undeliverable)) == 1
    assert asked(effects) == []
    now = 0
    lost: list[Undeliverable] = []
    while not lost:
        (timer,) = [each for each in only(effects, SetTimer) if each.key == assigning.TIMER]
        now = timer.at_ms
        effects = world.on(TimerFired(timer.key), now)
        lost = notices(effects, Undeliverable)
    assert assigning.PATIENCE_MS <= now < 2 * assigning.PATIENCE_MS
    assert orders(world) == []


def test_requests_and_questions_are_bounded() -> None:
    key = SU.public
    machine = Assigning(lambda process: key)
    sends: list[Effect] = []
    for ticket in range(CLIENTS_MAX):
        sends += machine.ask(AssignAsked(ticket, ProcessId(bytes(32)), ItemId(bytes(32))), 0)
    assert len(sends) == REQUESTS_MAX
    with pytest.raises(Invalid) as refusal:
        machine.ask(AssignAsked(0, ProcessId(bytes(32)), ItemId(bytes(32))), 0)
    assert refusal.value.reason is Reason.BUSY
    (send, *_) = only(sends, Send)
    event = AssignmentArrived(None, Refusal(Reason.BUSY, "x"), key, send.tag)
    assert machine.arrived(event, 0) is not None
    assert machine.arrived(event, 0) is None
    assert len(machine.requests(0)) == 1
    assert machine.ask(AssignAsked(0, ProcessId(bytes(32)), ItemId(bytes(32))), 0) == []


def test_other_outbox_rows_are_refused() -> None:
    key = keyspace.outbox_key(bytes(32), 1, 2)
    assert keyspace.outbox_of(key) == (bytes(32), 1, 2)
    for row in (b"\x80", b"\xf6"):
        with pytest.raises(Invalid) as refusal:
            Assigning(lambda process: None).recover([(key, row)])
        assert refusal.value.reason is Reason.STORAGE
