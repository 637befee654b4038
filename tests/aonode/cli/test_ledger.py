"""Verbs about the ledger that need no node, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aonode.cli.shared import Exit
from aonode.config import write_network
from protocols.network import Network
from tests.aonode.cli.test_cli import ID, call
from tests.aonode.fake_ledger import with_ledger
from tests.aonode.fakes import FakeNetwork


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("AONODE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    network = with_ledger(FakeNetwork())
    (tmp_path / "aonode-data").mkdir()
    write_network(tmp_path / "aonode-data" / "network.toml", network)
    call("keys", "new", "aonode-data/client-key.json")
    return network


@pytest.mark.slow
def test_mint_is_the_four_year_halving() -> None:
    told = json.loads(call("ledger", "mint", "--json").output)
    assert told["genesis"] == 0
    assert [(row["years"], row["tokens"]) for row in told["minted"]] == [
        (1, 3_341_175),
        (4, 10_500_000),
        (8, 15_750_000),
        (12, 18_375_000),
    ]
    text = call("ledger", "mint", "--years", "1")
    assert "3,341,175 tokens" in text.output


@pytest.mark.parametrize("years", ["", "x", "4,1", "1,1", "0", "101", "1,,4", "٣"])
def test_mint_refuses_what_is_no_list_of_years(years: str) -> None:
    refused = call("ledger", "mint", "--years", years)
    assert (refused.exit_code, "1,4,8,12" in refused.stderr) == (Exit.USAGE, True)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ledger", "show"], Exit.USAGE, "--node URL"),
        (["ledger", "show", "--node", "http://127.0.0.1:1"], Exit.UNREACHABLE, "cannot be reached"),
        (["ledger", "balance", "short"], Exit.USAGE, "has 5 characters"),
        (["ledger", "balance", "--key", "nobody.json"], Exit.KEY, "keys new nobody.json"),
        (["ledger", "transfer", ID, "0"], Exit.USAGE, "not above 0"),
        (["ledger", "transfer", ID, "1.0000000001"], Exit.USAGE, "9 digits after the point"),
        (["ledger", "transfer", ID, "1"], Exit.USAGE, "--mu URL"),
        (["stake", "add", "x"], Exit.USAGE, "'x' is no amount"),
        (["stake", "remove", "1"], Exit.USAGE, "--mu URL"),
        (["stake", "delegate", "nobody.json"], Exit.USAGE, "no key file nobody.json"),
        (["challenge", "raise", "nowhere"], Exit.USAGE, "cannot read nowhere"),
        (["challenge", "censored", "nowhere"], Exit.USAGE, "cannot read nowhere"),
        (["challenge", "show", ID], Exit.USAGE, "--node URL"),
        (["result", ID, ID, "--value", "1"], Exit.USAGE, "go with --accept"),
        (["result", ID, ID, "--wait"], Exit.USAGE, "go with --accept"),
        (["result", ID, ID, "--accept", "soft"], Exit.USAGE, "--node URL"),
        (["result", ID, ID, "--accept", "soft", "--quorum", "0"], Exit.USAGE, "at least 1 unit"),
        (["result", ID, ID, "--accept", "soft", "--value", "-1"], Exit.USAGE, "is no amount"),
        (["prove", "nowhere"], Exit.USAGE, "cannot read nowhere"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: Exit, words: str) -> None:
    done = call(*arguments)
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""


def test_a_network_without_a_ledger_says_so(tmp_path: Path) -> None:
    (tmp_path / "aonode-data").mkdir()
    write_network(tmp_path / "aonode-data" / "network.toml", FakeNetwork().network)
    done = call("ledger", "show", "--node", "http://127.0.0.1:1")
    assert (done.exit_code, "has no ledger" in done.stderr) == (Exit.USAGE, True)
