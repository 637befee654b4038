"""Votes: the clock runs at its pace, nobody votes twice for a tick, an old table is caught up."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Reason
from protocols.ids import NodeKey
from protocols.ledger.entries import Case
from protocols.ledger.process import transaction_item
from protocols.machine.effects import Table
from protocols.machine.events import VoteArrived
from protocols.machine.voting import content_of
from protocols.trust import Verified
from protocols.wire.ledger_tx import (
    Checkpoint,
    Delegate,
    Transfer,
    delegation_bytes,
    transaction_of,
)
from protocols.wire.vote import Vote
from tests.protocols.machine.ledger_world import (
    PARAMETERS,
    RICH,
    TOKEN,
    LedgerNode,
    World,
    ledger_network,
)
from tests.protocols.machine.test_ledger import accused
from tests.protocols.machine.world import Key
from tests.protocols.toy import toy_run

STAKERS = [Key.of(f"staker {number}") for number in range(5)]


def make_world(count: int = 5, seed: int = 1, **links: object) -> World:
    """A world with so many stakers, all up."""
    network = ledger_network(STAKERS[:count], PARAMETERS)
    world = World(network, random.Random(seed), **links)  # type: ignore[arg-type]
    for key in STAKERS[:count]:
        world.node(key)
    return world


def ticks(world: World) -> list[int]:
    return [node.tick for node in world.nodes if node.up]


def checkpoints(world: World) -> int:
    return sum(isinstance(transaction_of(slot.message), Checkpoint) for slot in world.log[1:])


@pytest.mark.parametrize("count", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_tick_takes_a_tick(count: int) -> None:
    world = make_world(count)
    world.run_for(30_500)
    world.settle()
    world.check()
    assert set(ticks(world)) <= {28, 29, 30}
    assert checkpoints(world) == max(ticks(world)), "each is brought once"


@pytest.mark.slow
def test_the_clock_runs_on_long_links_that_lose_a_third() -> None:
    world = make_world(delay_ms=(20, 150), loss=0.3)
    world.run_for(30_000)
    world.settle()
    world.check()
    assert max(ticks(world)) >= 15


@pytest.mark.slow
def test_one_of_five_away_delays_only_its_own_turns() -> None:
    world = make_world()
    world.nodes[2].crash()
    world.run_for(30_000)
    world.check()
    assert max(ticks(world)) >= 22


@pytest.mark.slow
def test_without_two_thirds_the_clock_stands_and_goes_on_when_they_are_back() -> None:
    world = make_world()
    world.run_for(5000)
    for node in world.nodes[:2]:
        node.crash()
    world.run_for(1000)
    stood = max(ticks(world))
    world.run_for(60_000)
    assert max(ticks(world)) <= stood + 1
    for node in world.nodes[:2]:
        node.restart()
    world.run_for(25_000)
    world.settle()
    world.check()
    assert max(ticks(world)) >= stood + 8


@pytest.mark.slow
def test_transactions_between_the_votes_do_not_split_them_for_long() -> None:
    world = make_world(delay_ms=(5, 120))
    for sequence in range(1, 300):
        world.do(RICH, Transfer(sequence, STAKERS[0].address, TOKEN))
        world.run_for(67)
    world.check()
    assert max(ticks(world)) >= 14, "twenty seconds, a new slot every 67 ms"


def forged(world: World, key: Key, tick: int, *, slot: int | None = None) -> VoteArrived:
    """What a staker that does not keep to the rules may send."""
    node = world.nodes[0]
    final = node.machine.slot if slot is None else slot
    head, state = node.machine._past[final]
    draft = Vote(world.network.id, tick, final, head, state.root(), key.public)
    return VoteArrived(Verified(draft.signed(key.sign(draft.signing_bytes()))))


def test_a_third_cannot_hurry_the_clock() -> None:
    world = make_world(4)
    hasty = STAKERS[3]
    world.nodes[3].crash()
    for _ in range(200):
        world.run_for(50)
        for node in world.nodes[:3]:
            for ahead in (1, 2, 8, 60):
                node.post(forged(world, hasty, node.tick + ahead, slot=node.machine.slot))
    world.check()
    assert max(ticks(world)) <= 10 * 5 // 4 + 1


def test_a_vote_for_another_state_is_told_once_and_not_followed() -> None:
    world = make_world(4)
    world.run_for(2500)
    node, liar = world.nodes[0], STAKERS[3]
    honest = forged(world, liar, node.tick + 1).vote.value
    draft = replace(honest, root=b"x" * 32, signature=b"")
    wrong = draft.signed(liar.sign(draft.signing_bytes()))
    for _ in range(3):
        node.post(VoteArrived(Verified(wrong)))
    alarms = [alarm for alarm in node.alarms if alarm.reason is Reason.MISMATCH]
    assert len(alarms) == 1
    assert "votes for another root" in alarms[0].detail
    world.run_for(5000)
    world.check()


def test_votes_of_nobody_and_of_far_ticks_are_not_kept() -> None:
    world = make_world(4)
    world.run_for(2500)
    node = world.nodes[0]
    before = node.machine.status()["votes"]["heard"]
    node.post(forged(world, Key.of("nobody"), node.tick + 1))
    node.post(forged(world, STAKERS[1], node.tick + 1000))
    assert node.machine.status()["votes"]["heard"] == before


def test_two_votes_of_one_account_count_once() -> None:
    world = make_world(4)
    world.run_for(2500)
    node, liar = world.nodes[0], STAKERS[3]
    for other in world.nodes[1:]:
        other.crash()
    world.run_for(500)
    tick = node.tick + 1
    node.post(forged(world, liar, tick))
    for slot in list(node.machine._past)[-2:]:
        node.post(forged(world, liar, tick, slot=slot))
    world.run_for(20_000)
    assert node.tick < tick, "two of four stakes are not two thirds"


def test_of_two_keys_of_one_account_one_votes() -> None:
    world = make_world(3)
    session, main = Key.of("session"), STAKERS[0]
    consent = session.sign(delegation_bytes(world.network.id, main.address))
    world.do(main, Delegate(session.public, consent))
    second = world.node(session)
    world.run_for(20_000)
    world.settle()
    world.check()
    assert max(ticks(world)) >= 15
    assert second.machine.weight(session.public) == 2000 * TOKEN
    contents: dict[int, set[object]] = {}
    for (key, tick), raws in world.votes.items():
        if key in (session.public, main.public):
            votes = (Vote.decode(raw, size_max=1 << 10) for raw in raws)
            contents.setdefault(tick, set()).update(content_of(vote) for vote in votes)
    assert all(len(each) == 1 for each in contents.values()), "the stake would be lost"
    assert "another key" in second.machine.voting.silent
    # The other one goes on alone.
    assert world.nodes[0].machine.voting.silent == ""


# Sign-once


def test_an_old_table_is_caught_up_from_peers_before_anything_is_signed() -> None:
    world = make_world()
    world.run_for(3000)
    node = world.nodes[0]
    old = dict(node.disk.tables[Table.SIGN_ONCE])
    world.run_for(4000)
    last = node.machine.voting.last_tick()
    node.crash()
    node.disk.tables[Table.SIGN_ONCE] = dict(old)
    node.restart()
    assert "peers are asked" in node.machine.voting.silent
    world.run_for(300)
    assert node.machine.voting.last_tick() >= last
    assert any(alarm.reason is Reason.STORAGE for alarm in node.alarms)
    world.run_for(5000)
    world.settle()
    world.check()
    assert node.machine.voting.silent == ""
    assert node.machine.voting.last_tick() > last + 2


def test_a_lost_table_and_a_lost_log_contradict_nothing() -> None:
    world = make_world()
    world.run_for(6000)
    node = world.nodes[4]
    node.crash()
    node.disk = type(node.disk)()
    node.tip, node.roots = -1, {}
    node.restart()
    world.run_for(8000)
    world.settle()
    world.check()
    assert node.machine.voting.last_tick() >= 10


def test_with_no_peer_it_waits_and_then_votes_for_later_ticks_only() -> None:
    world = make_world()
    world.run_for(3000)
    node = world.nodes[0]
    rows = dict(node.disk.tables[Table.SIGN_ONCE])
    node.restart()
    assert node.disk.tables[Table.SIGN_ONCE].keys() >= rows.keys()
    world.run_for(3000)
    world.check()


# Whatever happens


class Storm:
    """Crashes, cuts, restarts, transactions and time, as hypothesis likes them."""

    def __init__(self, seed: int, loss: float, lag_ms: int) -> None:
        self.world = make_world(4, seed, loss=loss, lag_ms=lag_ms, run=toy_run)
        self.accused = False
        self.posted: list[bytes] = []

    def node(self, number: int) -> LedgerNode:
        return self.world.nodes[number % len(self.world.nodes)]

    def act(self, what: str, number: int) -> None:
        world, node = self.world, self.node(number)
        match what:
            case "crash":
                node.crash()
            case "restart":
                node.restart()
            case "cut":
                node.cut_in = number // 4 % 3
            case "pay":
                world.do(RICH, Transfer(len(world.log), STAKERS[0].address, TOKEN))
            case "post" if node.up:
                tx = Transfer(len(self.posted), STAKERS[1].address, TOKEN)
                item = transaction_item(world.id, tx, node.key.public, node.key.sign)
                node.cut_in = None
                node.ask(item)
                self.posted.append(item.id)
            case "accuse" if not self.accused:
                self.accused = True
                accused(world, len(world.log))
            case "run":
                world.run_for(number * 40)

    def end(self) -> None:
        world = self.world
        for node in world.nodes:
            node.cut_in = None
            if not node.up:
                node.restart()
        world.loss = 0.0
        before = max(ticks(world))
        world.run_for(25_000)
        world.settle()
        world.check()
        assert min(ticks(world)) >= before + 5, "the clock goes on"
        placed = [slot.message.id for slot in world.log]
        for id in self.posted:
            assert placed.count(id) == 1, "posted transactions get one slot"  # type: ignore[arg-type]
        for node in world.nodes:
            assert len(node.machine.posting) == 0
            assert len(set(node.asked)) <= 1, "one segment, which many may ask for again"
            frozen = node.machine.state.get(Case, STAKERS[0].address)
            assert (frozen is not None) == self.accused


ACTS = st.tuples(
    st.sampled_from(["crash", "restart", "cut", "pay", "post", "accuse", "run", "run"]),
    st.integers(0, 50),
)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(
    st.lists(ACTS, max_size=40),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0, 1, 30]),
)
def test_no_storm_makes_a_node_contradict_itself(
    acts: list[tuple[str, int]], seed: int, loss: float, lag_ms: int
) -> None:
    storm = Storm(seed, loss, lag_ms)
    for what, number in acts:
        storm.act(what, number)
    storm.end()


def test_a_key_of_nobody_has_no_weight() -> None:
    world = make_world(1)
    assert world.nodes[0].machine.weight(NodeKey(b"k" * 32)) == 0
    assert world.nodes[0].machine.weight(STAKERS[0].public) == 2000 * TOKEN
