"""The door of a node: what does not verify is refused by name, and the door stays open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
import trio.testing

from aonode.net.admission import Admission, Arrivals
from aonode.ops.metrics import Metrics
from aonode.ports import Verdict, Wire
from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId, b64url
from protocols.machine.effects import Answered, Event, Send
from protocols.machine.events import Conflicting, SlotsArrived, UnitSeen
from protocols.trust import Verified
from protocols.wire import batch, streams
from protocols.wire.assignment import Slot
from protocols.wire.item import Item
from protocols.wire.proof import Receipt
from protocols.wire.topics import TOPIC_BYTES_MAX, Protocol, Topic
from protocols.wire.unit import UnsignedUnit
from tests.aonode.fakes import NOW_MS, FakeNetwork, FakeNode, message_item, signer, spawned

STRANGER = signer(66)


class OneAnswer:
    """A wire on which every request has one answer."""

    def __init__(self) -> None:
        self.frames: tuple[bytes, ...] = ()

    async def request(
        self, peer: NodeKey, protocol: Protocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        await trio.lowlevel.checkpoint()
        return self.frames


class World:
    """One node's admission, and what its machines hear."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        self.process = spawned(self.fake, 3)
        self.log = self.fake.logs[self.process]
        self.metrics = Metrics()
        self.wire = OneAnswer()
        self.held: dict[int, ItemId] = {}
        self.events: list[Event] = []
        self.units: list[UnitSeen] = []
        self.offers: list[Item] = []
        self.admission = Admission(
            env=self.fake.env,
            wire=cast(Wire, self.wire),
            network=self.fake.network,
            metrics=self.metrics,
            held=lambda process, nonce: self.held.get(nonce),
            arrivals=Arrivals(
                slots=self.events.append,
                units=self.units.append,
                offers=lambda item, sender: self.offers.append(item.value),
            ),
        )

    @asynccontextmanager
    async def running(self) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.admission.run)
            yield
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    @property
    def scheduler(self) -> NodeKey:
        return self.fake.scheduler.key

    def counted(self, reason: Reason) -> float:
        found = self.metrics.invalid.labels(reason=reason.value)
        return float(found._value.get())

    def slots(self) -> list[Slot]:
        """Slots that the replica has heard of."""
        arrived = [event for event in self.events if isinstance(event, SlotsArrived)]
        return [slot.value for event in arrived for slot in event.slots]


@pytest.fixture
def world() -> World:
    return World()


def entry(slot: Slot, assignment: bytes = b"", message: bytes = b"") -> bytes:
    raw = message or slot.message.raw
    item = batch.item_entry(raw, slot.message.id, len(raw))
    return batch.slot_entry(assignment or slot.assignment.item.raw, item)


def payload(slots: Sequence[Slot]) -> bytes:
    return batch.pack([entry(slot) for slot in slots])


def bent(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]


def foreign_slot(world: World) -> bytes:
    """A slot that a stranger signed for the scheduler's log."""
    chain = world.fake.chains[world.process][1]
    draft = chain.draft(STRANGER.key, NOW_MS, world.log[1].message.id)
    assignment = draft.signed(STRANGER.sign(draft.message()))
    return batch.pack([entry(world.log[1], assignment.raw)])


def padded(size: int) -> bytes:
    return batch.pack([batch.item_entry(bytes(size), bytes(32), size)])


BAD_PAYLOADS: dict[str, tuple[Callable[[World], bytes], Reason, str]] = {
    "empty": (lambda w: b"", Reason.MALFORMED, "byte 0"),
    "truncated": (lambda w: payload(w.log)[:-1], Reason.MALFORMED, "cut short"),
    "longer": (lambda w: payload(w.log) + b"\0", Reason.MALFORMED, "1 bytes after"),
    "not the shortest head": (
        lambda w: b"\x82\x18\x01" + payload(w.log)[2:],
        Reason.NOT_CANONICAL,
        "not the shortest",
    ),
    "a map": (lambda w: b"\xa0", Reason.MALFORMED, "0xa0"),
    "a tag": (lambda w: b"\xc1\x00", Reason.MALFORMED, "0xc1"),
    "another version": (
        lambda w: b"\x82\x02" + payload(w.log)[2:],
        Reason.UNSUPPORTED,
        "version 2",
    ),
    "no entries": (lambda w: codec.encode([1, []]), Reason.OVERSIZE, "0 values"),
    "too large": (
        lambda w: padded(TOPIC_BYTES_MAX[Topic.SLOTS]),
        Reason.OVERSIZE,
        str(TOPIC_BYTES_MAX[Topic.SLOTS]),
    ),
}


