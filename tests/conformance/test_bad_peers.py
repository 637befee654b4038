"""Peers that speak libp2p and nonsense, and one of another network, at the nodes of a real one."""

from __future__ import annotations

import re

import httpx
import pytest
import trio

from aonode.net.libp2p_wire import Libp2pWire
from aonode.ports import Verdict
from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey
from protocols.wire.streams import HeadsRequest
from protocols.wire.topics import TOPIC_BYTES_MAX, Protocol, Topic
from tests.aonode.net.world import make_wire, running
from tests.conformance.small_network import Small
from tests.conformance.test_bad_modules import ask, send, spawn

pytestmark = pytest.mark.slow

BODIES: dict[str, tuple[bytes, Reason]] = {
    "nothing": (b"", Reason.MALFORMED),
    "truncated": (codec.encode([bytes(32), 0, 9, 1 << 20])[:-3], Reason.MALFORMED),
    "not canonical": (b"\x82\x18\x01\x80", Reason.NOT_CANONICAL),
    "a map": (b"\xa1\x61a\x01", Reason.MALFORMED),
    "nested too deep": (b"\x81" * 200 + b"\x80", Reason.OVERSIZE),
    "of other fields": (codec.encode(["what", -1, None, [True]]), Reason.MALFORMED),
}
"""What a peer sends, and the reason it is counted under."""


COUNTED = re.compile(r'^aonode_invalid_total\{reason="(\w+)"\} (\S+)', re.MULTILINE)


def counted(small: Small) -> dict[str, float]:
    """Refusals by reason, of all units together."""
    total: dict[str, float] = {}
    for url in (small.mu, small.su, small.cu):
        text = httpx.get(url + "/metrics", trust_env=False).text
        for reason, value in re.findall(
            r'^aonode_invalid_total\{reason="(\w+)"\} (\S+)', text, re.M
        ):
            total[reason] = total.get(reason, 0.0) + float(value)
    return total


GOOD = HeadsRequest(None, ()).encode()


async def hears_nothing(wire: Libp2pWire, peer: NodeKey, body: bytes) -> None:
    for protocol in Protocol:
        with pytest.raises(Invalid), trio.fail_after(30):
            await wire.request(peer, protocol, body, frames_max=4)


@pytest.mark.parametrize("name", BODIES)
async def test_bad_requests_get_no_answer(small: Small, name: str) -> None:
    body, _ = BODIES[name]
    wire = make_wire(100, network=small.network.id)
    async with running([wire]):
        for peer, address in small.peers.items():
            wire.connect(peer, [address])
            assert await wire.request(peer, Protocol.HEADS, GOOD, frames_max=4)
            await hears_nothing(wire, peer, body)
            assert await wire.request(peer, Protocol.HEADS, GOOD, frames_max=4)


async def test_bad_gossip_is_counted_by_its_reason(small: Small) -> None:
    before = counted(small)
    for number, (body, _) in enumerate(BODIES.values()):
        wire = make_wire(200 + number, network=small.network.id)
        for topic in Topic:
            wire.subscribe(topic, lambda origin, payload: Verdict.IGNORE)
        async with running([wire]):
            for peer, address in small.peers.items():
                wire.connect(peer, [address])
            with trio.fail_after(30):
                while not wire.mesh(Topic.SLOTS):
                    await trio.sleep(0.05)
            for topic in Topic:
                await wire.publish(topic, body)
            await wire.publish(Topic.SLOTS, bytes(TOPIC_BYTES_MAX[Topic.SLOTS]))
            await trio.sleep(0.5)
    after = counted(small)
    reasons = {reason.value for _, reason in BODIES.values()}
    assert reasons <= {reason for reason in after if after[reason] > before.get(reason, 0)}, after


async def test_a_peer_of_another_network_is_a_stranger(small: Small) -> None:
    wire = make_wire(300, network=NetworkId(bytes(32)))
    async with running([wire]):
        for peer, address in small.peers.items():
            wire.connect(peer, [address])
            await hears_nothing(wire, peer, GOOD)


def test_the_network_goes_on_serving(small: Small) -> None:
    """The last of this file."""
    process = spawn(small, small.modules["token"].id, ("Supply", "10"), ("Name", "after peers"))
    message = send(small, ("Type", "Message"), ("Action", "Info"), target=process.id)
    result = ask(small, process, message).json()
    assert result["Messages"][0]["Tags"][0] == {"name": "Action", "value": "Info-Notice"}
    for url in (small.mu, small.su, small.cu):
        assert httpx.get(url + "/readyz", trust_env=False).json() == {"ready": True, "reasons": []}
