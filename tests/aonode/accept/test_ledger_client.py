"""Transactions and questions of a client, against nodes in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aonode.accept import ledger_client
from aonode.accept.amounts import base_units, tokens
from aonode.accept.ledger_client import LedgerClient
from aonode.accept.saved import statements_in
from aonode.asking import Asker
from aonode.crypto.signers import EthereumSigner, ItemSigner
from aonode.http import everywhere, messenger
from protocols.errors import Invalid, Reason
from protocols.ids import Address, address_of, b64url
from protocols.parameters import default_parameters, demo_parameters
from protocols.wire.evidence import statement_id
from protocols.wire.ledger_tx import Faucet, Transaction, Transfer
from tests.aonode.fake_ledger import RICH, STAKE, FakeLedger, FakeWatcher, with_ledger
from tests.aonode.fakes import FakeNetwork, FakeNode, signer, spawned


class World:
    """A messenger and a compute unit, which watches; both follow the ledger."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        with_ledger(self.fake)
        self.mu = FakeNode(self.fake, self.fake.messenger)
        self.cu = FakeNode(self.fake, self.fake.computes[0])
        self.ledger = self.mu.ledger = self.cu.ledger = FakeLedger(self.fake)
        self.watcher = self.cu.watcher = FakeWatcher(self.fake)
        assert self.mu.messenger is not None
        apps = {
            "mu": messenger.app(self.mu, self.mu.messenger, self.fake.parameters),
            "cu": everywhere.app(self.cu),
        }
        mounts = {f"http://{host}": httpx.ASGITransport(app) for host, app in apps.items()}
        self.asker = Asker(httpx.AsyncClient(mounts=mounts))

    def client(self, *urls: str) -> LedgerClient:
        return LedgerClient(self.fake.network, self.asker, urls or ("http://mu", "http://cu"))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_client, "SETTLE_S_MAX", 0.01)
    monkeypatch.setattr(ledger_client, "NOTE_WAIT_MS", 0)


@pytest.mark.parametrize("by", [signer(7), EthereumSigner(b"7" * 32)])
async def test_a_transaction_is_carried_out_and_told(world: World, by: ItemSigner) -> None:
    client = world.client()
    if address_of(by.owner) != signer(7).address:
        filled = await client.transact(by, world.fake.env, "http://mu", lambda _: Faucet())
        assert filled["action"] == "Faucet"
    to = Address(bytes(32))
    row = await client.transact(
        by, world.fake.env, "http://mu", lambda sequence: Transfer(sequence, to, 5)
    )
    assert (row["action"], row["notes"][0]["kind"]) == ("Transfer", "done")
    assert (await client.account(to))["balance"] == 5


async def test_a_refused_transaction_is_said_in_the_ledgers_words(world: World) -> None:
    with pytest.raises(Invalid, match=r"refused Transfer in its slot 1: balance \d+ is below"):
        await world.client().transact(
            signer(7),
            world.fake.env,
            "http://mu",
            lambda sequence: Transfer(sequence, Address(bytes(32)), RICH + 1),
        )


async def test_sequences_go_on_where_the_clock_is_behind(world: World) -> None:
    client, to = world.client(), Address(bytes(32))
    world.ledger.do(signer(7), Transfer(1 << 60, to, 1))
    row = await client.transact(
        signer(7), world.fake.env, "http://mu", lambda sequence: Transfer(sequence, to, 1)
    )
    assert row["notes"][0]["kind"] == "done"


async def test_one_may_do_the_same_thing_twice(world: World) -> None:
    """A transaction that has no sequence is another item each time."""
    client, poor = world.client(), signer(8)

    async def do(make: Callable[[int], Transaction]) -> dict[str, Any]:
        return await client.transact(poor, world.fake.env, "http://mu", make)

    first = await do(lambda _: Faucet())
    await do(lambda sequence: Transfer(sequence, Address(bytes(32)), 1))
    second = await do(lambda _: Faucet())
    assert [row["notes"][0]["kind"] for row in (first, second)] == ["done", "done"]
    assert first["slot"] < second["slot"]


@pytest.mark.usefixtures("impatient")
async def test_a_transaction_without_a_slot_ends_in_words(world: World) -> None:
    world.ledger.recent = lambda first, limit: []  # type: ignore[method-assign]
    with pytest.raises(Invalid, match="may still get one") as caught:
        await world.client().transact(signer(7), world.fake.env, "http://mu", lambda _: Faucet())
    assert caught.value.reason is Reason.TIMEOUT


async def test_the_next_node_is_asked_where_one_is_silent(world: World) -> None:
    client = world.client("http://mu/", "http://cu")
    world.mu.ledger = None
    assert (await client.ask("/ledger"))["bonded"] == 3 * STAKE
    assert [url for url, _ in await client.ask_all("/ledger")] == ["http://cu"]
    world.cu.ledger = None
    with pytest.raises(Invalid, match="has no ledger"):
        await client.ask("/ledger")


def test_a_client_needs_a_ledger_and_a_node(world: World) -> None:
    with pytest.raises(Invalid, match="--node URL"):
        LedgerClient(world.fake.network, world.asker, ())
    with pytest.raises(Invalid, match="has no ledger"):
        LedgerClient(FakeNetwork().network, world.asker, ("http://mu",))


async def test_receipts_are_handed_to_who_watches(world: World) -> None:
    process = spawned(world.fake, 1)
    assert world.cu.compute is not None
    raw = (await world.cu.compute.result(process, 1, 1)).receipt
    (row,) = await world.client().accuse([raw])
    assert row["statement"] == b64url(statement_id(raw))
    assert row["taken_by"] == ["http://cu"]
    assert "watches nobody" in row["refused"]["http://mu"]
    assert set(world.watcher.accused) == {statement_id(raw)}


def test_statements_are_found_in_files() -> None:
    assert statements_in(b"\x8a") == [b"\x8a"]
    assert statements_in(b'{"statement":"AA"}') == [b"\0"]
    assert statements_in(b'{"receipt":"AA"}') == [b"\0"]
    assert statements_in(b'{"results":[{"receipt":"AA"},{"receipt":"AQ"}]}') == [b"\0", b"\1"]
    for wrong, words in (
        (b"{", "not JSON"),
        (b"{}", "no receipts"),
        (b'{"results":[]}', "0 results"),
        (b'{"results":[1]}', "not a list"),
        (b'{"results":[{}]}', "no receipts"),
        (b'{"receipt":"*"}', "not base64url"),
    ):
        with pytest.raises(Invalid, match=words):
            statements_in(wrong)


def test_amounts() -> None:
    parameters = default_parameters()
    for text, units in (
        ("1", 10**9),
        ("0.000000001", 1),
        ("12.5", 12_500_000_000),
        ("21000000", parameters.supply_cap),
    ):
        assert base_units(text, parameters) == units
        assert base_units(tokens(units, parameters).replace(",", ""), parameters) == units
    assert tokens(0, parameters) == "0"
    assert tokens(1_234_567_890_000_000, parameters) == "1,234,567.89"
    for wrong in (
        "",
        "0",
        "1.",
        "-1",
        "1e3",
        "1,5",
        "0.0000000001",
        "x",
        "٣",
        "21000001",
        "9" * 99,
    ):
        with pytest.raises(Invalid, match=r"\d"):
            base_units(wrong, demo_parameters())
