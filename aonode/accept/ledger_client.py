"""A client of the ledger: reads what nodes say of it, and brings transactions in.

What is read here is what a node *says*. Where it must be true whoever says it, see
`aonode.accept.trust_file` and `protocols.ledger.light`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from aonode.asking import Asker, Query
from aonode.crypto.signers import ItemSigner, sign_item
from aonode.env import Env
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ProcessId, address_of, b64url
from protocols.limits import ANCHOR_BYTES
from protocols.network import Network
from protocols.wire.evidence import statement_id
from protocols.wire.item import Item, Tag
from protocols.wire.ledger_tx import Transaction

NOTE_WAIT_MS = 5_000
"""One question for the slot of a transaction."""
SETTLE_S_MAX = 60.0
"""How long a transaction may take until its slot is folded."""


class LedgerClient:
    """Asks any of several nodes of one network."""

    def __init__(self, network: Network, asker: Asker, urls: Sequence[str]) -> None:
        """`urls` are ports of nodes, whatever their role. Raises Invalid(CONFIG) for a network
        without a ledger, or without a node to ask."""
        if network.ledger is None:
            raise Invalid(
                Reason.CONFIG,
                f"network {network.name!r} has no ledger: its network file names none",
            )
        if not urls:
            raise Invalid(Reason.CONFIG, "no node's address is known; give one with --node URL")
        self.network = network
        self.process: ProcessId = network.ledger
        self.urls = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
        self._asker = asker

    async def ask(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """What the first node that can says. Raises Invalid with what the last one said."""
        error = Invalid(Reason.UNAVAILABLE, "no node was asked")
        for url in self.urls:
            try:
                return await self._asker.get(url + path, query)
            except Invalid as refused:
                error = refused
        raise error

    async def ask_all(
        self, path: str, query: Query | None = None
    ) -> list[tuple[str, dict[str, Any]]]:
        """(address, answer) of every node that answers, all asked at once."""
        answers: dict[str, dict[str, Any]] = {}

        async def ask(url: str) -> None:
            try:
                answers[url] = await self._asker.get(url + path, query)
            except Invalid:
                return  # silence decides nothing: whoever counts answers counts those that came

        async with trio.open_nursery() as nursery:
            for url in self.urls:
                nursery.start_soon(ask, url)
        return [(url, answers[url]) for url in self.urls if url in answers]

    async def account(self, address: Address) -> dict[str, Any]:
        """Coins and stake of an address."""
        return await self.ask(f"/ledger/account/{b64url(address)}")

    async def transact(
        self, signer: ItemSigner, env: Env, mu_url: str, make: Callable[[int], Transaction]
    ) -> dict[str, Any]:
        """Bring a transaction in and wait for what the fold made of it: its row of
        `/ledger/slots`. `make` is given a sequence that is above the account's last.

        Raises Invalid(INADMISSIBLE) with the fold's own words if it changed nothing.
        """
        account = await self.account(address_of(signer.owner))
        sequence = max(env.now_ms(), int(account["sequence"]) + 1)
        anchor = env.entropy("anchor", ANCHOR_BYTES)
        item = signed_transaction(self.process, make(sequence), signer, anchor)
        await self._asker.post(mu_url.rstrip("/") + "/", item.raw)
        row = await self.settled(item)
        for note in row["notes"]:
            if note["kind"] == "refused":
                raise Invalid(
                    Reason.INADMISSIBLE,
                    f"the ledger refused {row['action']} in its slot {row['slot']}: "
                    f"{note['detail']}",
                )
        return row

    async def settled(self, item: Item) -> dict[str, Any]:
        """The row of an item's slot, once a node has folded it. Raises Invalid(TIMEOUT)."""
        query = {"item": b64url(item.id), "wait_ms": NOTE_WAIT_MS}
        last = "no node answered"
        with trio.move_on_after(SETTLE_S_MAX):
            while True:
                try:
                    rows = (await self.ask("/ledger/slots", query)).get("slots")
                    if isinstance(rows, list) and rows:
                        return dict(rows[0])
                    last = "it is folded, but no node remembers what came of it"
                except Invalid as error:
                    last = error.detail
                await trio.sleep(0.1)
        raise Invalid(
            Reason.TIMEOUT,
            f"transaction {b64url(item.id)} was taken but has no slot after {SETTLE_S_MAX:g} s "
            f"({last}); it may still get one: see 'aonode ledger balance'",
        )

    async def accuse(self, statements: Sequence[bytes]) -> list[dict[str, Any]]:
        """Hand encoded statements to every node; those that do not watch refuse. For each
        statement its id, which nodes took it, and what the others said."""
        rows = []
        for raw in statements:
            taken: list[str] = []
            refused: dict[str, str] = {}

            async def hand(
                url: str,
                raw: bytes = raw,
                taken: list[str] = taken,
                refused: dict[str, str] = refused,
            ) -> None:
                try:
                    await self._asker.post(url + "/challenges", raw)
                    taken.append(url)
                except Invalid as error:
                    refused[url] = error.detail

            async with trio.open_nursery() as nursery:
                for url in self.urls:
                    nursery.start_soon(hand, url)
            id = b64url(statement_id(raw))
            rows.append({"statement": id, "taken_by": sorted(taken), "refused": refused})
        return rows


def signed_transaction(
    ledger: ProcessId, tx: Transaction, signer: ItemSigner, anchor: bytes
) -> Item:
    """A transaction's item by any kind of wallet. `anchor` makes two equal transactions two items:
    who withdraws twice means it."""
    names = {"Data-Protocol": "ao", "Variant": "ao.TN.1", "Type": "Message", "Action": tx.ACTION}
    tags = [Tag(name, value) for name, value in names.items()]
    return sign_item(signer, target=ledger, anchor=anchor, tags=tags, data=tx.encode())
