"""Watchers: every wrong statement ends with a burnt stake, no honest unit is ever accused."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from protocols.accumulator import mmr_of
from protocols.ledger.entries import Fine
from protocols.ledger.subjects import demand_id
from protocols.machine.asking import FORK_TICKS
from protocols.machine.case import Stage
from protocols.machine.effects import Audit
from protocols.machine.events import Extended, ForkSeen, LedgerMoved, StatementArrived
from protocols.trust import Verified
from protocols.wire.assignment import Chain
from protocols.wire.demand import LEAVES, PREVIOUS, LeavesAnswer
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.ledger_tx import Demand, Reply, Transfer
from protocols.wire.proof import Leaf, StateProof
from protocols.wire.vote import Vote
from tests.protocols.ledger.world import POOR, RICH, STAKERS, TOKEN
from tests.protocols.machine.watch_world import FORKED, LOG_KEEPER, PROCESS, TRUTH, World
from tests.protocols.machine.world import Key, item, next_slot
from tests.protocols.toy import FORK, branches, receipts, state_proof, toy_leaves

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
    sent = [len(first.posted), len(second.posted)]
    assert 0 in sent, "only one of them has committed to evidence"
    assert sum(sent) == 3


def test_a_receipt_for_one_client_is_enough() -> None:
    """Nobody else has heard of it, and no leaf hash has to be asked for."""
    for kind in ("balance", "undo", "refused"):
        world = World()
        world.node(FIRST)
        leaf = lied(kind, 13)[13]
        own = TRUTH.own()
        root = mmr_of([*own.hashes[:13], leaf.hash()]).root()
        world.hear(world.receipt(LIAR, TRUTH.leaves, 13, leaf=leaf, mmr_root=root))
        convicted(world)


def test_a_receipt_that_is_not_even_in_its_own_range() -> None:
    world = World()
    world.node(FIRST)
    world.hear(world.receipt(LIAR, TRUTH.leaves, 13, leaf=lied("undo", 13)[13]))
    convicted(world)


def test_withheld_leaves_are_demanded_and_silence_costs_the_stake() -> None:
    world = World()
    first, second = world.node(FIRST), world.node(SECOND)
    raw = world.proof(LIAR, lied("balance", 11), 8, 15)
    world.leaves.clear()
    world.hear(raw)
    assert first.stages() == second.stages() == ["demanded"]
    deadline = world.state.totals().tick + world.network.parameters.demand_window
    for node in (first, second):
        (told,) = (each.summary() for each in node.machine.cases())
        assert told["deadline"] == deadline
        assert told["why"].endswith(f"demanded on the ledger, to be answered by tick {deadline}")
    assert world.frozen() == []
    world.pass_time(world.network.parameters.demand_window + 1)
    assert world.frozen() == [LIAR]
    case = world.case(LIAR)
    assert case is not None
    assert case.challenger is None
    convicted(world)


def test_leaves_given_on_the_ledger_only() -> None:
    """An answer of the accused closes the demand and convicts it."""
    world = World()
    world.node(FIRST)
    leaves = lied("undo", 11)
    raw = world.proof(LIAR, leaves, 8, 15)
    world.leaves.clear()
    world.hear(raw)
    own = TRUTH.own()
    answer = LeavesAnswer(
        mmr_of(own.hashes[:8]).peaks, b"".join(leaf.hash() for leaf in leaves[8:16])
    )
    junk = replace(answer, leaves=bytes(32 * 8))
    for each in (junk, answer):
        world.send(LIAR, Reply(demand_id(LEAVES, statement_id(raw)), each.encode()))
    convicted(world)


def test_what_a_wrong_range_continues_is_found() -> None:
    """Nobody heard the proof in which it went wrong: the unit is asked, and then made to show."""
    for given in (True, False):
        world = World()
        world.node(FIRST)
        leaves = lied("balance", 5)
        before = world.proof(LIAR, leaves, 0, 7)
        if given:
            world.given[LIAR.public] = [StateProof.decode(before)]
        world.hear(world.proof(LIAR, leaves, 8, 15))
        if not given:
            assert world.frozen() == []
            world.pass_time(world.network.parameters.demand_window + 1)
        convicted(world)


def test_a_wrong_state_root_or_sum() -> None:
    for changes in ({"state_root": b"r" * 32}, {"fuel": 7}):
        world = World()
        node = world.node(FIRST)
        world.hear(world.proof(LIAR, TRUTH.leaves, 8, 15, **changes))
        assert node.audits == []
        convicted(world)


def test_two_statements_that_exclude_each_other() -> None:
    """Where this node cannot tell which is wrong, it need not."""
    world = World()
    node = world.node(FIRST)
    node.upto = 5
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    assert node.stages() == []
    world.hear(world.proof(LIAR, TRUTH.leaves, 8, 15))
    assert node.audits == []
    convicted(world)


def test_two_votes_for_one_tick() -> None:
    world = World()
    world.node(FIRST)
    for slot in (1, 2):
        vote = Vote(world.network.id, 9, slot, b"h" * 32, b"r" * 32, LIAR.public)
        world.vote(vote.signed(LIAR.sign(vote.signing_bytes())))
    convicted(world)


def test_what_is_not_evaluated_yet_is_compared_later() -> None:
    world = World()
    node = world.node(FIRST)
    node.upto = 8
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    assert node.stages() == []
    world.evaluated(node, 14)
    assert node.stages() == []
    world.evaluated(node, 16)
    convicted(world)


def test_nobody_is_accused_under_another_profile() -> None:
    world = World()
    node = world.node(FIRST)
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15, profile=b"q" * 32))
    assert node.stages() == []
    assert node.posted == []


def other_branch(world: World, key: Key) -> bytes:
    """The proof of a unit that follows the other branch of the log."""
    made = receipts(FORKED.leaves, FORKED.heads, key)
    return world.sealed(state_proof(made, 16, 23, key), key)


def test_who_follows_another_branch_is_asked_for_it_and_the_scheduler_pays() -> None:
    world = World()
    node, other = world.node(FIRST), world.node(SECOND, branch=FORKED)
    world.hear(other_branch(world, SECOND), node)
    assert node.stages() == ["leaves"]
    world.pass_time(FORK_TICKS)
    assert world.frozen() == [LOG_KEEPER]
    world.pass_time(world.network.parameters.demand_window)
    assert world.frozen() == [LOG_KEEPER]
    assert set(node.stages()) == {"dropped", "burnt"}
    assert other.stages() == []


def test_a_fork_that_is_known_explains_another_branch() -> None:
    world = World()
    node = world.node(FIRST)
    one, two = (branch.slots[FORK].assignment for branch in (FORKED, TRUTH))
    world.say(ForkSeen(one, two))
    assert world.frozen() == [LOG_KEEPER]
    world.hear(other_branch(world, SECOND))
    world.pass_time(world.network.parameters.demand_window + FORK_TICKS)
    assert world.frozen() == [LOG_KEEPER]
    actions = {each.first("Action") for each in node.posted}
    assert "Demand" not in actions


def test_an_invented_log_costs_the_stake() -> None:
    """Nobody can show the assignment that the unit says it has evaluated."""
    world = World()
    world.node(FIRST)
    world.hear(world.proof(LIAR, TRUTH.leaves, 8, 15, head=b"h" * 32))
    world.pass_time(world.network.parameters.demand_window + FORK_TICKS + 1)
    assert world.frozen() == [LIAR]


def test_an_item_that_must_be_refused_costs_the_scheduler_a_share() -> None:
    world = World()
    node = world.node(FIRST)
    chain = Chain.genesis(PROCESS)
    for slot in TRUTH.slots:
        chain = chain.next(slot)
    bad = item(
        RICH, [("Data-Protocol", "ao"), ("Type", "Message"), ("x+link", "y")], target=PROCESS
    )
    slot = next_slot(LOG_KEEPER, chain, bad, 5_000)
    world.say(Extended(PROCESS, (slot,), (chain.next(slot).head,)))
    assert world.frozen() == []
    fines = list(world.state.all(Fine, LOG_KEEPER.address))
    assert len(fines) == 1
    world.pass_time(2)
    assert node.stages() == ["burnt"]
    world.say(Extended(PROCESS, (slot,), (chain.next(slot).head,)))
    assert len(list(world.state.all(Fine, LOG_KEEPER.address))) == 1


def test_honest_statements_accuse_nobody() -> None:
    world = World()
    nodes = [world.node(key) for key in STAKERS]
    for key in STAKERS:
        for first in range(0, 24, 8):
            world.hear(world.proof(key, TRUTH.leaves, first, first + 7))
        for slot in range(30):
            world.hear(world.receipt(key, TRUTH.leaves, slot))
    for node in nodes:
        assert node.stages() == []
        assert node.posted == []
        assert node.machine.status()["statements"] == 0


def test_a_watcher_without_leaves_runs_what_units_disagree_about() -> None:
    world = World()
    node = world.node(FIRST, evaluates=False)
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    assert node.audits == []
    world.hear(world.proof(SECOND, TRUTH.leaves, 8, 15))
    assert node.audits[0] == Audit(PROCESS, 15)
    convicted(world)


def test_a_watcher_without_leaves_runs_by_lot() -> None:
    world = World()
    node = world.node(FIRST, evaluates=False, audit_share=1)
    world.hear(world.proof(SECOND, TRUTH.leaves, 0, 7))
    assert node.audits == [Audit(PROCESS, 7)]
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    convicted(world)


def test_a_known_fact_needs_no_witness() -> None:
    world = World()
    first = world.node(FIRST)
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    assert len(first.audits) == 1
    world.hear(world.proof(THIRD, lied("fuel", 13), 8, 15))
    assert world.frozen() == [LIAR, THIRD]
    assert len(first.audits) == 1


def test_a_watcher_without_coins_says_so_and_goes_on_when_it_has_some() -> None:
    world = World()
    node = world.node(POOR)
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    (case,) = node.machine.cases()
    assert case.stage is Stage.PROVED
    assert "balance 0" in case.why
    world.send(RICH, Transfer(1, POOR.address, 100 * TOKEN))
    convicted(world)


def test_nothing_is_spent_on_who_has_nothing_to_lose() -> None:
    world = World()
    node = world.node(FIRST)
    world.hear(world.proof(Key.of("nobody"), lied("undo", 13), 8, 15))
    assert node.stages() == []
    assert node.posted == []


def test_a_wrong_own_leaf_accuses_nobody() -> None:
    """The disk or the live session of this node is bad: running the segment again shows it."""
    world = World()
    bad = branches()[0]
    node = world.node(FIRST, branch=replace(bad, leaves=tuple(lied("undo", 13))))
    world.hear(world.proof(SECOND, TRUTH.leaves, 8, 15))
    (case,) = node.machine.cases()
    assert case.stage is Stage.DROPPED
    assert "innocent" in case.why
    assert node.posted == []


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_repeats_a_step_and_takes_no_other(seed: int) -> None:
    """Whenever the watcher loses its memory: one commit, one bond, and the liar's stake gone."""
    random = Random(seed)
    world = World()
    first = world.node(FIRST)
    world.crash = lambda node, event: random.random() < 0.3
    raw = world.proof(LIAR, lied("balance", 13), 8, 15)
    for _ in range(40):
        world.hear(raw)
        world.say(LedgerMoved(world.state, world.head, ()))
        if world.frozen():
            break
    world.crash = lambda node, event: False
    convicted(world)
    commits = [each for each in world.items if each.first("Action") == "Evidence-Commit"]
    assert len(commits) == 1
    assert first.machine.status()["cases"] == {"burnt": 1}


