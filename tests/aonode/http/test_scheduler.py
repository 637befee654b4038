"""The scheduler port against a node in memory."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aonode.http import scheduler
from protocols.ids import ProcessId, b64url
from tests.aonode.fakes import FakeNetwork, FakeNode, FakeScheduler, message_item, signer, spawned


@pytest.fixture
def world() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def client(world: FakeNetwork) -> httpx.AsyncClient:
    node = FakeNode(world, world.scheduler)
    app = scheduler.app(node, FakeScheduler(world), world.parameters, world.env)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://su")


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_greeting_and_time(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    hello = await get(client, "/")
    assert hello["address"] == b64url(world.scheduler.address)
    assert hello["timestamp"].isdigit()
    now = await get(client, "/timestamp", **{"process-id": "x"})
    assert now["block_height"] == "000000000000"
    assert (await client.get("/health")).content == b""


async def test_schedules_an_item(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world)
    item = message_item(world, signer(7), process)
    answer = await client.post("/", content=item.raw)
    slot = world.logs[process][1]
    assert answer.status_code == 200
    assert answer.json() == {"timestamp": slot.assignment.timestamp, "id": b64url(item.id)}
    assert (await client.post("/", content=b"junk")).status_code == 400
    assert (await client.post("/?assign=x&process-id=y")).status_code == 400


async def test_assigns_by_id(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    first, second = spawned(world, 1), spawned(world)
    message = world.logs[first][1].message
    answer = await client.post(f"/?process-id={b64url(second)}&assign={b64url(message.id)}")
    slot = world.logs[second][1]
    assert answer.status_code == 200
    assert answer.json() == {
        "timestamp": slot.assignment.timestamp,
        "id": b64url(slot.assignment.id),
    }
    for process, nonce in ((first, 1), (second, 1)):
        one = await get(client, f"/{b64url(message.id)}", **{"process-id": b64url(process)})
        shown = world.logs[process][nonce].assignment.id
        assert one["assignment"]["id"] == b64url(shown)


async def test_page_has_ao_shape(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 1)
    page = await get(client, f"/{b64url(process)}", **{"process-id": b64url(process)})
    assert page["page_info"] == {"has_next_page": False}
    boot, message = page["edges"]
    assert boot["node"]["message"]["id"] == b64url(process)
    assert boot["node"]["message"]["data"] == "boot"
    slot = world.logs[process][1]
    assert message["cursor"] == str(slot.assignment.timestamp)
    node = message["node"]
    assert set(node["message"]) == {
        "id",
        "owner",
        "data",
        "tags",
        "signature",
        "anchor",
        "target",
    }
    assert node["message"]["owner"]["key"] == b64url(slot.message.owner)
    assert node["message"]["target"] == b64url(process)
    names = [tag["name"] for tag in node["assignment"]["tags"]]
    assert names[:6] == ["Process", "Epoch", "Nonce", "Hash-Chain", "Block-Height", "Timestamp"]
    assert node["assignment"]["target"] == ""


async def test_binary_data_and_anchor(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world)
    world.schedule(message_item(world, signer(7), process, b"\xffx"))
    path, query = f"/{b64url(process)}", {"process-id": b64url(process)}
    message = (await get(client, path, **query))["edges"][1]["node"]["message"]
    assert (message["data"], message["anchor"]) == ("\ufffdx", None)
    shown = await get(client, path, **query, **{"show-anchor": "1"})
    anchor = world.logs[process][1].message.anchor
    assert anchor is not None
    assert shown["edges"][1]["node"]["message"]["anchor"] == b64url(anchor)


async def walk(
    client: httpx.AsyncClient, process: ProcessId, limit: int, suffix: str = ""
) -> list[str]:
    seen: list[str] = []
    query: dict[str, Any] = {"process-id": b64url(process), "limit": limit}
    if suffix:
        query["to-nonce"] = 1000
    more = True
    while more:
        page = await get(client, f"/{b64url(process)}", **query)
        seen += [edge["node"]["message"]["id"] for edge in page["edges"]]
        more = page["page_info"]["has_next_page"]
        query["from" + suffix] = page["edges"][-1]["cursor"]
    return seen


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("suffix", ["", "-nonce"])
async def test_pages_reach_every_slot(
    world: FakeNetwork, client: httpx.AsyncClient, same_time: bool, suffix: str
) -> None:
    process = spawned(world, 3)
    world.same_time = same_time
    for _ in range(6):
        world.schedule(message_item(world, signer(7), process))
    expected = [b64url(slot.message.id) for slot in world.logs[process]]
    assert await walk(client, process, 3, suffix) == expected


async def test_large_pages_end_early_without_losing_a_slot(
    world: FakeNetwork, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PAGE_BYTES_MAX", 600)
    process = spawned(world, 5)
    expected = [b64url(slot.message.id) for slot in world.logs[process]]
    for suffix in ("", "-nonce"):
        assert await walk(client, process, 100, suffix) == expected


async def test_bounds_of_a_page(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 5)
    path, base = f"/{b64url(process)}", {"process-id": b64url(process)}
    times = [slot.assignment.timestamp for slot in world.logs[process]]
    page = await get(client, path, **base, **{"from": times[1], "to": times[3]})
    assert [edge["cursor"] for edge in page["edges"]] == [str(times[2]), str(times[3])]
    page = await get(client, path, **base, **{"from-nonce": 1, "to-nonce": 3})
    assert [edge["cursor"] for edge in page["edges"]] == ["2", "3"]
    beyond = await get(client, path, **base, **{"from": times[-1]})
    assert beyond == {"page_info": {"has_next_page": False}, "edges": []}
    assert (await client.get(path, params=base | {"limit": "x"})).status_code == 400
    assert (await client.get(path)).status_code == 400


async def test_single_reads(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, 2)
    base = {"process-id": b64url(process)}
    slot = world.logs[process][1]
    for id in (slot.message.id, slot.assignment.id):
        one = await get(client, f"/{b64url(id)}", **base)
        assert one["message"]["id"] == b64url(slot.message.id)
        assert one["assignment"]["id"] == b64url(slot.assignment.id)
    last = await get(client, f"/{b64url(process)}/latest", **base)
    assert last["message"]["id"] == b64url(world.logs[process][2].message.id)
    shown = await get(client, f"/processes/{b64url(process)}")
    assert (shown["process_id"], shown["block"]) == (b64url(process), "000000000000")
    assert shown["data"] == "boot"
    nobody = "A" * 43
    for path in (f"/{nobody}/latest", f"/processes/{nobody}", f"/{nobody}"):
        assert (await client.get(path, params={"process-id": nobody})).status_code == 404
    assert (await client.get(f"/{nobody}", params=base)).status_code == 404
