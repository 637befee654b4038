"""Wires over real TCP on loopback, for tests."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio

from aonode.env import ProductionEnv
from aonode.net.libp2p_corrections import Corrections
from aonode.net.libp2p_wire import Libp2pWire
from aonode.ports import Verdict
from protocols.ids import NetworkId, NodeKey
from protocols.wire.topics import Topic

NETWORK = NetworkId(hashlib.sha256(b"test network").digest())
LISTEN = "/ip4/127.0.0.1/tcp/0"
PATIENCE_S = 20.0
"""Longest that a test waits for something that normally takes a blink."""


def seed_of(number: int) -> bytes:
    """Seed of the node with this number."""
    return hashlib.sha256(b"node %d" % number).digest()


class Heard:
    """A door that keeps what it hears, and answers as it is told."""

    def __init__(self, verdict: Verdict = Verdict.ACCEPT) -> None:
        self.messages: list[tuple[NodeKey, bytes]] = []
        self.verdict = verdict

    def __call__(self, origin: NodeKey, payload: bytes) -> Verdict:
        self.messages.append((origin, payload))
        return self.verdict

    def payloads(self) -> list[bytes]:
        """What was heard, in order."""
        return [payload for _, payload in self.messages]


def make_wire(number: int, **options: Any) -> Libp2pWire:
    """A wire of the test network; `options` as in `Libp2pWire`."""
    settings: dict[str, Any] = {
        "seed": seed_of(number),
        "network": NETWORK,
        "listen": LISTEN,
        "bootstrap": [],
        "env": ProductionEnv(),
        "corrections": Corrections(),
    }
    return Libp2pWire(**(settings | options))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, with patience."""
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(wires: Sequence[Libp2pWire]) -> AsyncIterator[trio.Nursery]:
    """All of `wires`, up and listening."""
    async with trio.open_nursery() as nursery:
        for wire in wires:
            await nursery.start(start_of(wire))
        yield nursery
        nursery.cancel_scope.cancel()


def start_of(wire: Libp2pWire) -> Any:
    """`wire.run` in the shape that `nursery.start` wants."""

    async def start(*, task_status: Any) -> None:
        await wire.run(task_status=task_status)

    return start


@contextlib.asynccontextmanager
async def gossiping(
    count: int, topic: Topic = Topic.SLOTS, **options: Any
) -> AsyncIterator[tuple[list[Libp2pWire], list[Heard]]]:
    """`count` wires, each connected to all, with a full mesh on `topic`."""
    wires = [make_wire(number, **options) for number in range(count)]
    doors = [Heard() for _ in wires]
    for wire, door in zip(wires, doors, strict=True):
        wire.subscribe(topic, door)
    async with running(wires):
        for number, wire in enumerate(wires):
            for other in wires[:number]:
                wire.connect(other.key, other.addresses())
        await until(lambda: all(wire.mesh(topic) == count - 1 for wire in wires))
        yield wires, doors
