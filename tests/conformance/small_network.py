"""A small real network for foreign clients: MU, SU and CU as processes, in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import httpx
import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.env import ProductionEnv
from aonode.local_network import LocalNetwork, local_network
from aonode.processes import token_wasm
from aonode.processes.npm import MODULES, fetch_module
from protocols.ids import NodeKey, b64url
from protocols.network import Network
from protocols.outbox import FORMAT_CBOR
from protocols.parameters import demo_parameters
from protocols.wire.item import Item, Tag

PUBLISHER = Ed25519Signer(bytes([77]) * 32)
AOS = "aos2_0_6"


@dataclass(frozen=True)
class Small:
    """A running network, and the Module items that are in it: `token` and `aos`."""

    network: Network
    mu: str
    su: str
    cu: str
    modules: dict[str, Item]
    peers: dict[NodeKey, str]
    """Multiaddress of each node by its key."""

    def address(self, role: str) -> str:
        """The AO address of the unit with this role."""
        return next(b64url(unit.address) for unit in self.network.units if role in unit.roles)


def module_items() -> dict[str, Item]:
    """The token and a real aos module, signed."""
    known = MODULES[AOS]
    sources = {
        "token": (token_wasm(), FORMAT_CBOR),
        "aos": (fetch_module(AOS), known.format),
    }
    return {name: module_item(wasm, format) for name, (wasm, format) in sources.items()}


def module_item(wasm: bytes, format: str) -> Item:
    """A signed Module item."""
    tags = {
        "Data-Protocol": "ao",
        "Variant": "ao.TN.1",
        "Type": "Module",
        "Module-Format": format,
        "Input-Encoding": "JSON-1",
        "Output-Encoding": "JSON-1",
        "Memory-Limit": "1-gb",
        "Content-Type": "application/wasm",
    }
    return sign_item(
        PUBLISHER,
        anchor=bytes(32),
        tags=[Tag(name, value) for name, value in tags.items()],
        data=wasm,
    )


@contextmanager
def small_network(directory: Path) -> Iterator[Small]:
    """Start it, publish both modules, stop it when the block ends."""
    told: Queue[Small | None] = Queue()
    stop = threading.Event()

    async def run() -> None:
        # One compute unit: it is its own quorum.
        parameters = replace(demo_parameters(), push_quorum=1)
        env = ProductionEnv()
        async with local_network(directory, env, computes=1, parameters=parameters) as running:
            told.put(await _prepared(running))
            await trio.to_thread.run_sync(stop.wait)

    with ThreadPoolExecutor(1) as background:
        running = background.submit(trio.run, run)
        running.add_done_callback(lambda done: told.put(None))
        small = told.get()
        try:
            if small is not None:
                yield small
        finally:
            stop.set()
        running.result()


async def _prepared(running: LocalNetwork) -> Small:
    (mu,), (su,), (cu,) = (running.urls(role) for role in ("messenger", "scheduler", "compute"))
    items = module_items()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        for item in items.values():
            answer = await http.post(mu + "/tx", content=item.raw)
            assert answer.status_code == 200, answer.text
    peers = {node.key: node.address for node in running.nodes.values()}
    return Small(running.network, mu, su, cu, items, peers)
