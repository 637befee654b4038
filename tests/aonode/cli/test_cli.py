"""Verbs that need no node, and what they say when something is wrong: one sentence and a code."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aonode.cli.__main__ import aonode
from aonode.cli.root import marked
from aonode.cli.shared import Exit
from aonode.config import load_network, load_settings
from aonode.crypto.verify import verify_item
from aonode.running import Running, read_running, remove_running, write_running
from protocols.errors import Invalid
from protocols.ids import parse_id
from protocols.ledger.process import ledger_process

ID = "A" * 43


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("AONODE_"):
            monkeypatch.delenv(name)


def call(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(aonode, arguments, **options)


def test_every_verb_has_help() -> None:
    listed = call("--help")
    assert listed.exit_code == Exit.OK
    verbs = ["init", "run", "demo", "keys", "module", "spawn", "send", "result", "log", "status"]
    verbs += ["ledger", "stake", "challenge", "prove"]
    for verb in verbs:
        assert verb in listed.output
        assert call(verb, "--help").exit_code == Exit.OK


def test_keys(tmp_path: Path) -> None:
    made = json.loads(call("keys", "new", "alice.json", "--json").output)
    assert call("keys", "show", "alice.json").output == made["address"] + "\n"
    assert json.loads(call("keys", "show", "alice.json", "--json").output) == {
        "address": made["address"],
        "key": made["key"],
    }
    assert stat.S_IMODE((tmp_path / "alice.json").stat().st_mode) == 0o600
    assert "seed" not in call("keys", "show", "alice.json").output


def test_key_that_exists_is_never_overwritten() -> None:
    call("keys", "new", "alice.json")
    again = call("keys", "new", "alice.json")
    assert again.exit_code == Exit.USAGE
    assert again.stderr.count("\n") == 1
    assert again.stderr.startswith("aonode: alice.json exists")


def test_missing_key_has_its_own_code() -> None:
    assert call("keys", "show", "nobody.json").exit_code == Exit.KEY


@pytest.mark.slow
def test_init_makes_a_network_that_loads(tmp_path: Path) -> None:
    made = json.loads(call("init", "--json", "--name", "mine").output)
    network = load_network(tmp_path / "aonode-data" / "network.toml")
    assert network.name == "mine"
    assert [unit.roles for unit in network.units] == [("messenger", "scheduler", "compute")]
    assert network.parameters.push_quorum == 1
    settings = load_settings(tmp_path / "aonode-data" / "config.toml", environment={})
    assert settings.network.id == network.id
    assert settings.config.sole_copy
    assert Path(settings.config.data_dir).resolve() == tmp_path / "aonode-data"
    assert made["key"] != made["client"]
    again = call("init")
    assert (again.exit_code, "already" in again.stderr) == (Exit.USAGE, True)


@pytest.mark.slow
def test_init_can_join_a_network(tmp_path: Path) -> None:
    call("init")
    first = tmp_path / "aonode-data" / "network.toml"
    joined = call("init", "--data-dir", "second", "--network", str(first), "--role", "compute")
    assert joined.exit_code == Exit.OK, joined.output
    settings = load_settings(tmp_path / "second" / "config.toml", environment={})
    assert settings.network.id == load_network(first).id
    assert (settings.config.roles, settings.config.sole_copy) == (("compute",), False)


@pytest.mark.slow
def test_a_new_network_has_a_ledger_with_the_stake_of_its_node(tmp_path: Path) -> None:
    made = json.loads(call("init", "--json", "--stake", "3000").output)
    network = load_network(tmp_path / "aonode-data" / "network.toml")
    item = ledger_process(network)
    assert item is not None
    verify_item(item)
    token = 10**network.parameters.denomination
    assert network.stakes == ((parse_id(made["address"]), 3000 * token),)
    held = dict(network.balances)
    assert held == dict.fromkeys(map(parse_id, (made["address"], made["client"])), 1000 * token)


@pytest.mark.slow
def test_a_new_network_may_do_without_a_ledger(tmp_path: Path) -> None:
    assert call("init", "--stake", "0").exit_code == Exit.OK
    network = load_network(tmp_path / "aonode-data" / "network.toml")
    assert (network.ledger, network.stakes, network.balances) == (None, (), ())
    small = call("init", "--data-dir", "second", "--stake", "10")
    assert small.exit_code == Exit.USAGE
    least = network.parameters.stake_min // 10**network.parameters.denomination
    assert f"at least {least}" in small.stderr


@pytest.mark.slow
def test_a_watcher_joins_a_network(tmp_path: Path) -> None:
    call("init")
    first = str(tmp_path / "aonode-data" / "network.toml")
    assert call("init", "--data-dir", "w", "--network", first, "--role", "watcher").exit_code == 0
    settings = load_settings(tmp_path / "w" / "config.toml", environment={})
    assert settings.config.roles == ("watcher",)
    assert settings.config.watcher_port == 6364


@pytest.mark.slow
def test_a_new_network_needs_a_scheduler() -> None:
    refused = call("init", "--role", "compute")
    assert refused.exit_code == Exit.USAGE
    assert "--role scheduler" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status"], Exit.UNREACHABLE, "no node runs in aonode-data"),
        (["status", "http://127.0.0.1:1"], Exit.UNREACHABLE, "gives no status"),
        (["status", "nonsense"], Exit.UNREACHABLE, "gives no status"),
        (["result", ID, ID], Exit.USAGE, "cannot read aonode-data/network.toml"),
        (["result", "short", ID], Exit.USAGE, "has 5 characters"),
        (["send", ID, "--tag", "novalue"], Exit.USAGE, "is not Name=Value"),
        (["log", "verify"], Exit.USAGE, "cannot read aonode-data/network.toml"),
        (["run", "--data-dir", "nowhere"], Exit.USAGE, "network.toml"),
        (["demo", "--messages", "0"], Exit.USAGE, "messages"),
        (["demo", "--directory", "full"], Exit.USAGE, "full is not empty"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, arguments: list[str], code: Exit, words: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = call(*arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""


def test_an_id_may_begin_with_a_hyphen() -> None:
    """One in 64 does."""
    for id in ("-" + "A" * 42, "--" + "A" * 41):
        done = call("result", id, ID)
        assert "cannot read aonode-data/network.toml" in done.stderr, done.stderr
        done = call("log", "verify", "--process", id)
        assert "cannot read aonode-data/network.toml" in done.stderr, done.stderr
        assert "No such option" not in call("send", "--tag", "A=b", id).stderr
    assert "No such option" in call("result", ID, ID, "--quorm=" + "A" * 36).stderr
    assert "No such option" in call("result", ID, ID, "-x").stderr


def test_marks_are_put_before_ids_only() -> None:
    id = "-" + "A" * 42
    assert marked(["send", id, "--data", id], {"--data"}) == ["send", "id:" + id, "--data", id]
    assert marked(["send", "--", id], set()) == ["send", "--", id]
    assert marked(["-" + "A" * 41, "--json"], set()) == ["-" + "A" * 41, "--json"]


@pytest.mark.slow
def test_client_verbs_without_a_node(tmp_path: Path) -> None:
    call("init")
    nobody = call("result", ID, ID)
    assert nobody.exit_code == Exit.USAGE
    assert "no compute unit's address is known; give it with --cu URL" in nobody.stderr
    dead = call("result", ID, ID, "--cu", "http://127.0.0.1:1")
    assert dead.exit_code == Exit.UNREACHABLE
    assert "cannot be reached" in dead.stderr
    dead = call("send", ID, "--mu", "http://127.0.0.1:1")
    assert dead.exit_code == Exit.UNREACHABLE
    keyless = call("send", ID, "--mu", "http://127.0.0.1:1", "--key", "nobody.json")
    assert keyless.exit_code == Exit.KEY
    assert "aonode keys new nobody.json" in keyless.stderr
    both = call("send", ID, "--data", "x", "--data-file", "y")
    assert (both.exit_code, "not both" in both.stderr) == (Exit.USAGE, True)


def test_running_file(tmp_path: Path) -> None:
    assert read_running(tmp_path) is None
    running = Running(7, "key", ["/ip4/127.0.0.1/tcp/1"], {"compute": ["http://127.0.0.1:2"]})
    write_running(tmp_path, running)
    remove_running(tmp_path, 8)
    assert read_running(tmp_path) == running
    remove_running(tmp_path, 7)
    assert read_running(tmp_path) is None
    (tmp_path / "running.json").write_text("{")
    with pytest.raises(Invalid, match="remove it"):
        read_running(tmp_path)
