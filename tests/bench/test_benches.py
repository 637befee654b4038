"""The benches run and give their figures; how good these are is for a quiet machine to say."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.bench import challenge, corridor, gossip, schedule


@pytest.mark.slow
async def test_corridor() -> None:
    figures = await corridor.measure(Namespace(messages=80, singles=16, latency=5, profile=None))
    assert figures["messages"] == 80
    assert figures.keys() >= corridor.TARGETS.keys()
    assert figures["cpu_ms_per_message"].keys() == {"pages", "singles", "latency"}


@pytest.mark.slow
async def test_schedule(tmp_path: Path) -> None:
    figures = await schedule.measure(256, tmp_path)
    assert figures["assignments_per_s"] > 0
    shares = [value for name, value in figures.items() if name.endswith("_share_of_cpu")]
    assert len(shares) == 3
    assert 0 < sum(shares) < 1


@pytest.mark.slow
async def test_gossip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "SECONDS", 0.0)
    monkeypatch.setattr(gossip, "PUBLISHES_MIN", 2)
    figures = await gossip.measure()
    assert figures["transport_us"].keys() == figures["verified_us"].keys()
    assert str(figures["full_batch"]) in figures["transport_us"]


@pytest.mark.slow
def test_challenge() -> None:
    figures = challenge.measure(quick=True)
    assert figures["wrong_proof"]["ratio"].keys() == {"10", "100", "1000"}
    assert figures["ratio_least"] > 0
    assert 0 < figures["second_sybil_share"] < 1
    assert figures["happy_path"]["proof_bytes"] > 0
