"""The guide for writing processes: its three counters are built by its own commands, say what it
prints, and say the same to any log, alone and on a real network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.cli.__main__ import aonode
from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session
from protocols.codec import encode
from protocols.ids import ItemId, ProcessId
from protocols.outbox import FORMAT_CBOR, Bounds, derive
from protocols.parameters import default_parameters
from protocols.wire.outcome import Status
from tests.conformance.guide import LANGUAGES, blocks, built, command, rust_here
from tests.conformance.small_network import Small
from tests.conformance.test_bad_modules import ask, publish, send, spawn

pytestmark = pytest.mark.slow

PARAMETERS = default_parameters()
BOUNDS = Bounds(PARAMETERS.output_bytes_max, PARAMETERS.outbox_max)
ENGINE = WasmEngine(
    fuel_max=PARAMETERS.fuel_max,
    memory_max=PARAMETERS.memory_max,
    output_bytes_max=BOUNDS.output_bytes_max,
    outbox_max=BOUNDS.outbox_max,
)
(LOG,) = blocks("jsonl")
(SAID,) = blocks("json")


def modules() -> dict[str, bytes]:
    """Each counter, and the Rust one once more if this machine can compile it."""
    found = {language: built(language) for language in LANGUAGES}
    here = rust_here()
    return found if here is None else {**found, "rust, compiled here": here}


def run_alone(folder: Path, wasm: bytes, log: str) -> list[dict[str, Any]]:
    """By the guide's own command."""
    (folder / "counter.wasm").write_bytes(wasm)
    (folder / "log.jsonl").write_text(log, "utf-8")
    _, *arguments = command("aonode module run")
    done = CliRunner().invoke(aonode, [str(folder / a) if "." in a else a for a in arguments])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_all_counters_say_what_the_guide_prints(tmp_path: Path) -> None:
    printed = [json.loads(line) for line in SAID.splitlines()]
    assert len(printed) == len(LOG.splitlines())
    for name, wasm in modules().items():
        said = run_alone(tmp_path, wasm, LOG)
        shown = [{key: row[key] for key in want} for row, want in zip(said, printed, strict=True)]
        assert shown == printed, name
        assert [row["Messages"][0]["Target"] for row in said if row["Messages"]] == [
            *("alice", "bob"),
            "alice",
        ]
        failed = [row["slot"] for row in said if row["status"] == "ERROR"]
        assert all(said[slot]["root"] == said[slot - 1]["root"] for slot in failed)


def test_the_c_and_zig_counters_are_built_the_same_again(tmp_path: Path) -> None:
    for language in ("c", "zig"):
        first = built(language)
        built.cache_clear()
        assert built(language) == first


ACTIONS = st.sampled_from(["Add", "Get", "Shout", ""])
AMOUNTS = st.one_of(
    st.integers(0, 10**20).map(str), st.sampled_from(["", "-1", "0", "9" * 18, "9" * 19, "1 0"])
)
SENDERS = st.text(max_size=70)
MESSAGES = st.tuples(SENDERS, ACTIONS, AMOUNTS, st.binary(max_size=400), st.integers(0, 2**63 - 1))


def opened(wasm: bytes) -> Session:
    spec = ModuleSpec(ItemId(bytes(32)), wasm, FORMAT_CBOR)
    return ENGINE.open(ProcessId(bytes(32)), spec, b"", PARAMETERS.memory_max)


@settings(max_examples=60)
@given(st.lists(MESSAGES, min_size=1, max_size=8))
def test_all_counters_say_the_same_to_any_log(
    log: list[tuple[str, str, str, bytes, int]],
) -> None:
    sessions = {name: opened(wasm) for name, wasm in modules().items()}
    for slot, (sender, action, amount, data, timestamp) in enumerate(log):
        tags = [["Action", "Get"], ["Action", action], ["Amount", amount]]
        id = slot.to_bytes(32, "big")
        call = encode([1, b"p" * 32, b"m" * 32, slot, timestamp, id, sender, "owner", tags, data])
        results = {name: session.run_slot(call) for name, session in sessions.items()}
        statuses = {result.status for result in results.values()}
        assert statuses <= {Status.OK, Status.ERROR}
        assert len(statuses) == 1, results
        assert len({result.raw for result in results.values()}) == 1, results
        for result in results.values():
            assert derive(FORMAT_CBOR, Status(result.status), result.raw, BOUNDS).status in statuses
    for session in sessions.values():
        session.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_counter_on_a_network(small: Small, language: str) -> None:
    process = spawn(small, publish(small, built(language), FORMAT_CBOR), ("Name", language))
    adds = [
        send(
            small,
            ("Type", "Message"),
            ("Action", "Add"),
            ("Amount", amount),
            target=process.id,
            anchor=bytes([number]) * 32,
        )
        for number, amount in enumerate(("5", "x", "37"))
    ]
    five, error, total = (ask(small, process, each).json() for each in adds)
    assert (five["Output"], total["Output"]) == ("5", "42")
    assert error["Error"] == "Amount is not a whole number"
    assert total["Messages"][0]["Data"] == "42"
