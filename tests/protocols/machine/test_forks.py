"""Forks: told to all, fetched from who has them, and alarms that come to nothing cost little."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId
from protocols.machine.effects import (
    Effect,
    Notify,
    Publish,
    Refusal,
    Send,
    SetTimer,
    TimerFired,
)
from protocols.machine.events import AssignmentArrived, ForkFound, ForkHeard, ForkSeen
from protocols.machine.forks import (
    ASKED_MAX,
    ASKED_PER_PEER_MAX,
    RETRIES_MAX,
    RETRY_MS,
    STRIKES_MAX,
    Forks,
)
from protocols.trust import Verified
from protocols.wire.alarm import ForkAlarm
from protocols.wire.assignment import Assignment
from protocols.wire.streams import ItemRequest
from protocols.wire.topics import Protocol, Topic
from tests.protocols.machine.world import Key
from tests.protocols.toy import FORK, branches

NETWORK = NetworkId(b"n" * 32)
OWN, PEER = Key.of("own").public, Key.of("peer").public
TRUTH, OTHER = branches()
PROCESS = TRUTH.slots[0].process
ONE, TWO = (branch.slots[FORK].assignment for branch in (TRUTH, OTHER))
LATER = OTHER.slots[FORK + 1].assignment


def forks() -> Forks:
    return Forks(OWN, NETWORK)


def heard(one: bytes, other: bytes, sender: NodeKey = PEER) -> ForkHeard:
    return ForkHeard(ForkAlarm(NETWORK, PROCESS, ItemId(one), ItemId(other)), sender)


def sends(effects: Sequence[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def answer(machine: Forks, asked: Sequence[Send], held: Sequence[Assignment]) -> list[Effect]:
    """The peer gives what it holds."""
    effects: list[Effect] = []
    for send in asked:
        assert send.protocol is Protocol.ITEM
        id = ItemRequest.decode(send.body).id
        found = next((each for each in held if each.id == id), None)
        refusal = None if found else Refusal(Reason.UNKNOWN_ITEM, "no")
        given = None if found is None else Verified(found)
        effects += machine.on(AssignmentArrived(given, refusal, send.peer, send.tag), 0)
    return effects


def pair() -> tuple[Assignment, Assignment]:
    one, other = sorted((ONE, TWO), key=lambda each: each.id)
    return one, other


def test_an_alarm_makes_it_ask_the_sender() -> None:
    machine = forks()
    asked = sends(machine.on(heard(ONE.id, TWO.id), 0))
    assert {send.peer for send in asked} == {PEER}
    assert machine.on(heard(TWO.id, ONE.id), 0) == [], "it is being fetched"
    assert answer(machine, asked, [ONE, TWO]) == [Notify(ForkSeen(*pair()))]
    assert machine.on(heard(ONE.id, TWO.id, OWN), 0) == [], "it has been seen"
    assert len(machine) == 1


def test_what_the_own_replica_finds_is_told_and_read() -> None:
    machine = forks()
    effects = machine.on(ForkFound(PROCESS, FORK, ONE.id, TWO.id), 0)
    entry = ForkAlarm(NETWORK, PROCESS, ONE.id, TWO.id).encode()
    assert effects[0] == Publish(Topic.ALARMS, PROCESS, entry)
    assert {send.peer for send in sends(effects)} == {OWN}
    assert answer(machine, sends(effects), [ONE, TWO]) == [Notify(ForkSeen(*pair()))]

    again = forks()
    again.recover([(PROCESS, ONE.id, TWO.id)])
    effects = again.begin()
    assert answer(again, sends(effects), [ONE, TWO]) == [Notify(ForkSeen(*pair()))]


def test_what_is_not_in_the_own_log_yet_is_looked_for_again() -> None:
    machine = forks()
    asked = sends(machine.on(ForkFound(PROCESS, FORK, ONE.id, TWO.id), 0))
    for _ in range(RETRIES_MAX):
        (timer,) = answer(machine, asked, [TWO])
        assert isinstance(timer, SetTimer)
        assert timer.at_ms == RETRY_MS
        key = timer.key
        asked = sends(machine.on(TimerFired(key), 0))
        assert len(asked) == 2
    assert answer(machine, asked, [TWO]) == []
    assert machine.on(TimerFired(key), 0) == []


def test_two_of_different_slots_are_no_fork() -> None:
    machine = forks()
    assert answer(machine, sends(machine.on(heard(ONE.id, LATER.id), 0)), [ONE, LATER]) == []
    alarm = ForkAlarm(NETWORK, ProcessId(bytes(32)), ONE.id, TWO.id)
    asked = sends(machine.on(ForkHeard(alarm, PEER), 0))
    assert answer(machine, asked, [ONE, TWO]) == [], "of another process"
    assert machine.on(heard(ONE.id, ONE.id), 0) == []


def test_who_cries_wolf_is_not_asked_again() -> None:
    machine = forks()
    for number in range(STRIKES_MAX):
        asked = sends(machine.on(heard(bytes([number]) * 32, TWO.id), 0))
        assert answer(machine, asked, [TWO]) == []
    assert machine.on(heard(ONE.id, TWO.id), 0) == []
    asked = sends(machine.on(heard(ONE.id, TWO.id, Key.of("another").public), 0))
    assert answer(machine, asked, [ONE, TWO]) == [Notify(ForkSeen(*pair()))]


def test_what_is_under_way_is_bounded() -> None:
    machine = forks()
    count = 0
    for sender in range(ASKED_MAX):
        for number in range(ASKED_PER_PEER_MAX + 1):
            id = bytes([sender, number]) * 16
            count += len(sends(machine.on(heard(id, TWO.id, NodeKey(bytes([sender]) * 32)), 0)))
    assert count == 2 * ASKED_MAX
    one = forks()
    asked = [one.on(heard(bytes([number]) * 32, TWO.id), 0) for number in range(9)]
    assert [len(each) for each in asked] == [2] * ASKED_PER_PEER_MAX + [0] * (9 - 4)