@pytest.mark.parametrize("name", BAD_PAYLOADS)
async def test_bad_payloads_are_refused_at_both_doors(world: World, name: str) -> None:
    make, reason, named = BAD_PAYLOADS[name]
    for door in (world.admission.slots_door, world.admission.messages_door):
        with pytest.raises(Invalid) as refusal:
            door(world.scheduler, make(world))
        assert refusal.value.reason is reason
        assert named in refusal.value.detail
    async with world.running():
        assert world.admission.slots_door(world.scheduler, payload(world.log)) is Verdict.ACCEPT
    assert world.slots() == world.log


def test_another_schedulers_slot_is_refused_at_the_door(world: World) -> None:
    for sender, raw in (
        (world.scheduler, foreign_slot(world)),
        (STRANGER.key, payload(world.log)),
    ):
        with pytest.raises(Invalid) as refusal:
            world.admission.slots_door(sender, raw)
        assert refusal.value.reason is Reason.WRONG_SENDER
        assert b64url(sender) in refusal.value.detail


async def test_forged_slots_are_left_out_alone(world: World) -> None:
    boot, first, second, third = world.log
    bad = [
        entry(first, assignment=bent(first.assignment.item.raw, 20)),
        entry(second, message=bent(second.message.raw, len(second.message.raw) - 1)),
        entry(third, message=second.message.raw),
    ]
    async with world.running():
        door = world.admission.slots_door
        assert door(world.scheduler, batch.pack([*bad, entry(boot)])) is Verdict.ACCEPT
    assert world.slots() == [boot]
    assert world.counted(Reason.BAD_SIGNATURE) == 2
    assert world.counted(Reason.MISMATCH) == 1


async def test_replayed_slots_are_dropped_and_second_ones_are_evidence(world: World) -> None:
    world.held = {slot.nonce: slot.assignment.id for slot in world.log[:2]}
    world.held[2] = ItemId(bytes(32))
    async with world.running():
        for _ in range(3):
            world.admission.slots_door(world.scheduler, payload(world.log[:2]))
        world.admission.slots_door(world.scheduler, payload(world.log[2:]))
    assert world.slots() == world.log[3:]
    (second,) = (event for event in world.events if isinstance(event, Conflicting))
    assert (second.slot.value, second.held) == (world.log[2], bytes(32))


async def test_forged_messages_are_left_out_alone(world: World) -> None:
    good = message_item(world.fake, signer(7), world.process)
    bad = bent(good.raw, 30)
    cut = good.raw[:120]
    entries = [batch.item_entry(raw, good.id, 1 << 16) for raw in (bad, cut, good.raw)]
    async with world.running():
        world.admission.messages_door(STRANGER.key, batch.pack(entries))
    assert world.offers == [good]
    assert world.counted(Reason.BAD_SIGNATURE) == 1
    assert world.counted(Reason.MALFORMED) == 1


async def test_a_fetched_item_must_be_the_one_announced(world: World) -> None:
    good, other = (message_item(world.fake, signer(7), world.process) for _ in range(2))
    announced = batch.pack([batch.item_entry(good.raw, good.id, 10)])
    for frames in ((), streams.cut(other.raw), streams.cut(bytes(1 << 20)), (b"\xff",)):
        world.wire.frames = frames
        async with world.running():
            world.admission.messages_door(STRANGER.key, announced)
    assert other in world.offers
    assert good not in world.offers
    world.wire.frames = streams.cut(other.raw)
    with pytest.raises(Invalid) as refusal:
        await world.admission.item_of(STRANGER.key, good.id)
    assert refusal.value.reason is Reason.MISMATCH
    assert b64url(good.id) in refusal.value.detail
    world.wire.frames = streams.cut(good.raw)
    assert (await world.admission.item_of(STRANGER.key, good.id)).value == good


def announcement(network: NetworkId, *, expiry_ms: int = 2 * NOW_MS) -> bytes:
    draft = UnsignedUnit(STRANGER.key, ("compute",), (), (), expiry_ms, 1)
    return draft.signed(STRANGER.sign(draft.message(network))).encode()


def test_units_of_another_network_or_sender_are_refused(world: World) -> None:
    door, network = world.admission.units_door, world.fake.network.id
    good = announcement(network)
    for sender, raw, reason, named in (
        (STRANGER.key, announcement(NetworkId(bytes(32))), Reason.BAD_SIGNATURE, STRANGER.key),
        (STRANGER.key, bent(good, 5), Reason.BAD_SIGNATURE, None),
        (world.scheduler, good, Reason.WRONG_SENDER, STRANGER.key),
        (STRANGER.key, good[:-1], Reason.MALFORMED, None),
        (STRANGER.key, bytes(3000), Reason.OVERSIZE, None),
    ):
        with pytest.raises(Invalid) as refusal:
            door(sender, raw)
        assert refusal.value.reason is reason
        assert named is None or b64url(named) in refusal.value.detail
    assert door(STRANGER.key, announcement(network, expiry_ms=NOW_MS - 1)) is Verdict.IGNORE
    assert not world.units
    assert door(STRANGER.key, good) is Verdict.ACCEPT
    assert [seen.unit.value.key for seen in world.units] == [STRANGER.key]


