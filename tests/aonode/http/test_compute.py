"""The compute port against a node in memory."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from aonode.http import compute
from protocols.codec import encode
from protocols.ids import ProcessId, b64url, unb64url
from protocols.wire.assignment import assignment_of
from protocols.wire.item import decode_item
from protocols.wire.proof import Receipt
from tests.aonode.fakes import FakeNetwork, FakeNode, message_item, signer, spawned


@pytest.fixture
def world() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def node(world: FakeNetwork) -> FakeNode:
    return FakeNode(world, world.computes[0])


@pytest.fixture
def client(world: FakeNetwork, node: FakeNode) -> httpx.AsyncClient:
    assert node.compute is not None
    app = compute.app(node, node.compute, world.parameters, world.env)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cu")


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_greeting(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    hello = await get(client, "/")
    assert hello["address"] == b64url(world.computes[0].address)
    assert isinstance(hello["timestamp"], int)


async def test_result_by_message_assignment_and_process_id(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    process = spawned(world, 1)
    boot, slot = world.logs[process]
    query = {"process-id": b64url(process)}
    by_message = await get(client, f"/result/{b64url(slot.message.id)}", **query)
    assert by_message["Output"] == "1:0"
    assert by_message["GasUsed"] == 1001
    assert by_message["Messages"] == [
        {"Target": b64url(process), "Data": "hi", "Tags": [{"name": "Action", "value": "Echo"}]}
    ]
    assert await get(client, f"/result/{b64url(slot.assignment.id)}", **query) == by_message
    booted = await get(client, f"/result/{b64url(boot.message.id)}", **query)
    assert booted["Output"] == "0:boot"


async def test_failures_are_results(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world)
    for action, text in (("boom", "boom"), ("trap", "trapped")):
        item = message_item(world, signer(7), process, Action=action)
        world.schedule(item)
        result = await get(client, f"/result/{b64url(item.id)}", **{"process-id": b64url(process)})
        assert text in result["Error"]
        assert result["Messages"] == []


async def test_result_waits_for_the_slot(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world)
    item = message_item(world, signer(7), process, b"later")
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            query = {"process-id": b64url(process)}
            result = await get(client, f"/result/{b64url(item.id)}", **query)
            assert result["Output"] == "1:later"

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        world.schedule(item)


async def test_unknown_message_is_404_after_the_wait(
    world: FakeNetwork, client: httpx.AsyncClient, autojump_clock: trio.testing.MockClock
) -> None:
    process = spawned(world)
    answer = await client.get(f"/result/{'A' * 43}?process-id={b64url(process)}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_item")
    assert trio.current_time() >= 10


async def test_a_message_in_two_logs_has_two_results(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    first, second = spawned(world, 1), spawned(world, 2)
    message = world.logs[first][1].message
    world.assign(second, message.id, ())
    for process, output in ((first, "1:0"), (second, "3:0")):
        query = {"process-id": b64url(process)}
        assert (await get(client, f"/result/{b64url(message.id)}", **query))["Output"] == output
        proof = await get(client, f"/proof/{b64url(message.id)}", **query)
        assert proof["process"] == b64url(process)


async def test_message_of_another_process_is_404(
    world: FakeNetwork, client: httpx.AsyncClient, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = spawned(world, 1), spawned(world)
    message = b64url(world.logs[first][1].message.id)
    answer = await client.get(f"/result/{message}?process-id={b64url(second)}")
    assert answer.status_code == 404
    assert (await client.get(f"/result/{message}")).status_code == 400


def outputs(page: Any) -> list[int]:
    return [int(edge["node"]["Output"].split(":")[0]) for edge in page["edges"]]


async def walk(client: httpx.AsyncClient, process: ProcessId, **query: Any) -> list[int]:
    seen: list[int] = []
    more = True
    while more:
        page = await get(client, f"/results/{b64url(process)}", **query)
        seen += outputs(page)
        more = page["pageInfo"]["hasNextPage"]
        query["from"] = page["edges"][-1]["cursor"]
    return seen


async def test_results_in_pages_both_ways(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 7)
    assert await walk(client, process, limit=3) == list(range(8))
    assert await walk(client, process, limit=3, sort="DESC") == list(range(8))[::-1]


async def test_cursors_are_ao_json(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 3)
    path = f"/results/{b64url(process)}"
    page = await get(client, path)
    cursors = [edge["cursor"] for edge in page["edges"]]
    assert [json.loads(base64.b64decode(each))["ordinate"] for each in cursors] == list("0123")
    assert outputs(await get(client, path, **{"from": cursors[0], "to": cursors[2]})) == [1, 2]
    time = world.logs[process][1].assignment.timestamp
    assert outputs(await get(client, path, **{"from": str(time)})) == [2, 3]
    assert outputs(await get(client, path, to=str(time))) == [0, 1]
    for bad in ("?", "e30", "bnVsbA==", "W10=", "a" * 600, "1" * 17):
        answer = await client.get(path, params={"from": bad})
        assert (answer.status_code, answer.json()["reason"]) == (400, "malformed"), bad


async def test_failed_evaluations_are_left_out_as_ao_does(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    process = spawned(world, 1)
    world.schedule(message_item(world, signer(7), process, Action="boom"))
    world.schedule(message_item(world, signer(7), process))
    assert outputs(await get(client, f"/results/{b64url(process)}")) == [0, 1, 3]
    for limit, expected in ((3, [0, 1, 3]), (2, [0, 1])):
        page = await get(client, f"/results/{b64url(process)}", limit=limit)
        assert outputs(page) == expected
        assert page["pageInfo"]["hasNextPage"] == (limit == 2)
    down = await get(client, f"/results/{b64url(process)}", limit=2, sort="DESC")
    assert outputs(down) == [3, 1]
    page = await get(client, f"/results/{b64url(process)}", receipts=1)
    assert [edge["nonce"] for edge in page["edges"]] == [0, 1, 2, 3]


async def test_receipt_pages_carry_what_a_client_checks(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    process = spawned(world, 4)
    path = f"/results/{b64url(process)}"
    page = await get(client, path, receipts=1, limit=2)
    assert page["pageInfo"]["hasNextPage"]
    for edge, slot in zip(page["edges"], world.logs[process], strict=False):
        receipt = Receipt.decode(unb64url(edge["receipt"]))
        assert receipt.leaf.assignment_id == slot.assignment.id
        assert unb64url(edge["outcome"]) == encode(
            [
                0,
                f"{slot.nonce}:{slot.message.data.decode()}",
                [[0, b64url(process), None, [["Action", "Echo"]], b"hi"]],
                None,
            ]
        )
        assignment = decode_item(unb64url(edge["assignment"]), size_max=4096)
        assert assignment_of(assignment).nonce == edge["nonce"]
        assert unb64url(edge["message"]) == slot.message.raw
    rest = await get(client, path, receipts=1, log=0, **{"from": page["edges"][-1]["cursor"]})
    assert [set(edge) for edge in rest["edges"]] == [{"cursor", "nonce", "receipt", "outcome"}] * 3
    assert not rest["pageInfo"]["hasNextPage"]


@pytest.mark.parametrize("sort", ["ASC", "DESC"])
async def test_receipt_pages_are_made_in_chunks(
    world: FakeNetwork, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(compute, "PAGE_CHUNK", 3)
    process = spawned(world, 10)
    path = f"/results/{b64url(process)}"
    for limit in (1, 3, 7, 11, 20):
        page = await get(client, path, receipts=1, log=0, limit=limit, sort=sort)
        nonces = [edge["nonce"] for edge in page["edges"]]
        every = list(range(11)) if sort == "ASC" else list(range(11))[::-1]
        assert nonces == every[:limit]
        assert page["pageInfo"]["hasNextPage"] == (limit < 11)


async def test_receipt_page_can_wait(
    world: FakeNetwork, client: httpx.AsyncClient, autojump_clock: trio.testing.MockClock
) -> None:
    process = spawned(world)
    path = f"/results/{b64url(process)}"
    cursor = (await get(client, path))["edges"][-1]["cursor"]
    empty = await get(client, path, receipts=1, wait_ms=2000, **{"from": cursor})
    assert empty["edges"] == []
    assert trio.current_time() >= 2
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            page = await get(client, path, receipts=1, wait_ms=9000, **{"from": cursor})
            assert [edge["nonce"] for edge in page["edges"]] == [1]

        nursery.start_soon(ask)
        await trio.sleep(1)
        world.schedule(message_item(world, signer(7), process))


async def test_pages_end_early_when_they_are_large(
    world: FakeNetwork, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "PAGE_BYTES_MAX", 4000)
    process = spawned(world, 9)
    monkeypatch.setattr(compute, "PAGE_CHUNK", 2)
    page = await get(client, f"/results/{b64url(process)}", receipts=1)
    assert 1 < len(page["edges"]) < 9
    assert page["pageInfo"]["hasNextPage"]
    monkeypatch.setattr(compute, "PAGE_BYTES_MAX", 300)
    assert await walk(client, process) == list(range(10))


async def test_proof(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 1)
    slot = world.logs[process][1]
    proof = await get(client, f"/proof/{b64url(slot.message.id)}")
    assert (proof["process"], proof["nonce"]) == (b64url(process), 1)
    assert Receipt.decode(unb64url(proof["receipt"])).slot == 1
    assert unb64url(proof["message"]) == slot.message.raw
    assert unb64url(proof["assignment"]) == slot.assignment.item.raw


async def test_dry_run(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 1)
    body = {
        "Id": "1234",
        "Owner": "1234",
        "Anchor": "0",
        "Data": "q",
        "Tags": [{"name": "Action", "value": "Balance"}],
    }
    answer = await client.post(f"/dry-run?process-id={b64url(process)}", json=body)
    assert (answer.status_code, answer.json()["Output"]) == (200, "dry b'q'")
    for bad in (b"[]", b"{", b'{"Tags":3}', b"[" * 5000):
        refused = await client.post(f"/dry-run?process-id={b64url(process)}", content=bad)
        assert refused.status_code == 400
    unknown = await client.post(f"/dry-run?process-id={'A' * 43}", json=body)
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "unknown_process")


async def test_state_and_cron(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 1)
    answer = await client.get(f"/state/{b64url(process)}")
    assert (answer.content, answer.headers["last-ordinate"]) == (b"memory", "1")
    assert (await get(client, f"/cron/{b64url(process)}"))["edges"] == []
    for path in ("state", "cron", "results"):
        assert (await client.get(f"/{path}/{'A' * 43}")).status_code == 404


@pytest.mark.parametrize("query", ["limit=x", "limit=0", "sort=UP", "limit=-1", "from=%00"])
async def test_bad_parameters(world: FakeNetwork, client: httpx.AsyncClient, query: str) -> None:
    process = spawned(world)
    answer = await client.get(f"/results/{b64url(process)}?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed")
