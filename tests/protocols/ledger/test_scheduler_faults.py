"""S1 to S4: what a scheduler loses, what becomes of its log, and what an honest one never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.faults import Fault
from protocols.ids import ItemId, ProcessId, b64url
from protocols.ledger.demands import demand_bond
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Answering, Bond, Case, Demanded, Fine, Held, Part, Unhosted
from protocols.ledger.hosting import is_selected, unhosted
from protocols.ledger.penalties import offence
from protocols.wire.assignment import Slot, unsigned_assignment
from protocols.wire.demand import (
    SCHEDULE,
    SLOT,
    ScheduleAnswer,
    ScheduleSubject,
    SlotAnswer,
    SlotSubject,
)
from protocols.wire.evidence import BadAssignment, TwoAssignments
from protocols.wire.item import Item, decode_item
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, EvidencePart, Reply, Unbond
from tests.protocols.ledger.bench import MESSENGER, OTHER, STAKE, WATCHER, Bench, Hosted
from tests.protocols.ledger.test_disputes import BOND
from tests.protocols.ledger.world import PARAMETERS, POOR, STAKERS, TOKEN
from tests.protocols.machine.world import Key, item, message_item, process_item
from tests.protocols.toy import FORK, SCHEDULER, USER, branches

OF = Hosted(("Authority", b64url(Key.of("messenger").address)))
ID = ProcessId(OF.process.id)
TRUTH, FORKED = branches()
TRUE_ID = ProcessId(TRUTH.process.id)
TWICE = TwoAssignments(
    TRUTH.log().slot(FORK)[0], FORKED.log().slot(FORK)[0], ItemHead.of(TRUTH.process)
)


def stake(court: Bench, key: Key = SCHEDULER) -> int:
    bond = court.state.get(Bond, key.address)
    return 0 if bond is None else bond.amount


# S1


def test_a_slot_given_twice_costs_the_stake_and_the_first_shown_holds() -> None:
    court = Bench()
    assert court.accuse(WATCHER, TWICE).startswith("guilty")
    case = court.state.get(Case, SCHEDULER.address)
    assert case is not None
    assert (case.amount, case.challenger) == (STAKE, WATCHER.address)
    entry = unhosted(court.state, TRUE_ID)
    assert entry is not None
    assert (entry.slot, entry.assignment) == (FORK, TRUTH.slots[FORK].assignment.id)
    assert (entry.scheduler, entry.fault) == (SCHEDULER.address, "S1")
    for branch, selected in ((TRUTH, True), (FORKED, False)):
        ids = [slot.assignment.id for slot in branch.slots]
        assert is_selected(entry, lambda slot, ids=ids: ids[slot]) is selected  # type: ignore[misc]
    assert is_selected(entry, lambda slot: None) is None
    # Whoever shows them the other way round changes nothing, and is told so by his bond.
    before = court.balance(OTHER)
    again = replace(TWICE, one=TWICE.other, other=TWICE.one)
    assert court.accuse(OTHER, again).startswith("guilty")
    assert court.state.get(Unhosted, TRUE_ID) == entry
    assert court.balance(OTHER) == before - PARAMETERS.evidence_bond_mib


def test_a_fork_is_decided_though_the_stake_is_gone_and_then_the_bond_pays() -> None:
    court = Bench()
    second = Hosted(number=77)
    one, other = second.assign(2, second.message(98)), second.assign(2, second.message(99))
    twice = TwoAssignments(one.assignment.item.raw, other.assignment.item.raw, second.head)
    court.accuse(WATCHER, TWICE)
    before = court.balance(OTHER)
    assert court.accuse(OTHER, twice).startswith("guilty")
    assert court.balance(OTHER) == before - BOND
    entry = unhosted(court.state, ProcessId(second.process.id))
    assert entry is not None
    assert entry.assignment == one.assignment.id


def test_who_is_not_the_scheduler_cannot_take_a_log_from_its_host() -> None:
    """A staked stranger signs two assignments of somebody else's log, and shows them himself."""
    court = Bench()
    foreign = []
    for number in (1, 2):
        draft = OF.chain(2).draft(OTHER.public, 2000, OF.message(number + 90).id)
        foreign.append(draft.signed(OTHER.sign(draft.message())).raw)
    assert court.accuse(WATCHER, TwoAssignments(foreign[0], foreign[1], OF.head)).startswith("void")
    assert unhosted(court.state, ID) is None
    right = OF.assignment(3)
    assert court.accuse(WATCHER, TwoAssignments(right, right, OF.head)).startswith("innocent")
    assert unhosted(court.state, ID) is None
    assert stake(court) == STAKE


