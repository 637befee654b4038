"""The messenger port against a node in memory: what AO's clients send and expect back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aonode.http import messenger
from protocols.ids import b64url
from protocols.wire.bundle import encode_bundle
from tests.aonode.fakes import FakeNetwork, FakeNode, message_item, module_item, signer, spawned

MODULE_QUERY = """query GetTransactions ($transactionIds: [ID!]!) {
  transactions(ids: $transactionIds) {
    edges { node { owner { address } tags { name value } block { id height timestamp } } }
  }
}"""


@pytest.fixture
def world() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def client(world: FakeNetwork) -> httpx.AsyncClient:
    node = FakeNode(world, world.messenger, urls=(("scheduler", "http://su.example"),))
    assert node.messenger is not None
    app = messenger.app(node, node.messenger, world.parameters)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mu")


async def test_greeting_cors_and_preflight(client: httpx.AsyncClient) -> None:
    hello = await client.get("/")
    assert (hello.status_code, hello.text) == (200, "ao messenger unit")
    preflight = await client.request("OPTIONS", "/anything")
    assert preflight.status_code == 204
    for answer in (hello, preflight, await client.get("/no/such/path")):
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_item_is_accepted_once_it_will_be_scheduled(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    process = spawned(world)
    item = message_item(world, signer(7), process, b"hello")
    answer = await client.post("/", content=item.raw)
    assert answer.status_code == 202
    assert answer.json() == {"message": "Processing DataItem", "id": b64url(item.id)}
    assert world.logs[process][1].message == item


async def test_bundle_is_answered_item_by_item(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    process = spawned(world)
    good = [message_item(world, signer(7), process, b"%d" % n) for n in range(3)]
    bad = bytearray(good[2].raw)
    bad[-1] ^= 1
    stranger = message_item(world, signer(7), bytes(32))
    body = encode_bundle([good[0].raw, bytes(bad), stranger.raw, good[1].raw])
    answer = await client.post("/", content=body)
    assert answer.status_code == 207
    items = answer.json()["items"]
    assert [item.get("reason") for item in items] == [
        None,
        "bad_signature",
        "unknown_process",
        None,
    ]
    assert items[0]["id"] == b64url(good[0].id)
    assert [slot.message for slot in world.logs[process][1:]] == good[:2]
    whole = await client.post("/", content=encode_bundle([good[2].raw]))
    assert whole.status_code == 202


async def test_bundle_bounds(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    item = message_item(world, signer(7), spawned(world))
    many = await client.post("/", content=encode_bundle([item.raw] * 51))
    assert (many.status_code, many.json()["reason"]) == (413, "oversize")
    none = await client.post("/", content=encode_bundle([]))
    assert none.status_code == 400


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"abc", 400), (b"\x63\0" + b"x" * 200, 422), (b"\2\0x", 400)]
)
async def test_bad_items_are_refused_with_a_reason(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await client.post("/", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_assign_by_id(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    first, second = spawned(world, 1), spawned(world)
    message = world.logs[first][1].message
    path = f"/?process-id={b64url(second)}&assign={b64url(message.id)}&exclude=Data,Tags"
    answer = await client.post(path)
    slot = world.logs[second][1]
    assert (slot.message, slot.assignment.exclude) == (message, ("Data", "Tags"))
    assert answer.status_code == 202
    assert answer.json() == {
        "message": "Processing Assignment",
        "id": b64url(slot.assignment.id),
    }
    assert (await client.post(path)).json() == answer.json()


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("process-id={0}", 400, "assign"),
        ("assign={0}", 400, "process-id"),
        ("process-id={0}&assign=short", 400, "short"),
        ("process-id={0}&assign={0}&base-layer", 422, "base-layer"),
        ("process-id={0}&assign={0}&exclude=" + ",".join("a" * 17), 413, "17"),
        ("process-id={0}&assign={0}&exclude=" + "a" * 65, 400, "65"),
        ("process-id={0}&assign={0}", 404, "AAAA"),
    ],
)
async def test_assigning_what_cannot_be(
    client: httpx.AsyncClient, query: str, status: int, named: str
) -> None:
    answer = await client.post("/?" + query.format("A" * 43))
    assert answer.status_code == status
    assert named in answer.json()["error"]


async def test_module_upload_and_reads(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    module = module_item(signer(7))
    answer = await client.post("/tx", content=module.raw)
    assert (answer.status_code, answer.json()["id"]) == (200, b64url(module.id))
    for path in (f"/{b64url(module.id)}", f"/raw/{b64url(module.id)}"):
        read = await client.get(path)
        assert (read.status_code, read.content) == (200, module.data)
        assert read.headers["content-security-policy"].startswith("sandbox")
        assert (await client.head(path)).status_code == 200
    message = message_item(world, signer(7), spawned(world))
    refused = await client.post("/tx", content=message.raw)
    assert (refused.status_code, refused.json()["reason"]) == (422, "inadmissible")
    assert (await client.get(f"/{'A' * 43}")).status_code == 404
    assert (await client.get("/short")).status_code == 400


async def test_monitor(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world)
    item = message_item(world, signer(7), process)
    path = f"/monitor/{b64url(process)}"
    assert (await client.post(path, content=item.raw)).text == "Monitoring process"
    assert (await client.request("DELETE", path, content=item.raw)).text == "Process deleted"
    assert (await client.post(path)).status_code == 400
    assert (await client.post(f"/monitor/{'A' * 43}", content=item.raw)).status_code == 400
    forged = bytearray(item.raw)
    forged[-1] ^= 1
    assert (await client.post(path, content=bytes(forged))).status_code == 400


async def ask(client: httpx.AsyncClient, query: str, **variables: Any) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_module_that_another_messenger_has_is_found(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    spawned(world)
    (id,) = world.modules
    world.elsewhere[id] = world.modules.pop(id)
    missing = "A" * 43
    data = await ask(client, MODULE_QUERY, transactionIds=[missing, b64url(id)])
    (edge,) = data["transactions"]["edges"]
    assert {"name": "Type", "value": "Module"} in edge["node"]["tags"]
    assert not world.elsewhere


async def test_module_query_of_the_official_client(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    spawned(world)
    (module,) = world.modules.values()
    data = await ask(client, MODULE_QUERY, transactionIds=[b64url(module.id)])
    (edge,) = data["transactions"]["edges"]
    assert {"name": "Type", "value": "Module"} in edge["node"]["tags"]
    assert edge["node"]["owner"] == {"address": b64url(module.owner_address)}
    assert edge["node"]["block"] is None
    assert "id" not in edge["node"]
    nothing = await ask(client, MODULE_QUERY, transactionIds=["A" * 43])
    assert nothing["transactions"]["edges"] == []


async def test_processes_by_owner_and_name(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    process = spawned(world, Name="default")
    spawned(world, Name="other")
    query = """query ($owners: [String!]!, $names: [String!]!) {
      transactions(first: 1, owners: $owners, tags: [
        { name: "Data-Protocol", values: ["ao"] }, # a comment
        { name: "Type", values: ["Process"]}, { name: "Name", values: $names }]) {
        edges { node { id } } } }"""
    owner = b64url(signer(9).address)
    data = await ask(client, query, owners=[owner], names=["default"])
    assert data == {"transactions": {"edges": [{"node": {"id": b64url(process)}}]}}
    empty = await ask(client, query, owners=["somebody"], names=["default"])
    assert empty["transactions"]["edges"] == []


async def test_scheduler_location(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    query = """query ($owner: String!) { transactions(owners: [$owner], first: 1, sort: HEIGHT_DESC,
      tags: [{name: "Data-Protocol", values: ["ao"]},
             {name: "Type", values: ["Scheduler-Location"]}]) {
      edges { node { tags { name value } } } } }"""
    data = await ask(client, query, owner=b64url(world.messenger.address))
    tags = data["transactions"]["edges"][0]["node"]["tags"]
    assert {"name": "Url", "value": "http://su.example"} in tags


async def test_query_pages(world: FakeNetwork, client: httpx.AsyncClient) -> None:
    made = [b64url(spawned(world)) for _ in range(5)]
    query = """query ($after: String) { transactions(first: 2, after: $after, sort: HEIGHT_ASC,
      tags: {name: "Type", values: ["Process"]}) {
        pageInfo { hasNextPage } edges { cursor node { id } } } }"""
    seen, after, more = [], None, True
    while more:
        page = (await ask(client, query, after=after))["transactions"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after, more = page["edges"][-1]["cursor"], page["pageInfo"]["hasNextPage"]
    assert seen == made


@pytest.mark.parametrize(
    "query",
    [
        "",
        "{",
        "mutation { x }",
        "{ blocks { id } }",
        "{ ...F }",
        "{ transactions(first: 0) { edges { cursor } } }",
        "{ transactions(ids: [1]) { edges { cursor } } }",
        "{" * 5000,
        "{ a" * 14 + "}" * 14,
        "#" * 16000,
        '{ transaction(id: "' + "\\" * 99,
        "{ transactions(tags: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]) { a } }",
    ],
)
async def test_queries_we_do_not_speak_are_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.post("/graphql", json={"query": query})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]


async def test_operator_routes_on_this_port_too(
    world: FakeNetwork, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
    assert (await client.get("/status")).json()["key"] == b64url(world.messenger.key)
    assert (await client.get("/metrics")).text.startswith("#")
