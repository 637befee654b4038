"""What a scheduler signs, and what it never does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from protocols import keyspace
from protocols.errors import Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Persist,
    Publish,
    Refusal,
    Reply,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import LogArrived, Offered, PeersChanged, Scheduled
from protocols.machine.held_offers import WAITING_MAX
from protocols.machine.slot_log import AGAIN_MS, SlotLog
from protocols.trust import Verified
from protocols.wire.assignment import Slot, assignment_of
from protocols.wire.item import Item
from protocols.wire.process import process_info
from protocols.wire.streams import Head, Heads, LogRequest
from protocols.wire.topics import Protocol, Topic
from tests.protocols.machine.effects_of import notices, only, reply
from tests.protocols.machine.world import (
    PARAMETERS,
    Key,
    chain_of,
    log,
    message_item,
    process_item,
    verified,
)

SU, MU, USER = Key.of("scheduler"), Key.of("messenger"), Key.of("user")
PEERS = (Key.of("peer-1").public, Key.of("peer-2").public)


def scheduler(*, sole_copy: bool = True) -> SlotLog:
    return SlotLog(key=SU.public, parameters=PARAMETERS, sign=SU.sign, sole_copy=sole_copy)


def offer(item: Item, ticket: int = 1, **fields: Any) -> Offered:
    return Offered(Verified(item), MU.public, ticket, **fields)


def slots_told(effects: Sequence[Effect]) -> list[Slot]:
    return [slot.value for event in notices(effects, Scheduled) for slot in event.slots]


def test_a_log_grows_by_one_signed_slot_per_item() -> None:
    machine = scheduler()
    process = process_item(USER, SU)
    messages = [message_item(USER, process.id) for _ in range(3)]
    slots = []
    for nonce, item in enumerate([process, *messages]):
        effects = machine.on(offer(item), 1_000 - nonce)
        assert reply(effects) == nonce
        told = slots_told(effects)
        assert [slot.assignment for slot in told] == [
            assignment_of(slot.assignment.item) for slot in told
        ]
        slots += told
        tables = [effect.table for effect in only(effects, Persist)]
        assert tables == [Table.ITEMS, Table.SIGN_ONCE, Table.SIGN_ONCE]
        (publish,) = only(effects, Publish)
        assert publish.topic is Topic.SLOTS
    assert chain_of(slots).nonce == 3
    assert [slot.assignment.timestamp for slot in slots] == [1_000] * 4
    assert slots == log(SU, [process, *messages])


def test_a_known_item_gets_its_slot_again() -> None:
    machine = scheduler()
    process = process_item(USER, SU)
    message = message_item(USER, process.id)
    machine.on(offer(process), 0)
    (slot,) = slots_told(machine.on(offer(message), 0))
    again = machine.on(offer(message), 1)
    assert reply(again) == 1
    assert not only(again, Persist)
    assert not only(again, Publish)
    looked_up = machine.on(offer(message, known=slot), AGAIN_MS)
    assert reply(looked_up) == 1
    assert only(looked_up, Publish)
    assert not only(machine.on(offer(message, known=slot), AGAIN_MS + 1), Publish)
    assert reply(machine.on(offer(process), 2)) == 0


def test_one_outbox_entry_gets_one_slot() -> None:
    machine = scheduler()
    other = Key.of("other messenger")
    stranger = Key.of("stranger")
    process = process_item(
        USER, SU, ("Authority", b64url(MU.address)), ("Authority", b64url(other.address))
    )
    machine.on(offer(process), 0)
    tags = (("From-Process", b64url(b"p" * 32)), ("Outbox", "7.0"))
    theirs = message_item(stranger, process.id, *tags)
    assert reply(machine.on(offer(theirs), 0)) == 1
    first = machine.on(offer(message_item(MU, process.id, *tags)), 0)
    assert reply(first) == 2
    assert len([e for e in only(first, Persist) if e.table is Table.SIGN_ONCE]) == 3
    second = message_item(other, process.id, *tags)
    assert reply(machine.on(offer(second), 0)) == 2
    assert reply(machine.on(offer(message_item(MU, process.id, *tags), pushed=2), 0)) == 2


def two_logs() -> tuple[SlotLog, Item, Item]:
    """A scheduler with two processes, and a message scheduled in the first one's log."""
    machine = scheduler()
    first, second = process_item(USER, SU), process_item(USER, SU)
    machine.on(offer(first), 0)
    machine.on(offer(second), 0)
    message = message_item(USER, first.id)
    machine.on(offer(message), 0)
    return machine, message, second


def test_an_item_is_assigned_by_id_to_another_log_once() -> None:
    machine, message, second = two_logs()
    into = ProcessId(second.id)
    effects = machine.on(offer(message, into=into, exclude=("Data", "Tags")), 5)
    assert reply(effects) == 1
    (slot,) = slots_told(effects)
    assert (slot.process, slot.message) == (into, message)
    assert slot.assignment.exclude == ("Data", "Tags")
    rows = [effect.key for effect in only(effects, Persist)]
    assert keyspace.assigned_key(message.id, into) in rows
    again = machine.on(offer(message, into=into), 6)
    assert reply(again) == 1
    assert not only(again, Persist)
    process = machine.on(offer(process_item(USER, SU), into=into), 6)
    assert reply(process) == 2


