"""Five production nodes in virtual time: what the simulator promises about a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from simnet.checks import SlotWatch
from simnet.corridor import NAMES, Options, run
from simnet.fabric import LinkModel

pytestmark = pytest.mark.slow


def _fresh(hash_seed: str, *arguments: str) -> str:
    """The command's output in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "simnet", "corridor", "--transfers", "8", "--json", *arguments],
        capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    return done.stdout


def test_every_message_gets_its_slot_and_every_node_the_same_results() -> None:
    report = run(Options(seed=5, transfers=24))
    assert report.violations == []
    assert report.messages == 24 + 2
    assert report.pushed == 4
    assert report.scheduled == report.results == report.messages + report.pushed
    assert report.roots_equal
    assert report.boots == dict.fromkeys(NAMES, 1)


def test_twenty_seeds_schedule_everything_and_agree() -> None:
    traces = set()
    for seed in range(20):
        report = run(Options(seed=seed, transfers=8))
        assert report.violations == []
        assert report.scheduled == report.results == report.messages + report.pushed
        assert report.roots_equal
        traces.add(report.trace)
    assert len(traces) == 20


def test_lost_gossip_costs_time_and_nothing_else() -> None:
    for seed in range(3):
        report = run(Options(seed=seed, transfers=8, links=LinkModel(loss=0.4)))
        assert report.violations == []
        assert report.messages == 10


def test_one_seed_one_trace_in_any_process_under_any_hash_seed() -> None:
    first = _fresh("0", "--seed", "3")
    assert _fresh("1", "--seed", "3") == first
    assert run(Options(seed=3, transfers=8)).trace == json.loads(first)["trace"]
    assert json.loads(_fresh("0", "--seed", "4"))["trace"] != json.loads(first)["trace"]


def test_one_flipped_byte_or_one_dropped_sync_changes_the_trace() -> None:
    plain = run(Options(seed=3, transfers=8))
    flipped = run(Options(seed=3, transfers=8, flipped_publish=9))
    dropped = run(Options(seed=3, transfers=8, dropped_syncs=(("su", 4),)))
    assert len({plain.trace, flipped.trace, dropped.trace}) == 3
    for report in (flipped, dropped):
        assert report.violations == []  # neither is beyond what the nodes must bear


def test_the_watch_sees_a_replaced_slot() -> None:
    watch = SlotWatch()
    place = (b"p" * 32, 4)
    watch.note(place, b"a" * 32, "gossip")  # type: ignore[arg-type]
    watch.note(place, b"a" * 32, "the log of cu1")  # type: ignore[arg-type]
    assert watch.violations == []
    watch.note(place, b"b" * 32, "the log of cu2")  # type: ignore[arg-type]
    (violation,) = watch.violations
    assert violation.startswith("I3: slot 4 of cHBw")
    assert violation.endswith("in the log of cu2, " + "YmJi" * 10 + "YmI")
