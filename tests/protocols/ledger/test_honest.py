"""Whatever is demanded of an honest scheduler or messenger, its log answers; and no choice among
what it has signed is evidence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.codec import encode
from protocols.court import Finding
from protocols.errors import Invalid
from protocols.ids import ProcessId, b64url
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Demanded
from protocols.machine.effects import Notify, Refusal
from protocols.machine.effects import Reply as Told
from protocols.machine.events import Offered, Scheduled
from protocols.machine.replies import schedule_answer
from protocols.machine.scheduler_faults import bad_item, bad_order
from protocols.machine.slot_log import SlotLog
from protocols.outbox import OutMessage, OutSpawn
from protocols.trust import Verified
from protocols.wire.assignment import Slot
from protocols.wire.demand import (
    KEPT_BYTES_MAX,
    PUSH,
    SCHEDULE,
    SLOT,
    PushAnswer,
    ScheduleKept,
    ScheduleSubject,
    SlotAnswer,
    SlotSubject,
)
from protocols.wire.evidence import BadAssignment, TwoAssignments
from protocols.wire.item import Item, Tag
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, Reply
from protocols.wire.pushed import Parent, entry_of
from tests.protocols.ledger.bench import (
    MESSENGER,
    PUSHED_SLOT,
    UNIT,
    WATCHER,
    Bench,
    Hosted,
    outbox_of,
    receipt_of,
)
from tests.protocols.ledger.world import PARAMETERS, POOR, transaction
from tests.protocols.machine.world import Key, message_item, process_item
from tests.protocols.toy import SCHEDULER, USER, judge

AUTHORS = (USER, Key.of("trusted 1"), Key.of("trusted 2"), Key.of("stranger"))
PROCESS = process_item(
    USER, SCHEDULER, *(("Authority", b64url(key.address)) for key in AUTHORS[1:3]), anchor=1
)
OTHER = process_item(USER, SCHEDULER, anchor=2)
SOURCE = ("From-Process", b64url(b"f" * 32))
TAGS = (
    (),
    (SOURCE, ("Outbox", "1.0")),
    (SOURCE, ("Outbox", "1.1")),
    (SOURCE, ("Outbox", "one")),
    (("Outbox", "1.0"),),
    (("Data+link", "x"),),
)
MESSAGES = st.tuples(
    st.sampled_from(AUTHORS), st.sampled_from(TAGS), st.sampled_from((PROCESS, OTHER)),
    st.integers(0, 9),
)  # fmt: skip


def message(key: Key, tags: Sequence[tuple[str, str]], to: Item, number: int) -> Item:
    return message_item(key, to.id, *tags, anchor=number)


def scheduled(items: Sequence[tuple[Item, bool]]) -> dict[ProcessId, list[Slot]]:
    """The logs that an honest scheduler makes of these, some assigned to `PROCESS` by id."""
    machine = SlotLog(
        key=SCHEDULER.public, parameters=PARAMETERS, sign=SCHEDULER.sign, sole_copy=True
    )
    logs: dict[ProcessId, list[Slot]] = {}
    by_id: dict[tuple[ProcessId, bytes], Slot] = {}
    for now, (item, elsewhere) in enumerate([(PROCESS, False), (OTHER, False), *items]):
        into = ProcessId(PROCESS.id) if elsewhere else None
        home = into or ProcessId(item.target or item.id)
        known = by_id.get((home, item.id))
        offered = Offered(Verified(item), MESSENGER.public, 1, known, None, into)
        effects = machine.on(offered, 9 - now)
        assert [each for each in effects if isinstance(each, Told)]
        for effect in effects:
            if isinstance(effect, Notify) and isinstance(effect.event, Scheduled):
                for each in effect.event.slots:
                    logs.setdefault(each.value.process, []).append(each.value)
                    by_id[each.value.process, each.value.message.id] = each.value
    return logs


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(MESSAGES, st.booleans()), max_size=8))
def test_an_honest_scheduler_answers_for_every_message_that_can_be_demanded(
    drawn: list[tuple[tuple[Key, Sequence[tuple[str, str]], Item, int], bool]],
) -> None:
    items = [(message(*each), elsewhere) for each, elsewhere in drawn]
    logs = scheduled([*items, *((item, False) for item, _ in items)])
    court = Bench()
    for item, _ in items:
        process = PROCESS if item.target == PROCESS.id else OTHER
        log = logs[ProcessId(process.id)]
        head, first = ItemHead.of(process), log[0].assignment.item.raw
        subject = ScheduleSubject(head, first, item.raw).encode()
        before = {key for key, _ in court.state.all(Demanded)}
        tx = Demand(court.next_sequence(), SCHEDULE, subject)
        (note, *_) = court.slot(transaction(WATCHER, tx, len(court.items)))
        if note.kind is NoteKind.REFUSED:
            assert "made already" in note.detail or "cannot be scheduled" in note.detail
            continue
        (id,) = {key for key, _ in court.state.all(Demanded)} - before
        entry = court.state.get(Demanded, id)
        assert entry is not None
        kept = ScheduleKept.decode(entry.subject, size_max=KEPT_BYTES_MAX)
        answer = schedule_answer(kept, log)
        assert answer is not None
        court.do(POOR, Reply(id, answer.encode()))
    for process in (PROCESS, OTHER):
        log = logs[ProcessId(process.id)]
        for slot in log:
            asked = SlotSubject(ItemHead.of(process), log[-1].assignment.item.raw, slot.nonce)
            id = court.demand(SLOT, asked.encode())
            shown = SlotAnswer(slot.assignment.item.raw, slot.message.raw)
            court.do(POOR, Reply(id, shown.encode()))


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(MESSAGES, st.booleans()), max_size=6), st.data())
def test_nothing_an_honest_scheduler_signed_is_evidence(
    drawn: list[tuple[tuple[Key, Sequence[tuple[str, str]], Item, int], bool]], data: st.DataObject
) -> None:
    items = [(message(*each), elsewhere) for each, elsewhere in drawn]
    logs = scheduled(items)
    slots = [slot for log in logs.values() for slot in log]
    some = st.sampled_from(slots)
    heads = st.sampled_from([PROCESS, OTHER]).map(ItemHead.of)
    every = [slot.message for slot in slots] + [item for item, _ in items]
    for _ in range(6):
        one, other = data.draw(some), data.draw(some)
        raw, head = one.assignment.item.raw, data.draw(heads)
        before = data.draw(st.none() | st.just(other.assignment.item.raw))
        item = data.draw(st.none() | st.sampled_from(every).map(ItemHead.of))
        for evidence in (
            BadAssignment(head, raw, before, item),
            TwoAssignments(raw, other.assignment.item.raw, head),
        ):
            assert judge(evidence).finding is not Finding.GUILTY
    for log in logs.values():
        process = log[0].message
        for number, slot in enumerate(log):
            assert bad_item(process, slot, PARAMETERS) is None
            last = log[number - 1].assignment if number else None
            assert bad_order(process, last, slot.assignment) is None


NAMES = st.sampled_from(
    ["Action", "Outbox", "From-Process", "Pushed-For", "Type", "Scheduler", "x"]
)
OUT_TAGS = st.lists(st.builds(Tag, NAMES, st.text(min_size=1, max_size=5)), max_size=4).map(tuple)
ANCHORS = st.none() | st.just("a" * 32) | st.text(max_size=3)
ENTRIES = st.lists(
    st.builds(
        OutMessage,
        st.sampled_from([b64url(b"t" * 32), "no id"]),
        ANCHORS,
        OUT_TAGS,
        st.binary(max_size=9),
    )
    | st.builds(OutSpawn, ANCHORS, OUT_TAGS, st.binary(max_size=9)),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=50)
@given(ENTRIES)
def test_an_honest_messenger_answers_for_everything_it_pushes(
    drawn: list[OutMessage | OutSpawn],
) -> None:
    raw = encode([0, None, [entry.to_value() for entry in drawn], None])
    outbox = outbox_of(raw)
    of, court = Hosted(messages=4), Bench()
    parent = Parent(of.info, PUSHED_SLOT, of.slots[PUSHED_SLOT].message.id)
    receipt = receipt_of(court, of, UNIT, raw).encode()
    for index, entry in enumerate(outbox.entries()):
        assert isinstance(entry, OutMessage | OutSpawn)
        try:
            unsigned = entry_of(MESSENGER.public, parent, index, entry)
        except Invalid:
            continue  # no item can be made of it, so none was pushed
        item = unsigned.signed(MESSENGER.sign(unsigned.message()))
        id = court.demand(PUSH, ItemHead.of(item).encode())
        answer = PushAnswer(of.head, receipt, outbox.root(), raw, None)
        court.do(POOR, Reply(id, answer.encode()))


def test_an_offer_that_must_be_refused_is() -> None:
    machine = SlotLog(
        key=SCHEDULER.public, parameters=PARAMETERS, sign=SCHEDULER.sign, sole_copy=True
    )
    machine.on(Offered(Verified(PROCESS), MESSENGER.public, 1), 0)
    linked = message(USER, TAGS[-1], PROCESS, 1)
    (told,) = machine.on(Offered(Verified(linked), MESSENGER.public, 1), 0)
    assert isinstance(told, Told)
    assert isinstance(told.value, Refusal)
