"""The corridor: messages per second from POST to three verified receipts, and its latency.

Five node processes, and the client in this one. Three measurements in one run: pages (bundles in,
pages of receipts out), singles (one request per message and unit), and latency at a low rate.
"""

from __future__ import annotations

import math
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aonode.client import BUNDLE_ITEMS_MAX, Client
from aonode.env import ProductionEnv
from aonode.http_transport import http_client
from aonode.local_network import Command, LocalNetwork, local_network, run_command
from protocols.ids import ItemId
from protocols.wire.item import Item
from tests.bench.cpu import cpu_s, spent_ms
from tests.loopback.workload import Workload, failures, start_workload

USERS = 8
SINGLES_OPEN = 32
"""Messages of the single measurement under way at a time."""
RATE = 10
"""Messages per second of the latency measurement."""
RUN_S_MAX = 300.0
TARGETS = {"messages_per_s": 200.0, "single_messages_per_s": 80.0, "p50_ms": 150.0}


def profiled(directory: Path) -> Command:
    """Run nodes under cProfile; NAME.prof in `directory` tells of each one's event loop."""

    def command(config: Path) -> Sequence[str]:
        out = directory / f"{config.parent.name}.prof"
        return [sys.executable, "-m", "cProfile", "-o", str(out), *run_command(config)[1:]]

    return command


async def measure(arguments: Namespace) -> dict[str, Any]:
    """All three measurements."""
    profile = arguments.profile
    command = profiled(profile.resolve()) if profile else run_command
    with tempfile.TemporaryDirectory(prefix="aonode-bench-") as directory:
        async with (
            local_network(Path(directory), ProductionEnv(), command=command) as network,
            http_client(timeout_s=60.0, connections_max=128) as http,
        ):
            try:
                with trio.fail_after(RUN_S_MAX):
                    work = await start_workload(network, http, USERS)
                    return await _all(network, work, arguments)
            except BaseException:
                sys.stderr.write(network.tails() + "\n")
                raise


async def _all(network: LocalNetwork, work: Workload, arguments: Namespace) -> dict[str, Any]:
    pids = {name: node.process.pid for name, node in network.nodes.items() if node.process}
    figures: dict[str, Any] = {}
    cpu: dict[str, dict[str, float]] = {}
    for part, count in (
        (latency, arguments.latency),
        (singles, arguments.singles),
        (pages, arguments.messages),  # last: what it sends to wallets keeps a messenger busy
    ):
        if count:
            before = cpu_s(pids)
            figures |= await part(work, count)
            await _settled(work)
            cpu[part.__name__] = spent_ms(before, cpu_s(pids), count)
    return {**figures, "cpu_ms_per_message": cpu}


async def _settled(work: Workload) -> None:
    """Wait until the messenger has pushed what the messages sent: it belongs to their cost, and
    not to the next part's."""
    while True:
        status = await work.owner.status(work.owner.mu_url)
        messenger = status["machines"]["messenger"]
        if not messenger["open"] and not messenger["waiting_for_outcome"]:
            return
        await trio.sleep(0.1)


async def pages(work: Workload, messages: int) -> dict[str, Any]:
    """Bundles in, pages of receipts out."""
    each = messages // USERS
    sets = [work.transfers(user, each) for user in range(USERS)]
    ids = [item.id for items in sets for item in items]
    after = await _tip(work)
    start = trio.current_time()

    async def post(client: Client, items: Sequence[Item]) -> None:
        for first in range(0, len(items), BUNDLE_ITEMS_MAX):
            await client.submit_many(items[first : first + BUNDLE_ITEMS_MAX])

    async with trio.open_nursery() as nursery:
        for client, items in zip(work.users, sets, strict=True):
            nursery.start_soon(post, client, items)
        results = await work.owner.collect(work.process, ids, after=after)
    seconds = trio.current_time() - start
    wrong = failures(list(results.values()))
    assert not wrong, wrong[:3]
    assert all(len(result.receipts) == 3 for result in results.values())
    return {
        "messages": len(ids),
        "seconds": round(seconds, 3),
        "messages_per_s": round(len(ids) / seconds, 1),
    }


async def singles(work: Workload, messages: int) -> dict[str, Any]:
    """One request per message, and one per message and unit."""
    each = messages // USERS
    items = [item for user in range(USERS) for item in work.transfers(user, each)]
    room = trio.CapacityLimiter(SINGLES_OPEN)
    start = trio.current_time()

    async def one(item: Item) -> None:
        async with room:
            await _there_and_back(work, item)

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(one, item)
    seconds = trio.current_time() - start
    return {"singles": len(items), "single_messages_per_s": round(len(items) / seconds, 1)}


async def latency(work: Workload, messages: int) -> dict[str, Any]:
    """Open loop: the next message leaves on time whatever became of the one before."""
    items = [work.transfers(number % USERS, 1)[0] for number in range(messages)]
    took: list[float] = []
    start = trio.current_time()

    async def one(due: float, item: Item) -> None:
        await _there_and_back(work, item)
        took.append((trio.current_time() - due) * 1000)

    async with trio.open_nursery() as nursery:
        for number, item in enumerate(items):
            due = start + number / RATE
            await trio.sleep_until(due)
            nursery.start_soon(one, due, item)
    return {"p50_ms": round(_share(took, 0.5), 1), "p99_ms": round(_share(took, 0.99), 1)}


async def _there_and_back(work: Workload, item: Item) -> None:
    """POST an item, then have the receipts of all units, verified and equal."""
    await work.owner.submit(item)
    result = await work.owner.result(work.process, item.id, quorum=len(work.owner.cu_urls))
    assert len(result.receipts) == len(work.owner.cu_urls)
    assert not failures([result]), failures([result])


async def _tip(work: Workload) -> int:
    """The last slot there is now, so that a measurement reads only its own."""
    (probe,) = work.transfers(0, 1)
    await work.owner.submit(probe)
    found = await work.owner.result(work.process, ItemId(probe.id), quorum=len(work.owner.cu_urls))
    return found.nonce


def _share(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and the targets they miss."""
    figures: dict[str, Any] = trio.run(partial(measure, arguments))
    missed = [
        name
        for name, target in TARGETS.items()
        if name in figures
        and (figures[name] > target if name == "p50_ms" else figures[name] < target)
    ]
    return {**figures, "missed": missed}
