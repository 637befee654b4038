"""A scheduler's slot that does not follow the one before: kept, told, and paid for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols import keyspace
from protocols.ledger.entries import Fine
from protocols.machine.effects import Persist
from protocols.machine.events import LedgerMoved, Misplaced, SlotsArrived
from protocols.machine.replica import EVIDENCE_MAX, Replica
from protocols.wire.assignment import Chain, Slot, assignment_of, unsigned_assignment
from tests.protocols.ledger.world import STAKERS
from tests.protocols.machine.effects_of import notices, only
from tests.protocols.machine.watch_world import LOG_KEEPER, PROCESS, TRUTH, World
from tests.protocols.machine.world import Key, chain_of, message_item, verified

USER, ME, PEER = Key.of("user"), Key.of("me"), Key.of("peer").public
SLOTS = TRUTH.slots


def misplaced(kind: str, number: int = 0) -> Slot:
    """What the scheduler signs after its last slot, so that it does not follow."""
    chain = chain_of(SLOTS)
    message = message_item(USER, PROCESS, ("Number", str(number)))
    draft = unsigned_assignment(
        LOG_KEEPER.public,
        PROCESS,
        chain.nonce + 1,
        hash_chain=b"x" * 32 if kind == "hash chain" else chain.hash_chain_next(),
        timestamp=chain.timestamp - (kind == "time"),
        message=message.id,
        head_prev=chain.head,
    )
    return Slot(assignment_of(draft.signed(LOG_KEEPER.sign(draft.message()))), message)


def follower() -> Replica:
    machine = Replica(key=ME.public)
    machine.on(SlotsArrived(verified(SLOTS), PEER), 0)
    return machine


@pytest.mark.parametrize("kind", ["time", "hash chain"])
def test_it_is_kept_once_and_told(kind: str) -> None:
    machine, slot = follower(), misplaced(kind)
    effects = machine.on(SlotsArrived(verified([slot]), PEER), 1)
    assert notices(effects, Misplaced) == [Misplaced(slot.assignment)]
    (row,) = only(effects, Persist)
    assert row.key == keyspace.evidence_key(PROCESS, slot.nonce, slot.assignment.id)
    assert row.value == slot.assignment.item.raw
    assert machine.on(SlotsArrived(verified([slot]), PEER), 2) == []


def test_evidence_of_one_log_is_bounded() -> None:
    machine = follower()
    for number in range(EVIDENCE_MAX + 4):
        slot = misplaced("time", number)
        peer = Key.of(f"peer {number}").public
        effects = machine.on(SlotsArrived(verified([slot]), peer), 1)
        assert len(only(effects, Persist)) == (number < EVIDENCE_MAX)


def test_a_wrong_slot_0_is_told_with_its_process_and_not_kept() -> None:
    zero = SLOTS[0]
    draft = unsigned_assignment(
        LOG_KEEPER.public,
        PROCESS,
        0,
        hash_chain=b"x" * 32,
        timestamp=1,
        message=None,
        head_prev=Chain.genesis(PROCESS).head,
    )
    bad = Slot(assignment_of(draft.signed(LOG_KEEPER.sign(draft.message()))), zero.message)
    effects = Replica(key=ME.public).on(SlotsArrived(verified([bad]), PEER), 1)
    assert notices(effects, Misplaced) == [Misplaced(bad.assignment, zero.message)]
    assert only(effects, Persist) == [], "anybody can begin a log"


@pytest.mark.parametrize("kind", ["time", "hash chain"])
def test_it_costs_the_scheduler_a_share_once(kind: str) -> None:
    world = World()
    first = world.node(STAKERS[0])
    second = world.node(STAKERS[1])
    slot = misplaced(kind)
    for _ in range(2):
        world.say(Misplaced(slot.assignment))
    assert len(list(world.state.all(Fine, LOG_KEEPER.address))) == 1
    world.pass_time(2)
    assert first.stages() == second.stages() == ["burnt"]


def test_what_is_on_disk_is_looked_at_after_a_start() -> None:
    world = World()
    node = world.node(STAKERS[1])
    node.start()
    node.machine.recover([], [misplaced("time").assignment])
    world.say(LedgerMoved(world.state, world.head, ()))
    assert list(world.state.all(Fine, LOG_KEEPER.address))


def test_what_follows_accuses_nobody() -> None:
    world = World()
    node = world.node(STAKERS[0])
    chain = chain_of(SLOTS[:-1])
    world.say(Misplaced(SLOTS[-1].assignment))
    world.say(Misplaced(replace(SLOTS[-1].assignment, nonce=chain.nonce + 100)))
    assert node.stages() == []
