"""Logs that have lost their host: nobody feeds them, and one branch of a forked one is followed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protocols.errors import Reason
from protocols.faults import Fault
from protocols.ids import ItemId, NetworkId, ProcessId, b64url
from protocols.ledger.entries import Unhosted
from protocols.machine import outbound
from protocols.machine.delivery import Delivery
from protocols.machine.effects import (
    Alarm,
    Execute,
    Persist,
    Refusal,
    Send,
    Started,
    TimerFired,
)
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import (
    AssignAsked,
    Extended,
    LedgerMoved,
    LogArrived,
    Offered,
    SlotsArrived,
    Submit,
    Undeliverable,
)
from protocols.machine.outbound import RESEND_MS
from protocols.machine.replica import Replica
from protocols.machine.slot_log import SlotLog
from protocols.network import Unit
from protocols.trust import Verified
from protocols.wire.assignment import Slot
from tests.protocols.machine.effects_of import notices, only, reply
from tests.protocols.machine.world import (
    PARAMETERS,
    Key,
    chain_of,
    log,
    message_item,
    next_slot,
    process_item,
    verified,
)

SU, MU, USER, ME = (Key.of(name) for name in ("su", "mu", "user", "me"))
PEER = Key.of("peer").public
PROCESS = process_item(USER, SU)
ID = ProcessId(PROCESS.id)
TRUTH = log(SU, [PROCESS, *(message_item(USER, ID) for _ in range(4))])
FORK = 2


def branch() -> list[Slot]:
    """The same log with other slots from FORK on."""
    slots = TRUTH[:FORK]
    while len(slots) < len(TRUTH):
        slots = [*slots, next_slot(SU, chain_of(slots), message_item(USER, ID), 9_000)]
    return slots


OTHER = branch()


class Marked:
    """A ledger that marks the process when the test says so, and the log of this node."""

    def __init__(self, slots: Sequence[Slot] = ()) -> None:
        self.mark: Unhosted | None = None
        self.slots = list(slots)

    def lose(self, fault: Fault, *, slot: int | None = None, held: ItemId | None = None) -> None:
        self.mark = Unhosted(SU.address, fault.value, 7, slot, held)

    def select(self, slots: Sequence[Slot]) -> None:
        held = slots[FORK].assignment.id
        self.lose(Fault.TWO_ASSIGNMENTS, slot=FORK, held=held)

    def marks(self, process: ProcessId) -> Unhosted | None:
        return self.mark if process == ID else None

    def held(self, process: ProcessId, nonce: int) -> ItemId | None:
        return self.slots[nonce].assignment.id if nonce < len(self.slots) else None

    def replica(self) -> Replica:
        machine = Replica(key=ME.public, marks=self.marks, held=self.held)
        machine.on(Started(()), 0)
        if self.slots:
            machine.on(SlotsArrived(verified(self.slots), PEER), 0)
        return machine

    def offer(self, machine: Replica, slots: Sequence[Slot]) -> tuple[list[Slot], list[Reason]]:
        """What is added, and why the rest is not."""
        effects = machine.on(SlotsArrived(verified(slots), PEER), 5)
        added = [slot for event in notices(effects, Extended) for slot in event.slots]
        self.slots += added
        return added, [alarm.reason for alarm in only(effects, Alarm)]


def submitted(machine: Delivery) -> Any:
    return reply(machine.on(Submit(1, Verified(message_item(USER, ID))), 5))


def test_a_messenger_refuses_and_says_what_to_do() -> None:
    world = Marked()
    machine = Delivery(
        key=MU.public,
        parameters=PARAMETERS,
        sign=MU.sign,
        units=(Unit(SU.public, ("scheduler",), ()),),
        marks=world.marks,
    )
    machine.on(Started(), 0)
    machine.on(Extended(ID, tuple(TRUTH[:1]), (chain_of(TRUTH[:1]).head,)), 0)
    assert isinstance(submitted(machine), bytes)
    world.lose(Fault.UNPUBLISHED)
    refusal = submitted(machine)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNHOSTED
    for part in (b64url(ID), "S2", "spawn a new process"):
        assert part in refusal.detail
    due = machine.on(TimerFired(outbound.TIMER), 5 + RESEND_MS)
    assert [told.detail for told in notices(due, Undeliverable)] == ["its log is closed"]
    assert [row.value for row in only(due, Persist)] == [None], "it is not promised any more"
    assert only(due, Send) == []
    assert machine.status()["open"] == 0
    assigned = reply(machine.on(AssignAsked(2, ID, message_item(USER, ID).id, ()), 6))
    assert assigned.reason is Reason.UNHOSTED


def test_an_honest_scheduler_signs_no_further() -> None:
    world = Marked()
    machine = SlotLog(
        key=SU.public, parameters=PARAMETERS, sign=SU.sign, sole_copy=True, marks=world.marks
    )
    machine.on(Started(()), 0)
    machine.on(Offered(Verified(PROCESS), MU.public, 1), 0)
    first = message_item(USER, ID)
    assert reply(machine.on(Offered(Verified(first), MU.public, 2), 0)) == 1
    world.lose(Fault.CENSORED)
    effects = machine.on(Offered(Verified(message_item(USER, ID)), MU.public, 3), 0)
    assert reply(effects).reason is Reason.UNHOSTED
    assert only(effects, Persist) == []
    again = machine.on(Offered(Verified(first), MU.public, 4), 0)
    assert reply(again) == 1, "what has its slot keeps it"


@pytest.mark.parametrize("fault", [Fault.UNPUBLISHED, Fault.CENSORED])
def test_slots_that_exist_are_followed_whoever_lost_the_log(fault: Fault) -> None:
    world = Marked(TRUTH[:2])
    machine = world.replica()
    world.lose(fault)
    assert world.offer(machine, TRUTH[2:]) == (TRUTH[2:], [])


def test_the_branch_that_holds_is_followed_and_the_other_is_not() -> None:
    world = Marked(TRUTH[:FORK])
    machine = world.replica()
    world.select(TRUTH)
    assert world.offer(machine, OTHER[FORK : FORK + 1]) == ([], [Reason.FORK])
    assert world.offer(machine, TRUTH[FORK:]) == (TRUTH[FORK:], [])


def test_a_log_on_the_other_branch_grows_no_more() -> None:
    world = Marked(OTHER[: FORK + 1])
    machine = world.replica()
    world.select(TRUTH)
    assert world.offer(machine, OTHER[FORK + 1 : FORK + 2]) == ([], [Reason.FORK])
    assert world.offer(machine, TRUTH[FORK:])[0] == []
    assert world.slots == OTHER[: FORK + 1], "what it has it keeps"


def test_a_peer_on_the_other_branch_is_not_banned() -> None:
    world = Marked(TRUTH[:FORK])
    machine = world.replica()
    effects = machine.on(SlotsArrived(verified(TRUTH[4:]), PEER), 1)
    assert effects
    world.select(TRUTH)
    tag = ("log", FORK, FORK)
    effects = machine.on(LogArrived(ID, verified(OTHER[FORK : FORK + 1]), PEER, tag), 2)
    assert notices(effects, Extended) == []
    assert machine.status()["peers_banned"] == 0


@pytest.mark.parametrize("holds", [True, False])
def test_a_compute_unit_signs_nothing_more_of_the_other_branch(holds: bool) -> None:
    lost = ""
    machine = Evaluation(
        network=NetworkId(b"n" * 32),
        parameters=PARAMETERS,
        profile=b"p" * 32,
        key=ME.public,
        sign=ME.sign,
        lost=lambda process: lost,
    )
    machine.on(Started(()), 0)
    assert only(machine.on(Extended(ID, tuple(TRUTH[:1]), (b"",)), 0), Execute)
    lost = "" if holds else "slot 2 was given twice"
    totals = SimpleNamespace(totals=lambda: SimpleNamespace(tick=1))
    effects = machine.on(LedgerMoved(cast("Any", totals), b"", ()), 1)
    assert [alarm.reason for alarm in only(effects, Alarm)] == ([] if holds else [Reason.FORK])
    assert machine.stopped(ID) == ("" if holds else "fork: slot 2 was given twice")
    assert machine.on(LedgerMoved(cast("Any", totals), b"", ()), 2) == []
    assert only(effects, Send) == []
