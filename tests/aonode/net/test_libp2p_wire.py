"""Wire over real TCP: gossip, streams, connections."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from aonode.net import libp2p_streams
from aonode.net.libp2p_sequence import BLOCK, Sequence, SequenceFile
from aonode.ports import Verdict
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import FRAME_BYTES_MAX, TOPIC_BYTES_MAX, Protocol, Topic
from tests.aonode.net.world import Heard, gossiping, make_wire, running, start_of, until

pytestmark = pytest.mark.slow


async def test_two_nodes_hear_each_other_and_not_themselves() -> None:
    async with gossiping(2) as ((a, b), (at_a, at_b)):
        await a.publish(Topic.SLOTS, b"from a")
        await b.publish(Topic.SLOTS, b"from b")
        await until(lambda: bool(at_a.messages and at_b.messages))
        assert at_b.messages == [(a.key, b"from a")]
        assert at_a.messages == [(b.key, b"from b")]


async def test_five_nodes_hear_each_message_once() -> None:
    async with gossiping(5) as (wires, doors):
        sent = [b"message %d" % number for number in range(40)]
        for number, payload in enumerate(sent):
            await wires[number % 5].publish(Topic.SLOTS, payload)
        await until(lambda: all(len(door.messages) >= 32 for door in doors))
        await trio.sleep(0.1)
        for number, door in enumerate(doors):
            expected = [p for k, p in enumerate(sent) if k % 5 != number]
            assert sorted(door.payloads()) == sorted(expected)


async def test_a_message_reaches_who_is_not_a_neighbour() -> None:
    a, b, c = (make_wire(number) for number in range(3))
    doors = [Heard() for _ in range(3)]
    for wire, door in zip((a, b, c), doors, strict=True):
        wire.subscribe(Topic.SLOTS, door)
    async with running([a, b, c]):
        a.connect(b.key, b.addresses())
        c.connect(b.key, b.addresses())
        await until(lambda: b.mesh(Topic.SLOTS) == 2)
        await a.publish(Topic.SLOTS, b"over b")
        await until(lambda: bool(doors[2].messages))
        assert doors[2].messages == [(a.key, b"over b")]
        assert a.peers() == (b.key,)


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE])
async def test_what_a_door_does_not_accept_goes_no_further(verdict: Verdict) -> None:
    a, b, c = (make_wire(number) for number in range(3))
    at_b, at_c = Heard(verdict), Heard()
    a.subscribe(Topic.SLOTS, Heard())
    b.subscribe(Topic.SLOTS, at_b)
    c.subscribe(Topic.SLOTS, at_c)
    async with running([a, b, c]):
        a.connect(b.key, b.addresses())
        c.connect(b.key, b.addresses())
        await until(lambda: b.mesh(Topic.SLOTS) == 2)
        await a.publish(Topic.SLOTS, b"one")
        await until(lambda: bool(at_b.messages))
        at_b.verdict = Verdict.ACCEPT
        await a.publish(Topic.SLOTS, b"two")
        await until(lambda: bool(at_c.messages))
        assert at_c.payloads() == [b"two"]
        rejected = 1 if verdict is Verdict.REJECT else 0
        assert b.counts()["rejected"] == rejected
        assert b.counts()["ignored"] == 1 - rejected


async def test_publishers_need_not_subscribe() -> None:
    listener, speaker = make_wire(1), make_wire(2)
    door = Heard()
    listener.subscribe(Topic.MESSAGES, door)
    async with running([listener, speaker]):
        speaker.connect(listener.key, listener.addresses())
        await until(lambda: bool(speaker.peers()))
        await until(lambda: bool(speaker.followers(Topic.MESSAGES)))
        await speaker.publish(Topic.MESSAGES, b"please schedule")
        await until(lambda: bool(door.messages))
        assert door.messages == [(speaker.key, b"please schedule")]


async def test_shards_are_topics_of_their_own_behind_one_door() -> None:
    async with gossiping(2, shards=2) as ((a, b), (_, at_b)):
        await until(lambda: b.mesh(Topic.SLOTS, 1) == 1)
        await a.publish(Topic.SLOTS, b"zero", shard=0)
        await a.publish(Topic.SLOTS, b"one", shard=1)
        await until(lambda: len(at_b.messages) == 2)


async def test_payload_bounds() -> None:
    async with gossiping(2, Topic.VOTES) as ((a, _), (_, at_b)):
        largest = bytes(TOPIC_BYTES_MAX[Topic.VOTES])
        with pytest.raises(Invalid) as refused:
            await a.publish(Topic.VOTES, largest + b"!")
        assert refused.value.reason is Reason.OVERSIZE
        await a.publish(Topic.VOTES, largest)
        await until(lambda: at_b.payloads() == [largest])


async def test_the_largest_batch_passes() -> None:
    async with gossiping(2) as ((a, _), (_, at_b)):
        largest = bytes(range(256)) * (TOPIC_BYTES_MAX[Topic.SLOTS] // 256)
        await a.publish(Topic.SLOTS, largest)
        await until(lambda: at_b.payloads() == [largest])


async def echo(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
    yield peer
    yield body


async def test_request_and_answer() -> None:
    server, client = make_wire(1), make_wire(2)
    server.serve(Protocol.ITEM, echo)
    async with running([server, client]):
        client.connect(server.key, server.addresses())
        largest = bytes(FRAME_BYTES_MAX)
        for body in (b"x", largest):
            answer = await client.request(server.key, Protocol.ITEM, body, frames_max=2)
            assert answer == (client.key, body)
        with pytest.raises(Invalid) as refused:
            await client.request(server.key, Protocol.ITEM, b"x", frames_max=1)
        assert refused.value.reason is Reason.OVERSIZE
        with pytest.raises(Invalid) as refused:
            await client.request(server.key, Protocol.LOG, b"x", frames_max=1)
        assert refused.value.reason is Reason.UNAVAILABLE
        with pytest.raises(Invalid) as refused:
            await client.request(make_wire(9).key, Protocol.ITEM, b"x", frames_max=1)
        assert refused.value.reason is Reason.UNAVAILABLE


async def test_an_empty_answer_is_an_answer() -> None:
    async def nothing(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        return
        yield b""

    server, client = make_wire(1), make_wire(2)
    server.serve(Protocol.HEADS, nothing)
    async with running([server, client]):
        client.connect(server.key, server.addresses())
        assert await client.request(server.key, Protocol.HEADS, b"", frames_max=1) == ()


@pytest.mark.parametrize("error", [KeyError("bug"), Invalid(Reason.UNKNOWN_ITEM, "no")])
async def test_an_answer_that_is_cut_is_no_answer(error: Exception) -> None:
    async def half(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        yield b"first"
        yield b"second"
        raise error

    server, client = make_wire(1), make_wire(2)
    server.serve(Protocol.LOG, half)
    server.serve(Protocol.ITEM, echo)
    async with running([server, client]):
        client.connect(server.key, server.addresses())
        with pytest.raises(Invalid) as refused:
            await client.request(server.key, Protocol.LOG, b"", frames_max=9)
        assert refused.value.reason is Reason.UNAVAILABLE
        assert await client.request(server.key, Protocol.ITEM, b"x", frames_max=2)


async def test_one_peer_cannot_take_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_streams, "PER_PEER_MAX", 2)
    go_on = trio.Event()

    async def slow(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        await go_on.wait()
        yield body

    server, greedy, modest = make_wire(1), make_wire(2), make_wire(3)
    server.serve(Protocol.LOG, slow)
    results: list[object] = []

    async def ask(wire: object, body: bytes) -> None:
        assert isinstance(wire, type(server))
        try:
            results.append(await wire.request(server.key, Protocol.LOG, body, frames_max=1))
        except Invalid as refused:
            results.append(refused.reason)

    async with running([server, greedy, modest]):
        greedy.connect(server.key, server.addresses())
        modest.connect(server.key, server.addresses())
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, greedy, b"g")
            await until(lambda: len(results) == 1)
            assert results == [Reason.UNAVAILABLE]
            nursery.start_soon(ask, modest, b"m")
            await trio.sleep(0.05)
            go_on.set()
    assert sorted(map(str, results[1:])) == sorted(map(str, [(b"g",), (b"g",), (b"m",)]))


async def test_a_caller_that_gives_up_leaves_nothing_behind() -> None:
    async def never(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        await trio.sleep_forever()
        yield b""

    server, client = make_wire(1), make_wire(2)
    server.serve(Protocol.LOG, never)
    server.serve(Protocol.ITEM, echo)
    async with running([server, client]):
        client.connect(server.key, server.addresses())
        await until(lambda: bool(client.peers()))
        with trio.move_on_after(0.05) as scope:
            await client.request(server.key, Protocol.LOG, b"", frames_max=1)
        assert scope.cancelled_caught
        assert await client.request(server.key, Protocol.ITEM, b"x", frames_max=2)


async def test_a_peer_that_comes_back_is_meshed_again() -> None:
    a, b = make_wire(1), make_wire(2)
    at_a = Heard()
    a.subscribe(Topic.SLOTS, at_a)
    b.subscribe(Topic.SLOTS, Heard())
    async with running([a]), trio.open_nursery() as nursery:
        await nursery.start(start_of(b))
        (address,) = b.addresses()
        a.connect(b.key, [address])
        await until(lambda: a.mesh(Topic.SLOTS) == 1)
        nursery.cancel_scope.cancel()
    async with running([a := make_wire(1)]):
        a.connect(b.key, [address])
        port = address.partition("/p2p/")[0]
        back = make_wire(2, listen=port)
        back.subscribe(Topic.SLOTS, Heard())
        async with running([back]):
            await until(lambda: a.peers() == (b.key,))


async def test_a_wanted_peer_is_redialled_until_it_is_there() -> None:
    early = make_wire(1)
    door = Heard()
    early.subscribe(Topic.SLOTS, door)
    async with running([make_wire(2)]):
        pass
    placeholder = make_wire(2)
    async with running([placeholder]):
        (address,) = placeholder.addresses()
    async with running([early]):
        early.connect(placeholder.key, [address])
        await until(lambda: early.counts()["dials_failed"] > 0)
        late = make_wire(2, listen=address.partition("/p2p/")[0])
        late.subscribe(Topic.SLOTS, Heard())
        async with running([late]):
            await until(lambda: early.mesh(Topic.SLOTS) == 1 and late.mesh(Topic.SLOTS) == 1)
            await late.publish(Topic.SLOTS, b"first life")
            await until(lambda: len(door.messages) == 1)
        await until(lambda: early.peers() == ())
        again = make_wire(2, listen=address.partition("/p2p/")[0])
        again.subscribe(Topic.SLOTS, Heard())
        async with running([again]):
            await until(lambda: early.mesh(Topic.SLOTS) == 1 and again.mesh(Topic.SLOTS) == 1)
            await again.publish(Topic.SLOTS, b"second life")
            await until(lambda: len(door.messages) == 2)


async def test_bootstrap_addresses() -> None:
    first = make_wire(1)
    async with running([first]):
        second = make_wire(2, bootstrap=list(first.addresses()))
        async with running([second]):
            await until(lambda: first.peers() == (second.key,) and second.peers() == (first.key,))


@pytest.mark.parametrize(
    "text", ["", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/4001", "nonsense", "/ip4/1.2.3/tcp/1"]
)
def test_bad_bootstrap_addresses_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        make_wire(1, bootstrap=[text])
    assert refused.value.reason is Reason.CONFIG


async def test_a_port_that_is_taken_is_refused() -> None:
    first = make_wire(1)
    async with running([first]):
        taken = first.addresses()[0].partition("/p2p/")[0]
        with pytest.raises(ExceptionGroup) as caught:
            async with running([make_wire(2, listen=taken)]):
                pass
        assert caught.group_contains(Invalid)


def test_sequence_numbers_never_repeat(tmp_path: Path) -> None:
    path = tmp_path / "gossip"
    clock = [1_000]
    first = Sequence(lambda: clock[0], SequenceFile(path))
    seen = [first() for _ in range(BLOCK + 3)]
    clock[0] = 0  # the wall clock ran back, then the node restarts
    second = Sequence(lambda: clock[0], SequenceFile(path))
    seen += [second(), second()]
    path.unlink()  # the file is lost, but the clock is right
    clock[0] = 3_000
    third = Sequence(lambda: clock[0], SequenceFile(path))
    seen += [third()]
    assert all(before < after for before, after in itertools.pairwise(seen))
    path.write_text("not a number")
    with pytest.raises(Invalid) as refused:
        Sequence(lambda: 0, SequenceFile(path))()
    assert refused.value.reason is Reason.STORAGE
