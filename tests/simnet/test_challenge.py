"""A liar among staked nodes: it alone loses its stake, whatever the weather."""

from __future__ import annotations

import pytest

from aonode.demo import LIES
from simnet.challenge import LIAR, Options, run
from simnet.fabric import LinkModel


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
def test_every_lie_costs_the_stake_and_nobody_else_pays(lie: str) -> None:
    report = run(Options(seed=2, lie=lie))
    assert not report.violations, report.violations
    assert report.slashed == [LIAR]
    assert 0 < report.frozen_s <= report.burnt_s
    fault = {"refused": "F5", "withhold": "F3"}.get(lie, "F1")
    assert report.reason.startswith(fault), report.reason


@pytest.mark.slow
def test_without_a_liar_nobody_is_slashed() -> None:
    report = run(Options(seed=3, lie=None))
    assert not report.violations, report.violations
    assert report.ticks > 10, "the clock of the ledger runs"


@pytest.mark.slow
def test_one_seed_gives_one_trace() -> None:
    first, again = (run(Options(seed=4, lie="balance")) for _ in range(2))
    assert (first.trace, first.ledger_root) == (again.trace, again.ledger_root)
    assert run(Options(seed=5, lie="balance")).trace != first.trace


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_crashes_and_lost_gossip_change_nothing(seed: int) -> None:
    """Power cuts of watchers, scheduler and messenger while the challenge is under way."""
    machines = ("cu1", "cu2", "su", "mu")
    cuts = tuple(
        (machines[(seed + number) % 4], 6.0 + 0.3 * seed + 2.5 * number) for number in range(3)
    )
    lie = LIES[seed % len(LIES)]
    report = run(Options(seed=seed, lie=lie, crashes=cuts, links=LinkModel(loss=0.02 * seed)))
    assert not report.violations, report.violations
    assert report.slashed == [LIAR]
