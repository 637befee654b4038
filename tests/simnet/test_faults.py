"""Faults on production nodes in virtual time, found, shown and paid for by the nodes themselves:
what the demo's lies are not about. Honest units are asked the same and lose nothing."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from aonode.node import Node
from protocols.errors import Invalid, Reason
from protocols.faults import Fault
from protocols.ids import address_of, b64url
from protocols.ledger.entries import Bond, Case, Demanded, Fine, Unhosted
from protocols.ledger.hosting import is_selected
from protocols.ledger.process import transaction_item
from protocols.ledger.state import State
from protocols.ledger.subjects import demand_id
from protocols.machine.asking import FORK_TICKS
from protocols.wire import batch
from protocols.wire.assignment import unsigned_assignment
from protocols.wire.demand import (
    ASSIGNMENT,
    PREVIOUS,
    SCHEDULE,
    ScheduleSubject,
    StatementSlot,
)
from protocols.wire.evidence import statement_id
from protocols.wire.item import Item
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand
from protocols.wire.proof import StateProof
from simnet.corridor import MACHINES
from simnet.workload import Client
from tests.simnet.adversaries import Censor, Inventor, TwoWords
from tests.simnet.test_ledger import PARAMETERS, TICK_S, TOKEN
from tests.simnet.test_statements import World, simulate

STAKE = 2000 * TOKEN
WATCHED = (
    ("mu", ("messenger",)),
    ("su", ("scheduler",)),
    ("cu1", ("compute",)),
    ("w1", ("watcher",)),
    ("w2", ("watcher",)),
)

pytestmark = pytest.mark.slow


def state_of(world: World, name: str) -> State:
    ledger = world.node(name).ledger
    assert ledger is not None
    return ledger.state()


def states(world: World) -> list[State]:
    return [state_of(world, name) for name in world.hosts]


async def post(world: World, name: str, demand: Demand) -> None:
    """A demand by one of the machines, whoever works at it."""
    signer, ledger = world.hosts[name].plan.signer, world.node(name).ledger
    assert ledger is not None
    assert world.network.ledger is not None
    item = transaction_item(world.network.ledger, demand, signer.key, signer.sign)
    await ledger.post(item)


async def burnt(world: World, name: str, fault: Fault) -> None:
    """The whole stake of this machine is burnt, for this fault, on every node; nobody else's."""
    account = address_of(world.key(name))

    def holds() -> bool:
        cases = [state.get(Case, account) for state in states(world)]
        return all(case is not None and case.burnt_tick is not None for case in cases)

    await world.until(holds, f"the stake of {name} is burnt")
    await trio.sleep((PARAMETERS.demand_window + 3) * TICK_S)
    for state in states(world):
        ((key, case),) = state.all(Case)
        assert (key, case.reason[:2]) == (account, fault.value)
        assert not list(state.all(Fine))