def test_an_item_in_its_own_log_comes_whole_and_by_the_usual_rules() -> None:
    machine, _, second = two_logs()
    own = message_item(USER, second.id)
    refused = machine.on(offer(own, into=ProcessId(second.id), exclude=("Data",)), 0)
    assert reply(refused).reason is Reason.INADMISSIBLE
    assert "Data" in reply(refused).detail
    linked = message_item(USER, second.id, ("a+link", "x"))
    assert reply(machine.on(offer(linked, into=ProcessId(second.id)), 0)).reason is (
        Reason.INADMISSIBLE
    )
    assert reply(machine.on(offer(own, into=ProcessId(second.id)), 0)) == 1
    assert reply(machine.on(offer(own), 0)) == 1


def test_what_cannot_be_assigned_by_id() -> None:
    machine, message, second = two_logs()
    into = ProcessId(second.id)
    assignment = message_item(USER, message.id, ("Type", "x"))
    for item, reason in (
        (message_item(USER, bytes(32), ("a+link", "x")), Reason.INADMISSIBLE),
        (scheduled_as_assignment(), Reason.INADMISSIBLE),
    ):
        assert reply(machine.on(offer(item, into=into), 0)).reason is reason
    nobody = ProcessId(b"n" * 32)
    assert reply(machine.on(offer(assignment, into=nobody), 0)).reason is Reason.UNKNOWN_PROCESS


def scheduled_as_assignment() -> Item:
    return log(SU, [process_item(USER, SU)])[0].assignment.item


def test_a_pushed_item_is_an_outbox_entry_of_its_own_target_only() -> None:
    machine, _, second = two_logs()
    tags = (("From-Process", b64url(b"p" * 32)), ("Outbox", "7.0"))
    first = ProcessId(process_item(USER, SU).id)
    pushed = [message_item(USER, first, *tags) for _ in range(2)]
    into = ProcessId(second.id)
    assert [reply(machine.on(offer(item, into=into), 0)) for item in pushed] == [1, 2]
    assert reply(machine.on(offer(message_item(USER, into, *tags)), 0)) == 3


def test_what_is_not_ours_or_not_admissible_is_refused() -> None:
    machine = scheduler()
    process = process_item(USER, SU)
    foreign = process_item(USER, MU)
    machine.on(offer(process), 0)
    for item, reason in (
        (foreign, Reason.UNKNOWN_PROCESS),
        (message_item(USER, foreign.id), Reason.UNKNOWN_PROCESS),
        (message_item(USER, process.id, ("a+link", "x")), Reason.INADMISSIBLE),
    ):
        effects = machine.on(offer(item), 0)
        assert reply(effects).reason is reason
        assert len(effects) == 1
    silent = Offered(Verified(foreign), MU.public)
    assert machine.on(silent, 0) == []


def test_recovery_continues_the_log_and_tells_the_tail() -> None:
    process = process_item(USER, SU)
    slots = log(SU, [process, message_item(USER, process.id)])
    machine = scheduler()
    machine.recover(
        [(chain_of(slots), process_info(process))], clean=True, tail=verified(slots[1:])
    )
    assert machine.hosts(process.id)
    started = machine.on(Started(), 0)
    assert slots_told(started) == slots[1:]
    assert only(started, Publish)
    assert reply(machine.on(offer(message_item(USER, process.id)), 5_000)) == 2


# Restoring


def heads(peer: bytes, *found: Head) -> Answered:
    return Answered(("restore", "heads"), peer, (Heads(found).encode(),))  # type: ignore[arg-type]


def start(machine: SlotLog) -> list[Effect]:
    effects = machine.on(Started(PEERS), 0)
    assert [send.protocol for send in only(effects, Send)] == [Protocol.HEADS] * 2
    return effects


def test_an_empty_table_signs_after_a_quorum_of_answers_only() -> None:
    machine = scheduler(sole_copy=False)
    start(machine)
    process = process_item(USER, SU)
    assert machine.on(offer(process), 1) == []
    assert not only(machine.on(heads(PEERS[0]), 2), Reply)
    assert not only(machine.on(Answered(("restore", "heads"), PEERS[1], None), 2), Reply)
    assert not only(machine.on(TimerFired(("restore", "window")), 5_000), Reply)
    assert machine.status()["restoring"]["decided"] is False
    assert only(machine.on(TimerFired(("restore", "retry")), 6_000), Send)
    assert reply(machine.on(heads(PEERS[1]), 6_001)) == 0


def test_a_clean_table_signs_after_the_window() -> None:
    process = process_item(USER, SU)
    slots = log(SU, [process])
    machine = scheduler(sole_copy=False)
    machine.recover([(chain_of(slots), process_info(process))], clean=True)
    assert only(machine.on(Started(), 0), SetTimer)
    assert machine.on(offer(message_item(USER, process.id)), 1) == []
    assert reply(machine.on(TimerFired(("restore", "window")), 5_000)) == 1


