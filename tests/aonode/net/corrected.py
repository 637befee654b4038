"""Tools for tests that run with a correction of py-libp2p and without it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2

from aonode.net.libp2p_corrections import Corrections, corrections_off
from aonode.net.libp2p_keys import id_of_key
from aonode.net.libp2p_pubsub import NodePubsub
from aonode.net.libp2p_router import NodeRouter
from aonode.net.libp2p_wire import Libp2pWire
from protocols.ids import NodeKey
from protocols.wire.topics import Topic
from tests.aonode.net import attacker
from tests.aonode.net.world import PATIENCE_S, Heard, make_wire, running, until

ON = Corrections()
TOPIC = attacker.TOPIC


Test = TypeVar("Test", bound=Callable[..., object])


def both(name: str, *others: str) -> Callable[[Test], Test]:
    """Run a test with all corrections, and without `name` (and those that hide its absence)."""
    cases = [(ON, True), (corrections_off(name, *others), False)]
    mark = pytest.mark.parametrize(("corrections", "corrected"), cases, ids=["on", "off"])
    return cast(Callable[[Test], Test], mark)


async def hopefully(condition: Callable[[], bool], corrected: bool, seconds: float = 0.4) -> bool:
    """Whether `condition` comes true; where it should not, only `seconds` are spent on it."""
    with trio.move_on_after(PATIENCE_S if corrected else seconds):
        await until(condition)
    return condition()


def parts(wire: Libp2pWire) -> tuple[NodePubsub, NodeRouter]:
    """The py-libp2p objects of a running wire."""
    pubsub = wire._pubsub
    assert pubsub is not None
    router = pubsub.router
    assert isinstance(router, NodeRouter)
    return pubsub, router


def strangers(count: int) -> list[ID]:
    """Peer ids of nobody."""
    keys = (NodeKey(hashlib.sha256(b"stranger %d" % number).digest()) for number in range(count))
    return [id_of_key(key) for key in keys]


@contextlib.asynccontextmanager
async def crowd(corrections: Corrections, count: int) -> AsyncIterator[tuple[Any, list[ID], Any]]:
    """One wire whose router believes in `count` peers of one topic; what it says to them."""
    wire = make_wire(1, corrections=corrections, heartbeat_s=3600)
    wire.subscribe(Topic.SLOTS, Heard())
    async with running([wire]):
        pubsub, router = parts(wire)
        peers = strangers(count)
        pubsub.peer_topics[TOPIC] = set(peers)
        for peer in peers:
            router.peer_protocol[peer] = PROTOCOL_ID_V11
        said: list[tuple[ID, rpc_pb2.ControlMessage]] = []

        async def record(control: rpc_pb2.ControlMessage, peer: ID) -> None:
            said.append((peer, control))

        setattr(router, "emit_control_message", record)  # noqa: B010
        yield router, peers, said
