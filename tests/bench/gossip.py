"""Gossip between five hosts over TCP: processor time per slot and hop, against the batch size.

A hop is one host that receives a slot, with the copies it is sent besides and what it forwards.
Measured twice: the transport alone, and with the node's admission behind it, which checks both
signatures of every slot. All hosts share this process, so its processor time is theirs.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.env import ProductionEnv
from aonode.net.admission import Admission, Arrivals
from aonode.net.batcher import CLOSE_BYTES
from aonode.net.libp2p_wire import Libp2pWire
from aonode.ops.metrics import Metrics
from aonode.ports import Verdict
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.machine.effects import Event
from protocols.machine.events import SlotsArrived
from protocols.network import Network
from protocols.parameters import demo_parameters
from protocols.wire import batch
from protocols.wire.assignment import Chain, Slot, assignment_of
from protocols.wire.item import Item, Tag
from protocols.wire.topics import Topic
from tests.aonode.net.world import make_wire, running, seed_of, until

HOSTS = 5
SIZES = (1, 8, 64)
SECONDS = 4.0
"""About how long one measurement takes; at least `PUBLISHES_MIN` batches."""
PUBLISHES_MIN = 20
WINDOW = 8
"""Batches under way at a time: a loaded network, not a ping."""
TRANSPORT_RATIO, VERIFIED_RATIO = 1 / 10, 1 / 4
"""What a full batch may cost per slot and hop, against slots sent one by one."""


class Receiver:
    """A host's door: counts batches, at once or when they have been verified."""

    def __init__(self, wire: Libp2pWire, env: ProductionEnv, network: Network) -> None:
        self.batches = 0
        self.verifies = False
        self.admission = Admission(
            env=env,
            wire=wire,
            network=network,
            metrics=Metrics(),
            held=lambda process, nonce: None,
            arrivals=Arrivals(slots=self._arrived, units=lambda event: None),
        )

    def __call__(self, sender: NodeKey, payload: bytes) -> Verdict:
        if self.verifies:
            return self.admission.slots_door(sender, payload)
        self.batches += 1
        return Verdict.ACCEPT

    def _arrived(self, event: Event) -> None:
        assert isinstance(event, SlotsArrived), event
        self.batches += 1


def make_entries(count: int) -> list[bytes]:
    """Slots of one process with transfers in them, as host 0, their scheduler, sends them."""
    env = ProductionEnv()
    scheduler, user = Ed25519Signer(seed_of(0)), Ed25519Signer(env.entropy("user", 32))
    tags = [
        Tag("Action", "Transfer"),
        Tag("Recipient", b64url(user.address)),
        Tag("Quantity", "1"),
        Tag("Data-Protocol", "ao"),
        Tag("Variant", "ao.TN.1"),
        Tag("Type", "Message"),
    ]

    def signed(target: bytes | None) -> Item:
        anchor = env.entropy("anchor", 32)
        return sign_item(user, target=target, anchor=anchor, tags=tags, data=b" ")

    process = signed(None)
    chain = Chain.genesis(ProcessId(process.id))
    entries = []
    for number in range(count + 1):
        item = signed(process.id) if number else process
        draft = chain.draft(scheduler.key, env.now_ms(), item.id if number else None)
        assignment = assignment_of(draft.signed(scheduler.sign(draft.message())))
        chain = chain.next(Slot(assignment, item))
        inner = batch.item_entry(item.raw, item.id, 1 << 16)
        entries.append(batch.slot_entry(assignment.item.raw, inner))
    return entries[1:]


def _network() -> Network:
    return Network(
        name="bench",
        ledger_scheduler=Ed25519Signer(seed_of(0)).address,
        profile=bytes(32),
        parameters=demo_parameters(),
    )


def full_batch(entries: Sequence[bytes]) -> int:
    """How many entries close a batch."""
    size = 0
    for count, entry in enumerate(entries, 1):
        size += len(entry)
        if size >= CLOSE_BYTES:
            return count
    raise AssertionError("more entries are needed to fill a batch")


async def _cost(wire: Libp2pWire, doors: Sequence[Receiver], payload: bytes, slots: int) -> float:
    """Microseconds of processor time per slot and hop."""
    for door in doors:
        door.batches = 0
    sent, deadline = 0, trio.current_time() + SECONDS
    start = time.process_time()
    while sent < PUBLISHES_MIN or trio.current_time() < deadline:
        await wire.publish(Topic.SLOTS, payload)
        sent += 1
        floor = sent - WINDOW
        await until(lambda: min(door.batches for door in doors) >= floor)  # noqa: B023
    await until(lambda: min(door.batches for door in doors) == sent)
    return (time.process_time() - start) * 1e6 / (sent * slots * len(doors))


async def measure() -> dict[str, Any]:
    """Costs by batch size, of the transport and with verification."""
    entries = make_entries(256)
    full = full_batch(entries)
    costs: dict[str, dict[str, float]] = {"transport_us": {}, "verified_us": {}}
    env, network = ProductionEnv(), _network()
    wires = [make_wire(number) for number in range(HOSTS)]
    doors = [Receiver(wire, env, network) for wire in wires]
    for wire, door in zip(wires, doors, strict=True):
        wire.subscribe(Topic.SLOTS, door)
    async with running(wires) as nursery:
        for door in doors:
            nursery.start_soon(door.admission.run)
        for number, wire in enumerate(wires):
            for other in wires[:number]:
                wire.connect(other.key, other.addresses())
        await until(lambda: all(wire.mesh(Topic.SLOTS) == HOSTS - 1 for wire in wires))
        for name, verifies in (("transport_us", False), ("verified_us", True)):
            for door in doors:
                door.verifies = verifies
            for size in sorted({*SIZES, full}):
                payload = batch.pack(entries[:size])
                cost = await _cost(wires[0], doors[1:], payload, size)
                costs[name][str(size)] = round(cost, 1)
    first = str(SIZES[0])
    ratios = {
        "transport_ratio": costs["transport_us"][str(full)] / costs["transport_us"][first],
        "verified_ratio": costs["verified_us"][str(full)] / costs["verified_us"][first],
    }
    return {
        "hosts": HOSTS,
        "full_batch": full,
        **costs,
        **{name: round(ratio, 4) for name, ratio in ratios.items()},
    }


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and the ratios that are too high."""
    figures: dict[str, Any] = trio.run(measure)
    limits = {"transport_ratio": TRANSPORT_RATIO, "verified_ratio": VERIFIED_RATIO}
    return {**figures, "missed": [name for name, most in limits.items() if figures[name] > most]}
