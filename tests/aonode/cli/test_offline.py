"""`aonode module run`: a process without a network, and what it says of bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aonode.cli.__main__ import aonode
from aonode.cli.shared import Exit
from aonode.processes import token_wasm


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token.wasm"
    path.write_bytes(token_wasm())
    return path


def run(wasm: Path, log: str) -> Result:
    return CliRunner().invoke(aonode, ["module", "run", str(wasm), "-"], input=log)


def test_a_token_without_a_network(token: Path) -> None:
    rows = [
        {"from": "alice", "tags": {"Supply": "10"}},
        {"from": "alice", "tags": {"Action": "Transfer", "Recipient": "bob", "Quantity": "3"}},
        {"from": "bob", "tags": {"Action": "Balance"}},
    ]
    done = run(token, "\n".join(json.dumps(row) for row in rows))
    assert done.exit_code == Exit.OK, done.output
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["status"] for row in said] == ["OK"] * 3
    assert said[2]["Messages"][0]["Data"] == "3"
    assert len({row["root"] for row in said}) > 1


@pytest.mark.parametrize(
    ("log", "named"),
    [
        ("{}\n{", "line 2"),
        ('{"form": "alice"}', "form"),
        ('{"tags": {"a": 1}}', "int"),
        ("[]", "line 1"),
    ],
)
def test_a_bad_line_is_named(token: Path, log: str, named: str) -> None:
    done = run(token, log)
    assert done.exit_code == Exit.REFUSED
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_module_is_refused_by_name(token: Path, tmp_path: Path) -> None:
    token.write_bytes(b"#!/bin/sh")
    assert "no WebAssembly" in run(token, "{}").stderr
    missing = run(tmp_path / "nothing.wasm", "{}")
    assert (missing.exit_code, "nothing.wasm" in missing.stderr) == (Exit.USAGE, True)
