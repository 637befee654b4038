"""The ledger on whole nodes over real TCP: slot 0, the clock, transactions of every size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv
from aonode.net.libp2p_wire import Libp2pWire
from aonode.node import Node, Parts, build_node
from aonode.roles.ledger import LedgerRole
from aonode.store.level import LevelStore
from protocols import keyspace
from protocols.keyspace import Prefix
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Account
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.network import Network, Unit, demo_parameters
from protocols.wire.item import Item
from protocols.wire.ledger_tx import Checkpoint, EvidencePart, Transaction, Transfer, transaction_of

pytestmark = pytest.mark.slow

WAIT_S_MAX = 30.0
TOKEN = 10**9
SU, MU, CU = (Ed25519Signer(bytes([number]) * 32) for number in (1, 2, 3))
RICH = Ed25519Signer(bytes([9]) * 32)
PARAMETERS = replace(demo_parameters(), tick_ms=300)


class World:
    """Three nodes with a stake each; the first keeps the ledger's log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = ProductionEnv()
        self.engine = WasmEngine(
            fuel_max=PARAMETERS.fuel_max,
            memory_max=PARAMETERS.memory_max,
            output_bytes_max=PARAMETERS.output_bytes_max,
            outbox_max=PARAMETERS.outbox_max,
        )
        draft = unsigned_ledger(SU.key, "test", bytes(32))
        self.network = Network(
            name="test",
            ledger_scheduler=SU.address,
            profile=self.engine.profile,
            parameters=PARAMETERS,
            units=(
                Unit(SU.key, ("scheduler",), ()),
                Unit(MU.key, ("messenger",), ()),
                Unit(CU.key, ("compute",), ()),
            ),
            balances=((RICH.address, 1000 * TOKEN),),
            stakes=tuple((each.address, 2000 * TOKEN) for each in (SU, MU, CU)),
            ledger_item=draft.signed(SU.sign(draft.message())).raw,
        )
        self.dbs: dict[str, LevelStore] = {}
        self.bootstrap: tuple[str, ...] = ()

    async def start(self, nursery: trio.Nursery, signer: Ed25519Signer, role: str) -> Node:
        wire = Libp2pWire(
            seed=signer.seed,
            network=self.network.id,
            listen="/ip4/127.0.0.1/tcp/0",
            bootstrap=self.bootstrap,
            env=self.env,
        )
        db = self.dbs[role] = LevelStore(self.directory / role)
        sign_once = LevelStore(self.directory / f"{role}-sign-once")
        parts = Parts(self.env, wire, db, sign_once, signer, self.engine)
        node = build_node(roles=(role,), network=self.network, parts=parts, sole_copy=True)
        await nursery.start(node.run)
        self.bootstrap = self.bootstrap or wire.addresses()
        return node

    def item(self, tx: Transaction, by: Ed25519Signer) -> Item:
        assert self.network.ledger is not None
        return transaction_item(self.network.ledger, tx, by.key, by.sign)

    def checkpoints(self, node: Node) -> int:
        """Checkpoint transactions in the log."""
        assert self.network.ledger is not None
        slots = node.replica.slots(self.network.ledger, 1, 1 << 20, 1 << 20)
        return sum(isinstance(transaction_of(slot.message), Checkpoint) for slot in slots)


def role_of(node: Node) -> LedgerRole:
    assert isinstance(node.ledger, LedgerRole)
    return node.ledger


async def test_three_nodes_keep_one_ledger(tmp_path: Path) -> None:
    world = World(tmp_path)
    with trio.fail_after(WAIT_S_MAX):
        async with trio.open_nursery() as nursery:
            su = await world.start(nursery, SU, "scheduler")
            mu = await world.start(nursery, MU, "messenger")
            cu = await world.start(nursery, CU, "compute")
            nodes = [su, mu, cu]
            for node in nodes:
                await role_of(node).reach(3, WAIT_S_MAX)
            assert world.checkpoints(su) < 3 * 2, "each is brought once, or little more"
            await _transactions(world, mu, cu)
            slot = role_of(su).state().totals().slot
            roots = set()
            for node in nodes:
                await role_of(node).follow(slot, WAIT_S_MAX)
                roots.add(node.replica.held(world.network.ledger, slot))  # type: ignore[arg-type]
            assert len(roots) == 1
            status = cu.status()["machines"]
            assert status["compute"]["processes"] == 0, "nobody evaluates the ledger"
            assert status["ledger"]["votes"]["weight"] == 2000 * TOKEN
            nursery.cancel_scope.cancel()


async def _transactions(world: World, mu: Node, cu: Node) -> None:
    assert mu.messenger is not None
    # A client's, by the messenger.
    paid = world.item(Transfer(1, CU.address, 5 * TOKEN), RICH)
    await mu.messenger.submit(paid)
    # A node's own; one that is small, and one that the scheduler has to fetch.
    small = world.item(Transfer(1, MU.address, 2 * TOKEN), CU)
    large = world.item(EvidencePart(small.id, bytes(300_000)), CU)
    role = role_of(cu)
    slots = []
    for item in (paid, small, large):
        if item is not paid:
            await role.post(item)
        _, nonce = await cu.replica.wait_slot(item.id, WAIT_S_MAX, world.network.ledger)
        await role.follow(nonce, WAIT_S_MAX)
        slots.append(nonce)
    kinds = [role.recent(nonce, 1)[0].notes[0].kind for nonce in slots]
    assert kinds == [NoteKind.DONE, NoteKind.DONE, NoteKind.REFUSED]
    account = role.state().get(Account, CU.address)
    assert account is not None
    assert account.balance >= 3 * TOKEN
    for name, prefix in (("compute", Prefix.POST), ("messenger", Prefix.DELIVERY)):
        while list(world.dbs[name].scan(*keyspace.prefix_range(prefix))):
            await trio.sleep(0.02)


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    world = World(tmp_path)
    with trio.fail_after(2 * WAIT_S_MAX):
        reached = 0
        for _ in range(2):
            world.bootstrap = ()
            async with trio.open_nursery() as nursery:
                nodes = [
                    await world.start(nursery, SU, "scheduler"),
                    await world.start(nursery, MU, "messenger"),
                ]
                await world.start(nursery, CU, "compute")
                assert role_of(nodes[0]).state().totals().tick >= reached
                for node in nodes:
                    await role_of(node).reach(reached + 3, WAIT_S_MAX)
                reached = role_of(nodes[0]).state().totals().tick
                votes = role_of(nodes[0]).votes_of(SU.key)
                assert [vote.tick for vote in votes] == sorted({vote.tick for vote in votes})
                nursery.cancel_scope.cancel()
