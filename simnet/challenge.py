"""A challenge: five nodes with a ledger and stakes, one of three compute units lies.

Is the liar's stake burnt, and nobody else's; do all nodes show the same verdict under the same
ledger root? One seed gives one trace. The nodes, the liar and the demo's are the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.demo import LIES
from aonode.demo.liar import Liar
from aonode.node import Node
from protocols.ids import Address, ItemId, ProcessId, address_of, b64url
from protocols.ledger.entries import PAST_SLOTS, Bond, Case, Past
from protocols.ledger.process import unsigned_ledger
from protocols.ledger.state import State
from protocols.network import Network, Parameters, Unit, sim_parameters
from simnet import determinism
from simnet.corridor import MACHINES, engine_of
from simnet.fabric import Fabric, LinkModel
from simnet.host import Host, Plan
from simnet.seed import Seed
from simnet.trace import Trace, TraceEvent
from simnet.wire import Medium
from simnet.workload import Client, token_module

LIAR = "cu3"
LEDGER_STAKE, LEDGER_BALANCE = 2000, 1000
"""Tokens of every node."""
QUESTIONS = 3
POLL_S = 1.0
CALM_S = 60.0
"""After the verdict the world runs on so long: a second one would come now."""
ASK_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    seed: int = 1
    lie: str | None = "balance"
    """One of `aonode.demo.LIES`; None for a network without a liar."""
    transfers: int = 8
    links: LinkModel = field(default_factory=LinkModel)
    rest_s_max: float = 1800.0
    crashes: tuple[tuple[str, float], ...] = ()
    """(machine, virtual second of a power cut); not of the liar, which remembers nothing."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    seed: int
    lie: str
    trace: str = ""
    events: int = 0
    virtual_ms: int = 0
    ticks: int = 0
    slashed: list[str] = field(default_factory=list)
    """Names of the machines with a case against them."""
    reason: str = ""
    frozen_s: float = 0.0
    burnt_s: float = 0.0
    """Virtual seconds since the first wrong answer."""
    ledger_slot: int = -1
    ledger_root: str = ""
    violations: list[str] = field(default_factory=list)
    tail: tuple[TraceEvent, ...] = ()


def run(options: Options) -> Report:
    """Run one challenge to its end. What a node raises by mistake comes out."""
    assert options.lie is None or options.lie in LIES, f"{options.lie} is none of {LIES}"
    seed = Seed.root(options.seed)
    return determinism.run(lambda: _Challenge(options, seed).run(), seed)


