"""One suite for both Wires: what a node may rely on, simulated or real."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from aonode.ports import Verdict, Wire
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import FRAME_BYTES_MAX, TOPIC_BYTES_MAX, Protocol, Topic
from tests.parity.wires import KINDS, Wires

pytestmark = pytest.mark.slow


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def running(world: Wires) -> AsyncIterator[None]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await world.start(nursery)
            yield
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Every test runs under `fail_after`, so this ends."""
    while not condition():
        await trio.sleep(0.01)


class Ear:
    """A door that takes everything down."""

    def __init__(self, verdict: Verdict = Verdict.ACCEPT) -> None:
        self.heard: list[tuple[NodeKey, bytes]] = []
        self._verdict = verdict

    def __call__(self, origin: NodeKey, payload: bytes) -> Verdict:
        self.heard.append((origin, payload))
        return self._verdict


async def publish_until(wire: Wire, topic: Topic, ears: list[Ear]) -> None:
    """A mesh needs a moment to form; before, a message may reach nobody."""
    number = 0
    while not all(ear.heard for ear in ears):
        await wire.publish(topic, b"probe %d" % number)
        number += 1
        await trio.sleep(0.1)


async def test_gossip_reaches_all_subscribers_once_with_its_origin(kind: str) -> None:
    world = Wires(kind, 3)
    ears = [Ear() for _ in world.wires]
    for wire, ear in zip(world.wires, ears, strict=True):
        wire.subscribe(Topic.SLOTS, ear)
    async with running(world):
        await publish_until(world.wires[0], Topic.SLOTS, ears[1:])
        payloads = [b"\x00" * 10, b"\x01" * (200 << 10), b"\x00" * 10]
        for payload in payloads:
            await world.wires[0].publish(Topic.SLOTS, payload)

        def rest(ear: Ear) -> list[bytes]:
            return [payload for _, payload in ear.heard if not payload.startswith(b"probe")]

        await until(lambda: all(len(rest(ear)) >= 3 for ear in ears[1:]))
        await trio.sleep(0.3)
        for ear in ears[1:]:
            assert sorted(rest(ear)) == sorted(payloads)
            assert {origin for origin, _ in ear.heard} == {world.keys[0]}
        assert ears[0].heard == []


async def test_gossip_stays_in_its_topic(kind: str) -> None:
    world = Wires(kind, 2)
    slots, units = Ear(), Ear()
    world.wires[0].subscribe(Topic.SLOTS, Ear())
    world.wires[1].subscribe(Topic.SLOTS, slots)
    world.wires[1].subscribe(Topic.UNITS, units)
    async with running(world):
        await publish_until(world.wires[0], Topic.SLOTS, [slots])
        assert units.heard == []


async def test_a_publisher_need_not_be_subscribed(kind: str) -> None:
    world = Wires(kind, 2)
    ear = Ear()
    world.wires[1].subscribe(Topic.MESSAGES, ear)
    async with running(world):
        await publish_until(world.wires[0], Topic.MESSAGES, [ear])


async def test_a_door_that_refuses_harms_nobody(kind: str) -> None:
    def refusing(origin: NodeKey, payload: bytes) -> Verdict:
        raise Invalid(Reason.MALFORMED, "no such entry")

    world = Wires(kind, 3)
    ear = Ear()
    world.wires[1].subscribe(Topic.SLOTS, refusing)
    world.wires[2].subscribe(Topic.SLOTS, ear)
    async with running(world):
        await publish_until(world.wires[0], Topic.SLOTS, [ear])
        assert len(world.wires[1].peers()) == 2


async def test_publishing_too_much_or_too_early_is_refused(kind: str) -> None:
    (wire,) = Wires(kind, 1).wires
    for topic, size_max in TOPIC_BYTES_MAX.items():
        with pytest.raises(Invalid) as refusal:
            await wire.publish(topic, bytes(size_max + 1))
        assert refusal.value.reason is Reason.OVERSIZE
    with pytest.raises(Invalid) as refusal:
        await wire.publish(Topic.SLOTS, b"early")
    assert refusal.value.reason is Reason.UNAVAILABLE


