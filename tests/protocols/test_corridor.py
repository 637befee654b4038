"""The whole corridor as pure machines, on a network and disks that do their worst.

Two messengers, a scheduler and two compute units; gossip and streams lose, repeat and reorder;
any node dies at any commit, between any two of its syncs, and starts again from its disk. Then
the faults end, and what the invariants promise must have come true:

I1  every unit has the same leaves (so the same state roots) over the same log
I2  what was acknowledged is scheduled exactly once, and every outbox entry is delivered once
I3  no slot was ever seen in two versions
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols import keyspace
from protocols.errors import Reason
from protocols.ids import ItemId, ProcessId, b64url, parse_id
from protocols.keyspace import Prefix
from protocols.machine.effects import Alarm, Effect, Notify, Publish, Refusal, Send, Table
from protocols.machine.events import PeersChanged, Scheduled, Undeliverable
from protocols.network import Unit
from protocols.outbox import OutMessage, OutSpawn, derive
from protocols.wire.assignment import Slot
from protocols.wire.item import Item
from protocols.wire.outcome import Status
from tests.protocols.corridor_node import Node
from tests.protocols.machine.outcomes import BOUNDS, out_message, out_spawn, output
from tests.protocols.machine.world import (
    MODULE,
    PARAMETERS,
    Key,
    message_item,
    process_item,
)

SU, USER = Key.of("scheduler"), Key.of("user")
MUS = (Key.of("messenger 1"), Key.of("messenger 2"))
CUS = (Key.of("compute 1"), Key.of("compute 2"))
AUTHORITIES = tuple(("Authority", b64url(mu.address)) for mu in MUS)
FAULTS_MS = 6_000
"""How long the world does its worst."""
END_MS = 600_000
"""By when everything must have come true, in virtual time."""


class Corridor:
    """Nodes, a queue of what happens next, and faults drawn from one seed."""

    def __init__(self, seed: int, *, loss: float, crash: float) -> None:
        self.random = Random(seed)
        self.loss, self.crash = loss, crash
        self.now = 0
        self.parameters = replace(PARAMETERS, restore_quorum=2, push_quorum=2, root_every=2)
        self.units = (
            Unit(SU.public, ("scheduler",), ()),
            *(Unit(cu.public, ("compute",), ()) for cu in CUS),
        )
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.nodes = [
            Node(self, SU, "scheduler"),
            *(Node(self, mu, "messenger") for mu in MUS),
            *(Node(self, cu, "compute") for cu in CUS),
        ]
        self.versions: dict[tuple[ProcessId, int], ItemId] = {}
        self.acknowledged: dict[ItemId, Item] = {}
        self.alarms: list[Alarm] = []
        self.dropped: list[str] = []
        self.crashes = 0
        for node in self.nodes:
            node.boot(())
        self._meet()

    @property
    def hostile(self) -> bool:
        return self.now < FAULTS_MS

    def others(self, node: Node) -> tuple[Any, ...]:
        return tuple(sorted(each.key.public for each in self.nodes if each is not node and each.up))

    # What nodes ask of their world

    def later(self, delay_ms: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay_ms, next(self._numbers), call))

    def crash_point(self, tables: int) -> int | None:
        if self.hostile and self.random.random() < self.crash:
            return self.random.randint(0, tables)
        return None

    def crashed(self, node: Node) -> None:
        self.crashes += 1
        self.later(self.random.randint(1, 2_000), lambda: self._reboot(node))

    def _reboot(self, node: Node) -> None:
        node.boot(())
        self._meet()

    def _meet(self) -> None:
        """Tell every node whom it is connected to."""
        for each in self.nodes:
            for name in each.machines if each.up else ():
                each.post(name, PeersChanged(self.others(each)))

    def _travel(self, call: Callable[[], None]) -> None:
        """Something on a link: lost, repeated, late."""
        if self.hostile and self.random.random() < self.loss:
            return
        copies = 2 if self.hostile and self.random.random() < self.loss else 1
        for _ in range(copies):
            self.later(self.random.randint(1, 300 if self.hostile else 20), call)

    def publish(self, origin: Node, effect: Publish) -> None:
        for node in self.nodes:
            if node is not origin:
                self._travel(lambda node=node: self._gossip(node, origin, effect))  # type: ignore[misc]

    def _gossip(self, node: Node, origin: Node, effect: Publish) -> None:
        if node.up:
            node.gossip(origin.key.public, effect.topic, effect.entry)

    def send(self, origin: Node, effect: Send, answer: Callable[[Any], None]) -> None:
        """One request on a stream: answered once, or not at all by its deadline."""
        state = {"open": True}

        def close(frames: tuple[bytes, ...] | None) -> None:
            if state.pop("open", False):
                answer(frames)

        peer = next(node for node in self.nodes if node.key.public == effect.peer)
        back = lambda frames: self._once(lambda: close(frames))  # noqa: E731
        self.later(effect.deadline_ms, lambda: close(None))
        self._once(
            lambda: (
                peer.serve(origin.key.public, effect.protocol, effect.body, back)
                if peer.up
                else None
            )
        )

    def _once(self, call: Callable[[], None]) -> None:
        if not (self.hostile and self.random.random() < self.loss):
            self.later(self.random.randint(1, 100 if self.hostile else 10), call)

    def effect(self, node: Node, name: str, effect: Effect) -> None:
        if isinstance(effect, Alarm):
            self.alarms.append(effect)
        elif isinstance(effect, Notify) and isinstance(effect.event, Scheduled):
            for verified in effect.event.slots:
                self.seen(verified.value)
        elif isinstance(effect, Notify) and isinstance(effect.event, Undeliverable):
            self.dropped.append(effect.event.detail)

    def seen(self, slot: Slot) -> None:
        """I3, at the moment a slot becomes visible."""
        place = (slot.process, slot.nonce)
        assert self.versions.setdefault(place, slot.assignment.id) == slot.assignment.id

    # A client

    def client(self, item: Item, *messengers: int) -> None:
        """Hand an item to messengers until one says yes."""
        if item.id in self.acknowledged:
            return
        for number in messengers:
            node = self.nodes[1 + number]
            if node.up:
                node.submit(item, lambda value: self._answered(item, value))
        self.later(3_000, lambda: self.client(item, *messengers))

    def _answered(self, item: Item, value: Any) -> None:
        if not isinstance(value, Refusal):
            self.acknowledged[item.id] = item
            return
        assert value.reason in (Reason.UNKNOWN_PROCESS, Reason.BUSY), value

    def run(self, until: int) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self._queue)
            call()
        self.now = until

    def is_settled(self) -> bool:
        """All promises kept, all logs and results everywhere."""
        logs = [self.rows(node, Prefix.SLOT) for node in self.nodes]
        return (
            all(node.up for node in self.nodes)
            and all(
                not node.disk.scan(Table.ITEMS, *keyspace.prefix_range(Prefix.DELIVERY))
                for node in self.nodes
            )
            and all(log == logs[0] for log in logs)
            and all(len(self.rows(node, Prefix.LEAF)) == len(logs[0]) for node in self.nodes[3:])
        )

    def rows(self, node: Node, prefix: Prefix) -> list[tuple[bytes, bytes]]:
        return node.disk.scan(Table.LOG, *keyspace.prefix_range(prefix))


def workload(world: Corridor) -> list[Item]:
    """Processes, and messages whose data says what they send on, two levels deep."""
    random = world.random
    processes = [process_item(USER, SU, *AUTHORITIES, anchor=number) for number in range(3)]
    items = list(processes)

    def outbox(depth: int) -> bytes:
        count = random.randint(0, 2 if depth else 0)
        messages = [
            out_message(b64url(random.choice(processes).id), data=outbox(depth - 1).decode())
            for _ in range(count)
        ]
        spawns = []
        if depth and random.random() < 0.2:
            spawns.append(out_spawn(("Module", b64url(MODULE)), *AUTHORITIES))
        return output(messages, spawns)

    for number in range(random.randint(4, 12)):
        target = random.choice(processes).id
        items.append(message_item(USER, target, data=outbox(2), anchor=100 + number))
    for number, item in enumerate(items):
        chosen = random.choice([(0,), (1,), (0, 1)])
        at = 0 if number < len(processes) else random.randint(0, FAULTS_MS)
        world.later(at, lambda item=item, chosen=chosen: world.client(item, *chosen))  # type: ignore[misc]
    return items


def check(world: Corridor, items: list[Item]) -> None:
    su, *others = world.nodes
    fatal = {Reason.FORK, Reason.NOT_NEXT, Reason.MISMATCH, Reason.WRONG_SENDER}
    assert [alarm for alarm in world.alarms if alarm.reason in fatal] == []
    logs = su.signed()
    for node in world.nodes:
        held = {chain.process: chain.nonce for chain, _ in node.logs()}
        assert held == {process: len(slots) - 1 for process, slots in logs.items()}
        for process, slots in logs.items():
            assert list(node._slots(process, 0, 1 << 20)) == slots
    leaves = [world.rows(node, Prefix.LEAF) for node in others if "compute" in node.roles]
    assert leaves[0] == leaves[1]
    placed = Counter(slot.message.id for slots in logs.values() for slot in slots)
    assert max(placed.values()) == 1
    for item in items:
        assert item.id in world.acknowledged
        assert placed[item.id] == 1
    check_outboxes(logs, len(world.dropped))
    assert world.loss > 0.1 or not world.dropped


def check_outboxes(logs: dict[ProcessId, list[Slot]], dropped: int) -> None:
    """Every entry of every slot's outbox stands once in its target's log, and nothing else."""
    arrived = Counter(
        (slot.process, slot.message.first("From-Process"), slot.message.first("Outbox"))
        for slots in logs.values()
        for slot in slots
        if slot.message.first("Outbox") and slot.nonce
    )
    spawned = Counter(
        (slots[0].message.first("From-Process"), slots[0].message.first("Outbox"))
        for slots in logs.values()
        if slots[0].message.first("Outbox")
    )
    expected: Counter[Any] = Counter()
    children: Counter[Any] = Counter()
    for process, slots in logs.items():
        for slot in slots:
            data = slot.message.data
            outbox = derive(
                "JSON-1", Status.OK, data if data.startswith(b"{") else output(), BOUNDS
            ).outbox
            source = b64url(process)
            for index, entry in enumerate(outbox.entries()):
                place = f"{slot.nonce}.{index}"
                match entry:
                    case OutMessage(target=target):
                        expected[ProcessId(parse_id(target)), source, place] += 1
                    case OutSpawn():
                        children[source, place] += 1
                        expected[process, source, place] += 1  # the Spawned reply
    # What never became known in time is dropped, and said so; nothing comes twice, or unasked.
    assert not arrived - expected
    assert (expected - arrived).total() <= dropped
    assert sorted(spawned) == sorted(children)
    assert max(spawned.values(), default=0) <= len(MUS)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    crash=st.sampled_from([0.0, 0.01, 0.05]),
)
def test_the_corridor_keeps_its_promises(seed: int, loss: float, crash: float) -> None:
    world = Corridor(seed, loss=loss, crash=crash)
    items = workload(world)
    world.run(FAULTS_MS)
    while world.now < END_MS:
        world.run(world.now + 5_000)
        if world.is_settled():
            break
    check(world, items)
