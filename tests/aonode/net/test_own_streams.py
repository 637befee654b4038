"""What a node asks of itself is answered by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aonode.net.own_streams import OwnStreams
from aonode.ports import Wire
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol
from tests.parity.wires import Wires


def lone_wire() -> tuple[Wire, NodeKey]:
    """A wire that is not even running: whatever reaches it has no answer."""
    wires = Wires("libp2p", 1)
    return OwnStreams(wires.wires[0], wires.keys[0]), wires.keys[0]


async def echo(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
    for part in (peer, body, body):
        yield part


async def test_own_requests_need_no_socket() -> None:
    wire, key = lone_wire()
    wire.serve(Protocol.ITEM, echo)
    frames = await wire.request(key, Protocol.ITEM, b"ask", frames_max=3)
    assert frames == (key, b"ask", b"ask")


async def test_own_requests_are_refused_as_a_peer_would() -> None:
    wire, key = lone_wire()
    wire.serve(Protocol.ITEM, echo)
    for protocol, frames_max, reason in (
        (Protocol.LOG, 3, Reason.UNAVAILABLE),
        (Protocol.ITEM, 2, Reason.OVERSIZE),
    ):
        with pytest.raises(Invalid) as refusal:
            await wire.request(key, protocol, b"", frames_max=frames_max)
        assert refusal.value.reason is reason


async def test_other_peers_are_the_wires_business() -> None:
    wire, _ = lone_wire()
    wire.serve(Protocol.ITEM, echo)
    with pytest.raises(Invalid) as refusal:
        await wire.request(NodeKey(bytes(32)), Protocol.ITEM, b"", frames_max=1)
    assert refusal.value.reason is Reason.UNAVAILABLE
    assert not wire.peers()
    assert not wire.addresses()
