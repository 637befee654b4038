"""A node of another network gets no answer, is not heard, and disturbs nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey
from protocols.wire.topics import Protocol, Topic
from tests.aonode.net.world import Heard, make_wire, running, until

pytestmark = pytest.mark.slow


async def echo(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_a_node_of_another_network_is_a_stranger() -> None:
    ours, friend = make_wire(0), make_wire(1)
    foreign = make_wire(2, network=NetworkId(bytes(32)))
    wires = (ours, friend, foreign)
    doors = [Heard() for _ in wires]
    for wire, door in zip(wires, doors, strict=True):
        wire.subscribe(Topic.SLOTS, door)
        wire.serve(Protocol.ITEM, echo)
    async with running(wires):
        for wire in (friend, foreign):
            wire.connect(ours.key, ours.addresses())
        await until(lambda: ours.mesh(Topic.SLOTS) == 1)
        for asker, asked in ((foreign, ours), (ours, foreign)):
            with pytest.raises(Invalid) as refusal, trio.fail_after(20):
                await asker.request(asked.key, Protocol.ITEM, b"x", frames_max=1)
            assert refusal.value.reason is Reason.UNAVAILABLE
        await foreign.publish(Topic.SLOTS, b"from abroad")
        answer = await friend.request(ours.key, Protocol.ITEM, b"still there", frames_max=1)
        assert answer == (b"still there",)
        await friend.publish(Topic.SLOTS, b"at home")
        await until(lambda: bool(doors[0].messages))
        assert doors[0].payloads() == [b"at home"]
        assert doors[2].messages == []
