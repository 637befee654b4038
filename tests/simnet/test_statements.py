"""State proofs on production nodes in virtual time: gossiped, kept, served; and compute units whose
disk is lost or put back from a copy, which never contradict what the others hold of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.node import Adversary, Node
from aonode.ports import Wire
from protocols.court import leaves_of
from protocols.ids import NodeKey, ProcessId, address_of, b64url
from protocols.keyspace import Prefix, prefix_range
from protocols.network import Network
from protocols.wire import batch
from protocols.wire.assignment import Chain
from protocols.wire.proof import Receipt, Statement, StateProof, contradicts
from protocols.wire.proof_streams import (
    LeavesRequest,
    ProofsAnswer,
    ProofsRequest,
    decode_leaves,
)
from protocols.wire.streams import ItemRequest, join
from protocols.wire.topics import Protocol, Topic
from simnet import determinism
from simnet.corridor import MACHINES, engine_of
from simnet.fabric import Fabric, LinkModel
from simnet.host import Host, Plan
from simnet.seed import Seed
from simnet.trace import Trace
from simnet.wire import Gossip, Medium
from simnet.workload import Client
from tests.simnet.test_ledger import PARAMETERS, TICK_S, ledger_network

COMPUTE = ("cu1", "cu2", "cu3")
VICTIM = "cu1"
WAIT_S_MAX = 300.0
POLL_S = 0.02

Bent = Callable[[Network, Ed25519Signer], Adversary]

pytestmark = pytest.mark.slow


@dataclass
class Told:
    """What a run has seen."""

    statements: list[Statement] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    trace: str = ""


class World:
    """Five staked machines and a token process."""

    def __init__(
        self,
        seed: Seed,
        links: LinkModel,
        machines: Sequence[tuple[str, tuple[str, ...]]] = MACHINES,
        bent: Mapping[str, Bent] = MappingProxyType({}),
    ) -> None:
        self.trace = Trace()
        engine = engine_of(PARAMETERS)
        self.medium = Medium(Fabric(seed, links), self.trace)
        self.medium.watchers.append(self._published)
        plans = [
            Plan(name, roles, Ed25519Signer(seed.bytes(32, "key", name)), bent.get(name))
            for name, roles in machines
        ]
        self.network = ledger_network(plans, engine.profile)
        self.hosts = {
            plan.name: Host(
                plan, seed=seed, network=self.network, medium=self.medium, engine=engine
            )
            for plan in plans
        }
        self.owner = Client("owner", seed, self.hosts["mu"], self.trace)
        self.process = ProcessId(b"")
        self.told = Told()
        self.spent = 0

    def _published(self, gossip: Gossip) -> None:
        if gossip.topic is Topic.PROOFS:
            proof = StateProof.decode(gossip.payload)
            assert proof.cu == gossip.origin
            self.told.statements.append(proof)

    def key(self, name: str) -> NodeKey:
        return self.hosts[name].key

    def node(self, name: str) -> Node:
        node = self.hosts[name].node
        assert node is not None, f"{name} is down"
        return node

    async def spawn(self) -> None:
        module = await self.owner.publish_module()
        scheduler, authority = (address_of(self.key(name)) for name in ("su", "mu"))
        self.process = await self.owner.spawn(module, scheduler, authority)

    async def spend(self, count: int) -> None:
        for _ in range(count):
            self.spent += 1
            account = b64url(address_of(b"account %d" % self.spent))
            await self.owner.transfer(self.process, account, self.spent)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(WAIT_S_MAX) as limit:
            while not holds():
                self._look()
                await trio.sleep(POLL_S)
        assert not limit.cancelled_caught, f"not within {WAIT_S_MAX:g} s: {what}"

    def _look(self) -> None:
        node = self.hosts[VICTIM].node
        if node is not None:
            self.told.reasons += [r for r in node.ready() if r not in self.told.reasons]

    def proved(self, reader: str, last: int) -> bool:
        """Whether `reader` has heard proofs of all compute units over slots 0..last."""
        node = self.hosts[reader].node
        if node is None or node.proofs is None:
            return False
        proofs = [StateProof.decode(each.raw) for each in node.proofs.heard(self.process, last, 99)]
        return {proof.cu for proof in proofs} == {self.key(name) for name in COMPUTE}

    async def all_proved(self) -> None:
        """Every node holds a proof of every unit over all slots there are now."""
        last = self.spent
        names = [name for name, _ in MACHINES]
        await self.until(lambda: all(self.proved(name, last) for name in names), "proofs for all")

    def wire(self, name: str) -> Wire:
        return self.node(name)._parts.wire

    def receipts(self, name: str) -> list[Receipt]:
        """Everything the unit's sign-once table holds."""
        rows = (
            self.hosts[name]
            .drive.copy_of("sign-once")
            .slice(*prefix_range(Prefix.RECEIPT), limit=None, reverse=False)
        )
        return [Receipt.decode(row) for _, row in rows]


