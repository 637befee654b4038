"""Four aos processes on one compute unit: how much faster two workers are than one.

Blocks with one worker thread and with two take turns, in two parts; a block's figure is its
milliseconds per slot.

    evaluation  `Sessions`, as the compute role uses it: from slots in memory to what is to be
                signed of them, in runs as long as the role's; the processes are open
    node        the production node over LevelDB, without peers, which finds the four logs on its
                disk: from its start until the last result of each is durable; opening, reading,
                receipts and commits included. With one worker its event loop has the other core
                to itself, so this ratio is what a second worker adds to that.

`ratio` is the median over pairs of blocks, and `range` has the least and the greatest.
"""

from __future__ import annotations

import gc
import shutil
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv
from aonode.node import Parts, build_node
from aonode.roles.sessions import Sessions
from aonode.service import tune_interpreter
from aonode.store.level import LevelStore
from protocols import keyspace
from protocols.ids import ItemId
from protocols.machine.effects import Persist
from protocols.machine.events import Scheduled
from protocols.machine.replica import Replica
from protocols.network import Network, Unit
from protocols.trust import Verified
from protocols.wire.item import Item
from tests.bench.aos_log import PARAMETERS, AosLog, make_engine
from tests.bench.schedule import LocalWire

PROCESSES = 4
WORKERS = (1, 2)
RUN_SLOTS = 62
"""Slots of a run: what `RUN_FUEL` of the compute role is for messages of 16 million fuel."""
WARM_BLOCKS = 1
SIGNER = Ed25519Signer(bytes([7]) * 32)
RUN_S_MAX = 120.0
TARGET = 1.6


def write_logs(directory: Path, workload: str, slots: int) -> list[AosLog]:
    """The stores of a node that has the logs and their module."""
    logs = [AosLog.start(number) for number in range(PROCESSES)]
    store = LevelStore(directory / "db")
    replica = Replica(key=SIGNER.key)
    for log in logs:
        log.extend(workload, slots)
        effects = replica.on(Scheduled(tuple(Verified(slot) for slot in log.slots)), 0)
        rows = [(row.key, row.value) for row in effects if isinstance(row, Persist)]
        module = keyspace.module_key(log.info().module), log.module.raw
        store.write([*rows, module], sync=True)
    store.close()
    return logs


async def evaluation(logs: Sequence[AosLog], engine: WasmEngine, workers: int) -> float:
    """Milliseconds per slot of a block of the first part."""

    async def module(_: ItemId) -> Item:
        return logs[0].module

    env = ProductionEnv(engine_threads=workers)
    sessions = Sessions(env=env, engine=engine, parameters=PARAMETERS, fetch_module=module)

    async def evaluate(log: AosLog) -> None:
        for first in range(len(log.handlers), len(log.slots), RUN_SLOTS):
            await sessions.run(log.info().id, log.slots[first : first + RUN_SLOTS])

    for log in logs:
        await sessions.run(log.info().id, log.handlers)
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for log in logs:
            nursery.start_soon(evaluate, log)
    spent = time.perf_counter() - start
    sessions.close()
    return spent * 1000 / sum(len(log.slots) - len(log.handlers) for log in logs)


async def node(template: Path, logs: Sequence[AosLog], engine: WasmEngine, workers: int) -> float:
    """Milliseconds per slot of a block of the second part; `template` holds the stores."""
    env = ProductionEnv(engine_threads=workers)
    network = Network(
        name="bench",
        ledger_scheduler=logs[0].info().scheduler,
        profile=engine.profile,
        parameters=PARAMETERS,
        units=(Unit(SIGNER.key, ("compute",), ()),),
    )
    with tempfile.TemporaryDirectory(prefix="aonode-bench-") as name:
        directory = Path(name) / "data"
        shutil.copytree(template, directory)
        db, sign_once = LevelStore(directory / "db"), LevelStore(directory / "sign-once")
        parts = Parts(env, LocalWire(), db, sign_once, SIGNER, engine)
        unit = build_node(roles=("compute",), network=network, parts=parts)
        assert unit.compute is not None, "a node with the compute role"
        with trio.fail_after(RUN_S_MAX):
            async with trio.open_nursery() as nursery:
                start = time.perf_counter()
                await nursery.start(unit.run)
                for log in logs:
                    last = log.slots[-1]
                    await unit.compute.result(last.process, last.nonce, RUN_S_MAX)
                spent = time.perf_counter() - start
                nursery.cancel_scope.cancel()
    return spent * 1000 / sum(len(log.slots) for log in logs)


async def alternate(block: Callable[[int], Awaitable[float]], blocks: int) -> dict[str, Any]:
    """One worker and two in turn: milliseconds per slot, and how many times faster two are."""
    times: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for number in range(WARM_BLOCKS + blocks):
        for workers in WORKERS if number % 2 else WORKERS[::-1]:
            gc.collect()
            ms = await block(workers)
            if number >= WARM_BLOCKS:
                times[workers].append(ms)
    ratios = [one / two for one, two in zip(times[1], times[2], strict=True)]
    series = {"ms_one_worker": times[1], "ms_two_workers": times[2], "ratio": ratios}
    return {
        **{name: round(statistics.median(values), 3) for name, values in series.items()},
        "range": {
            name: [round(min(values), 3), round(max(values), 3)] for name, values in series.items()
        },
    }


async def measure(workload: str, slots: int, blocks: int) -> dict[str, Any]:
    """Figures of one run."""
    engine = make_engine()
    with tempfile.TemporaryDirectory(prefix="aonode-bench-") as name:
        logs = write_logs(Path(name), workload, slots)
        tune_interpreter()
        parts = {
            "evaluation": await alternate(partial(evaluation, logs, engine), blocks),
            "node": await alternate(partial(node, Path(name), logs, engine), blocks),
        }
    return {
        "processes": PROCESSES,
        "slots": sum(len(log.slots) for log in logs),
        "workload": workload,
        "blocks": blocks,
        "ratio": parts["evaluation"]["ratio"],
        **parts,
    }


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and the target if it is missed."""
    figures: dict[str, Any] = trio.run(
        partial(measure, arguments.workload, arguments.slots, arguments.blocks)
    )
    return {**figures, "missed": [] if figures["ratio"] >= TARGET else ["ratio"]}
