"""A replica takes what follows, waits for gaps, and keeps proof of forks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from protocols import keyspace
from protocols.errors import Reason
from protocols.ids import ProcessId
from protocols.keyspace import Prefix
from protocols.machine import followed
from protocols.machine.catch_up import ATTEMPTS_MAX, FETCHES_MAX, GAP_WAIT_MS
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Persist,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import (
    Conflicting,
    Extended,
    LogArrived,
    PeersChanged,
    Scheduled,
    SlotsArrived,
)
from protocols.machine.replica import GROWING_MS, STRANGERS_MAX, Replica
from protocols.machine.rounds import EVERY_MS, NAMED_MAX, Rounds
from protocols.machine.rows import slot_of_row
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot
from protocols.wire.process import process_info
from protocols.wire.streams import Head, Heads, HeadsRequest, LogRequest
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import notices, only
from tests.protocols.machine.world import (
    PARAMETERS,
    Disk,
    Key,
    chain_of,
    log,
    message_item,
    next_slot,
    process_item,
    verified,
)

SU, USER, ME = Key.of("scheduler"), Key.of("user"), Key.of("me")
A, B = Key.of("peer a").public, Key.of("peer b").public


def slots_of(count: int, *, owner: Key = USER) -> list[Slot]:
    process = process_item(owner, SU)
    return log(SU, [process, *(message_item(owner, process.id) for _ in range(count - 1))])


def replica(*peers: Any) -> Replica:
    machine = Replica(key=ME.public)
    (timer,) = machine.on(Started(tuple(peers)), 0)
    assert timer == SetTimer(("heads",), EVERY_MS)
    return machine


def gossip(slots: Sequence[Slot], sender: Any = SU.public) -> SlotsArrived:
    return SlotsArrived(verified(slots), sender)


def added(effects: Sequence[Effect]) -> list[Slot]:
    return [slot for event in notices(effects, Extended) for slot in event.slots]


def ask_of(effects: Sequence[Effect]) -> tuple[Send, LogRequest]:
    (send,) = only(effects, Send)
    assert send.protocol is Protocol.LOG
    return send, LogRequest.decode(send.body)


def test_slots_in_order_become_rows_and_one_notice() -> None:
    machine, disk = replica(), Disk()
    slots = slots_of(4)
    effects = machine.on(gossip(slots), 1)
    disk.write(effects)
    (event,) = notices(effects, Extended)
    assert list(event.slots) == slots
    assert event.heads[-1] == chain_of(slots).head
    rows = disk.tables[Table.LOG]
    assert Chain.decode(rows[keyspace.head_key(slots[0].process)]) == chain_of(slots)
    for slot in slots:
        row = rows[keyspace.slot_key(slot.process, slot.nonce)]
        assert slot_of_row(row, item_bytes_max=PARAMETERS.item_bytes_max) == slot
        for id in (slot.message.id, slot.assignment.id):
            assert keyspace.nonce_of(rows[keyspace.by_id_key(id, slot.process)]) == slot.nonce
    assert machine.on(gossip(slots), 2) == []


def test_early_slots_wait_and_follow() -> None:
    machine = replica()
    slots = slots_of(6)
    assert added(machine.on(gossip(slots[:1]), 0)) == slots[:1]
    (timer,) = machine.on(gossip(slots[3:]), 0)
    assert isinstance(timer, SetTimer)
    assert added(machine.on(gossip(slots[1:3]), 1)) == slots[1:]
    assert machine.on(TimerFired(timer.key), timer.at_ms) == []
    assert machine.status()["early_bytes"] == 0


def test_a_gap_is_asked_of_the_sender_then_the_scheduler_then_others() -> None:
    machine = replica(A, B)
    slots = slots_of(5)
    machine.on(gossip(slots[:1]), 0)
    (timer,) = machine.on(gossip(slots[4:], A), 0)
    assert isinstance(timer, SetTimer)
    assert timer.at_ms == GAP_WAIT_MS
    effects, now, asked = machine.on(TimerFired(timer.key), timer.at_ms), timer.at_ms, []
    for _ in range(3):
        send, request = ask_of(effects)
        assert (request.first, request.last) == (1, 3)
        asked.append(send.peer)
        (timer,) = machine.on(LogArrived(slots[0].process, None, send.peer, send.tag), now)
        assert isinstance(timer, SetTimer)
        now = timer.at_ms
        effects = machine.on(TimerFired(timer.key), now)
    assert asked == [A, SU.public, B]
    send, _ = ask_of(effects)
    page = LogArrived(slots[0].process, verified(slots[1:3]), send.peer, send.tag)
    send, request = ask_of(machine.on(page, now))
    assert (request.first, request.last) == (3, 3)
    page = LogArrived(slots[0].process, verified(slots[3:4]), send.peer, send.tag)
    assert added(machine.on(page, now)) == slots[3:]
    assert machine.status()["logs_behind"] == 0


def test_a_gap_nobody_fills_is_given_up() -> None:
    machine = replica(A)
    stray = slots_of(3)[2]
    effects = machine.on(gossip([stray], A), 0)
    attempts = 0
    while timers := only(effects, SetTimer):
        effects = machine.on(TimerFired(timers[0].key), timers[0].at_ms)
        for send in only(effects, Send):
            attempts += 1
            effects = machine.on(
                LogArrived(stray.process, (), send.peer, send.tag), timers[0].at_ms
            )
    assert attempts == ATTEMPTS_MAX
    assert machine.status()["early_bytes"] == machine.status()["processes"] == 0


def test_a_lying_peer_is_banned() -> None:
    machine = replica(A, B)
    slots = slots_of(3)
    forged = log(USER, [slots[0].message, slots[1].message])
    machine.on(gossip(slots[:1]), 0)
    claims = heads(A, slots[:2])
    send, _ = ask_of(machine.on(claims, GROWING_MS))
    effects = machine.on(LogArrived(slots[0].process, verified(forged[1:]), A, send.tag), 1)
    assert {alarm.reason for alarm in only(effects, Alarm)} == {
        Reason.WRONG_SENDER,
        Reason.MISMATCH,
    }
    assert machine.on(claims, GROWING_MS + 2) == []
    (timer,) = only(effects, SetTimer)
    send, _ = ask_of(machine.on(TimerFired(timer.key), timer.at_ms))
    assert send.peer != A


@pytest.mark.parametrize("order", [(2, 1), (1, 1), (0, 1)], ids=["swapped", "twice", "old first"])
def test_an_answer_out_of_order_is_a_lie(order: tuple[int, ...]) -> None:
    machine = replica(A)
    slots = slots_of(3)
    machine.on(gossip(slots[:1]), 0)
    send, _ = ask_of(machine.on(heads(A, slots), GROWING_MS))
    page = tuple(Verified(slots[nonce]) for nonce in order)
    effects = machine.on(LogArrived(slots[0].process, page, A, send.tag), 1)
    assert Reason.MISMATCH in {alarm.reason for alarm in only(effects, Alarm)}


def test_a_failed_verification_is_a_lie() -> None:
    machine = replica(A)
    slots = slots_of(2)
    send, _ = ask_of(machine.on(heads(A, slots), 0))
    effects = machine.on(LogArrived(slots[0].process, None, A, send.tag, "a signature is wrong"), 1)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.MISMATCH]
    assert machine.status()["peers_banned"] == 1


# Forks


def fork_of(slots: Sequence[Slot], nonce: int) -> list[Slot]:
    """The same log with another item at `nonce`, and one slot after it."""
    chain = chain_of(slots[:nonce])
    branch = []
    for _ in range(2):
        slot = next_slot(SU, chain, message_item(USER, slots[0].process), 2_000)
        chain = chain.next(slot)
        branch.append(slot)
    return branch


def test_a_second_assignment_is_evidence_and_the_first_is_kept() -> None:
    machine = replica(A)
    slots = slots_of(3)
    second = fork_of(slots, 2)[0]
    machine.on(gossip(slots), 0)
    effects = machine.on(gossip([second]), 1)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.FORK]
    (row,) = only(effects, Persist)
    assert row.key == keyspace.evidence_key(slots[0].process, 2, second.assignment.id)
    assert row.value == second.assignment.item.raw
    assert machine.on(gossip([second]), 2) == []
    follow = next_slot(SU, chain_of(slots), message_item(USER, slots[0].process), 3_000)
    assert added(machine.on(gossip([follow]), 3)) == [follow]


def test_two_early_slots_of_one_nonce_are_evidence() -> None:
    machine = replica()
    slots = slots_of(4)
    machine.on(gossip(slots[:1]), 0)
    machine.on(gossip(slots[3:]), 0)
    effects = machine.on(gossip(fork_of(slots, 3)[:1]), 0)
    assert Reason.FORK in {alarm.reason for alarm in only(effects, Alarm)}


def test_what_a_stranger_signed_before_slot_0_is_no_evidence() -> None:
    machine = replica()
    slots = slots_of(3)
    forged = log(USER, [slot.message for slot in slots])
    machine.on(gossip(forged[2:], A), 0)
    effects = machine.on(gossip([slots[0], slots[2]]), 1)
    assert only(effects, Alarm) == []
    assert added(machine.on(gossip(slots[1:2]), 2)) == slots[1:]


def test_another_branch_is_traced_to_its_second_assignment() -> None:
    machine = replica(A)
    slots = slots_of(3)
    branch = fork_of(slots, 2)
    machine.on(gossip(slots), 0)
    effects = machine.on(gossip(branch[1:], A), 1)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.NOT_NEXT]
    send, request = ask_of(effects)
    assert (send.peer, request.first, request.last) == (A, 2, 2)
    effects = machine.on(LogArrived(slots[0].process, verified(branch[:1]), A, send.tag), 2)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.FORK]
    assert machine.status()["peers_banned"] == 0


def test_the_adapter_finds_forks_of_old_slots() -> None:
    machine = replica()
    slots = slots_of(3)
    machine.recover([(chain_of(slots), process_info(slots[0].message))])
    second = fork_of(slots, 1)[0]
    effects = machine.on(Conflicting(Verified(second), slots[1].assignment.id), 0)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.FORK]


# Anti-entropy


def heads(peer: Any, *logs: Sequence[Slot]) -> Answered:
    found = tuple(Head(s[0].process, s[-1].nonce, chain_of(s).head) for s in logs)
    return Answered(("heads",), peer, (Heads(found).encode(),))


def test_peers_are_asked_in_turn_the_scheduler_every_other_time() -> None:
    machine = replica()
    machine.on(gossip(slots_of(1)), 0)
    machine.on(PeersChanged((A, B, SU.public)), 0)
    asked = []
    for turn in range(1, 7):
        effects = machine.on(TimerFired(("heads",)), turn * EVERY_MS)
        (send,) = only(effects, Send)
        assert HeadsRequest.decode(send.body) == HeadsRequest(None, ())
        asked.append(send.peer)
    assert asked[::2] == [SU.public] * 3
    assert set(asked[1::2]) == {A, B, SU.public}


def test_with_many_logs_all_of_them_are_named_in_turn() -> None:
    logs = [ProcessId(number.to_bytes(32, "big")) for number in range(2 * NAMED_MAX + 1)]
    rounds = Rounds(ME.public, lambda key: False)
    named: list[int] = []
    for _ in range(12):
        (send,) = only(rounds.next((A,), logs, len(logs), all=True, now=0), Send)
        named.append(len(HeadsRequest.decode(send.body).processes))
    assert sorted(set(named)) == [0, 1, NAMED_MAX]


def test_a_lost_last_slot_is_repaired() -> None:
    machine = replica(A)
    slots = slots_of(3)
    other = slots_of(2)
    machine.on(gossip(slots[:2]), 0)
    effects = machine.on(heads(A, slots, other), GROWING_MS)
    requests = [LogRequest.decode(send.body) for send in only(effects, Send)]
    assert [(r.process, r.first, r.last) for r in requests] == [
        (slots[0].process, 2, 2),
        (other[0].process, 0, 1),
    ]


def test_a_log_that_grows_by_itself_is_not_asked_for() -> None:
    machine = replica(A)
    slots = slots_of(5)
    machine.on(gossip(slots[:1]), 0)
    (timer,) = machine.on(heads(A, slots), 1)
    assert isinstance(timer, SetTimer)
    for nonce in (1, 2):
        machine.on(gossip(slots[nonce : nonce + 1]), timer.at_ms)
        (timer,) = machine.on(TimerFired(timer.key), timer.at_ms)
        assert isinstance(timer, SetTimer)
    _, request = ask_of(machine.on(TimerFired(timer.key), timer.at_ms))
    assert (request.first, request.last) == (3, 4)


def test_a_different_head_is_probed_once() -> None:
    machine = replica(A)
    slots = slots_of(2)
    machine.on(gossip(slots), 0)
    branch = [slots[0], *fork_of(slots, 1)[:1]]
    send, request = ask_of(machine.on(heads(A, branch), 1))
    assert (request.first, request.last) == (1, 1)
    assert machine.on(heads(A, branch), 2) == []
    effects = machine.on(LogArrived(slots[0].process, verified(branch[1:]), A, send.tag), 3)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.FORK]


# Bounds


def test_logs_are_fetched_a_few_at_a_time() -> None:
    machine = replica(A)
    logs = [slots_of(1) for _ in range(FETCHES_MAX + 3)]
    effects = machine.on(heads(A, *logs), 0)
    first = only(effects, Send)
    assert len(first) == FETCHES_MAX
    effects = machine.on(LogArrived(logs[0][0].process, verified(logs[0]), A, first[0].tag), 1)
    assert len(only(effects, Send)) == 1


def test_strangers_are_bounded() -> None:
    machine = replica()
    stray = slots_of(2)[1]
    machine._strangers = STRANGERS_MAX
    assert machine.on(gossip([stray]), 0) == []


def test_early_slots_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "EARLY_SLOTS_MAX", 2)
    machine = replica()
    slots = slots_of(6)
    machine.on(gossip(slots[:1]), 0)
    for slot in (slots[5], slots[4], slots[3]):
        machine.on(gossip([slot]), 0)
    assert sorted(machine._logs[slots[0].process].early) == [3, 4]
    assert added(machine.on(gossip(slots[1:3]), 0)) == slots[1:5]


def test_own_slots_come_from_the_scheduler_of_this_node() -> None:
    machine = replica()
    slots = slots_of(2)
    assert added(machine.on(Scheduled(verified(slots)), 0)) == slots


def test_only_some_logs_may_be_followed() -> None:
    mine, other = slots_of(2), slots_of(2)
    machine = Replica(key=ME.public, only=frozenset({mine[0].process}))
    machine.on(Started((A,)), 0)
    assert added(machine.on(gossip([*mine[:1], *other]), 0)) == mine[:1]
    (send,) = only(machine.on(TimerFired(("heads",)), 0), Send)
    assert HeadsRequest.decode(send.body).processes == (mine[0].process,)
    assert machine.on(heads(A, other), 0) == []


def test_slot_0_of_another_scheduler_is_refused() -> None:
    machine = replica()
    process = process_item(USER, SU)
    effects = machine.on(gossip(log(USER, [process])), 0)
    assert [alarm.reason for alarm in only(effects, Alarm)] == [Reason.WRONG_SENDER]
    assert machine.status()["processes"] == 0


def test_rows_of_evidence_have_their_own_prefix() -> None:
    start, stop = keyspace.prefix_range(Prefix.EVIDENCE)
    assert start <= keyspace.evidence_key(b"p" * 32, 3, b"a" * 32) < stop