def test_a_demand_about_an_honest_unit_is_answered_by_itself_at_once() -> None:
    world = World()
    nodes = [world.node(key) for key in (FIRST, SECOND)]
    raw = world.proof(FIRST, TRUTH.leaves, 8, 15)
    world.send(RICH, Demand(1, LEAVES, raw))
    assert [len(node.posted) for node in nodes] == [1, 0]
    world.pass_time(world.network.parameters.demand_window + 2)
    assert world.frozen() == []


def test_others_answer_for_a_unit_that_is_away() -> None:
    world = World()
    second = world.node(SECOND)
    late = world.node(THIRD, evaluates=False)
    world.send(RICH, Demand(1, LEAVES, world.proof(FIRST, TRUTH.leaves, 8, 15)))
    assert second.posted == []
    world.pass_time(world.network.parameters.demand_window + 2)
    assert world.frozen() == []
    assert second.posted or late.posted


def test_what_an_honest_unit_continues_is_shown() -> None:
    world = World()
    first = world.node(FIRST)
    before, raw = (world.proof(FIRST, TRUTH.leaves, start, start + 7) for start in (0, 8))
    first.heard.append(before)
    world.send(RICH, Demand(1, PREVIOUS, raw))
    world.pass_time(world.network.parameters.demand_window + 2)
    assert world.frozen() == []


