"""What a node makes of the slots it has seen: evidence that convicts, answers that the ledger
takes, and nothing against an honest scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import Invalid
from protocols.ids import b64url
from protocols.ledger.entries import Demanded
from protocols.machine.replies import message_demanded, schedule_answer
from protocols.machine.scheduler_faults import bad_item, bad_order, two_assignments
from protocols.wire.demand import SCHEDULE, ScheduleKept
from protocols.wire.ledger_tx import Reply
from tests.protocols.ledger.bench import WATCHER, Bench, Hosted
from tests.protocols.ledger.world import PARAMETERS, POOR
from tests.protocols.machine.world import Key, message_item, process_item
from tests.protocols.toy import FORK, SCHEDULER, USER, branches

TRUTH, FORKED = branches()
TRUSTED = Key.of("trusted")
OF = Hosted(("Authority", b64url(TRUSTED.address)))


def test_nothing_is_wrong_with_an_honest_log() -> None:
    before = None
    for slot in TRUTH.slots:
        assert bad_item(TRUTH.process, slot, PARAMETERS) is None
        assert bad_order(TRUTH.process, before, slot.assignment) is None
        assert two_assignments(TRUTH.process, slot.assignment, slot.assignment) is None
        before = slot.assignment
    late = TRUTH.slots[9].assignment
    assert bad_order(TRUTH.process, TRUTH.slots[7].assignment, late) is None, "not neighbours"
    assert two_assignments(TRUTH.process, late, TRUTH.slots[8].assignment) is None


def test_a_fork_convicts() -> None:
    one, other = (branch.slots[FORK].assignment for branch in (TRUTH, FORKED))
    evidence = two_assignments(TRUTH.process, one, other)
    assert evidence is not None
    assert Bench().accuse(WATCHER, evidence).startswith("guilty")


def test_an_item_that_must_be_refused_convicts() -> None:
    refusable = message_item(USER, OF.process.id, ("Data+link", "x"))
    evidence = bad_item(OF.process, OF.assign(5, refusable), PARAMETERS)
    assert evidence is not None
    assert Bench().accuse(WATCHER, evidence).startswith("guilty")
    odd = process_item(USER, SCHEDULER, ("Memory-Limit", "much"))
    slot = replace(OF.slots[0], message=odd)
    assert bad_item(odd, slot, PARAMETERS) is not None


@pytest.mark.parametrize("changes", [{"timestamp": 0}, {"hash_chain": bytes(32)}])
def test_an_assignment_out_of_order_convicts(changes: dict[str, object]) -> None:
    now = 1 if "timestamp" in changes else 2000
    slot = OF.assign(5, OF.message(30), now, **changes)
    evidence = bad_order(OF.process, OF.slots[5].assignment, slot.assignment)
    assert evidence is not None
    assert Bench().accuse(WATCHER, evidence).startswith("guilty")
    assert bad_order(OF.process, None, OF.slots[0].assignment) is None


def test_a_log_answers_for_its_messages_and_for_copies() -> None:
    court = Bench()
    tags = (("From-Process", b64url(b"f" * 32)), ("Outbox", "4.1"))
    first, second = (
        message_item(TRUSTED, OF.process.id, *tags, anchor=number) for number in (1, 2)
    )
    odd = message_item(USER, OF.process.id, ("Outbox", "4"), anchor=3)
    log = [*OF.slots, OF.assign(5, odd), OF.assign(5, first)]
    for wanted, has in ((first, True), (second, True), (OF.message(40), False)):
        id = court.demand(SCHEDULE, OF.schedule_subject(wanted))
        entry = court.state.get(Demanded, id)
        assert entry is not None
        answer = schedule_answer(ScheduleKept.decode(entry.subject, size_max=2048), log)
        assert (answer is not None) == has
        if answer is not None:
            court.do(POOR, Reply(id, answer.encode()))


def test_the_demanded_message_is_read_from_the_demand() -> None:
    court, message = Bench(), OF.message(30)
    id = court.demand(SCHEDULE, OF.schedule_subject(message))
    entry = court.state.get(Demanded, id)
    assert entry is not None
    assert message_demanded(court.items[entry.slot], PARAMETERS) == message
    with pytest.raises(Invalid):
        message_demanded(court.items[0], PARAMETERS)
