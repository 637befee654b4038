"""Clients of a simulated network: they spawn token processes and send transfers.

A client repeats a message until it is acknowledged, as one does over HTTP when a connection
breaks: same item, same id. What is acknowledged must be scheduled exactly once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.node import Node
from aonode.processes import token_wasm
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, ProcessId, b64url
from protocols.outbox import FORMAT_CBOR
from protocols.wire.item import Item, Tag
from simnet.host import Host
from simnet.seed import Seed
from simnet.trace import Trace

RETRY_S = 1.0
"""Between two attempts of a client."""
ATTEMPT_S_MAX = 30.0
"""After this a client takes silence for a broken connection."""
THINK_S_MAX = 0.4
"""A client waits up to this between two messages."""
TRANSIENT = (Reason.BUSY, Reason.UNAVAILABLE, Reason.TIMEOUT, Reason.UNKNOWN_PROCESS)
"""Refusals after which the same message is sent again."""

SUPPLY = 1_000_000


_MODULE_TAGS = {"Type": "Module", "Module_Format": FORMAT_CBOR}


def token_module(signer: Ed25519Signer, seed: Seed) -> Item:
    """The token's module, signed apart from a running network."""
    own = {"Data-Protocol": "ao", "Variant": "ao.TN.1", "Type": "Module"}
    return sign_item(
        signer,
        anchor=seed.bytes(32, "module"),
        tags=[Tag(*pair) for pair in {**own, "Module-Format": FORMAT_CBOR}.items()],
        data=token_wasm(),
    )


class Client:
    """One key, and one messenger it talks to."""

    def __init__(self, name: str, seed: Seed, messenger: Host, trace: Trace) -> None:
        self.name = name
        self.signer = Ed25519Signer(seed.bytes(32, "key", name))
        self.acknowledged: list[Item] = []
        self._seed = seed.fork("client", name)
        self._messenger = messenger
        self._trace = trace
        self._made = 0

    @property
    def account(self) -> str:
        """The client's address, as tokens name accounts."""
        return b64url(self.signer.address)

    def item(self, target: bytes | None, data: bytes = b"", **tags: str) -> Item:
        """A signed item; `X_Note` stands for the tag `X-Note`. Anchors come from the seed."""
        self._made += 1
        return sign_item(
            self.signer,
            target=target,
            anchor=self._seed.bytes(32, "anchor", self._made),
            tags=[
                Tag("Data-Protocol", "ao"),
                Tag("Variant", "ao.TN.1"),
                *(Tag(name.replace("_", "-"), value) for name, value in tags.items()),
            ],
            data=data,
        )

    async def publish_module(self, module: Item | None = None) -> ItemId:
        """Give a module, the token's if none is given, to the messenger's node, where others
        find it."""
        module = module or self.item(None, token_wasm(), **_MODULE_TAGS)
        await self._until_done(lambda node: node.replica.put_module(module))
        return module.id

    async def spawn(self, module: ItemId, scheduler: Address, authority: Address) -> ProcessId:
        """A token process whose supply is this client's."""
        process = self.item(
            None,
            Type="Process",
            Module=b64url(module),
            Scheduler=b64url(scheduler),
            Authority=b64url(authority),
            Name=f"Coin of {self.name}",
            Ticker="COIN",
            Denomination="0",
            Supply=str(SUPPLY),
        )
        await self.submit(process)
        return ProcessId(process.id)

    async def transfer(self, process: ProcessId, recipient: str, quantity: int) -> None:
        """Send one transfer, and think."""
        await self.submit(
            self.item(
                process,
                Type="Message",
                Action="Transfer",
                Recipient=recipient,
                Quantity=str(quantity),
            )
        )
        await trio.sleep(self._seed.unit("think", self._made) * THINK_S_MAX)

    async def submit(self, item: Item) -> None:
        """Repeat `item` until the messenger acknowledges it."""

        async def submit(node: Node) -> None:
            assert node.messenger is not None, f"{self._messenger.name} is no messenger"
            await node.messenger.submit(item)

        await self._until_done(submit)
        self._trace.record(self.name, "acknowledged", item.id)
        self.acknowledged.append(item)

    async def _until_done(self, act: Callable[[Node], Awaitable[None]]) -> None:
        async def attempt(node: Node) -> bool:
            await act(node)
            return True

        while True:
            try:
                with trio.move_on_after(ATTEMPT_S_MAX):
                    if await self._messenger.call(attempt):
                        return
            except Invalid as refusal:
                if refusal.reason not in TRANSIENT:
                    raise
            await trio.sleep(RETRY_S)