class _Challenge:
    def __init__(self, options: Options, seed: Seed) -> None:
        self._options = options
        self._trace = Trace()
        parameters = sim_parameters()
        engine = engine_of(parameters)
        medium = Medium(Fabric(seed, options.links), self._trace)
        self._fabric = medium.fabric
        plans = [self._plan(name, roles, seed) for name, roles in MACHINES]
        # Its id stands in the network file, so it is signed before there is a network.
        module = token_module(Ed25519Signer(seed.bytes(32, "key", "owner")), seed)
        network = _network(plans, engine.profile, parameters, seed, module.id)
        self._hosts = {
            plan.name: Host(plan, seed=seed, network=network, medium=medium, engine=engine)
            for plan in plans
        }
        self._module = module
        self._owner = Client("owner", seed, self._hosts["mu"], self._trace)
        self._process = ProcessId(b"")
        self._lied_at = 0.0

    def _plan(self, name: str, roles: tuple[str, ...], seed: Seed) -> Plan:
        signer = Ed25519Signer(seed.bytes(32, "key", name))
        lie = self._options.lie
        if name != LIAR or lie is None:
            return Plan(name, roles, signer)
        return Plan(name, roles, signer, lambda network, key: Liar(lie, network, key))

    async def run(self) -> Report:
        report = Report(self._options.seed, self._options.lie or "none")
        async with trio.open_nursery() as nursery:
            await nursery.start(self._fabric.run)
            for host in self._hosts.values():
                nursery.start_soon(host.run)
            for name, at_s in self._options.crashes:
                nursery.start_soon(self._crash, self._hosts[name], at_s)
            with trio.move_on_at(self._options.rest_s_max) as limit:
                await self._ask()
                await self._until_burnt(report)
                await trio.sleep(CALM_S)
            if limit.cancelled_caught:
                report.violations.append(
                    f"liveness: no verdict within {self._options.rest_s_max:g} s"
                )
            self._judge(report)
            nursery.cancel_scope.cancel()
        return report

    async def _crash(self, host: Host, at_s: float) -> None:
        await trio.sleep_until(at_s)
        host.crash()

    async def _ask(self) -> None:
        """A token process, some transfers, and questions that the liar answers wrongly."""
        owner = self._owner
        module = await owner.publish_module(self._module)
        su, mu = (address_of(self._hosts[name].key) for name in ("su", "mu"))
        self._process = await owner.spawn(module, su, mu)
        for number in range(self._options.transfers):
            account = b64url(address_of(b"account %d" % number))
            await owner.transfer(self._process, account, 100 + number)
        self._lied_at = trio.current_time()
        for _ in range(QUESTIONS):
            question = owner.item(self._process, Type="Message", Action="Balances")
            await owner.submit(question)
            if self._options.lie not in (None, "withhold"):
                await self._ask_liar(question.id)

    async def _ask_liar(self, message: ItemId) -> None:
        """A client asks the liar, and hands what it gets to the others."""
        api = self._hosts[LIAR].adversary.compute

        async def ask(node: Node) -> bytes:
            assert node.compute is not None, "the liar is a compute unit"
            process, slot = await node.replica.wait_slot(message, ASK_S_MAX)
            return (await api(node.compute).result(process, slot, ASK_S_MAX)).receipt

        receipt = await self._hosts[LIAR].call(ask)
        assert receipt is not None, "the liar is not cut off"

        async def hand_over(node: Node) -> None:
            assert node.watcher is not None, "compute units watch"
            await node.watcher.accuse(receipt)

        for name in ("cu1", "cu2"):
            await self._hosts[name].call(hand_over)

    # The verdict

    def _states(self) -> dict[str, State]:
        return {
            host.name: host.node.ledger.state()
            for host in self._hosts.values()
            if host.node is not None and host.node.ledger is not None
        }

    def _case(self, state: State) -> Case | None:
        return state.get(Case, address_of(self._hosts[LIAR].key))

    async def _until_burnt(self, report: Report) -> None:
        """Until every node shows the liar's stake burnt; a network without a liar just rests."""
        if self._options.lie is None:
            await trio.sleep(sim_parameters().challenge_window * sim_parameters().tick_ms / 1000)
            return
        while True:
            states = self._states()
            cases = [self._case(state) for state in states.values()]
            now = round(trio.current_time() - self._lied_at, 3)
            if any(cases) and not report.frozen_s:
                report.frozen_s = now
            if len(states) == len(self._hosts) and all(
                case is not None and case.burnt_tick is not None for case in cases
            ):
                report.burnt_s = now
                return
            await trio.sleep(POLL_S)

    def _judge(self, report: Report) -> None:
        states = self._states()
        names = {address_of(host.key): host.name for host in self._hosts.values()}
        for name, state in states.items():
            self._judge_state(report, name, state, names)
        common = min(state.totals().slot for state in states.values()) - 1
        pasts = {name: state.get(Past, common % PAST_SLOTS) for name, state in states.items()}
        if len(set(pasts.values())) != 1:
            report.violations.append(f"ledgers differ after slot {common}: {pasts}")
        any_past = next(iter(pasts.values()))
        if any_past is not None:
            report.ledger_slot, report.ledger_root = any_past.slot, b64url(any_past.root)
        first = next(iter(states.values()))
        report.slashed = [names[Address(key)] for key, _ in first.all(Case)]
        report.reason = next((case.reason for _, case in first.all(Case)), "")
        report.ticks = first.totals().tick
        if report.slashed != ([] if self._options.lie is None else [LIAR]):
            report.violations.append(f"{report.slashed} are slashed, the liar is {LIAR}")
        report.virtual_ms = int(trio.current_time() * 1000)
        report.trace, report.events = self._trace.hex(), self._trace.count
        report.tail = self._trace.events

    def _judge_state(
        self, report: Report, name: str, state: State, names: dict[Address, str]
    ) -> None:
        totals = state.totals()
        if state.held() != totals.genesis + totals.minted - totals.burnt:
            report.violations.append(f"I7: the supply of {name} does not add up")
        for key, bond in state.all(Bond):
            who = names[Address(key)]
            if bond.frozen and (self._options.lie is None or who != LIAR):
                report.violations.append(f"I4: {name} has frozen the stake of honest {who}")


def _network(
    plans: list[Plan], profile: bytes, parameters: Parameters, seed: Seed, module: ItemId
) -> Network:
    keeper = next(plan.signer for plan in plans if "scheduler" in plan.roles)
    draft = unsigned_ledger(keeper.key, "challenge", seed.bytes(32, "ledger"))
    token = 10**parameters.denomination
    accounts = [plan.signer.address for plan in plans]
    network = Network(
        "challenge",
        keeper.address,
        profile,
        parameters,
        tuple(Unit(plan.signer.key, plan.roles, ()) for plan in plans),
    )
    return replace(
        network,
        ledger_item=draft.signed(keeper.sign(draft.message())).raw,
        slashable_modules=(module,),
        balances=tuple((account, LEDGER_BALANCE * token) for account in accounts),
        stakes=tuple((account, LEDGER_STAKE * token) for account in accounts),
    )


__all__ = ["LIAR", "Options", "Report", "run"]
