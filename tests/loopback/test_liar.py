"""`aonode demo --liar` on real processes: every lie ends with the liar's stake burnt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from aonode.cli.__main__ import aonode
from aonode.demo import LIES

MIB = 1 << 20


def caught(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(aonode, ["demo", "--liar", "--json", *arguments])
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["warned"], "a client is warned or refused"
    assert summary["detected"]
    assert summary["slashed_units"] == ["cu3"]
    assert summary["honest_slashed"] == 0
    assert summary["verdicts_equal"]
    roots = summary["ledger_roots"]
    assert set(roots) == {"su", "mu", "cu1", "cu2", "cu3"}
    assert len(set(roots.values())) == 1
    assert 0 < summary["seconds_to_freeze"] <= summary["seconds_to_burn"]
    return summary


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_caught(lie: str) -> None:
    summary = caught("--lie", lie)
    # A unit that withholds everything loses its stake to silence, without evidence.
    assert (summary["evidence_bytes"] > 0) == (lie != "withhold")


@pytest.mark.slow
def test_a_lie_about_a_real_aos_process_is_caught_with_small_evidence() -> None:
    summary = caught("--aos")
    assert 64 << 10 < summary["evidence_bytes"] < MIB, "the live state is in it"
