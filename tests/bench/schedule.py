"""One scheduler on one core: durable assignments per second, and what the time goes to.

The node is the production one over LevelDB; batches of items come in by its gossip door, and a
slot counts once its sign-once row, its item and its log row are synced. The transport is left
out: the gossip bench measures it. Items are signed before the clock starts, by 64 keys.
"""

from __future__ import annotations

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.env import ProductionEnv, TaskStatus
from aonode.net import verification
from aonode.node import Node, Parts, build_node
from aonode.ports import Door, StreamHandler, Verdict
from aonode.store.level import LevelStore
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.network import Network, Unit
from protocols.parameters import demo_parameters
from protocols.wire import batch
from protocols.wire.item import Item, Tag
from protocols.wire.topics import Protocol, Topic

T = TypeVar("T")

KEYS = 64
PROCESSES = 8
BATCH = 64
"""Items of one message batch."""
WINDOW = 2048
"""Items handed in that have no slot yet; the scheduler's inbox holds twice as many."""
TARGET_PER_S = 1500
AO = (Tag("Data-Protocol", "ao"), Tag("Variant", "ao.TN.1"))
MU = NodeKey(bytes(31) + b"\1")


class Times:
    """Seconds spent, by what for."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count the block, which runs in one thread."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
            self.cpu[name] = self.cpu.get(name, 0.0) + time.thread_time() - cpu

    def timed(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """`call`, counted."""

        def counted(*arguments: Any, **named: Any) -> T:
            with self.of(name):
                return call(*arguments, **named)

        return counted


class LocalWire:
    """A wire without peers, whose doors the bench opens itself."""

    def __init__(self) -> None:
        self.doors: dict[Topic, Door] = {}

    def subscribe(self, topic: Topic, door: Door) -> None:
        self.doors[topic] = door

    def serve(self, protocol: Protocol, handler: StreamHandler) -> None:
        """Nobody asks."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        await trio.lowlevel.checkpoint()

    async def request(
        self, peer: NodeKey, protocol: Protocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        raise Invalid(Reason.UNAVAILABLE, "there are no peers")

    def peers(self) -> tuple[NodeKey, ...]:
        return ()

    def addresses(self) -> tuple[str, ...]:
        return ()

    def connect(self, peer: NodeKey, addresses: Sequence[str]) -> None:
        """There is nobody."""


def _items(env: ProductionEnv, scheduler: Ed25519Signer, count: int) -> tuple[list[Item], ...]:
    """Process items, and messages to them in turn."""
    users = [Ed25519Signer(env.entropy("user", 32)) for _ in range(KEYS)]

    def signed(number: int, *tags: Tag, target: ProcessId | None = None) -> Item:
        user = users[number % KEYS]
        anchor = env.entropy("anchor", 32)
        return sign_item(user, target=target, anchor=anchor, tags=[*tags, *AO], data=b" ")

    processes = [
        signed(
            number,
            Tag("Type", "Process"),
            Tag("Module", b64url(bytes(32))),
            Tag("Scheduler", b64url(scheduler.address)),
        )
        for number in range(PROCESSES)
    ]
    transfer = (Tag("Action", "Transfer"), Tag("Recipient", "a" * 43), Tag("Quantity", "1"))
    messages = [
        signed(
            number,
            Tag("Type", "Message"),
            *transfer,
            target=ProcessId(processes[number % PROCESSES].id),
        )
        for number in range(count)
    ]
    return processes, messages


async def _feed(node: Node, door: Door, items: Sequence[Item]) -> None:
    """Hand in `items` in batches; returns when all of them have durable slots."""
    goal = node.replica.total()
    for first in range(0, len(items), BATCH):
        part = items[first : first + BATCH]
        while goal + len(part) - node.replica.total() > WINDOW:
            await trio.sleep(0.002)
        entries = [batch.item_entry(item.raw, item.id, 1 << 16) for item in part]
        assert door(MU, batch.pack(entries)) is Verdict.ACCEPT, "the window fits the queue"
        goal += len(part)
    while node.replica.total() < goal:
        await trio.sleep(0.002)


async def measure(count: int, directory: Path) -> dict[str, Any]:
    """Figures of one run."""
    env, times = ProductionEnv(), Times()
    signer = Ed25519Signer(env.entropy("scheduler", 32))
    processes, messages = _items(env, signer, count)
    network = Network(
        name="bench",
        ledger_scheduler=signer.address,
        profile=bytes(32),
        parameters=demo_parameters(),
        units=(Unit(signer.key, ("scheduler",), ()),),
    )
    db, sign_once = LevelStore(directory / "db"), LevelStore(directory / "sign-once")
    wire = LocalWire()
    with (
        mock.patch.object(
            verification, "check_items", times.timed("checking", verification.check_items)
        ),
        mock.patch.object(Ed25519Signer, "sign", times.timed("signing", Ed25519Signer.sign)),
        mock.patch.object(LevelStore, "write", times.timed("disk", LevelStore.write)),
    ):
        parts = Parts(env, wire, db, sign_once, signer, None)
        node = build_node(roles=("scheduler",), network=network, parts=parts, sole_copy=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            door = wire.doors[Topic.MESSAGES]
            await _feed(node, door, processes)
            times.wall.clear()
            times.cpu.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            await _feed(node, door, messages)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            nursery.cancel_scope.cancel()
    return {
        "assignments": count,
        "keys": KEYS,
        "assignments_per_s": round(count / wall, 1),
        "cpu_us_per_assignment": round(cpu / count * 1e6, 1),
        "cpu_share_of_wall": round(cpu / wall, 3),
        "checking_share_of_cpu": round(times.cpu["checking"] / cpu, 3),
        "signing_share_of_cpu": round(times.cpu["signing"] / cpu, 3),
        "disk_share_of_cpu": round(times.cpu["disk"] / cpu, 3),
        "disk_share_of_wall": round(times.wall["disk"] / wall, 3),
    }


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and the target if it is missed."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="aonode-bench-") as directory:
        figures: dict[str, Any] = trio.run(partial(measure, arguments.assignments, Path(directory)))
    missed = [] if figures["assignments_per_s"] >= TARGET_PER_S else ["assignments_per_s"]
    return {**figures, "missed": missed}