def test_cases_are_bounded() -> None:
    world = World()
    node = world.node(POOR)
    for number in range(12):
        world.hear(world.proof(LIAR, lied("undo", 8 + number % 8), 8, 15, fuel=number))
    assert len(node.machine.cases()) <= 4


def test_what_was_heard_before_a_crash_is_heard_again() -> None:
    """The proof waited for this node's own leaves when it stopped, and is not said again."""
    world = World()
    node = world.node(FIRST)
    node.upto = 8
    world.hear(world.proof(LIAR, lied("undo", 13), 8, 15))
    assert node.stages() == []
    node.start()
    world.say(LedgerMoved(world.state, world.head, ()))
    world.evaluated(node, 16)
    convicted(world)


@pytest.mark.parametrize("crashes", [0.0, 0.3])
def test_evidence_in_many_parts(monkeypatch: pytest.MonkeyPatch, crashes: float) -> None:
    monkeypatch.setattr("protocols.machine.accusing.PART_BYTES_MAX", 700)
    random = Random(5)
    world = World()
    world.node(FIRST)
    world.crash = lambda node, event: random.random() < crashes
    raw = world.proof(LIAR, lied("undo", 13), 8, 15)
    for _ in range(40):
        world.hear(raw)
        world.say(LedgerMoved(world.state, world.head, ()))
    world.crash = lambda node, event: False
    convicted(world)
    actions = [each.first("Action") for each in world.items]
    assert actions.count("Evidence-Commit") == actions.count("Evidence-Reveal") == 1
    assert actions.count("Evidence-Part") > 5


def test_nothing_is_demanded_of_who_is_proved_guilty_already() -> None:
    world = World()
    node = world.node(SECOND)
    leaves = lied("balance", 11)
    proof = world.proof(LIAR, leaves, 8, 15)
    world.leaves.clear()
    receipt = world.receipt(LIAR, leaves, 11)
    for raw in (receipt, proof):
        world.later(node, StatementArrived(raw, Verified(statement_of(raw))))
    world.settle()
    actions = [each.first("Action") for each in node.posted]
    assert actions == ["Evidence-Commit", "Evidence-Part", "Evidence-Reveal"]
    convicted(world)
