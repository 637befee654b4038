"""The `simnet` command."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from simnet.__main__ import main


@pytest.mark.slow
def test_corridor_prints_facts_for_people_and_for_machines() -> None:
    runner = CliRunner()
    shown = runner.invoke(main, ["corridor", "--transfers", "2", "--seed", "9"])
    assert shown.exit_code == 0
    assert "all roots equal" in shown.stdout
    printed = runner.invoke(main, ["corridor", "--transfers", "2", "--seed", "9", "--json"])
    facts = json.loads(printed.stdout)
    assert facts["seed"] == 9
    assert facts["messages"] == 4
    assert facts["roots_equal"] is True
    assert facts["violations"] == []
    assert facts["trace"] in shown.stdout


@pytest.mark.parametrize("fault", ["su", "su:0", "su:x", "xx:3", ":"])
def test_a_fault_that_is_none_is_refused(fault: str) -> None:
    refused = CliRunner().invoke(main, ["corridor", "--cut", fault])
    assert refused.exit_code == 2
    assert "is not like su:12; machines are mu, su, cu1, cu2, cu3" in refused.stderr


@pytest.mark.slow
def test_check() -> None:
    checked = CliRunner().invoke(main, ["check"])
    assert checked.exit_code == 0
    assert "reproduces" in checked.stdout
