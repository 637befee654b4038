"""Power cuts at every sync: invariants I1 to I3 hold whatever crashes in between.

Each run cuts the power of one machine in its k-th sync, before or after the sync took, boots it
again on the same disk two seconds later, and goes on to the end.
"""

from __future__ import annotations

import pytest

from simnet.corridor import Cut, Options, run
from simnet.fabric import LinkModel
from simnet.seed import Seed

pytestmark = pytest.mark.slow

TRANSFERS = 4
SEED = 1


@pytest.mark.parametrize("durable", [False, True], ids=["lost", "taken"])
@pytest.mark.parametrize("machine", ["mu", "su", "cu1"])
def test_a_cut_at_every_sync(machine: str, durable: bool) -> None:
    syncs = run(Options(seed=SEED, transfers=TRANSFERS)).syncs[machine]
    assert syncs >= 8
    for number in range(1, syncs + 1):
        cut = Cut(machine, number, durable)
        report = run(Options(seed=SEED, transfers=TRANSFERS, cuts=(cut,)))
        assert report.violations == [], f"{cut}: {report.violations}"
        assert report.boots[machine] == 2, f"{cut} did not happen"
        assert report.messages == TRANSFERS + 2
        assert report.pushed == 1
        assert report.roots_equal


@pytest.mark.parametrize("number", range(12))
def test_several_machines_fail_on_a_bad_network(number: int) -> None:
    """Cuts are drawn from the seed: also in the boot after a cut, also on two machines at once."""
    seed = Seed.root(number)
    cuts = []
    for machine in ("mu", "su", "cu1", "cu2"):
        if seed.unit("cut", machine) < 0.7:
            sync = 1 + seed.below(20, "sync", machine)
            cuts.append(Cut(machine, sync, durable=seed.unit("durable", machine) < 0.5))
    crashes = tuple(
        (machine, 1 + 30 * seed.unit("crash", machine))
        for machine in ("mu", "su", "cu3")
        if seed.unit("crashes", machine) < 0.5
    )
    outages = tuple(
        (machine, from_s := 25 * seed.unit("from", machine), from_s + 10)
        for machine in ("mu", "su", "cu2")
        if seed.unit("outage", machine) < 0.3
    )
    report = run(
        Options(
            seed=number,
            transfers=8,
            outages=outages,
            cuts=tuple(cuts),
            crashes=crashes,
            links=LinkModel(loss=0.3 * seed.unit("loss")),
        )
    )
    assert report.violations == []
    assert report.messages == 10
