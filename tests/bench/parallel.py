"""Four aos processes on one compute unit: how much faster two workers are than one.

The node is the production one over LevelDB, without peers. It starts with four logs that are on
disk and not evaluated, and the clock runs from its start until the result of every last slot is
durable: opening the processes, evaluation, leaves, receipts, commits. Blocks with one worker thread
and with two take turns; `ratio` is the median over pairs of blocks, and `range` the least and the
greatest. With one worker the event loop has the other core to itself, so the ratio is what a second
worker adds to that.
"""

from __future__ import annotations

import gc
import shutil
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.env import ProductionEnv
from aonode.node import Parts, build_node
from aonode.service import tune_interpreter
from aonode.store.level import LevelStore
from protocols import keyspace
from protocols.machine.effects import Persist
from protocols.machine.events import Scheduled
from protocols.machine.replica import Replica
from protocols.network import Network, Unit
from protocols.trust import Verified
from tests.bench.aos_log import PARAMETERS, AosLog, make_engine
from tests.bench.schedule import LocalWire

PROCESSES = 4
WORKERS = (1, 2)
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


async def block(template: Path, logs: Sequence[AosLog], engine: Any, workers: int) -> float:
    """Milliseconds per slot from the start of a node to the last result."""
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
        node = build_node(roles=("compute",), network=network, parts=parts)
        assert node.compute is not None, "a node with the compute role"
        with trio.fail_after(RUN_S_MAX):
            async with trio.open_nursery() as nursery:
                start = time.perf_counter()
                await nursery.start(node.run)
                for log in logs:
                    last = log.slots[-1]
                    await node.compute.result(last.process, last.nonce, RUN_S_MAX)
                spent = time.perf_counter() - start
                nursery.cancel_scope.cancel()
    return spent * 1000 / sum(len(log.slots) for log in logs)


async def measure(workload: str, slots: int, blocks: int) -> dict[str, Any]:
    """Figures of one run."""
    engine = make_engine()
    with tempfile.TemporaryDirectory(prefix="aonode-bench-") as name:
        logs = write_logs(Path(name), workload, slots)
        tune_interpreter()
        for workers in WORKERS:
            await block(Path(name), logs, engine, workers)
        times: dict[int, list[float]] = {workers: [] for workers in WORKERS}
        for number in range(blocks):
            for workers in WORKERS if number % 2 else WORKERS[::-1]:
                gc.collect()
                times[workers].append(await block(Path(name), logs, engine, workers))
    ratios = [one / two for one, two in zip(times[1], times[2], strict=True)]
    series = {"ms_one_worker": times[1], "ms_two_workers": times[2], "ratio": ratios}
    return {
        "processes": PROCESSES,
        "slots": sum(len(log.slots) for log in logs),
        "workload": workload,
        "blocks": blocks,
        **{name: round(statistics.median(values), 3) for name, values in series.items()},
        "range": {
            name: [round(min(values), 3), round(max(values), 3)] for name, values in series.items()
        },
    }


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and the target if it is missed."""
    figures: dict[str, Any] = trio.run(
        partial(measure, arguments.workload, arguments.slots, arguments.blocks)
    )
    return {**figures, "missed": [] if figures["ratio"] >= TARGET else ["ratio"]}
