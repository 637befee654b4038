"""The ledger machine: one root per slot, one vote per tick, nothing posted is lost."""

from __future__ import annotations

import random
from dataclasses import replace

from protocols.machine.effects import Table
from protocols.wire.ledger_tx import Stake, Transfer
from tests.protocols.machine.ledger_world import (
    PARAMETERS,
    RICH,
    TOKEN,
    World,
    ledger_network,
)
from tests.protocols.machine.world import Key

STAKERS = [Key.of(f"staker {number}") for number in range(5)]


def world(count: int = 5, seed: int = 1, **parameters: int) -> World:
    network = ledger_network(STAKERS[:count], replace(PARAMETERS, **parameters))  # type: ignore[arg-type]
    made = World(network, random.Random(seed))
    for key in STAKERS[:count]:
        made.node(key)
    return made


def test_the_clock_runs_at_its_pace() -> None:
    it = world()
    it.run_for(30_000)
    it.check()
    for node in it.nodes:
        print(node.machine.status())
        assert 26 <= node.tick <= 30
    assert len(it.log) <= 32, "one checkpoint per tick, brought once"