def behind() -> tuple[SlotLog, list[Slot]]:
    """A scheduler with a stale disk: slot 0 of a log whose slots 1 and 2 a peer has seen."""
    process = process_item(USER, SU)
    slots = log(SU, [process, message_item(USER, process.id), message_item(USER, process.id)])
    machine = scheduler(sole_copy=False)
    machine.recover([(chain_of(slots[:1]), process_info(process))], clean=True)
    start(machine)
    return machine, slots


def claim(slots: list[Slot]) -> Head:
    return Head(slots[0].process, slots[-1].nonce, chain_of(slots).head)


def test_a_higher_head_is_caught_up_before_signing() -> None:
    machine, slots = behind()
    process = slots[0].process
    known, new = slots[1].message, message_item(USER, process)
    (request,) = only(machine.on(heads(PEERS[0], claim(slots)), 1), Send)
    asked = LogRequest.decode(request.body)
    assert (request.protocol, asked.first, asked.last) == (Protocol.LOG, 1, 2)
    assert machine.on(offer(known, 11), 2) == []
    assert machine.on(offer(new, 12), 2) == []
    machine.on(heads(PEERS[1]), 3)
    assert not only(machine.on(TimerFired(("restore", "window")), 5_000), Reply)
    page = LogArrived(process, verified(slots[1:2]), PEERS[0], request.tag)
    effects = machine.on(page, 5_001)
    (rest,) = only(effects, Send)
    assert LogRequest.decode(rest.body).first == 2
    assert not only(effects, Reply)
    effects = machine.on(LogArrived(process, verified(slots[2:]), PEERS[0], rest.tag), 5_002)
    assert [(each.ticket, each.value) for each in only(effects, Reply)] == [(11, 1), (12, 3)]
    rows = [effect.key for effect in only(effects, Persist)]
    assert keyspace.assignment_key(process, 2) in rows
    assert slots_told(effects)[0] == slots[2]


def test_slots_that_others_signed_do_not_count() -> None:
    machine, slots = behind()
    process = slots[0].process
    forged = log(MU, [slots[0].message, *(slot.message for slot in slots[1:])])
    (request,) = only(machine.on(heads(PEERS[0], claim(forged)), 1), Send)
    machine.on(heads(PEERS[1]), 2)
    machine.on(TimerFired(("restore", "window")), 5_000)
    assert machine.on(offer(message_item(USER, process)), 5_001) == []
    effects = machine.on(LogArrived(process, verified(forged[1:]), PEERS[0], request.tag), 5_002)
    (alarm,) = only(effects, Alarm)
    assert alarm.reason is Reason.MISMATCH
    assert reply(effects) == 1


def test_a_claim_that_nobody_can_show_is_dropped() -> None:
    machine, slots = behind()
    process = slots[0].process
    effects = machine.on(heads(PEERS[0], claim(slots)), 1)
    machine.on(heads(PEERS[1]), 2)
    machine.on(TimerFired(("restore", "window")), 5_000)
    machine.on(offer(message_item(USER, process)), 5_001)
    for attempt in range(1, 6):
        (request,) = only(effects, Send)
        lost = machine.on(LogArrived(process, None, PEERS[0], request.tag), 6_000 * attempt)
        if only(lost, Alarm):
            break
        effects = machine.on(TimerFired(("restore", "retry")), 6_000 * attempt + 1_000)
    assert attempt == 5
    assert reply(lost) == 1


def test_another_head_at_our_nonce_is_a_fork() -> None:
    machine, slots = behind()
    (alarm,) = only(machine.on(heads(PEERS[0], Head(slots[0].process, 0, b"x" * 32)), 1), Alarm)
    assert alarm.reason is Reason.FORK


def test_waiting_offers_are_bounded() -> None:
    machine = scheduler(sole_copy=False)
    machine.on(Started(), 0)
    process = b"q" * 32
    items = [message_item(USER, process) for _ in range(3)]
    assert machine.on(offer(items[0]), 0) == []
    assert reply(machine.on(offer(items[0]), 0)).reason is Reason.BUSY
    machine._held.count = WAITING_MAX
    assert isinstance(reply(machine.on(offer(items[1]), 0)), Refusal)
    assert machine.on(Offered(Verified(items[2]), MU.public), 0) == []


def test_peers_that_come_later_are_asked_too() -> None:
    machine = scheduler(sole_copy=False)
    machine.on(Started(), 0)
    assert len(only(machine.on(PeersChanged(PEERS), 10), Send)) == 2
    assert only(machine.on(PeersChanged(PEERS), 11), Send) == []


@pytest.mark.parametrize("frames", [(b"\xff",), (b"\x80\x80",)], ids=["junk", "trailing"])
def test_an_answer_that_is_none_is_asked_for_again(frames: tuple[bytes, ...]) -> None:
    machine = scheduler(sole_copy=False)
    start(machine)
    (timer,) = only(machine.on(Answered(("restore", "heads"), PEERS[0], frames), 1), SetTimer)
    (again,) = only(machine.on(TimerFired(timer.key), timer.at_ms), Send)
    assert again.peer == PEERS[0]
