"""Kill -9 of real nodes, in short; `python -m tests.loopback faults` does it at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loopback.faults import run


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(tmp_path: Path) -> None:
    counts = await run(2, tmp_path)
    assert not counts["violations"], counts
    assert counts["kills"] == 3
    assert counts["acknowledged"] > 100
