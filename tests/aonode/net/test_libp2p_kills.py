"""What one peer can do to a process that runs py-libp2p, with our corrections and without."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from aonode.net import libp2p_peers
from aonode.net.libp2p_corrections import Corrections, corrections_off
from aonode.net.libp2p_keys import id_of_key
from aonode.net.libp2p_wire import Libp2pWire
from aonode.ports import Verdict
from protocols.wire.topics import Topic
from tests.aonode.net import attacker
from tests.aonode.net.world import Heard, make_wire, running, seed_of, until

pytestmark = pytest.mark.slow

Scenario = Callable[[Corrections], Awaitable[None]]

MALFORMED = encode_varint_prefixed(b"\xff" * 5)
"""Six bytes that are no protobuf."""
GARBAGE_KEY = attacker.rpc_frame(
    publish=[
        rpc_pb2.Message(
            data=b"f",
            topicIDs=[attacker.TOPIC],
            from_id=b"\x12\x20" + b"z" * 32,
            seqno=bytes(8),
            signature=b"x" * 64,
            key=b"garbage",
        )
    ]
)
"""A message whose origin holds no inline key, and whose `key` is none."""


def dies(scenario: Scenario, corrections: Corrections) -> bool:
    """Whether anything escapes from a program that does nothing but run `scenario`."""

    async def bounded() -> None:
        with trio.fail_after(30):
            await scenario(corrections)

    died = False
    try:
        trio.run(bounded)
    except BaseExceptionGroup:
        died = True
    with warnings.catch_warnings():  # a process that dies closes no socket
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return died


async def still_well(victim: Libp2pWire, door: Heard) -> None:
    """A new peer can connect to `victim` and be heard by it."""
    heard = len(door.messages)
    friend = make_wire(77)
    friend.subscribe(Topic.SLOTS, Heard())
    async with running([friend]):
        friend.connect(victim.key, victim.addresses())
        await until(lambda: friend.mesh(Topic.SLOTS) == 1)
        await friend.publish(Topic.SLOTS, b"still there?")
        await until(lambda: len(door.messages) > heard)


def sends(frame: bytes) -> Scenario:
    """A stranger writes `frame` to the pubsub stream of a node."""

    async def scenario(corrections: Corrections) -> None:
        victim, door = make_wire(1, corrections=corrections), Heard()
        victim.subscribe(Topic.SLOTS, door)
        async with running([victim]), attacker.stranger(victim) as host:
            stream = await attacker.gossip_stream(host, victim)
            await stream.write(frame)
            await trio.sleep(0.2)
            await still_well(victim, door)

    return scenario


def test_a_malformed_rpc_ends_its_stream_and_not_the_process() -> None:
    assert not dies(sends(MALFORMED), Corrections())
    assert dies(sends(MALFORMED), corrections_off("contain"))


def test_a_garbage_key_is_a_bad_signature_and_not_the_end() -> None:
    assert not dies(sends(GARBAGE_KEY), corrections_off("contain"))
    assert dies(sends(GARBAGE_KEY), corrections_off("contain", "inline_keys_only"))


def test_a_door_that_raises_is_our_bug_and_not_the_end() -> None:
    async def scenario(corrections: Corrections) -> None:
        def broken(origin: bytes, payload: bytes) -> Verdict:
            raise KeyError("bug")

        victim, author = make_wire(1, corrections=corrections), make_wire(2)
        victim.subscribe(Topic.SLOTS, broken)
        door = Heard()
        victim.subscribe(Topic.VOTES, door)
        author.subscribe(Topic.SLOTS, Heard())
        author.subscribe(Topic.VOTES, Heard())
        async with running([victim, author]):
            author.connect(victim.key, victim.addresses())
            await until(lambda: author.mesh(Topic.SLOTS) == 1 == author.mesh(Topic.VOTES))
            await author.publish(Topic.SLOTS, b"boom")
            await author.publish(Topic.VOTES, b"vote")
            await until(lambda: bool(door.messages))
            assert victim.counts()["ignored"] == 1

    assert not dies(scenario, corrections_off("contain"))


def test_a_stream_handler_that_raises_ends_its_stream_and_not_the_process() -> None:
    async def scenario(corrections: Corrections) -> None:
        victim, door = make_wire(1, corrections=corrections), Heard()
        victim.subscribe(Topic.SLOTS, door)
        async with running([victim]), attacker.stranger(victim) as host:

            async def broken(stream: Any) -> None:
                raise ValueError("bug")

            swarm = victim._swarm
            assert swarm is not None
            inbound: Any = swarm.common_stream_handler
            inbound._inner.__self__.set_stream_handler("/broken/1", broken)
            with contextlib.suppress(StreamFailure):
                await host.new_stream(id_of_key(victim.key), [TProtocol("/broken/1")])
            await trio.sleep(0.1)
            await still_well(victim, door)

    assert not dies(scenario, Corrections())
    assert dies(scenario, corrections_off("contain"))


SURVIVED = {
    "a length of 12 bytes": b"\xff" * 12,
    "256 MiB announced": b"\xff\xff\xff\x7f",
    "a bad peer record": attacker.rpc_frame(senderRecord=b"junk"),
    "40 000 unknown ids": attacker.rpc_frame(
        control=rpc_pb2.ControlMessage(
            ihave=[
                rpc_pb2.ControlIHave(
                    topicID=attacker.TOPIC, messageIDs=[b"%020d" % n for n in range(40_000)]
                )
            ]
        )
    ),
    "strange peers in a prune": attacker.rpc_frame(
        control=rpc_pb2.ControlMessage(
            prune=[
                rpc_pb2.ControlPrune(
                    topicID=attacker.TOPIC,
                    backoff=1 << 40,
                    peers=[rpc_pb2.PeerInfo(peerID=bytes([n] * 34)) for n in range(16)],
                )
            ]
        )
    ),
    "10 000 subscriptions": attacker.rpc_frame(
        subscriptions=[
            rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"topic {n}") for n in range(10_000)
        ]
    ),
}


def test_other_strange_input_does_no_harm() -> None:
    async def scenario(corrections: Corrections) -> None:
        victim, door = make_wire(1, corrections=corrections), Heard()
        victim.subscribe(Topic.SLOTS, door)
        async with running([victim]), attacker.stranger(victim) as host:
            for frame in SURVIVED.values():
                stream = await attacker.gossip_stream(host, victim)
                await stream.write(frame)
            await trio.sleep(0.3)
            await still_well(victim, door)
            pubsub = victim._pubsub
            assert pubsub is not None
            assert len(pubsub.peer_topics) < 200

    assert not dies(scenario, Corrections())


def test_nobody_is_somebody_else() -> None:
    found: list[bool] = []

    async def scenario(corrections: Corrections) -> None:
        victim = make_wire(1, corrections=corrections)
        somebody = make_wire(42)
        async with running([victim]), attacker.impostor(victim, seed_of(42)):
            await trio.sleep(0.3)
            found.append(somebody.key in victim.peers())

    assert not dies(scenario, Corrections())
    assert not dies(scenario, corrections_off("noise_only"))
    assert found == [False, True]


async def test_who_forwards_forgeries_is_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aonode.net.libp2p_wire.FORGIVE_S", 0.1)
    victim, door = make_wire(1), Heard()
    victim.subscribe(Topic.SLOTS, door)
    async with running([victim]), attacker.stranger(victim) as host:
        stream = await attacker.gossip_stream(host, victim)
        await until(lambda: attacker.KEY in victim.peers())
        good = attacker.signed_message(b"good", 0)
        await stream.write(attacker.rpc_frame(publish=[good]))
        await until(lambda: door.payloads() == [b"good"])
        forged = []
        for number in range(1, libp2p_peers.REJECTS_MAX + 1):
            message = attacker.signed_message(b"said", number)
            message.data = b"never said"
            forged.append(message)
        await stream.write(attacker.rpc_frame(publish=forged))
        await until(lambda: attacker.KEY not in victim.peers())
        assert door.payloads() == [b"good"]


async def test_unsigned_and_twisted_messages_are_rejected() -> None:
    victim, door = make_wire(1), Heard()
    victim.subscribe(Topic.SLOTS, door)
    good = [attacker.signed_message(b"good", number) for number in range(7)]
    bad = [rpc_pb2.Message.FromString(message.SerializeToString()) for message in good]
    bad[0].signature = b""
    bad[1].seqno = (99).to_bytes(8, "big")
    bad[2].topicIDs.append(attacker.TOPIC)
    bad[3].seqno = b"short"
    bad[4].from_id = b"\x12\x20" + bytes(32)
    bad[5].data = bytes(300 << 10)
    bad[6].signature = bytes(64)
    async with running([victim]), attacker.stranger(victim) as host:
        stream = await attacker.gossip_stream(host, victim)
        await stream.write(attacker.rpc_frame(publish=bad))
        await until(lambda: victim.counts()["rejected"] == len(bad))
        assert door.messages == []
        # A forgery does not take the place of the message it forges.
        await stream.write(attacker.rpc_frame(publish=[good[0], good[6], good[0]]))
        await until(lambda: len(door.messages) == 2)
        assert victim.counts()["duplicates"] == 1
