"""The ledger machine: one root per slot, facts asked once, nothing posted is lost."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from protocols.errors import Reason
from protocols.ids import ItemId
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Account, Case
from protocols.ledger.process import transaction_item
from protocols.machine import ledger
from protocols.machine.audit import accuse
from protocols.machine.effects import Table
from protocols.machine.voting import content_of
from protocols.wire.evidence import commitment, encode_evidence, evidence_hash
from protocols.wire.ledger_tx import (
    Checkpoint,
    CommitEvidence,
    EvidencePart,
    RevealEvidence,
    Transfer,
    transaction_of,
)
from tests.protocols.machine.ledger_world import (
    PARAMETERS,
    RICH,
    TOKEN,
    World,
    ledger_network,
)
from tests.protocols.machine.world import Key
from tests.protocols.toy import branches, receipts, toy_run

STAKERS = [Key.of(f"staker {number}") for number in range(4)]
LIAR, WATCHER = STAKERS[0], RICH
SALT = b"s" * 32


def make_world(count: int = 4, seed: int = 1) -> World:
    """A world with so many stakers' nodes."""
    world = World(ledger_network(STAKERS, PARAMETERS), random.Random(seed))
    for key in STAKERS[:count]:
        world.node(key)
    return world


def pay(world: World, sequence: int) -> None:
    world.do(RICH, Transfer(sequence, STAKERS[0].address, TOKEN))


def evidence(world: World) -> bytes:
    """That the liar signed a receipt with a wrong leaf, with a witness to run its segment from."""
    truth = branches()[0]
    receipt = receipts(truth.leaves, truth.heads, LIAR)[9]
    draft = replace(
        receipt,
        leaf=replace(receipt.leaf, fuel=1 << 40),
        network=world.network.id,
        cu=LIAR.public,
        signature=b"",
    )
    statement = draft.signed(LIAR.sign(draft.signing_bytes())).encode()
    own = truth.own()
    made = accuse(
        statement, own.hashes[8:10], own, log=truth.log(), parameters=PARAMETERS,
        witness=truth.witness,
    )  # fmt: skip
    assert made is not None
    return encode_evidence(made)


def accused(world: World, sequence: int) -> None:
    """Commit, send and reveal that evidence."""
    blob = evidence(world)
    hash = commitment(SALT, evidence_hash(blob), WATCHER.address)
    nonce = world.do(WATCHER, CommitEvidence(sequence, hash, len(blob)))
    commit = ItemId(world.log[nonce].message.id)
    part = world.do(WATCHER, EvidencePart(commit, blob))
    world.do(WATCHER, RevealEvidence(commit, SALT, (ItemId(world.log[part].message.id),)))


# Folding


