"""The client against applications in memory: what it sends, and that it believes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from aonode.client import Client
from aonode.http import compute, messenger
from aonode.verify_result import Evidence, Verifier
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url, unb64url
from protocols.wire.outcome import Status
from protocols.wire.proof import Leaf
from tests.aonode.fakes import FakeCompute, FakeNetwork, FakeNode, other_outcome, signer, spawned

Bend = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Changes the JSON that a unit (by host name) answers."""


class Bent(httpx.AsyncBaseTransport):
    """An ASGI transport whose answers `bend` may change on the way."""

    def __init__(self, app: Any, host: str, bend: Bend | None) -> None:
        self._inner = httpx.ASGITransport(app)
        self._host, self._bend = host, bend

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        body = await answer.aread()
        if self._bend is not None and answer.status_code == 200 and body[:1] == b"{":
            body = json.dumps(self._bend(self._host, json.loads(body))).encode()
        return httpx.Response(answer.status_code, content=body)


class World:
    """One messenger and three compute units in memory, and a client for them."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        self.bend: Bend | None = None
        self.units: list[FakeCompute] = []
        node = FakeNode(self.fake, self.fake.messenger)
        assert node.messenger is not None
        parameters = self.fake.parameters
        apps = {"mu": messenger.app(node, node.messenger, parameters)}
        for number, key in enumerate(self.fake.computes):
            cu = FakeNode(self.fake, key)
            assert cu.compute is not None
            self.units.append(cu.compute)
            apps[f"cu{number}"] = compute.app(cu, cu.compute, parameters, self.fake.env)
        self.apps = apps

    def client(self, *, cus: int = 3, **options: Any) -> Client:
        mounts = {f"http://{host}": Bent(app, host, self.bend) for host, app in self.apps.items()}
        return Client(
            self.fake.network,
            signer=signer(7),
            env=self.fake.env,
            mu_url="http://mu",
            cu_urls=[f"http://cu{number}" for number in range(cus)],
            http=httpx.AsyncClient(mounts=mounts),
            **options,
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_publish_spawn_send_result(world: World) -> None:
    client = world.client()
    module = await client.publish_module(b"\0asm")
    process = await client.spawn(module, {"Name": "mine"}, b"boot")
    message = await client.send(process, {"Action": "Hi"}, b"x")
    result = await client.result(process, message, quorum=3)
    assert (result.status, result.output, result.nonce) == (Status.OK, '"1:x"', 1)
    assert {each.cu for each in result.receipts} == {key.key for key in world.fake.computes}
    assert json.loads(result.public)["Output"] == "1:x"
    booted = await client.result(process, ItemId(process), quorum=2)
    assert (booted.nonce, booted.output) == (0, '"0:boot"')
    item = world.fake.logs[process][0].message
    assert item.first("Authority") == b64url(world.fake.messenger.address)
    assert item.first("Scheduler") == b64url(world.fake.scheduler.address)
    assert [tag.name for tag in item.tags][:1] == ["Name"]


async def test_equal_messages_are_different_messages(world: World) -> None:
    client = world.client()
    process = spawned(world.fake)
    assert await client.send(process) != await client.send(process)


async def test_bundles_keep_order_and_results_come_in_pages(world: World) -> None:
    client = world.client()
    process = spawned(world.fake)
    sent = await client.send_many(process, [({}, b"%d" % n) for n in range(120)])
    log = world.fake.logs[process]
    assert [slot.message.id for slot in log[1:]] == sent
    results = await client.collect(process, sent)
    assert [results[id].output for id in sent] == [f'"{n + 1}:{n}"' for n in range(120)]
    assert all(len(result.receipts) == 3 for result in results.values())


async def test_collect_waits_for_what_is_not_there_yet(world: World) -> None:
    client = world.client()
    process = spawned(world.fake)
    item = client.message(process, data=b"late")
    async with trio.open_nursery() as nursery:

        async def collect() -> None:
            results = await client.collect(process, [item.id])
            assert results[item.id].output == '"1:late"'

        nursery.start_soon(collect)
        await trio.testing.wait_all_tasks_blocked()
        await client.submit(item)


async def test_refusals_come_through(world: World) -> None:
    client = world.client()
    with pytest.raises(Invalid, match="is not known") as unknown:
        await client.send(ProcessId(bytes(32)))
    assert unknown.value.reason == Reason.UNKNOWN_PROCESS
    with pytest.raises(Invalid, match=r"is refused: .*is not known"):
        await client.send_many(ProcessId(bytes(32)), [({}, b"")])
    with pytest.raises(Invalid, match="quorum of 4 of 3"):
        await client.result(ProcessId(bytes(32)), ItemId(bytes(32)), quorum=4)


async def test_dead_units_count_only_against_the_quorum(world: World) -> None:
    process = spawned(world.fake)
    client = world.client()
    message = await client.send(process, data=b"x")

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    mounts = {f"http://{host}": Bent(app, host, None) for host, app in world.apps.items()}
    http = httpx.AsyncClient(mounts=mounts | {"http://cu1": httpx.MockTransport(down)})
    client = Client(
        world.fake.network,
        signer=signer(7),
        env=world.fake.env,
        mu_url="http://mu",
        cu_urls=["http://cu0", "http://cu1", "http://cu2"],
        http=http,
    )
    assert len((await client.result(process, message, quorum=2)).receipts) == 2
    with pytest.raises(Invalid, match="2 compute units answered, 3 are asked for"):
        await client.result(process, message, quorum=3)


def flipped(text: str, place: int) -> str:
    raw = bytearray(unb64url(text))
    raw[place % len(raw)] ^= 1
    return b64url(bytes(raw))


PARTS = ("receipt", "outcome", "assignment", "message")


@pytest.mark.parametrize("part", PARTS)
async def test_any_flipped_byte_is_found_and_the_message_named(world: World, part: str) -> None:
    process = spawned(world.fake, 2)
    slot = world.fake.logs[process][2]
    edge = await _edge(world, process, slot.message.id)
    verifier = Verifier(world.fake.network)
    verifier.know_process(world.fake.logs[process][0].message, "ao-cbor-1")
    verifier.check(process, Evidence.of_json(edge), message=slot.message.id)
    sent = {slot.message.id}
    name = f"message {b64url(slot.message.id)}"
    for place in range(len(unb64url(edge[part]))):
        bad = Evidence.of_json(edge | {part: flipped(edge[part], place)})
        fresh = Verifier(world.fake.network)
        fresh.know_process(world.fake.logs[process][0].message, "ao-cbor-1")
        with pytest.raises(Invalid) as found:
            fresh.check(process, bad, message=slot.message.id)
        assert name in found.value.detail
        with pytest.raises(Invalid) as found:
            fresh.check(process, bad, sent=sent)
        # One flipped bit never damages both parts that name the message.
        assert name in found.value.detail


async def _edge(world: World, process: ProcessId, message: ItemId) -> dict[str, Any]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(world.apps["cu0"]))
    answer = await http.get(f"http://cu0/proof/{b64url(message)}")
    edge: dict[str, Any] = answer.json()
    return edge


@pytest.mark.parametrize("part", PARTS)
async def test_flipped_byte_on_the_way_fails_the_command(world: World, part: str) -> None:
    process = spawned(world.fake, 3)
    victim = world.fake.logs[process][2].message.id

    def bend(host: str, answer: dict[str, Any]) -> dict[str, Any]:
        for edge in answer.get("edges", [answer]):
            if host == "cu1" and edge.get("nonce") == 2:
                edge[part] = flipped(edge[part], 77)
        return answer

    world.bend = bend
    sent = [slot.message.id for slot in world.fake.logs[process][1:]]
    for client in (world.client(), world.client()):
        with pytest.raises(Invalid, match=f"message {b64url(victim)} .*does not verify"):
            await client.collect(process, sent)
        with pytest.raises(Invalid, match=f"message {b64url(victim)} .*does not verify"):
            await client.result(process, victim, quorum=3)


async def test_a_unit_that_signs_something_else_is_named(world: World) -> None:
    process = spawned(world.fake)

    def cheaper(leaf: Leaf) -> Leaf:
        return replace(leaf, fuel=leaf.fuel - 1)

    world.units[2].bend = {1: cheaper}
    client = world.client()
    message = await client.send(process)
    with pytest.raises(Invalid, match="signed different leafs for slot 1") as found:
        await client.result(process, message, quorum=3)
    assert b64url(world.fake.computes[2].key) in found.value.detail
    assert b64url(message) in found.value.detail


async def test_a_signed_outcome_must_be_the_one_that_came(world: World) -> None:
    process = spawned(world.fake)
    world.units[0].bend = {1: other_outcome}
    client = world.client(cus=1)
    message = await client.send(process)
    with pytest.raises(Invalid, match="not those whose hash is signed"):
        await client.result(process, message)


async def test_failures_verify_too(world: World) -> None:
    process = spawned(world.fake)
    client = world.client()
    boom = await client.send(process, {"Action": "boom"})
    trap = await client.send(process, {"Action": "trap"})
    assert (await client.result(process, boom, quorum=3)).error == "boom"
    assert (await client.result(process, trap, quorum=3)).status == Status.TRAP


async def test_only_listed_units_count(world: World) -> None:
    process = spawned(world.fake)
    client = world.client(cu_keys=[world.fake.computes[0].key])
    message = await client.send(process)
    with pytest.raises(Invalid, match="lists no such compute unit"):
        await client.result(process, message, quorum=2)


async def test_a_page_may_not_leave_slots_out(world: World) -> None:
    process = spawned(world.fake, 3)

    def bend(host: str, answer: dict[str, Any]) -> dict[str, Any]:
        if "edges" in answer:
            del answer["edges"][1]
        return answer

    world.bend = bend
    client = world.client()
    with pytest.raises(Invalid, match=r"lists slot 2 .* where slot 1 belongs"):
        await client.page(process, "http://cu0")


async def test_dry_run(world: World) -> None:
    process = spawned(world.fake)
    answer = await world.client().dry_run(process, {"Action": "Balance"}, "q")
    assert answer["Output"] == "dry b'q'"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{" * 4000, b'{"edges":7}'])
async def test_nonsense_from_a_unit_is_invalid(world: World, body: bytes) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    client = Client(
        world.fake.network,
        signer=signer(7),
        env=world.fake.env,
        mu_url="http://mu",
        cu_urls=["http://cu"],
        http=httpx.AsyncClient(transport=transport),
    )
    with pytest.raises(Invalid):
        await client.result(ProcessId(bytes(32)), ItemId(bytes(32)))
