"""Kill -9 of real nodes under load: one compute unit, then the scheduler again and again.

What must hold: the other compute units serve every result; every message that was acknowledged
has exactly one slot; no slot was given twice; all replicas are equal in the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trio

from aonode.client import Client
from aonode.env import ProductionEnv
from aonode.http_transport import http_client
from aonode.local_network import LocalNetwork, local_network
from protocols.errors import Invalid
from protocols.ids import ItemId
from tests.loopback.logs import compare
from tests.loopback.workload import Workload, client_of, failures, start_workload

USERS = 4
BUNDLE = 5
PAUSE_S = 0.2
"""Between two bundles of one user: 100 messages/s in all while the messenger keeps up."""
LOAD_S = 2.0
"""Load before every kill, and after the last."""
DOWN_S = 1.0
"""How long a scheduler stays dead."""
SETTLE_S_MAX = 60.0
VICTIM = "cu3"


@dataclass
class Load:
    """What clients were told."""

    acknowledged: list[ItemId] = field(default_factory=list)
    refused: int = 0
    stopping: bool = False


async def _send(work: Workload, user: int, load: Load) -> None:
    """One user: bundle after bundle until the load ends."""
    while not load.stopping:
        items = work.transfers(user, BUNDLE)
        try:
            await work.users[user].submit_many(items)
        except Invalid:
            # Some of the bundle may have been taken: not promised, and still at most once.
            load.refused += len(items)
        else:
            load.acknowledged += [item.id for item in items]
        await trio.sleep(PAUSE_S)


@asynccontextmanager
async def _under_load(work: Workload) -> AsyncIterator[Load]:
    """Every user sends while the block runs."""
    load = Load()
    async with trio.open_nursery() as nursery:
        for user in range(len(work.users)):
            nursery.start_soon(_send, work, user, load)
        yield load
        load.stopping = True


async def _kills(network: LocalNetwork, scheduler_kills: int) -> int:
    """The faults, one after the other; how many processes were killed."""
    await trio.sleep(LOAD_S)
    await network.kill(VICTIM)
    await trio.sleep(LOAD_S)
    for _ in range(scheduler_kills):
        await network.kill("su")
        await trio.sleep(DOWN_S)
        await network.start("su")
        await network.wait_ready(["su"])
        await trio.sleep(LOAD_S)
    return 1 + scheduler_kills


async def _caught_up(network: LocalNetwork, client: Client) -> None:
    """Wait until every replica stands where the longest stands, and nothing is on its way."""
    while True:
        statuses = [
            await client.status(next(iter(node.urls.values()))) for node in network.nodes.values()
        ]
        lengths = {status["slots"] for status in statuses}
        waiting = [status["machines"].get("messenger", {}).get("open", 0) for status in statuses]
        if len(lengths) == 1 and not any(waiting):
            return
        await trio.sleep(0.2)


async def run(scheduler_kills: int, directory: Path) -> dict[str, Any]:
    """Counts of one run; `violations` names what did not hold."""
    async with (
        local_network(directory, ProductionEnv()) as network,
        http_client(timeout_s=30.0) as http,
    ):
        work = await start_workload(network, http, USERS)
        async with _under_load(work) as load:
            kills = await _kills(network, scheduler_kills)
        survivors = [node.name for node in network.of("compute") if node.name != VICTIM]
        reader = client_of(network, work.env, http, survivors)
        served = 0
        with trio.move_on_after(SETTLE_S_MAX) as settling:
            results = await reader.collect(work.process, load.acknowledged)
            served = len(results)
            failed = failures(list(results.values()))
            assert not failed, failed[:3]
        await network.start(VICTIM)
        await network.wait_ready()
        with trio.move_on_after(SETTLE_S_MAX):
            await _caught_up(network, reader)
        tails = network.tails() if settling.cancelled_caught else ""
        statuses = await network.stop_all()
        found = compare(network, work.process, load.acknowledged)
    counts = {
        "kills": kills,
        "acknowledged": len(load.acknowledged),
        "refused": load.refused,
        "results_served": served,
        **asdict(found),
    }
    held = {
        "results_served": served == len(load.acknowledged),
        "lost": found.lost == 0,
        "scheduled_twice": found.scheduled_twice == 0,
        "slots_twice": found.slots_twice == 0,
        "replicas_equal": found.replicas_equal,
        "stopped_cleanly": not any(statuses.values()),
    }
    return {**counts, "violations": [name for name, holds in held.items() if not holds]} | (
        {"logs": tails} if tails else {}
    )


def main(scheduler_kills: int) -> dict[str, Any]:
    """One run in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="aonode-faults-") as directory:
        counts: dict[str, Any] = trio.run(run, scheduler_kills, Path(directory))
        return counts
