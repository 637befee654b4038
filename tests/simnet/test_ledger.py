"""A ledger on production nodes in virtual time: the clock ticks, all agree, power cuts included."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import trio

from aonode.crypto.signers import Ed25519Signer
from protocols.ids import address_of
from protocols.ledger.entries import Account, Past
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.machine.voting import content_of
from protocols.network import Network, Unit, sim_parameters
from protocols.wire.ledger_tx import Transfer
from protocols.wire.vote import Vote
from simnet import determinism
from simnet.corridor import MACHINES, engine_of
from simnet.fabric import Fabric, LinkModel
from simnet.host import Host, Plan
from simnet.seed import Seed
from simnet.trace import Trace
from simnet.wire import Medium

TOKEN = 10**9
PARAMETERS = sim_parameters()
TICK_S = PARAMETERS.tick_ms / 1000
POLL_S = 0.5

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Run:
    """What a run came to."""

    trace: str
    ticks: dict[str, int]
    balances: set[int]
    votes: int


class Simulated:
    """Five machines, each with a stake."""

    def __init__(self, seed: Seed, links: LinkModel) -> None:
        self.trace = Trace()
        engine = engine_of(PARAMETERS)
        medium = Medium(Fabric(seed, links), self.trace)
        self.fabric = medium.fabric
        plans = [
            Plan(name, roles, Ed25519Signer(seed.bytes(32, "key", name)))
            for name, roles in MACHINES
        ]
        network = ledger_network(plans, engine.profile)
        self.network = network
        self.hosts = {
            plan.name: Host(plan, seed=seed, network=network, medium=medium, engine=engine)
            for plan in plans
        }
        self.votes: dict[tuple[bytes, int], Vote] = {}
        self.roots: dict[int, bytes] = {}

    async def run(self, cuts: dict[str, float], until_s: float) -> Run:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.fabric.run)
            for host in self.hosts.values():
                nursery.start_soon(host.run)
            for name, at_s in cuts.items():
                nursery.start_soon(self._cut, self.hosts[name], at_s)
            nursery.start_soon(self._pay)
            while trio.current_time() < until_s:
                self._look()
                await trio.sleep(POLL_S)
            told = self._told()
            nursery.cancel_scope.cancel()
        return told

    async def _cut(self, host: Host, at_s: float) -> None:
        await trio.sleep_until(at_s)
        host.crash()

    async def _pay(self) -> None:
        """The messenger's node posts a payment; its scheduler may be without power."""
        await trio.sleep_until(12)
        host = self.hosts["mu"]
        ledger, signer = self.network.ledger, host.plan.signer
        assert ledger is not None
        assert host.node is not None
        assert host.node.ledger is not None
        tx = Transfer(1, self.hosts["cu1"].plan.signer.address, 7 * TOKEN)
        await host.node.ledger.post(transaction_item(ledger, tx, signer.key, signer.sign))

    def _look(self) -> None:
        """Nobody says two things about one slot, or votes twice for one tick."""
        for host in self.hosts.values():
            ledger = host.node.ledger if host.node else None
            if ledger is None:
                continue
            state = ledger.state()
            slot = state.totals().slot
            assert self.roots.setdefault(slot, state.root()) == state.root()
            for _, past in state.all(Past):
                assert self.roots.setdefault(past.slot, past.root) == past.root
            for vote in ledger.votes_of(host.key):  # type: ignore[attr-defined]
                first = self.votes.setdefault((vote.key, vote.tick), vote)
                assert content_of(first) == content_of(vote)

    def _told(self) -> Run:
        ticks: dict[str, int] = {}
        balances = set()
        address = self.hosts["cu1"].plan.signer.address
        for host in self.hosts.values():
            assert host.node is not None
            assert host.node.ledger is not None
            state = host.node.ledger.state()
            ticks[host.name] = state.totals().tick
            account = state.get(Account, address)
            assert account is not None
            balances.add(account.balance)
        return Run(self.trace.hex(), ticks, balances, len(self.votes))


def ledger_network(plans: list[Plan], profile: bytes) -> Network:
    units = tuple(Unit(plan.signer.key, plan.roles, ()) for plan in plans)
    keeper = next(plan.signer for plan in plans if "scheduler" in plan.roles)
    draft = unsigned_ledger(keeper.key, "sim", bytes(32))
    base = Network("sim", address_of(keeper.key), profile, PARAMETERS, units)
    return replace(
        base,
        ledger_item=draft.signed(keeper.sign(draft.message())).raw,
        balances=tuple((plan.signer.address, 1000 * TOKEN) for plan in plans),
        stakes=tuple((plan.signer.address, 2000 * TOKEN) for plan in plans),
    )


def simulate(
    seed: int, cuts: dict[str, float] | None = None, links: LinkModel | None = None
) -> Run:
    root = Seed.root(seed)
    return determinism.run(
        lambda: Simulated(root, links or LinkModel()).run(cuts or {}, 20 * TICK_S), root
    )


def test_the_clock_ticks_and_all_agree() -> None:
    run = simulate(1)
    assert min(run.ticks.values()) >= 18
    assert len(set(run.ticks.values())) == 1
    assert run.votes >= 5 * 18
    (balance,) = run.balances
    assert balance >= 1007 * TOKEN


def test_power_cuts_and_lost_gossip_cost_time_only() -> None:
    cuts = {"su": 11.9, "cu1": 43.0, "cu2": 44.0, "mu": 90.0}
    run = simulate(2, cuts, LinkModel(loss=0.3))
    assert min(run.ticks.values()) >= 12
    assert all(balance >= 1007 * TOKEN for balance in run.balances)


def test_one_seed_gives_one_trace() -> None:
    assert simulate(3).trace == simulate(3).trace