def test_a_full_queue_ignores_and_blames_nobody(world: World) -> None:
    verdicts = [
        world.admission.slots_door(world.scheduler, payload(world.log[:1])) for _ in range(300)
    ]
    assert verdicts.count(Verdict.IGNORE) == 300 - 256
    assert Verdict.REJECT not in verdicts


# Answers to requests


def sent(protocol: Protocol, body: bytes) -> Send:
    return Send(STRANGER.key, protocol, body, ("tag",), 1000)


def answered(*frames: bytes) -> Answered:
    return Answered(("tag",), STRANGER.key, frames)


async def test_a_log_answer_is_good_or_says_what_is_wrong(world: World) -> None:
    request = sent(Protocol.LOG, streams.LogRequest(world.process, 0, 3, 1 << 20).encode())
    frames = streams.encode_log(world.log, 1 << 20)
    good = await world.admission.log_arrived(request, answered(*frames))
    assert [slot.value for slot in good.slots or ()] == world.log
    forged = batch.pack([entry(world.log[0], assignment=bent(world.log[0].assignment.item.raw, 9))])
    for frame, named in (
        (frames[0][:-1], "cut short"),
        (forged, b64url(world.fake.scheduler.address)),
        (b"\xa0", "0xa0"),
    ):
        bad = await world.admission.log_arrived(request, answered(frame))
        assert bad.slots is None
        assert named in bad.wrong


async def receipts(world: World, change: Callable[[Receipt], Receipt]) -> tuple[bytes, ...]:
    node = FakeNode(world.fake, world.fake.computes[0])
    assert node.compute is not None
    rows = node.compute.results(world.process, 0, 1, 2)
    key = world.fake.computes[0]
    made = []
    for row in rows:
        draft = change(Receipt.decode(row.receipt))
        made.append(draft.signed(key.sign(draft.signing_bytes())))
    await trio.lowlevel.checkpoint()
    return streams.encode_results(
        [streams.ResultEntry(each.encode(), row.raw) for each, row in zip(made, rows, strict=True)]
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("slot", None, None),
        ("network", bytes(32), Reason.WRONG_NETWORK),
        ("cu", STRANGER.key, Reason.MISMATCH),
    ],
)
async def test_receipts_of_another_network_or_unit_are_refused(
    world: World, field: str, value: Any, reason: Reason | None
) -> None:
    cu = world.fake.computes[0].key
    request = sent(Protocol.RESULT, streams.ResultRequest(world.process, 0, 1, 0, True).encode())
    changes = {} if value is None else {field: value}
    frames = await receipts(world, lambda each: replace(each, **changes))
    arrived = await world.admission.receipts_arrived(request, Answered(("tag",), cu, frames))
    if reason is None:
        assert [receipt.value.slot for receipt, _ in arrived.entries or ()] == [0, 1]
    else:
        assert arrived.entries is None
        assert world.counted(reason) == 1
    bad = await world.admission.receipts_arrived(request, Answered(("tag",), cu, (b"\xff",)))
    assert bad.entries is None


async def test_an_assignment_answer_is_verified(world: World) -> None:
    slot = world.log[1]
    body = streams.AssignRequest(ProcessId(world.process), slot.message.id, ()).encode()
    request = sent(Protocol.ASSIGN, body)
    raw = slot.assignment.item.raw
    good = await world.admission.assignment_arrived(
        request, answered(streams.AssignAnswer(raw, None).encode())
    )
    assert good.assignment == Verified(slot.assignment)
    no = Invalid(Reason.INADMISSIBLE, "no such thing")
    for frames, reason in (
        ((streams.AssignAnswer(bent(raw, 30), None).encode(),), Reason.BAD_SIGNATURE),
        ((streams.AssignAnswer(world.log[1].message.raw, None).encode(),), Reason.MALFORMED),
        ((streams.AssignAnswer(None, no).encode(),), Reason.INADMISSIBLE),
        ((b"\x80",), Reason.MALFORMED),
        ((), Reason.UNAVAILABLE),
    ):
        bad = await world.admission.assignment_arrived(request, answered(*frames))
        assert bad.assignment is None
        assert bad.refusal is not None
        assert bad.refusal.reason is reason