def test_everybody_has_the_same_root_and_a_restart_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "SNAPSHOT_SLOTS", 5)
    world = make_world()
    for sequence in range(1, 20):
        pay(world, sequence)
        world.run_for(700)
        if sequence % 4 == 0:
            world.nodes[sequence // 4 - 1].restart()
    late = world.node(Key.of("late"))
    world.run_for(3000)
    world.settle()
    world.check()
    tip = len(world.log) - 1
    assert late.roots[tip] == world.nodes[0].roots[tip]
    account = late.machine.state.get(Account, STAKERS[0].address)
    assert account is not None
    assert account.balance >= 19 * TOKEN
    node = world.nodes[0]
    (key, _), *others = node.disk.scan(Table.LOG, b"\x3a", b"\x3b")
    assert not others, "the older snapshot goes"
    assert tip - int.from_bytes(key[1:], "big") < 12, "a restart folds little again"
    node.restart()
    assert node.machine.slot == tip
    assert node.moves[-1].slots == (), "the first notice after a start names no slots"


def test_slots_are_told_once_and_in_order() -> None:
    world = make_world(1)
    node = world.nodes[0]
    assert node.moves[0].slots == ()
    for sequence in range(1, 8):
        pay(world, sequence)
    world.run_for(200)
    told = [slot.nonce for move in node.moves for slot in move.slots]
    assert told == list(range(8))
    slots = {slot.nonce: slot for move in node.moves for slot in move.slots}
    assert slots[3].item.id == world.log[3].message.id
    assert slots[3].notes[0].kind is NoteKind.DONE
    assert node.machine.notes(3) == slots[3].notes


def test_a_final_checkpoint_can_be_shown_to_others() -> None:
    world = make_world()
    world.run_for(4000)
    for node in world.nodes:
        final = node.machine.final
        assert final is not None
        tx = transaction_of(final.item)
        assert isinstance(tx, Checkpoint)
        assert (tx.slot, tx.head, tx.root) == (final.slot, final.head, final.state.root())
        assert tx.tick == node.tick


# Facts


def test_a_segment_is_run_once_and_known_after_a_restart() -> None:
    world = make_world()
    world.run = toy_run
    accused(world, 1)
    world.run_for(1500)
    for node in world.nodes:
        assert len(node.asked) == 1
        case = node.machine.state.get(Case, LIAR.address)
        assert case is not None
        assert case.challenger == WATCHER.address
        node.restart()
    world.run_for(3000)
    world.check()
    assert all(len(node.asked) == 1 for node in world.nodes), "the leaves were durable"
    assert all(node.tick >= 2 for node in world.nodes), "three of four stakes go on"


def test_the_ledger_waits_for_a_missing_fact_and_not_the_node() -> None:
    world = make_world()
    world.run = toy_run
    accused(world, 1)
    reveal = len(world.log) - 1
    world.run_for(35)
    waiting = [node for node in world.nodes if node.machine.status()["waiting_for"]]
    assert waiting, "somebody has asked and has no answer yet"
    assert all(node.machine.slot == reveal - 1 for node in waiting)
    for sequence in range(2, 150):
        pay(world, sequence)
    world.settle()
    world.check()
    assert all(node.machine.status()["waiting_for"] is None for node in world.nodes)


def test_a_crash_while_waiting_asks_again() -> None:
    world = make_world(1)
    world.run = toy_run
    node = world.nodes[0]
    accused(world, 1)
    while not node.asked:
        world.run_for(1)
    node.restart()
    world.run_for(500)
    assert len(node.asked) == 2
    assert node.machine.state.get(Case, LIAR.address) is not None


def test_a_node_that_cannot_run_a_segment_folds_no_verdict() -> None:
    world = make_world()
    world.run = toy_run
    lame = world.nodes[3]
    lame.refuses = "the stack of this machine is too small"
    accused(world, 1)
    reveal = len(world.log) - 1
    world.run_for(5000)
    world.check()
    assert lame.machine.slot == reveal - 1
    assert "too small" in lame.machine.status()["stopped"]
    assert any(alarm.reason is Reason.REFUSED for alarm in lame.alarms)
    assert lame.machine.state.get(Case, LIAR.address) is None
    votes = lame.machine.voting.last_tick()
    assert votes <= 2, "it votes for nothing beyond"
    for node in world.nodes[:3]:
        assert node.machine.slot >= reveal


def test_a_segment_without_its_state_is_void_everywhere() -> None:
    world = make_world()
    world.run = lambda segment: None
    accused(world, 1)
    world.run_for(1000)
    world.check()
    reveal = next(
        slot.nonce
        for slot in world.log[1:]
        if isinstance(transaction_of(slot.message), RevealEvidence)
    )
    for node in world.nodes:
        notes = node.machine.notes(reveal)
        assert notes is not None
        assert notes[0].detail.startswith("void")
        assert not node.disk.scan(Table.LOG, b"\x3b", b"\x3c"), "nothing was learned"


# Posting


def test_a_posted_transaction_gets_one_slot_whatever_crashes() -> None:
    for cut in range(4):
        world = make_world(1)
        node = world.nodes[0]
        assert world.network.ledger is not None
        tx = Transfer(1, STAKERS[0].address, TOKEN)
        item = transaction_item(world.network.ledger, tx, RICH.public, RICH.sign)
        node.cut_in = cut
        node.ask(item)
        world.run_for(100)
        if not node.up:
            node.restart()
        node.cut_in = None
        world.run_for(10_000)
        slots = [slot.nonce for slot in world.log if slot.message.id == item.id]
        assert len(slots) == 1, f"cut after {cut} groups"
        assert len(node.machine.posting) == 0
        assert not node.disk.scan(Table.ITEMS, b"\x15", b"\x16")
        world.check()


def test_votes_of_a_checkpoint_are_for_what_was_folded() -> None:
    world = make_world()
    world.run_for(3000)
    node = world.nodes[0]
    for vote in node.machine.voting.votes_of(node.key.public):
        slot, _, root = content_of(vote)
        if slot in node.roots:
            assert node.roots[slot] == root