# S2


def test_a_published_slot_is_shown_by_anyone() -> None:
    court = Bench()
    for slot in (0, 2, 5):
        id = court.demand(SLOT, OF.slot_subject(slot))
        good = SlotAnswer(OF.assignment(slot), OF.slots[slot].message.raw)
        for wrong, why in (
            (replace(good, item=OF.slots[slot - 1].message.raw), "carries item"),
            (replace(good, assignment=OF.assignment(slot - 1)), "not"),
            (replace(good, assignment=Hosted(number=51).assignment(slot)), "another log"),
            (replace(good, item=good.item[:-1] + b"?"), ""),
            (replace(good, item=b""), ""),
        ):
            court.refuse(POOR, Reply(id, wrong.encode()), why)
        court.do(POOR, Reply(id, good.encode()))
    court.tick(PARAMETERS.demand_window)
    assert stake(court) == STAKE
    assert unhosted(court.state, ID) is None


def test_a_large_item_is_shown_in_parts() -> None:
    """The item fills `item_bytes_max`, so that no transaction could hold it."""
    court = Bench()
    big = message_item(USER, OF.process.id, data=bytes(2 << 20), anchor=9)
    big = message_item(
        USER, OF.process.id, data=bytes((2 << 20) - (len(big.raw) - (2 << 20))), anchor=9
    )
    assert len(big.raw) == PARAMETERS.item_bytes_max
    slot = OF.assign(5, big)
    subject = SlotSubject(OF.head, slot.assignment.item.raw, 6).encode()
    id = court.demand(SLOT, subject)
    blob = SlotAnswer(slot.assignment.item.raw, big.raw).encode()
    parts = [blob[at : at + (1 << 20)] for at in range(0, len(blob), 1 << 20)]
    court.refuse(POOR, EvidencePart(ItemId(id), parts[0]), "accused or from a staker")
    ids: list[ItemId] = []
    for number, part in enumerate(parts):
        court.do((SCHEDULER, OTHER, WATCHER)[number % 3], EvidencePart(ItemId(id), part))
        ids.append(court.items[-1].id)
    court.refuse(POOR, Reply(id, b"", tuple(reversed(ids))), "")
    court.refuse(POOR, Reply(id, b"", (*ids[:-1], ItemId(bytes(32)))), "not in the log")
    court.refuse(POOR, Reply(id, b"x", tuple(ids)), "not both")
    court.refuse(POOR, Reply(id, b"", tuple(ids) * 100), "too long")
    court.do(POOR, Reply(id, b"", tuple(ids)))
    assert not list(court.state.all(Part))
    assert not list(court.state.all(Answering))
    court.refuse(SCHEDULER, EvidencePart(ItemId(id), b"late"), "no such demand")


def test_what_one_sender_may_send_is_bounded() -> None:
    court = Bench()
    id = ItemId(court.demand(SLOT, OF.slot_subject(2)))
    for number in range(512):
        court.do(SCHEDULER, EvidencePart(id, b"%d" % number))
    court.refuse(SCHEDULER, EvidencePart(id, b"one more"), "at most 512 parts")
    court.do(OTHER, EvidencePart(id, b"not your business"))
    court.tick(PARAMETERS.demand_window)
    assert not list(court.state.all(Part))
    assert not list(court.state.all(Answering))


