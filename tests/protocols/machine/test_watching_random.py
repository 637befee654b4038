"""Watchers in random worlds: whatever is said, in whatever order, with crashes in between, every
liar that anybody can convict is convicted, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from protocols.accumulator import mmr_of
from protocols.machine.asking import FORK_TICKS
from protocols.machine.events import Evaluated, LedgerMoved, StatementArrived
from protocols.trust import Verified
from protocols.wire.demand import LEAVES
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.ledger_tx import Demand
from protocols.wire.proof import Leaf
from tests.protocols.ledger.world import RICH, STAKERS
from tests.protocols.machine.test_watching import lied
from tests.protocols.machine.watch_world import FORKED, PROCESS, TRUTH, Node, World
from tests.protocols.machine.world import Key
from tests.protocols.toy import receipts, state_proof

LIAR, *HONEST = STAKERS
KINDS = ("balance", "undo", "refused", "fuel")
STARTS = (0, 8, 16)
BLOCK = 8


def said_by_liar(world: World, random: Random) -> tuple[list[bytes], bool]:
    """What a liar says, and whether it says anything wrong."""
    at = random.randrange(24)
    leaves = lied(random.choice(KINDS), at)
    form = random.choice(("proofs", "receipts", "one receipt", "mixed", "header", "honest"))
    said: list[bytes] = []
    if form in ("proofs", "mixed"):
        said += [world.proof(LIAR, leaves, first, first + BLOCK - 1) for first in STARTS]
    if form in ("receipts", "mixed"):
        said += [world.receipt(LIAR, leaves, slot) for slot in range(at, 24)]
    if form == "one receipt":
        said.append(_private(world, leaves[at], at))
    if form == "header":
        wrong: dict[str, Any] = random.choice(
            ({"state_root": b"r" * 32}, {"fuel": 3}, {"mmr_root": b"m" * 32})
        )
        said.append(world.proof(LIAR, TRUTH.leaves, 8, 15, **wrong))
    if form == "honest":
        said += [world.proof(LIAR, TRUTH.leaves, first, first + BLOCK - 1) for first in STARTS]
    if random.random() < 0.3:
        world.leaves.clear()
    kept = random.sample(said, random.randrange(1, len(said) + 1))
    return kept, form != "honest" and any(_is_wrong(raw) for raw in kept)


def _private(world: World, leaf: Leaf, at: int) -> bytes:
    """A receipt in line with all that is true before it."""
    end = at // BLOCK * BLOCK
    root = mmr_of([*TRUTH.own().hashes[:at], leaf.hash()]).root()
    block_root = mmr_of(TRUTH.own().hashes[:end]).root() if end else None
    return world.receipt(LIAR, TRUTH.leaves, at, leaf=leaf, mmr_root=root, block_root=block_root)


def _is_wrong(raw: bytes) -> bool:
    """Whether no honest unit says this (but for who says it)."""
    statement = statement_of(raw)
    true = receipts(TRUTH.leaves, TRUTH.heads, LIAR)
    if raw[:1] == b"\x8a":
        mine: Any = true[statement.slot]  # type: ignore[union-attr]
        return bool(mine.leaf != statement.leaf or mine.mmr_root != statement.mmr_root)  # type: ignore[union-attr]
    right = state_proof(true, statement.first, statement.last, LIAR)  # type: ignore[union-attr]
    fields = ("mmr_before", "mmr_root", "state_root", "fuel")
    return any(getattr(right, name) != getattr(statement, name) for name in fields)


def said_by_honest(world: World, key: Key, random: Random, *, forked: bool) -> list[bytes]:
    branch = FORKED if forked else TRUTH
    made = receipts(branch.leaves, branch.heads, key)
    said = [world.sealed(state_proof(made, first, first + BLOCK - 1, key), key) for first in STARTS]
    for first, raw in zip(STARTS, said, strict=True):
        leaves = branch.leaves[first : first + BLOCK]
        world.leaves[key.public, statement_id(raw)] = tuple(leaf.hash() for leaf in leaves)
    said += [world.sealed(made[slot], key) for slot in random.sample(range(24), 4)]
    return said


def play(seed: int) -> None:
    random = Random(seed)
    world = World()
    forked = random.random() < 0.2
    nodes = [
        world.node(
            key,
            evaluates=number < 2 or random.random() < 0.5,
            branch=FORKED if forked and number == 2 else TRUTH,
        )
        for number, key in enumerate(HONEST)
    ]
    for node in nodes:
        node.upto = random.choice((0, 8, 30))
    wrong, is_wrong = said_by_liar(world, random)
    said = list(wrong)
    for number, key in enumerate(HONEST):
        said += said_by_honest(world, key, random, forked=forked and number == 2)
    random.shuffle(said)
    crashes = random.choice((0.0, 0.0, 0.1))
    world.crash = lambda node, event: random.random() < crashes
    if random.random() < 0.3:
        victim = random.choice(said)
        for node in nodes:
            node.heard.append(victim)
        world.send(RICH, Demand(1, LEAVES, victim))
    for raw in said:
        world.say(StatementArrived(raw, Verified(statement_of(raw))))
    world.crash = lambda node, event: False
    settle(world, nodes, said)
    honest = [key for key in world.frozen() if key in HONEST]
    assert honest == [], f"seed {seed}: an honest unit has lost its stake"
    assert (LIAR in world.frozen()) == is_wrong, f"seed {seed}: {is_wrong}"
    if is_wrong:
        world.pass_time(2)
        assert LIAR in world.burnt(), f"seed {seed}"


def settle(world: World, nodes: list[Node], said: list[bytes]) -> None:
    """Everybody has evaluated everything and heard everything, and time passes."""
    for node in nodes:
        node.upto = 30
        world.say(Evaluated(PROCESS, 29), node)
        world.say(LedgerMoved(world.state, world.head, ()), node)
    for raw in said:
        world.say(StatementArrived(raw, Verified(statement_of(raw))))
    window = world.network.parameters.demand_window
    signers = [key for key in STAKERS if key is not LIAR]
    world.pass_time(window + FORK_TICKS + 2, signers)


@pytest.mark.parametrize("seed", range(12))
def test_in_random_worlds(seed: int) -> None:
    play(seed)


@pytest.mark.slow
def test_in_many_random_worlds() -> None:
    for seed in range(100, 160):
        play(seed)


def test_the_lies_are_lies() -> None:
    """The test would see nothing if its liar told the truth."""
    found = [said_by_liar(World(), Random(seed))[1] for seed in range(30)]
    assert 15 < sum(found) < 30
    assert replace(TRUTH.leaves[0], fuel=1) != TRUTH.leaves[0]