async def echo(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
    """Says who asked, then each byte of the request as a frame."""
    yield peer
    for byte in body:
        yield bytes([byte])


async def test_a_request_brings_all_frames_in_order(kind: str) -> None:
    world = Wires(kind, 2)
    world.wires[1].serve(Protocol.LOG, echo)
    async with running(world):
        body = bytes(range(60))
        frames = await world.wires[0].request(world.keys[1], Protocol.LOG, body, frames_max=61)
        assert frames == (world.keys[0], *(bytes([byte]) for byte in body))
        with pytest.raises(Invalid) as refusal:
            await world.wires[0].request(world.keys[1], Protocol.LOG, body, frames_max=60)
        assert refusal.value.reason is Reason.OVERSIZE


async def test_large_frames_and_requests(kind: str) -> None:
    async def large(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        yield body[::-1]
        yield body

    world = Wires(kind, 2)
    world.wires[1].serve(Protocol.ITEM, large)
    body = bytes(range(256)) * (FRAME_BYTES_MAX // 256)
    async with running(world):
        frames = await world.wires[0].request(world.keys[1], Protocol.ITEM, body, frames_max=2)
        assert frames == (body[::-1], body)


async def test_an_empty_answer_is_an_answer(kind: str) -> None:
    async def silent(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        for _ in body:
            yield b"never"

    world = Wires(kind, 2)
    world.wires[1].serve(Protocol.HEADS, silent)
    async with running(world):
        assert await world.wires[0].request(world.keys[1], Protocol.HEADS, b"", frames_max=1) == ()


async def test_a_handler_that_refuses_resets_its_stream_only(kind: str) -> None:
    async def refusing(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        yield b"part"
        if body == b"bad":
            raise Invalid(Reason.MALFORMED, "a bad request")

    world = Wires(kind, 2)
    world.wires[1].serve(Protocol.RESULT, refusing)
    async with running(world):
        asker, server = world.wires[0], world.keys[1]
        with pytest.raises(Invalid) as refusal:
            await asker.request(server, Protocol.RESULT, b"bad", frames_max=9)
        assert refusal.value.reason is Reason.UNAVAILABLE
        assert await asker.request(server, Protocol.RESULT, b"good", frames_max=9) == (b"part",)


async def test_who_cannot_answer_is_unavailable(kind: str) -> None:
    world = Wires(kind, 2)
    async with running(world):
        for peer in (world.keys[1], NodeKey(bytes(31) + b"\x09")):
            with pytest.raises(Invalid) as refusal:
                await world.wires[0].request(peer, Protocol.MODULE, b"", frames_max=1)
            assert refusal.value.reason is Reason.UNAVAILABLE


async def test_requests_run_side_by_side_and_both_ways(kind: str) -> None:
    async def slow(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        await trio.sleep(0.05)
        yield body

    world = Wires(kind, 2)
    for wire in world.wires:
        wire.serve(Protocol.LOG, slow)
    answers: list[bytes] = []

    async def ask(number: int) -> None:
        source = number % 2
        body = b"%d" % number
        peer = world.keys[1 - source]
        answers.extend(await world.wires[source].request(peer, Protocol.LOG, body, frames_max=1))

    async with running(world):
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(ask, number)
        assert sorted(answers) == sorted(b"%d" % number for number in range(16))


async def test_peers_are_sorted_and_addresses_are_there(kind: str) -> None:
    world = Wires(kind, 3)
    async with running(world):
        for number, wire in enumerate(world.wires):
            others = [key for index, key in enumerate(world.keys) if index != number]
            assert list(wire.peers()) == sorted(others)
            assert all(address.startswith("/ip4/") for address in wire.addresses())
            assert wire.addresses()
