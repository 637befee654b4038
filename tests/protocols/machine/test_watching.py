"""Watchers: every wrong statement ends with a burnt stake, no honest unit is ever accused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.wire.proof import Leaf
from tests.protocols.ledger.world import STAKERS
from tests.protocols.machine.watch_world import TRUTH, World
from tests.protocols.toy import toy_leaves

LIAR, FIRST, SECOND, THIRD = STAKERS


def lied(kind: str, at: int) -> list[Leaf]:
    """Leaves of a liar, right before slot `at`."""
    leaves = list(TRUTH.leaves)
    old = leaves[at]
    match kind:
        case "balance":
            leaves[at:] = toy_leaves(b"x" * 32, TRUTH.slots[at:])[0]
        case "undo":
            leaves[at] = replace(old, outcome_hash=b"o" * 32)
        case "refused":
            leaves[at] = replace(old, status=6, fuel=0)
        case "fuel":
            leaves[at] = replace(old, fuel=old.fuel + 1)
    return leaves


def convicted(world: World) -> None:
    """The liar's stake is gone, and nobody else's."""
    assert world.frozen() == [LIAR]
    world.pass_time(2)
    assert world.burnt() == [LIAR]
    assert world.frozen() == [LIAR]
    for node in world.nodes:
        assert set(node.stages()) <= {"burnt", "dropped"}


@pytest.mark.parametrize("kind", ["balance", "undo", "refused", "fuel"])
@pytest.mark.parametrize("at", [0, 3, 5, 9, 15])
def test_a_wrong_proof_costs_the_stake(kind: str, at: int) -> None:
    world = World()
    first, second = world.node(FIRST), world.node(SECOND)
    leaves = lied(kind, at)
    start = at // 8 * 8
    world.hear(world.proof(LIAR, leaves, start, start + 7))
    convicted(world)
    case = world.case(LIAR)
    assert case is not None
    assert case.challenger in (FIRST.address, SECOND.address)
    assert len(first.posted) + len(second.posted) <= 6
