"""A module that was handed in at another node: the messenger finds it when a client asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import trio

from aonode.processes import token_wasm
from protocols.ids import NodeKey, b64url
from protocols.outbox import FORMAT_CBOR
from protocols.wire import streams
from protocols.wire.streams import ItemRequest
from protocols.wire.topics import Protocol
from tests.aonode.net.world import make_wire, running
from tests.conformance.small_network import Small, module_item

pytestmark = pytest.mark.slow

QUERY = "query ($ids: [ID!]!) { transactions(ids: $ids) { edges { node { id } } } }"


async def test_graphql_finds_a_module_at_a_peer(small: Small) -> None:
    module = module_item(token_wasm() + b"\0\x03\x02hi", FORMAT_CBOR)  # a custom section more

    async def serve(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        if ItemRequest.decode(body).id == module.id:
            for frame in streams.cut(module.raw):
                yield frame

    wire = make_wire(400, network=small.network.id)
    wire.serve(Protocol.MODULE, serve)
    async with running([wire]), httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for peer, address in small.peers.items():
            wire.connect(peer, [address])
        question = {"query": QUERY, "variables": {"ids": [b64url(module.id)]}}
        with trio.fail_after(30):
            while True:
                answer = (await http.post(small.mu + "/graphql", json=question)).json()
                if answer["data"]["transactions"]["edges"]:
                    break
                await trio.sleep(0.2)
    # From now on the messenger has it.
    again = httpx.get(f"{small.mu}/raw/{b64url(module.id)}", trust_env=False)
    assert again.content == module.data
