"""AO's older emscripten formats: a module of each says here what it says under AO's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session
from aonode.processes.npm import MODULES, fetch_module
from protocols.ids import ItemId, ProcessId
from protocols.wire.outcome import Status
from tests.aonode.engine.aos import MESSAGES, VECTORS
from tests.aonode.engine.old_formats import FORMATS, old_module
from tests.conformance.nodejs import SCRIPTS, installed, node

pytestmark = pytest.mark.slow

LOADER = "@permaweb/ao-loader@0.0.49"
ENV = {"Process": {"Id": "P" * 43, "Owner": "O" * 43, "Tags": []}}
SAME = [
    *("status", "count", "count", "jump", "error", "count", "f: refused", "count", "world"),
    *("memory", "times", "count", "length \u00e9\u2713\U0001f680", "j", "count", "memory", "w"),
    "l" + "x" * 5000,
]
"""Data of the messages that both run; the first letter says what the module does."""
ENGINE = WasmEngine(
    fuel_max=100_000_000, memory_max=1 << 30, output_bytes_max=1 << 16, outbox_max=16
)


def message(data: str) -> dict[str, Any]:
    return {"Id": "I" * 43, "Data": data, "Tags": [{"name": "Action", "value": "Test"}]}


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def opened(format: str) -> Session:
    spec = ModuleSpec(ItemId(b"m" * 32), old_module(format), format)
    return ENGINE.open(ProcessId(b"p" * 32), spec, encode(ENV), 1 << 30)


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def under_the_loader(
    raw: bytes, format: str, env: Any, messages: list[Any], folder: Path
) -> list[dict[str, Any]]:
    wasm = folder / "module.wasm"
    wasm.write_bytes(raw)
    plan = {
        "modules": str(installed(LOADER)),
        "wasm": str(wasm),
        "format": format,
        "env": env,
        "messages": messages,
    }
    done = node(SCRIPTS / "loader.mjs", stdin=json.dumps(plan))
    assert done.returncode == 0, done.stderr[-4000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_answers_are_those_of_aos_loader(format: str, tmp_path: Path) -> None:
    session = opened(format)
    messages = [message(data) for data in SAME]
    theirs = under_the_loader(old_module(format), format, ENV, messages, tmp_path)
    for data, wanted in zip(SAME, theirs, strict=True):
        root = session.state_root()
        result = session.run_slot(encode(message(data)))
        assert result.raw, (data, result, wanted)
        answer = json.loads(result.raw)
        if not answer["ok"]:
            assert wanted == {"thrown": answer["response"]}
        else:
            response = answer["response"]
            assert {name: wanted.get(name) for name in response} == response, data
        failed = "thrown" in wanted or "Error" in wanted
        assert result.status == (Status.ERROR if failed else Status.OK)
        if failed:
            assert session.state_root() == root


def test_the_golden_outputs_of_32_bit_aos_are_what_the_loader_says_today(tmp_path: Path) -> None:
    name = "aos2_0_4_32"
    golden = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    messages = [case["message"] for case in MESSAGES["cases"]]
    format = MODULES[name].format
    said = under_the_loader(fetch_module(name), format, MESSAGES["env"], messages, tmp_path)
    assert {
        case["name"]: each for case, each in zip(MESSAGES["cases"], said, strict=True)
    } == golden


def test_genesis_runs_constructors_and_main(format: str) -> None:
    said = json.loads(opened(format).run_slot(encode(message("s"))).raw)
    assert said["response"]["Output"] == "11 env"


def test_no_way_out(format: str) -> None:
    session = opened(format)
    said = json.loads(session.run_slot(encode(message("o"))).raw)["response"]["Output"]
    assert said == "0 1 -44 0"
    for data in ("x", "a"):
        assert session.run_slot(encode(message(data))).status == Status.TRAP
    assert json.loads(session.run_slot(encode(message("c"))).raw)["response"]["Output"] == "1"


def test_same_log_same_state(format: str) -> None:
    one, other = opened(format), opened(format)
    for data in ("c", "j", "m", "t", "w", "l" + "y" * 9000):
        call = encode(message(data))
        assert one.run_slot(call) == other.run_slot(call)
        one.state_root()
    assert one.state_root() == other.state_root()
    assert one.memory() == other.memory()
