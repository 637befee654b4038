"""What clients do in the loopback tests and benches: a token, and transfers from several keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from aonode.client import Client
from aonode.crypto.signers import Ed25519Signer
from aonode.env import ProductionEnv
from aonode.local_network import LocalNetwork
from aonode.processes import token_wasm
from aonode.verify_result import VerifiedResult
from protocols.ids import ItemId, ProcessId, address_of, b64url
from protocols.wire.item import Item
from protocols.wire.outcome import Status

FUNDS = 1_000_000
"""What every key is given."""
SUPPLY = 1_000_000_000


@dataclass
class Workload:
    """A token process and the clients that use it."""

    env: ProductionEnv
    owner: Client
    process: ProcessId
    users: list[Client]

    def transfers(self, user: int, count: int) -> list[Item]:
        """Signed transfers of 1 from one user to the next."""
        sender, receiver = self.users[user], self.users[(user + 1) % len(self.users)]
        tags = {
            "Action": "Transfer",
            "Recipient": b64url(address_of(receiver.signer.owner)),
            "Quantity": "1",
        }
        return [sender.message(self.process, tags) for _ in range(count)]


def client_of(
    network: LocalNetwork, env: ProductionEnv, http: httpx.AsyncClient, cus: Sequence[str] = ()
) -> Client:
    """A client with a key of its own that asks the compute units `cus`, or all."""
    nodes = [network.nodes[name] for name in cus] or network.of("compute")
    return Client(
        network.network,
        signer=Ed25519Signer(env.entropy("user", 32)),
        env=env,
        mu_url=network.urls("messenger")[0],
        su_url=network.urls("scheduler")[0],
        cu_urls=[node.urls["compute"] for node in nodes],
        http=http,
    )


async def start_workload(network: LocalNetwork, http: httpx.AsyncClient, users: int) -> Workload:
    """Publish and spawn the token, and fund every user; returns when all units have done so."""
    env = ProductionEnv()
    owner = client_of(network, env, http)
    module = await owner.publish_module(token_wasm())
    tags = {"Name": "Bench", "Ticker": "BN", "Denomination": "0", "Supply": str(SUPPLY)}
    process = await owner.spawn(module, tags)
    clients = [client_of(network, env, http) for _ in range(users)]
    funds = [
        (
            {
                "Action": "Transfer",
                "Recipient": b64url(address_of(client.signer.owner)),
                "Quantity": str(FUNDS),
            },
            b" ",
        )
        for client in clients
    ]
    funded = await owner.send_many(process, funds)
    results = await owner.collect(process, [ItemId(process), *funded])
    failed = failures(list(results.values()))
    assert not failed, f"the token does not work: {failed[:3]}"
    return Workload(env, owner, process, clients)


def failures(results: Sequence[VerifiedResult]) -> list[str]:
    """What went wrong in slots that were meant to go well."""
    return [
        f"message {b64url(each.message)} in slot {each.nonce}: {each.status.name} {each.error}"
        for each in results
        if each.status != Status.OK
    ]