def test_silence_about_a_slot_costs_a_fifth_once_and_the_log() -> None:
    court = Bench()
    before = court.balance(WATCHER)
    for slot in (2, 3):
        court.demand(SLOT, OF.slot_subject(slot))
    notes = court.tick(PARAMETERS.demand_window)
    assert NoteKind.UNHOSTED in [note.kind for note in notes]
    assert stake(court) == STAKE * 8 // 10
    id = offence(Fault.UNPUBLISHED, ID, None)
    record = court.state.get(Fine, SCHEDULER.address, id)
    assert record is not None
    assert (record.amount, record.challenger, record.burnt_tick) == (STAKE // 5, None, None)
    assert court.state.totals().burnt == 0
    assert court.state.totals().bonded == 6 * STAKE - STAKE // 5
    entry = unhosted(court.state, ID)
    assert entry is not None
    assert (entry.fault, entry.slot) == ("S2", None)
    assert is_selected(entry, lambda slot: None)
    court.refuse(
        WATCHER, Demand(court.next_sequence(), SLOT, OF.slot_subject(4)), "paid for this log"
    )
    # The rest goes on voting; the share is burnt by the next final checkpoint, all of it.
    court.tick(1, (SCHEDULER, *STAKERS[:3], MESSENGER))
    assert court.state.totals().burnt == STAKE // 5
    assert not list(court.state.all(Held))
    record = court.state.get(Fine, SCHEDULER.address, id)
    assert record is not None
    assert record.burnt_tick == PARAMETERS.demand_window + 1
    assert court.balance(WATCHER) - before < TOKEN * 200, "minted, not paid"


def test_slots_that_need_not_exist_cannot_be_demanded() -> None:
    court = Bench()
    other = Hosted(number=51)
    foreign = OF.chain(2).draft(OTHER.public, 2000, OF.message(90).id)
    signed = foreign.signed(OTHER.sign(foreign.message()))
    for subject, why in (
        (OF.slot_subject(3, 2), "does not show"),
        (SlotSubject(OF.head, other.assignment(4), 3).encode(), "another process"),
        (SlotSubject(OF.head, signed.raw, 3).encode(), "scheduler"),
        (SlotSubject(OF.head, OF.slots[3].message.raw, 3).encode(), ""),
        (SlotSubject(replace(OF.head, size=1), OF.assignment(4), 3).encode(), "not signed"),
    ):
        court.refuse(WATCHER, Demand(court.next_sequence(), SLOT, subject), why)
    unstaked = process_item(USER, USER, anchor=3)
    draft = unsigned_assignment(
        USER.public, ProcessId(unstaked.id), 0, hash_chain=bytes(32), timestamp=0, message=None,
        head_prev=bytes(32),
    )  # fmt: skip
    raw = draft.signed(USER.sign(draft.message())).raw
    subject = SlotSubject(ItemHead.of(unstaked), raw, 0).encode()
    court.refuse(WATCHER, Demand(court.next_sequence(), SLOT, subject), "at stake")
    assert not list(court.state.all(Demanded))


# S3


def test_a_scheduled_message_is_shown_by_anyone() -> None:
    court = Bench()
    message = OF.message(30)
    id = court.demand(SCHEDULE, OF.schedule_subject(message))
    assert court.state.totals().burnt == 0
    slot = OF.assign(5, message)
    elsewhere = Hosted(number=51).assign(5, message)
    for wrong in (
        ScheduleAnswer(OF.assignment(4)),
        ScheduleAnswer(elsewhere.assignment.item.raw),
        ScheduleAnswer(OF.assignment(4), OF.head, ItemHead.of(OF.slots[4].message)),
        ScheduleAnswer(b""),
    ):
        court.refuse(POOR, Reply(id, wrong.encode()))
    subject = OF.schedule_subject(message)
    court.refuse(OTHER, Demand(court.next_sequence(), SCHEDULE, subject), "made already")
    court.do(POOR, Reply(id, ScheduleAnswer(slot.assignment.item.raw).encode()))
    bond = demand_bond(SCHEDULE, len(subject), PARAMETERS)
    assert bond == PARAMETERS.demand_bond + PARAMETERS.evidence_bond_mib
    assert court.state.totals().burnt == bond
    court.refuse(OTHER, Demand(court.next_sequence(), SCHEDULE, subject), "made already")


def test_another_messengers_copy_of_the_entry_is_an_answer() -> None:
    """An honest scheduler gives one slot to one outbox entry, so it must refuse the second copy."""
    court = Bench()
    trusted, stranger = Key.of("messenger"), Key.of("stranger")
    tags = (("From-Process", b64url(b"f" * 32)), ("Outbox", "4.1"))
    copies = [
        message_item(key, OF.process.id, *tags, anchor=number)
        for number, key in enumerate((trusted, trusted, stranger))
    ]
    other_entry = message_item(trusted, OF.process.id, tags[0], ("Outbox", "4.2"))
    id = court.demand(SCHEDULE, OF.schedule_subject(copies[0]))

    def shown(copy: Item, assigned: Item | None = None) -> Reply:
        slot = OF.assign(5, assigned or copy)
        answer = ScheduleAnswer(slot.assignment.item.raw, OF.head, ItemHead.of(copy))
        return Reply(id, answer.encode())

    court.refuse(POOR, shown(copies[2]), "no copy")
    court.refuse(POOR, shown(other_entry), "no copy")
    court.refuse(POOR, shown(copies[1], copies[2]), "not the assigned item")
    bare = ScheduleAnswer(OF.assign(5, copies[1]).assignment.item.raw)
    court.refuse(POOR, Reply(id, bare.encode()), "another item")
    court.do(POOR, shown(copies[1]))


def test_censorship_costs_a_twentieth_and_the_log() -> None:
    court = Bench()
    court.demand(SCHEDULE, OF.schedule_subject(OF.message(30)))
    court.demand(SCHEDULE, OF.schedule_subject(OF.message(31)))
    court.tick(PARAMETERS.demand_window)
    assert stake(court) == STAKE * 19 // 20
    entry = unhosted(court.state, ID)
    assert entry is not None
    assert entry.fault == "S3"
    subject = OF.schedule_subject(OF.message(32))
    court.refuse(WATCHER, Demand(court.next_sequence(), SCHEDULE, subject), "nobody has to")
    # Slots that were given before must still be shown.
    court.demand(SLOT, OF.slot_subject(4))
    court.tick(PARAMETERS.demand_window)
    assert court.state.get(Fine, SCHEDULER.address, offence(Fault.UNPUBLISHED, ID, None))


def test_what_a_scheduler_may_refuse_cannot_be_demanded() -> None:
    court = Bench()
    good = OF.message(30)
    linked = OF.message(30, ("Data+link", "x"))
    other = message_item(USER, b"x" * 32)
    untyped = item(USER, [("Data-Protocol", "ao")], target=OF.process.id)
    forged = decode_item(good.raw[:-1] + b"?", size_max=9999)
    process = process_item(USER, SCHEDULER, anchor=4)
    for message, why in (
        (linked, "is a link"),
        (other, "its target is"),
        (untyped, "Type"),
        (forged, "not signed"),
        (process, ""),
    ):
        subject = OF.schedule_subject(message)
        court.refuse(WATCHER, Demand(court.next_sequence(), SCHEDULE, subject), why)
    # A process that its scheduler never took: anybody can name anybody as scheduler.
    fresh = process_item(USER, SCHEDULER, anchor=5)
    to_fresh = message_item(USER, fresh.id)
    subject = ScheduleSubject(ItemHead.of(fresh), OF.assignment(0), to_fresh.raw).encode()
    court.refuse(WATCHER, Demand(court.next_sequence(), SCHEDULE, subject), "another process")
    assert not list(court.state.all(Demanded))


# S4


def bad(slot: Slot, item: Item | None = None, before: bytes | None = None) -> BadAssignment:
    shown = None if item is None else ItemHead.of(item)
    return BadAssignment(OF.head, slot.assignment.item.raw, before, shown)


TOO_LARGE = message_item(USER, OF.process.id, data=bytes(2 << 20), anchor=3)
REFUSABLE = (
    message_item(USER, OF.process.id, ("Data+link", "x"), anchor=1),
    item(USER, [("Data-Protocol", "ao")], target=OF.process.id, anchor=2),
    TOO_LARGE,
    message_item(USER, OF.process.id, ("Outbox", "x"), ("From-Process", "y"), anchor=4),
    OF.slots[2].assignment.item,
)


@pytest.mark.parametrize("refusable", REFUSABLE, ids=["link", "type", "size", "outbox", "assign"])
def test_an_item_that_must_be_refused_costs_half(refusable: Item) -> None:
    court = Bench()
    evidence = bad(OF.assign(5, refusable), refusable)
    before = court.balance(WATCHER)
    assert court.accuse(WATCHER, evidence).startswith("guilty")
    assert court.balance(WATCHER) == before
    assert stake(court) == STAKE // 2
    assert unhosted(court.state, ID) is None
    # The same again, or of the same slot: nothing more.
    assert court.accuse(OTHER, evidence).startswith("guilty")
    assert stake(court) == STAKE // 2
    balances = [court.balance(key) for key in (WATCHER, OTHER)]
    court.tick(1)
    each = STAKE // 2 * 500 // 10_000 // 6
    gains = [court.balance(key) - old for key, old in zip((WATCHER, OTHER), balances, strict=True)]
    assert gains == [each + STAKE // 10, each]
    late = court.balance(OTHER)
    assert court.accuse(OTHER, evidence).startswith("guilty")
    assert court.balance(OTHER) == late - PARAMETERS.evidence_bond_mib
    # Another slot of the same log is another offence, of what is left.
    second = bad(OF.assign(4, refusable), refusable)
    court.accuse(WATCHER, second)
    assert stake(court) == STAKE // 4


def test_the_first_to_commit_has_the_bounty_of_a_share_too() -> None:
    court = Bench()
    evidence = bad(OF.assign(5, REFUSABLE[0]), REFUSABLE[0])
    early, late = court.commit(WATCHER, evidence), court.commit(OTHER, evidence)
    court.reveal(OTHER, late, evidence)
    before = court.balance(WATCHER)
    court.reveal(WATCHER, early, evidence)
    assert court.balance(WATCHER) == before, "taking it over costs the bond"
    record = court.state.get(Fine, SCHEDULER.address, offence(Fault.BAD_ASSIGNMENT, ID, 6))
    assert record is not None
    assert record.challenger == WATCHER.address
    assert stake(court) == STAKE // 2


def test_time_that_goes_back_and_chains_that_break_cost_half() -> None:
    for changes in ({"timestamp": 0}, {"hash_chain": bytes(32)}, {"assignment_id": bytes(32)}):
        court = Bench()
        now = 1 if "timestamp" in changes else 2000
        slot = OF.assign(5, OF.message(30), now, **changes)
        evidence = bad(slot, before=OF.assignment(5))
        assert court.accuse(WATCHER, evidence).startswith("guilty"), changes
        assert stake(court) == STAKE // 2


def first(process: Item, hash_chain: bytes, key: Key = SCHEDULER) -> bytes:
    draft = unsigned_assignment(
        key.public, ProcessId(process.id), 0, hash_chain=hash_chain, timestamp=5, message=None,
        head_prev=bytes(32),
    )  # fmt: skip
    return draft.signed(key.sign(draft.message())).raw


def test_a_first_slot_can_be_wrong_too() -> None:
    court = Bench()
    wrong_chain = BadAssignment(OF.head, first(OF.process, bytes(32)))
    assert court.accuse(WATCHER, wrong_chain).startswith("guilty")
    no_process = OF.message(30)
    right = BadAssignment(OF.head, OF.assignment(0))
    assert court.accuse(WATCHER, right).startswith("innocent")
    foreign = BadAssignment(OF.head, first(OF.process, bytes(32), OTHER))
    assert court.accuse(WATCHER, foreign).startswith("void")
    invented = BadAssignment(ItemHead.of(no_process), first(no_process, bytes(32)))
    assert court.accuse(WATCHER, invented).startswith("guilty")
    assert stake(court) == 0, "half and half of what was there"
    assert court.accuse(OTHER, wrong_chain).startswith("void")


def test_an_honest_scheduler_is_never_guilty_of_its_assignments() -> None:
    court = Bench()
    message = OF.slots[3].message
    assigned_elsewhere = message_item(USER, b"x" * 32)  # assigned by its id: for another process
    for innocent in (
        bad(OF.slots[3], message),
        bad(OF.assign(5, assigned_elsewhere), assigned_elsewhere),
        bad(OF.slots[3], before=OF.assignment(2)),
    ):
        assert court.accuse(WATCHER, innocent).startswith("innocent")
    # An id binds a signature only: with that of the message anybody can make another item.
    head = OF.slots[3].message
    framed = decode_item(head.raw.replace(b"Message", b"Massage"), size_max=9999)
    assert framed.id == head.id
    foreign = Hosted(number=51)
    for void in (
        bad(OF.slots[3], framed),
        bad(OF.slots[3], OF.slots[4].message),
        bad(OF.slots[3]),
        bad(OF.slots[3], message, OF.assignment(2)),
        bad(OF.slots[3], before=OF.assignment(1)),
        bad(OF.slots[3], before=foreign.assignment(2)),
        bad(foreign.slots[3], message),
        bad(OF.slots[0], OF.process),
        replace(bad(OF.slots[3], message), process=foreign.head),
    ):
        assert court.accuse(WATCHER, void).startswith("void"), void
    assert stake(court) == STAKE
    assert not list(court.state.all(Fine))


def test_a_stake_on_its_way_out_pays_first() -> None:
    court = Bench()
    court.do(SCHEDULER, Unbond(court.next_sequence(), STAKE // 4))
    court.tick(1)
    court.do(SCHEDULER, Unbond(court.next_sequence(), STAKE // 8))
    court.accuse(WATCHER, bad(OF.assign(5, REFUSABLE[0]), REFUSABLE[0]))
    assert stake(court) == STAKE // 2
    assert court.state.get(Case, SCHEDULER.address) is None