async def fined(world: World, fault: Fault, percent: int) -> None:
    """The scheduler has paid this share, and nobody anything else."""
    account = address_of(world.key("su"))

    def holds() -> bool:
        fines = [[fine for _, fine in state.all(Fine, account)] for state in states(world)]
        return all(
            [fine.amount for fine in each if fine.reason.startswith(fault)]
            == [STAKE * percent // 100]
            for each in fines
        )

    await world.until(holds, f"{fault} of the scheduler")
    await trio.sleep(3 * TICK_S)
    for state in states(world):
        assert not list(state.all(Case))
        assert len(list(state.all(Fine))) == 1


# Compute units


async def two_words(world: World) -> None:
    """Two clients ask one unit for one result, compare, and hand what differs to watchers that
    evaluate nothing."""
    await world.spend(3)
    host = world.hosts["cu1"]

    async def ask(node: Node) -> list[bytes]:
        assert node.compute is not None
        api = host.adversary.compute(node.compute)
        return [(await api.result(world.process, 2, 60.0)).receipt for _ in range(2)]

    receipts = await host.call(ask)
    assert receipts is not None
    for name in ("w1", "w2"):
        for receipt in receipts:
            watcher = world.node(name).watcher
            assert watcher is not None
            await watcher.accuse(receipt)
    await burnt(world, "cu1", Fault.CONTRADICTION)
    commits = sum(
        (slot.message.first("Action") == "Evidence-Commit")
        for slot in world.node("mu").replica.slots(world.network.ledger, 0, 10**6, 10**6)  # type: ignore[arg-type]
    )
    assert commits == 1, "one watcher brings it, the other sees it judged"


def test_two_words_for_one_slot_cost_the_stake() -> None:
    bent = {"cu1": TwoWords}
    simulate(1, two_words, make=partial(World, machines=WATCHED, bent=bent))


async def invented(world: World) -> None:
    await world.spend(3)
    await burnt(world, "cu1", Fault.INVENTED_LOG)
    (row,) = [row for row in world.node("cu2").watcher.cases() if row["stage"] == "burnt"][:1]  # type: ignore[union-attr]
    assert row["unit"] == b64url(world.key("cu1"))


def test_statements_about_a_log_that_nobody_signed_cost_the_stake() -> None:
    simulate(2, invented, make=partial(World, bent={"cu1": Inventor}))


async def asked(world: World) -> None:
    """What a proof continues, and what it stands on, of an honest unit that is asked for it."""
    await world.spend(PARAMETERS.proof_every + 5)
    await world.all_proved()
    book = world.node("mu").proofs
    assert book is not None
    heard = [each.raw for each in book.heard(world.process, 0, 99)]
    raw = next(
        raw
        for raw in heard
        if (proof := StateProof.decode(raw)).first and proof.cu == world.key("cu1")
    )
    last = StateProof.decode(raw).last
    now = 1 << 42
    await post(world, "mu", Demand(now, PREVIOUS, raw))
    await post(world, "mu", Demand(now + 1, ASSIGNMENT, StatementSlot(raw, last).encode()))
    id = statement_id(raw)
    wanted = (demand_id(PREVIOUS, id), demand_id(ASSIGNMENT, id, last))

    def answered() -> bool:
        found = [state_of(world, "su").get(Demanded, each) for each in wanted]
        return all(each is not None and each.answered for each in found)

    await world.until(answered, "both are answered")
    await trio.sleep((PARAMETERS.demand_window + 3) * TICK_S)
    for state in states(world):
        assert not list(state.all(Case))
        bonds = [state.get(Bond, address_of(world.key(name))) for name in world.hosts]
        assert bonds == [Bond(STAKE, 0, False)] * len(MACHINES)


def test_an_honest_unit_shows_what_it_continues_and_what_it_stands_on() -> None:
    simulate(3, asked)


# Schedulers


async def censored(world: World) -> None:
    """One sender's messages never get a slot; others' do, until the log loses its host."""
    host = world.hosts["su"]
    victim = Client("victim", world.owner._seed, world.hosts["mu"], world.trace)
    assert isinstance(host.adversary, Censor)
    host.adversary.owner = victim.signer.key
    message = victim.item(world.process, Type="Message", Action="Info")
    await victim.submit(message)
    await world.spend(2)
    await trio.sleep(2 * TICK_S)
    replica = world.node("mu").replica
    assert replica.find(message.id) is None, "promised, offered again and again, and not assigned"
    zero = replica.slot(world.process, 0)
    assert zero is not None
    subject = ScheduleSubject(
        ItemHead.of(zero.message), zero.assignment.item.raw, message.raw
    ).encode()
    await post(world, "mu", Demand(1 << 42, SCHEDULE, subject))
    await fined(world, Fault.CENSORED, 5)
    assert host.adversary.refused > 1
    for name in world.hosts:
        mark = state_of(world, name).get(Unhosted, world.process)
        assert mark is not None
        assert mark.fault == Fault.CENSORED
    await closed(world, world.owner.item(world.process, Type="Message", Action="Info"))


async def closed(world: World, message: Item) -> None:
    """No messenger takes a message for the log any more, and says why."""
    messenger = world.node("mu").messenger
    assert messenger is not None
    with pytest.raises(Invalid, match="spawn a new process") as refused:
        await messenger.submit(message)
    assert refused.value.reason is Reason.UNHOSTED
    assert b64url(world.process) in str(refused.value)


def test_a_censored_sender_takes_the_log_from_its_scheduler() -> None:
    simulate(4, censored, make=partial(World, bent={"su": Censor}))


def given(world: World, name: str, item: Item, assignment: bytes) -> None:
    """A slot that the scheduler's key has signed reaches one node."""
    entry = batch.slot_entry(assignment, batch.item_entry(item.raw, item.id, 1 << 16))
    assert world.node(name)._admission.slots_door(world.key("su"), batch.pack([entry]))


async def misordered(world: World) -> None:
    """A slot whose time is before that of the slot it follows; two nodes hear it."""
    await world.spend(2)
    await world.all_proved()
    chain = world.node("cu1").replica.chain(world.process)
    assert chain is not None
    message = world.owner.item(world.process, Type="Message", Action="Info")
    draft = unsigned_assignment(
        world.key("su"), world.process, chain.nonce + 1,
        hash_chain=chain.hash_chain_next(), timestamp=chain.timestamp - 1,
        message=message.id, head_prev=chain.head,
    )  # fmt: skip
    raw = draft.signed(world.hosts["su"].plan.signer.sign(draft.message())).raw
    for name in ("cu1", "cu2"):
        given(world, name, message, raw)
    await fined(world, Fault.BAD_ASSIGNMENT, 50)


def test_time_that_goes_back_costs_half() -> None:
    simulate(5, misordered)


async def forked(world: World) -> None:
    """One compute unit is shown a next slot that nobody else is; then the log goes on elsewhere."""
    await world.spend(2)
    await world.all_proved()
    chain = world.node("cu1").replica.chain(world.process)
    assert chain is not None
    message = world.owner.item(world.process, Type="Message", Action="Other")
    draft = chain.draft(world.key("su"), chain.timestamp, message.id)
    raw = draft.signed(world.hosts["su"].plan.signer.sign(draft.message())).raw
    given(world, "cu1", message, raw)
    twice = chain.nonce + 1
    await world.until(lambda: evaluated(world, "cu1", twice), "it evaluates that slot")
    await world.spend(2)
    await burnt(world, "su", Fault.TWO_ASSIGNMENTS)
    branches = {name: branch(world, name) for name in world.hosts}
    assert set(branches.values()) == {True, False}, "each node keeps the branch it saw first"
    lengths = {name: length(world, name) for name in world.hosts}
    assert lengths["cu1"] == twice, "nothing is added to the branch that only one node has"
    for name in ("cu1", "cu2", "cu3"):
        stopped = world.node(name).status()["machines"]["compute"]["stopped"]
        assert bool(stopped) != branches[name], "on the branch that does not hold nothing is signed"
        assert all("was given twice" in why for why in stopped.values())
    await closed(world, world.owner.item(world.process, Type="Message", Action="Info"))
    await trio.sleep((PARAMETERS.demand_window + FORK_TICKS) * TICK_S)
    assert {name: length(world, name) for name in world.hosts} == lengths
    for state in states(world):
        for name in ("mu", "cu1", "cu2", "cu3"):
            assert state.get(Bond, address_of(world.key(name))) == Bond(STAKE, 0, False)


def evaluated(world: World, name: str, slot: int) -> bool:
    compute = world.node(name).compute
    assert compute is not None
    return bool(compute.results(world.process, slot, slot, 1))


def branch(world: World, name: str) -> bool | None:
    mark = state_of(world, name).get(Unhosted, world.process)
    assert mark is not None
    return is_selected(mark, partial(world.node(name).replica.held, world.process))


def length(world: World, name: str) -> int:
    chain = world.node(name).replica.chain(world.process)
    assert chain is not None
    return chain.nonce


def test_of_a_forked_log_one_branch_is_followed_and_the_others_units_are_not_guilty() -> None:
    simulate(6, forked)
