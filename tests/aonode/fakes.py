"""A node in memory behind the interfaces of `aonode.api`, with real signatures everywhere.

One `FakeNetwork` is the log of all processes; a `FakeNode` is one unit that reads it. Modules are
`ao-cbor-1` and their evaluation is `evaluate` below: a counter that echoes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from aonode.api import EvaluatedSlot, LeafRange, LedgerApi, ProofsApi, WatcherApi
from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.crypto.verify import verify_item
from aonode.ports import SlotResult
from protocols import codec
from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.network import Network, Unit
from protocols.outbox import FORMAT_CBOR, Bounds, derive
from protocols.parameters import Parameters, demo_parameters
from protocols.wire.assignment import Chain, Slot, assignment_of
from protocols.wire.item import Item, Tag
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import admissible, home_of, process_info
from protocols.wire.proof import Leaf, Receipt, block_end_before, is_border
from protocols.wire.unit import UnitAnnouncement, UnsignedUnit

NOW_MS = 1_700_000_000_000
PROFILE = bytes(range(32))
FUEL = 1000


def signer(number: int) -> Ed25519Signer:
    """The key of unit or client `number`."""
    return Ed25519Signer(number.to_bytes(32, "big"))


class FakeEnv:
    """A clock that moves 1 ms at each look, and entropy that counts."""

    def __init__(self) -> None:
        self._now, self._drawn = NOW_MS, 0

    def now_ms(self) -> int:
        self._now += 1
        return self._now

    def entropy(self, label: str, size: int) -> bytes:
        self._drawn += 1
        return codec.digest("fake-entropy", label, self._drawn)[:size].ljust(size, b"\0")

    async def offload(self, call: Any, *, cost: Any = None) -> Any:
        return call()


def evaluate(slot: Slot) -> SlotResult:
    """The only program of this world: echoes its data; `Action` boom fails, trap traps."""
    message = slot.message
    return evaluate_fields(slot.process, slot.nonce, message.first("Action"), message.data)


def evaluate_fields(process: ProcessId, nonce: int, action: str | None, data: bytes) -> SlotResult:
    """As `evaluate`, of the fields it looks at."""
    if action == "boom":
        return SlotResult(Status.ERROR, codec.encode([1, None, [], "boom"]), FUEL)
    if action == "trap":
        return SlotResult(Status.TRAP, b"", FUEL)
    output = f"{nonce}:{data.decode('utf-8', 'replace')}"
    outbox: codec.Value = [[0, b64url(process), None, [["Action", "Echo"]], b"hi"]]
    return SlotResult(Status.OK, codec.encode([0, output, outbox, None]), FUEL + nonce)


@dataclass
class FakeNetwork:
    """The logs, the scheduler that writes them, the modules."""

    parameters: Parameters = field(default_factory=demo_parameters)
    scheduler: Ed25519Signer = field(default_factory=lambda: signer(1))
    messenger: Ed25519Signer = field(default_factory=lambda: signer(2))
    computes: tuple[Ed25519Signer, ...] = (signer(3), signer(4), signer(5))
    env: FakeEnv = field(default_factory=FakeEnv)
    logs: dict[ProcessId, list[Slot]] = field(default_factory=dict)
    chains: dict[ProcessId, list[Chain]] = field(default_factory=dict)
    modules: dict[bytes, Item] = field(default_factory=dict)
    elsewhere: dict[bytes, Item] = field(default_factory=dict)
    """Modules that only other nodes have."""
    same_time: bool = False
    """Give every slot one timestamp."""

    def __post_init__(self) -> None:
        self.grown = trio.Event()
        roles = [("scheduler", self.scheduler), ("messenger", self.messenger)]
        roles += [("compute", each) for each in self.computes]
        self.network = Network(
            name="fake",
            ledger_scheduler=self.scheduler.address,
            profile=PROFILE,
            parameters=self.parameters,
            units=tuple(Unit(each.key, (role,), (), ()) for role, each in roles),
        )

    def schedule(self, item: Item) -> Slot:
        """Give `item` its slot, or its old one if it has one."""
        verify_item(item)
        found = self.find(item.id, home_of(item))
        if found is not None:
            return self.logs[found[0]][found[1]]
        if item.first("Type") == "Process":
            admissible(item, None, self.parameters)
            process = ProcessId(item.id)
            self.logs[process], self.chains[process] = [], [Chain.genesis(process)]
        else:
            process = ProcessId(item.target or bytes(32))
            if process not in self.logs:
                raise Invalid(Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known")
            admissible(item, process_info(self.logs[process][0].message), self.parameters)
        return self._next(process, item, ())

    def assign(self, process: ProcessId, id: ItemId, exclude: tuple[str, ...]) -> Slot:
        """Give a scheduled item one more slot, or its old one there."""
        if process not in self.logs:
            raise Invalid(Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known")
        found = self.find(id)
        if found is None:
            raise Invalid(Reason.UNKNOWN_ITEM, f"item {b64url(id)} is not known")
        item = self.logs[found[0]][found[1]].message
        there = self.find(id, process)
        return self.logs[process][there[1]] if there else self._next(process, item, exclude)

    def _next(self, process: ProcessId, item: Item, exclude: tuple[str, ...]) -> Slot:
        chain = self.chains[process][-1]
        now = NOW_MS if self.same_time else self.env.now_ms()
        message = item.id if chain.nonce >= 0 else None
        draft = chain.draft(self.scheduler.key, now, message, exclude)
        slot = Slot(assignment_of(draft.signed(self.scheduler.sign(draft.message()))), item)
        self.chains[process].append(chain.next(slot))
        self.logs[process].append(slot)
        self.grown.set()
        self.grown = trio.Event()
        return slot

    def find(self, id: bytes, only: ProcessId | None = None) -> tuple[ProcessId, int] | None:
        for process, slots in self.logs.items():
            for slot in slots if only is None or only == process else ():
                if id in (slot.message.id, slot.assignment.id):
                    return process, slot.nonce
        return None

    def head(self, process: ProcessId, nonce: int) -> bytes:
        return self.chains[process][nonce + 1].head


class FakeReplica:
    """The whole log, at once."""

    def __init__(self, world: FakeNetwork) -> None:
        self._world = world

    def processes(self) -> list[ProcessId]:
        return sorted(self._world.logs)

    def chain(self, process: ProcessId) -> Chain | None:
        chains = self._world.chains.get(process)
        return chains[-1] if chains else None

    def slot(self, process: ProcessId, nonce: int) -> Slot | None:
        log = self._world.logs.get(process, [])
        return log[nonce] if 0 <= nonce < len(log) else None

    def slots(self, process: ProcessId, first: int, last: int, limit: int) -> list[Slot]:
        return self._world.logs.get(process, [])[first : last + 1][:limit]

    def find(self, id: bytes, process: ProcessId | None = None) -> tuple[ProcessId, int] | None:
        return self._world.find(id, process)

    async def wait_slot(
        self, id: bytes, timeout_s: float, process: ProcessId | None = None
    ) -> tuple[ProcessId, int]:
        with trio.move_on_after(timeout_s):
            while (found := self.find(id, process)) is None:
                await self._world.grown.wait()
            return found
        raise Invalid(Reason.UNKNOWN_ITEM, f"message {b64url(id)} has no slot here")

    def item(self, id: bytes) -> Item | None:
        return self.message(id) or self.module(id)

    def message(self, id: bytes) -> Item | None:
        found = self.find(id)
        return self._world.logs[found[0]][found[1]].message if found else None

    def module(self, id: bytes) -> Item | None:
        return self._world.modules.get(id)

    async def put_module(self, item: Item) -> None:
        verify_item(item)
        self._world.modules[item.id] = item


class FakeMessenger:
    """Schedules at once."""

    def __init__(self, world: FakeNetwork) -> None:
        self._world = world

    async def submit(self, item: Item) -> None:
        self._world.schedule(item)
        await trio.lowlevel.checkpoint()

    async def submit_many(self, items: Sequence[Item]) -> list[Invalid | None]:
        refusals: list[Invalid | None] = []
        for item in items:
            try:
                await self.submit(item)
                refusals.append(None)
            except Invalid as error:
                refusals.append(error)
        return refusals

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> ItemId:
        await trio.lowlevel.checkpoint()
        return self._world.assign(process, item, exclude).assignment.id


class FakeScheduler:
    """Schedules at once, too."""

    def __init__(self, world: FakeNetwork) -> None:
        self._world = world

    async def schedule(self, item: Item) -> Slot:
        await trio.lowlevel.checkpoint()
        return self._world.schedule(item)

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> Slot:
        await trio.lowlevel.checkpoint()
        return self._world.assign(process, item, exclude)


class FakeCompute:
    """Evaluates when asked. `bend` changes a leaf before it is signed: a lying unit."""

    def __init__(self, world: FakeNetwork, key: Ed25519Signer) -> None:
        self._world = world
        self._key = key
        self._done: dict[ProcessId, list[EvaluatedSlot]] = {}
        self._mmrs: dict[ProcessId, list[Mmr]] = {}
        self.bend: dict[int, Any] = {}

    def _catch_up(self, process: ProcessId) -> list[EvaluatedSlot]:
        done = self._done.setdefault(process, [])
        mmrs = self._mmrs.setdefault(process, [Mmr()])
        for slot in self._world.logs.get(process, [])[len(done) :]:
            result = evaluate(slot)
            parameters = self._world.parameters
            bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
            derived = derive(FORMAT_CBOR, Status(result.status), result.raw, bounds)
            border = is_border(slot.nonce, parameters.root_every)
            leaf = Leaf(
                process,
                slot.nonce,
                slot.assignment.id,
                codec.digest("fake-state", slot.nonce) if border else None,
                outcome_hash(result.raw, derived.outbox.root()),
                result.fuel,
                result.status,
            )
            leaf = self.bend.get(slot.nonce, lambda given: given)(leaf)
            mmrs.append(mmrs[-1].append(leaf.hash()))
            end = block_end_before(slot.nonce, parameters.proof_every)
            draft = Receipt(
                network=self._world.network.id,
                process=process,
                slot=slot.nonce,
                head=self._world.head(process, slot.nonce),
                leaf=leaf,
                mmr_root=mmrs[-1].root(),
                block_root=None if end is None else mmrs[end + 1].root(),
                profile=PROFILE,
                cu=self._key.key,
            )
            receipt = draft.signed(self._key.sign(draft.signing_bytes()))
            done.append(
                EvaluatedSlot(slot.nonce, result.status, result.raw, result.fuel, receipt.encode())
            )
        return done

    async def result(self, process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        with trio.move_on_after(timeout_s):
            while nonce >= len(self._catch_up(process)):
                await self._world.grown.wait()
            return self._done[process][nonce]
        raise Invalid(Reason.TIMEOUT, f"slot {nonce} of {b64url(process)} is not evaluated yet")

    def results(
        self, process: ProcessId, first: int, last: int, limit: int, *, reverse: bool = False
    ) -> list[EvaluatedSlot]:
        rows = [row for row in self._catch_up(process) if first <= row.nonce <= last]
        return (rows[::-1] if reverse else rows)[:limit]

    def leaves(self, process: ProcessId, first: int, last: int) -> LeafRange:
        rows = self._catch_up(process)[first : last + 1]
        hashes = tuple(Receipt.decode(row.receipt).leaf.hash() for row in rows)
        return LeafRange(self._mmrs[process][first].peaks if hashes else (), hashes)

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult:
        data = codec.decode(call, size_max=1 << 20)
        assert isinstance(data, list)
        return SlotResult(Status.OK, codec.encode([0, f"dry {data[9]!r}", [], None]), FUEL)

    async def state(self, process: ProcessId) -> bytes:
        return b"memory"


class FakeNode:
    """One unit of the world."""

    def __init__(
        self, world: FakeNetwork, key: Ed25519Signer, *, urls: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.world = world
        self.replica = FakeReplica(world)
        self.messenger = FakeMessenger(world) if key is world.messenger else None
        self.compute = FakeCompute(world, key) if key in world.computes else None
        self.ledger: LedgerApi | None = None
        self.watcher: WatcherApi | None = None
        self.proofs: ProofsApi | None = None
        self.not_ready: list[str] = []
        self._key = key
        self._urls = urls

    @property
    def key(self) -> NodeKey:
        return self._key.key

    @property
    def network(self) -> Network:
        return self.world.network

    async def find_module(self, id: ItemId) -> Item | None:
        if id in self.world.elsewhere:
            self.world.modules[id] = self.world.elsewhere.pop(id)
        return self.replica.module(id)

    def units(self) -> list[UnitAnnouncement]:
        roles = tuple(role for role, _ in self._urls)
        draft = UnsignedUnit(self.key, roles, (), self._urls, NOW_MS * 2, 1)
        return [draft.signed(self._key.sign(draft.message(self.world.network.id)))]

    def status(self) -> dict[str, Any]:
        return {"key": b64url(self.key), "network": b64url(self.world.network.id)}

    def ready(self) -> list[str]:
        return self.not_ready

    def metrics(self) -> bytes:
        return b"# fake\n"


def module_item(by: Ed25519Signer) -> Item:
    """A module of the clean ABI; nobody here looks at its wasm."""
    tags = {"Data-Protocol": "ao", "Type": "Module", "Module-Format": FORMAT_CBOR}
    return sign_item(by, tags=_tags(tags), data=b"\0asm", anchor=bytes(32))


def process_item(world: FakeNetwork, by: Ed25519Signer, module: bytes, **tags: str) -> Item:
    base = {
        "Data-Protocol": "ao",
        "Variant": "ao.TN.1",
        "Type": "Process",
        "Module": b64url(module),
        "Scheduler": b64url(world.scheduler.address),
    }
    anchor = world.env.entropy("anchor", 32)
    return sign_item(by, tags=_tags(base | tags), data=b"boot", anchor=anchor)


def message_item(
    world: FakeNetwork, by: Ed25519Signer, process: bytes, data: bytes = b"", **tags: str
) -> Item:
    base = {"Data-Protocol": "ao", "Variant": "ao.TN.1", "Type": "Message"}
    anchor = world.env.entropy("anchor", 32)
    return sign_item(by, target=process, tags=_tags(base | tags), data=data, anchor=anchor)


def spawned(world: FakeNetwork, messages: int = 0, **tags: str) -> ProcessId:
    """A process with a module and so many messages in its log."""
    client = signer(9)
    module = module_item(client)
    world.modules[module.id] = module
    process = ProcessId(world.schedule(process_item(world, client, module.id, **tags)).message.id)
    for number in range(messages):
        world.schedule(message_item(world, client, process, b"%d" % number))
    return process


def _tags(tags: dict[str, str]) -> tuple[Tag, ...]:
    return tuple(Tag(name, value) for name, value in tags.items())


def other_outcome(leaf: Leaf) -> Leaf:
    """For `FakeCompute.bend`: the same slot with another outcome."""
    return replace(leaf, outcome_hash=bytes(32))