def simulate(
    seed: int,
    play: Callable[[World], object],
    links: LinkModel | None = None,
    make: Callable[[Seed, LinkModel], World] = World,
) -> Told:
    root = Seed.root(seed)

    async def run() -> Told:
        world = make(root, links or LinkModel())
        async with trio.open_nursery() as nursery:
            await nursery.start(world.medium.fabric.run)
            for host in world.hosts.values():
                nursery.start_soon(host.run)
            await world.spawn()
            await play(world)  # type: ignore[misc]
            nursery.cancel_scope.cancel()
        world.told.trace = world.trace.hex()
        return world.told

    return determinism.run(run, root)


async def gossiped(world: World) -> None:
    await world.spend(PARAMETERS.proof_every + 5)
    await world.all_proved()
    held = world.node("mu").proofs
    assert held is not None
    heard = [StateProof.decode(each.raw) for each in held.heard(world.process, 0, 1000)]
    roots = {(proof.last, proof.mmr_root) for proof in heard}
    assert len(roots) == len({proof.last for proof in heard}), "all units agree"
    assert {end for end, _ in roots} >= {PARAMETERS.proof_every - 1}

    theirs = next(proof for proof in heard if proof.cu == world.key("cu1") and proof.first)
    body = LeavesRequest(theirs.encode()).encode()
    for name in ("cu1", "cu2"):
        frames = await world.wire("mu").request(
            world.key(name), Protocol.LEAVES, body, frames_max=4
        )
        answer = decode_leaves(frames)
        assert answer is not None
        leaves = leaves_of(theirs, answer.peaks, answer.leaves, PARAMETERS)
        assert len(leaves) == theirs.last - theirs.first + 1
    asked = ProofsRequest(world.process, world.key("cu1"), 0, True).encode()
    frames = await world.wire("cu2").request(world.key("su"), Protocol.PROOFS, asked, frames_max=8)
    told = ProofsAnswer.decode(frames)
    assert StateProof.decode(told.proofs[0]).last >= world.spent
    assert told.votes


def test_proofs_reach_everybody_and_leaves_are_served() -> None:
    told = simulate(1, gossiped)
    assert len(told.statements) >= 6


