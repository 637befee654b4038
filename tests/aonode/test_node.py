"""Whole nodes over real TCP, in one process: what no single part can show."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv
from aonode.net.libp2p_wire import Libp2pWire
from aonode.node import Node, Parts, build_node
from aonode.processes import token_wasm
from aonode.store.memory import MemoryStore
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.network import Network, Unit, demo_parameters
from protocols.wire.item import Item, Tag
from protocols.wire.proof import Receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.slow

WAIT_S_MAX = 30.0
AO = (Tag("Data-Protocol", "ao"), Tag("Variant", "ao.TN.1"))
SU, MU, CU, LATE = (Ed25519Signer(bytes([number]) * 32) for number in (1, 2, 3, 4))
USER = Ed25519Signer(bytes([9]) * 32)


class World:
    """Nodes that dial the first of them; each may be started at any time."""

    def __init__(self, nursery: trio.Nursery) -> None:
        parameters = demo_parameters()
        self.env = ProductionEnv()
        self.engine = WasmEngine(
            fuel_max=parameters.fuel_max,
            memory_max=parameters.memory_max,
            output_bytes_max=parameters.output_bytes_max,
            outbox_max=parameters.outbox_max,
        )
        self.network = Network(
            name="test",
            ledger_scheduler=SU.address,
            profile=self.engine.profile,
            parameters=parameters,
            units=(
                Unit(SU.key, ("scheduler",), ()),
                Unit(MU.key, ("messenger",), ()),
                Unit(CU.key, ("compute",), ()),
                Unit(LATE.key, ("compute",), ()),
            ),
        )
        self._nursery = nursery
        self._bootstrap: tuple[str, ...] = ()

    async def start(self, signer: Ed25519Signer, role: str) -> Node:
        wire = Libp2pWire(
            seed=signer.seed,
            network=self.network.id,
            listen="/ip4/127.0.0.1/tcp/0",
            bootstrap=self._bootstrap,
            env=self.env,
        )
        parts = Parts(
            env=self.env,
            wire=wire,
            db=MemoryStore(),
            sign_once=MemoryStore(),
            signer=signer,
            engine=self.engine if role == "compute" else None,
        )
        node = build_node(roles=(role,), network=self.network, parts=parts, sole_copy=True)
        await self._nursery.start(node.run)
        self._bootstrap = self._bootstrap or wire.addresses()
        return node


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with trio.fail_after(2 * WAIT_S_MAX):
        async with trio.open_nursery() as nursery:
            yield World(nursery)
            nursery.cancel_scope.cancel()


def item(anchor: int, *tags: Tag, target: ProcessId | None = None, data: bytes = b" ") -> Item:
    return sign_item(USER, target=target, anchor=b"%032d" % anchor, tags=[*AO, *tags], data=data)


async def spawned(messenger: Node) -> ProcessId:
    """A token process: its module is kept by the messenger only."""
    module = item(0, Tag("Type", "Module"), Tag("Module-Format", "ao-cbor-1"), data=token_wasm())
    await messenger.replica.put_module(module)
    process = item(
        1,
        Tag("Type", "Process"),
        Tag("Module", b64url(module.id)),
        Tag("Scheduler", b64url(SU.address)),
        Tag("Supply", "1000"),
    )
    assert messenger.messenger is not None
    await messenger.messenger.submit(process)
    return ProcessId(process.id)


def transfer(anchor: int, process: ProcessId, data: bytes = b" ") -> Item:
    return item(
        anchor,
        Tag("Type", "Message"),
        Tag("Action", "Transfer"),
        Tag("Recipient", "bob"),
        Tag("Quantity", "1"),
        target=process,
        data=data,
    )


async def receipt(node: Node, process: ProcessId, nonce: int) -> Receipt:
    assert node.compute is not None
    return Receipt.decode((await node.compute.result(process, nonce, WAIT_S_MAX)).receipt)


async def test_large_item_is_fetched_and_a_late_node_catches_up() -> None:
    """Above `inline_bytes_max` gossip carries id and size only; a node that was not there when
    slots were gossiped takes them, and the module, from its peers."""
    async with world() as net:
        await net.start(SU, "scheduler")
        messenger = await net.start(MU, "messenger")
        early = await net.start(CU, "compute")
        process = await spawned(messenger)
        large = transfer(2, process, bytes(4 * net.network.parameters.inline_bytes_max))
        assert messenger.messenger is not None
        await messenger.messenger.submit(large)
        assert await early.replica.wait_slot(large.id, WAIT_S_MAX) == (process, 1)
        await messenger.messenger.submit_many([transfer(n, process) for n in range(3, 40)])
        signed = await receipt(early, process, 38)

        late = await net.start(LATE, "compute")
        theirs = await receipt(late, process, 38)
        assert (theirs.leaf, theirs.head, theirs.mmr_root) == (
            signed.leaf,
            signed.head,
            signed.mmr_root,
        )
        assert theirs.cu == LATE.key != signed.cu


async def test_bundle_keeps_its_order_and_says_what_it_refuses() -> None:
    async with world() as net:
        await net.start(SU, "scheduler")
        messenger = await net.start(MU, "messenger")
        process = await spawned(messenger)
        good = [transfer(n, process) for n in range(2, 22)]
        stranger = transfer(50, ProcessId(bytes(32)))
        assert messenger.messenger is not None
        answers = await messenger.messenger.submit_many([*good, stranger])
        assert answers[:-1] == [None] * len(good)
        assert isinstance(answers[-1], Invalid)
        assert answers[-1].reason is Reason.UNKNOWN_PROCESS
        places = [await messenger.replica.wait_slot(each.id, WAIT_S_MAX) for each in good]
        assert places == [(process, nonce) for nonce in range(1, len(good) + 1)]
        with pytest.raises(Invalid, match="has no slot here"):
            await messenger.replica.wait_slot(ItemId(stranger.id), 0.0)
