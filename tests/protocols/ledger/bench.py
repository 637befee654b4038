"""A ledger where schedulers and messengers have stakes too, and every class of fault on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from protocols.codec import encode
from protocols.court import Segment
from protocols.ids import ItemId, ProcessId, b64url
from protocols.ledger.draft import Note
from protocols.ledger.entries import Demanded
from protocols.outbox import Bounds, Outbox, OutMessage, OutSpawn, derive
from protocols.wire.assignment import Chain, Slot, assignment_of
from protocols.wire.demand import ScheduleSubject, SlotSubject
from protocols.wire.item import Item, Tag, Unsigned
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, Transfer
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import process_info
from protocols.wire.proof import Leaf, Receipt
from protocols.wire.pushed import Parent, entry_of
from tests.protocols.ledger.test_disputes import Court
from tests.protocols.ledger.world import RICH, STAKERS, TOKEN, Ledger, network
from tests.protocols.machine.world import MODULE, Key, log, message_item, process_item
from tests.protocols.toy import SCHEDULER, USER, toy_run

STAKE = 2000 * TOKEN
UNIT, WATCHER, OTHER = STAKERS[:3]
MESSENGER = Key.of("messenger")
VOTERS = (*STAKERS, SCHEDULER, MESSENGER)


class Bench(Court):
    """As `Court`, with two more stakes."""

    def __init__(self) -> None:
        self.runs = 0
        stakes = tuple((key.address, STAKE) for key in VOTERS)
        of = network(slashable_modules=(ItemId(MODULE),), stakes=stakes)
        Ledger.__init__(self, of, self._counted)
        for key in (*STAKERS, SCHEDULER):
            self.do(RICH, Transfer(self.next_sequence(), key.address, 500 * TOKEN))

    def _counted(self, segment: Segment) -> tuple[bytes, ...] | None:
        self.runs += 1
        return toy_run(segment)

    def tick(self, ticks: int = 1, signers: Sequence[Key] = VOTERS) -> tuple[Note, ...]:
        """As of any ledger; frozen stakes sign too and do not count."""
        return super().tick(ticks, signers)

    def demand(self, kind: int, subject: bytes, by: Key = WATCHER) -> bytes:
        """Make a demand; its id."""
        known = {key for key, _ in self.state.all(Demanded)}
        self.do(by, Demand(self.next_sequence(), kind, subject))
        (id,) = {key for key, _ in self.state.all(Demanded)} - known
        return id


class Hosted:
    """A process with its log."""

    def __init__(self, *more: tuple[str, str], messages: int = 6, number: int = 50) -> None:
        self.process = process_item(USER, SCHEDULER, *more, anchor=number)
        items = [self.process]
        for each in range(1, messages):
            items.append(self.message(each))
        self.slots = log(SCHEDULER, items)
        self.head = ItemHead.of(self.process)
        self.info = process_info(self.process)

    def message(self, number: int, *more: tuple[str, str], by: Key = USER) -> Item:
        return message_item(by, self.process.id, *more, data=b"%d" % number, anchor=number)

    def assignment(self, slot: int) -> bytes:
        return self.slots[slot].assignment.item.raw

    def chain(self, slot: int) -> Chain:
        """After this slot."""
        chain = Chain.genesis(ProcessId(self.process.id))
        for each in self.slots[: slot + 1]:
            chain = chain.next(each)
        return chain

    def assign(self, after: int, item: Item, now: int = 2000, **changes: object) -> Slot:
        """The slot after `after`, with this item, whatever it is."""
        chain = replace(self.chain(after), **changes)  # type: ignore[arg-type]
        draft = chain.draft(SCHEDULER.public, now, item.id)
        return Slot(assignment_of(draft.signed(SCHEDULER.sign(draft.message()))), item)

    def slot_subject(self, slot: int, last: int = -1) -> bytes:
        return SlotSubject(self.head, self.assignment(last), slot).encode()

    def schedule_subject(self, item: Item) -> bytes:
        return ScheduleSubject(self.head, self.assignment(0), item.raw).encode()


# A process that sends

OUT = Outbox(
    messages=(
        OutMessage(b64url(b"t" * 32), None, (Tag("Action", "Pay"), Tag("Quantity", "5")), b"data"),
        OutMessage(b64url(b"u" * 32), "a" * 32, (), b""),
    ),
    spawns=(OutSpawn(None, (Tag("Module", b64url(MODULE)),), b"code"),),
)
PUSHED_SLOT = 3
CBOR_OUTPUT = encode([0, None, [entry.to_value() for entry in OUT.entries()], None])
JSON_OUTPUT = (
    '{"ok":true,"response":{"Messages":['
    f'{{"Target":"{b64url(b"t" * 32)}","Tags":[{{"name":"Action","value":"Pay"}},'
    '{"name":"Quantity","value":"5"}],"Data":"data"},'
    f'{{"Target":"{b64url(b"u" * 32)}","Anchor":"{"a" * 32}"}}],'
    f'"Spawns":[{{"Tags":[{{"name":"Module","value":"{b64url(MODULE)}"}}],"Data":"code"}}],'
    '"Output":"x"}}'
).encode()


def outbox_of(raw: bytes) -> Outbox:
    for format in ("json", "ao-cbor-1"):
        derived = derive(format, Status.OK, raw, Bounds(1 << 20, 256))
        if derived.status is Status.OK:
            return derived.outbox
    raise AssertionError("an output of a test is one")


def receipt_of(court: Court, of: Hosted, key: Key, raw: bytes, slot: int = PUSHED_SLOT) -> Receipt:
    """A unit's receipt that the slot had this output."""
    chain = of.chain(slot)
    hash = outcome_hash(raw, outbox_of(raw).root())
    leaf = Leaf(
        ProcessId(of.process.id), slot, of.slots[slot].assignment.id,
        b"r" * 32 if slot % 4 == 3 else None, hash, 7, Status.OK,
    )  # fmt: skip
    draft = Receipt(
        court.network.id, ProcessId(of.process.id), slot, chain.head, leaf, b"m" * 32, None,
        court.network.profile, key.public,
    )  # fmt: skip
    return draft.signed(key.sign(draft.signing_bytes()))


def pushed(of: Hosted, index: int, key: Key = MESSENGER, slot: int = PUSHED_SLOT) -> Item:
    """What a messenger makes of an entry."""
    parent = Parent(of.info, slot, of.slots[slot].message.id)
    entry = OUT.entries()[index]
    assert isinstance(entry, OutMessage | OutSpawn)
    unsigned = entry_of(key.public, parent, index, entry)
    return unsigned.signed(key.sign(unsigned.message()))


def false_push(of: Hosted, key: Key = MESSENGER) -> Item:
    """An item that claims an entry and is another."""
    right = pushed(of, 0, key)
    return resigned(right, key, with_tag(right, "Quantity", "6"))


def with_tag(item: Item, name: str, value: str) -> list[tuple[str, str]]:
    """An item's tags, one of them another."""
    return [(tag.name, value if tag.name == name else tag.value) for tag in item.tags]


def resigned(right: Item, key: Key, tags: Sequence[tuple[str, str]]) -> Item:
    unsigned = Unsigned(
        2, key.public, right.target, right.anchor, tuple(Tag(*tag) for tag in tags), right.data
    )
    return unsigned.signed(key.sign(unsigned.message()))