LOSSES = {
    "the table is lost": (True, False, True),
    "an old table, a current database": (True, False, False),
    "a current table, an old database": (False, True, False),
    "a current table, no database": (False, True, True),
    "all is lost": (True, True, True),
    "all is old": (True, True, False),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_unit_that_loses_its_disk_says_nothing_else(loss: str) -> None:
    is_table, is_log, is_all = LOSSES[loss]

    async def lose(world: World) -> None:
        await world.spend(9)
        await world.all_proved()
        drive = world.hosts[VICTIM].drive
        names = [name for name, lost in (("sign-once", is_table), ("db", is_log)) if lost]
        copies = {name: drive.copy_of("nothing" if is_all else name) for name in names}
        await world.spend(9)
        await world.all_proved()
        before = world.receipts(VICTIM)
        world.told.statements += before
        world.hosts[VICTIM].crash()
        for name, rows in copies.items():
            drive.put_back(name, rows)
        boots = world.hosts[VICTIM].boots
        await world.until(lambda: world.hosts[VICTIM].boots > boots, "it boots")
        await world.until(lambda: world.hosts[VICTIM].node is not None, "it starts")
        await world.spend(3)
        await world.until(lambda: world.node(VICTIM).ready() == [], "it is ready")
        await world.all_proved()
        await trio.sleep(2 * TICK_S)
        world.told.statements += world.receipts(VICTIM)
        held = [p for p in world.told.statements if isinstance(p, StateProof)]
        signed = drive.copy_of("sign-once").slice(
            *prefix_range(Prefix.PROOF), limit=None, reverse=False
        )
        own = {p.encode() for p in held if p.cu == world.key(VICTIM)}
        assert own <= {row for _, row in signed}, "all it ever published is in its table"
        table = world.receipts(VICTIM)
        kept = {(each.slot, each.leaf.hash()) for each in table}
        assert {(each.slot, each.leaf.hash()) for each in before if not is_table} <= kept
        node = world.node(VICTIM)
        assert node.compute is not None
        results = node.compute.results(world.process, 0, world.spent, 1000)
        assert [each.nonce for each in results] == list(range(world.spent + 1))

    told = simulate(2, lose)
    for one in told.statements:
        for other in told.statements:
            assert not contradicts(one, other)
    asking = "the compute unit is still asking peers for the state proofs it has signed"
    assert asking in told.reasons
    if loss == "all is lost":  # else it has caught up faster than anybody can look
        assert (
            "the sign-once table is older than what peers hold of this unit: 1 processes are being "
            "caught up"
        ) in told.reasons


@pytest.mark.parametrize("number", range(10))
def test_a_cut_in_any_sync_changes_no_statement(number: int) -> None:
    """The power fails in a sync drawn from the seed, before or after it took."""
    seed = Seed.root(number)

    async def cut(world: World) -> None:
        await world.spend(4)
        drive = world.hosts[VICTIM].drive
        drive.cut_at_sync(
            drive.syncs + 1 + seed.below(30, "sync"), durable=seed.unit("durable") < 0.5
        )
        boots = world.hosts[VICTIM].boots
        await world.spend(12)
        await world.until(lambda: world.hosts[VICTIM].boots > boots, "the cut")
        await world.until(lambda: world.hosts[VICTIM].node is not None, "it starts")
        await world.all_proved()
        world.told.statements += world.receipts(VICTIM)
        slots = [each.slot for each in world.receipts(VICTIM)]
        assert slots == list(range(world.spent + 1))

    told = simulate(number, cut, LinkModel(loss=0.05))
    for one in told.statements:
        for other in told.statements:
            assert not contradicts(one, other)


async def forked(world: World) -> None:
    """The scheduler's key signs a second slot, and shows it to one compute unit only."""
    await world.spend(5)
    await world.all_proved()
    log = world.node("cu1").replica.slots(world.process, 0, 3, 4)
    chain = Chain.genesis(world.process)
    for slot in log[:3]:
        chain = chain.next(slot)
    message = world.owner.item(world.process, Type="Message", Action="Other")
    scheduler = world.hosts["su"].plan.signer
    draft = chain.draft(world.key("su"), log[3].assignment.timestamp, message.id)
    second = draft.signed(scheduler.sign(draft.message()))
    entry = batch.slot_entry(second.raw, batch.item_entry(message.raw, message.id, 1 << 16))
    assert world.node("cu1")._admission.slots_door(world.key("su"), batch.pack([entry]))

    def seen() -> bool:
        books = [
            host.node.status()["machines"]["book"] for host in world.hosts.values() if host.node
        ]
        return [book["forks"] for book in books] == [1] * len(MACHINES)

    await world.until(seen, "every node holds both assignments")
    for id in (second.id, log[3].assignment.id):
        frames = await world.wire("mu").request(
            world.key("cu1"), Protocol.ITEM, ItemRequest(id).encode(), frames_max=1
        )
        assert join(frames, size_max=1 << 16)
    world.hosts["cu1"].crash()
    await trio.sleep(10)
    assert seen(), "what is on disk is looked at again after a start"


def test_a_slot_given_twice_is_known_to_all() -> None:
    simulate(4, forked)
