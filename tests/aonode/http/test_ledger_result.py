"""A compute port asked about the ledger: what the fold did, and a clear no to the rest."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aonode.http import compute
from protocols.ids import b64url
from protocols.ledger.process import transaction_item
from protocols.wire.ledger_tx import Stake, Transfer
from tests.aonode.fake_ledger import RICH, FakeLedger, with_ledger
from tests.aonode.fakes import FakeNetwork, FakeNode, signer


class World:
    """A compute port of a node with a ledger."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        with_ledger(self.fake)
        node = FakeNode(self.fake, self.fake.computes[0])
        self.ledger = node.ledger = FakeLedger(self.fake)
        assert node.compute is not None
        app = compute.app(node, node.compute, self.fake.parameters, self.fake.env)
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://node")

    async def get(self, path: str, code: int = 200) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == code, answer.text
        return answer.json()

    async def result(self, tx: Transfer | Stake) -> Any:
        rich = signer(7)
        item = transaction_item(self.ledger.process, tx, rich.key, rich.sign)
        self.ledger.do(rich, tx)
        process = b64url(self.ledger.process)
        return await self.get(f"/result/{b64url(item.id)}?process-id={process}")


@pytest.fixture
def world() -> World:
    return World()


async def test_the_result_of_a_transaction_is_what_the_fold_did(world: World) -> None:
    told = await world.result(Transfer(1, signer(8).address, 30))
    assert told["Output"] == "done: Transfer"
    assert "Error" not in told
    assert told["Messages"] == told["Spawns"] == told["Assignments"] == []


async def test_a_refused_transaction_is_an_error(world: World) -> None:
    told = await world.result(Stake(1, RICH * 2))
    assert f"below {RICH * 2}" in told["Error"]


@pytest.mark.parametrize("path", ["results", "state", "cron"])
async def test_nothing_else_is_evaluated(world: World, path: str) -> None:
    told = await world.get(f"/{path}/{b64url(world.ledger.process)}", 422)
    assert "is the ledger" in told["error"]
