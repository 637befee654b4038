"""The corridor: one messenger, one scheduler, three compute units, and clients with tokens.

Does every acknowledged message reach its log once, do the three compute units agree on every
root, and does a transfer from one process to another arrive as exactly one push; whatever crashes
in between? One seed gives one trace.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from aonode.api import EvaluatedSlot
from aonode.crypto.signers import Ed25519Signer
from aonode.engine.wasm import WasmEngine
from aonode.ports import Engine
from protocols.ids import ItemId, ProcessId, address_of, b64url
from protocols.network import Network, Parameters, Unit, sim_parameters
from protocols.outbox import FORMAT_CBOR, Bounds, derive
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt
from simnet import determinism
from simnet.checks import (
    Place,
    SlotWatch,
    check_acknowledged,
    check_log,
    check_receipts,
)
from simnet.fabric import Fabric, LinkModel
from simnet.host import Host, Plan
from simnet.seed import Seed
from simnet.trace import Trace, TraceEvent
from simnet.wire import Medium
from simnet.workload import Client

MACHINES = (
    ("mu", ("messenger",)),
    ("su", ("scheduler",)),
    ("cu1", ("compute",)),
    ("cu2", ("compute",)),
    ("cu3", ("compute",)),
)
NAMES = tuple(name for name, _ in MACHINES)
WALLETS = 3
POLL_S = 0.5
CALM_S = 20.0
"""After all has arrived the world runs on so long: what comes twice comes now."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut of one machine in its n-th sync, after (`durable`) or before it took."""

    machine: str
    sync: int
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    seed: int = 1
    transfers: int = 24
    links: LinkModel = field(default_factory=LinkModel)
    rest_s_max: float = 300.0
    """A run that has not come to rest by this virtual second has failed."""
    cuts: tuple[Cut, ...] = ()
    crashes: tuple[tuple[str, float], ...] = ()
    """(machine, virtual second of a power cut)."""
    outages: tuple[tuple[str, float, float], ...] = ()
    """(machine, from, to): between these virtual seconds it runs and reaches nobody."""
    dropped_syncs: tuple[tuple[str, int], ...] = ()
    """(machine, sync): that sync makes nothing durable, and says it did."""
    flipped_publish: int | None = None
    """The lowest bit of the first byte of this publish (from 1, over all nodes) flips."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    seed: int
    trace: str = ""
    events: int = 0
    virtual_ms: int = 0
    messages: int = 0
    """Items that were acknowledged."""
    scheduled: int = 0
    """Slots in the scheduler's logs."""
    pushed: int = 0
    """Slots that hold an outbox entry of another process."""
    results: int = 0
    """Slots that all three compute units have signed."""
    roots_equal: bool = False
    boots: dict[str, int] = field(default_factory=dict)
    syncs: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    tail: tuple[TraceEvent, ...] = ()
    """The last events, for a person."""


def run(options: Options) -> Report:
    """Run one corridor to its end. What a node raises by mistake comes out."""
    seed = Seed.root(options.seed)
    return determinism.run(lambda: _Corridor(options, seed).run(), seed)


@functools.cache
def engine_of(parameters: Parameters) -> Engine:
    """One for all nodes and runs: it holds compiled code, and no state of a process."""
    return WasmEngine(
        fuel_max=parameters.fuel_max,
        memory_max=parameters.memory_max,
        output_bytes_max=parameters.output_bytes_max,
        outbox_max=parameters.outbox_max,
    )


class _Corridor:
    def __init__(self, options: Options, seed: Seed) -> None:
        self._options = options
        self._trace = Trace()
        self._parameters = sim_parameters()
        engine = engine_of(self._parameters)
        medium = Medium(Fabric(seed, options.links), self._trace)
        self._fabric = medium.fabric
        self._watch = SlotWatch()
        medium.watchers.append(self._watch)
        if options.flipped_publish is not None:
            medium.flip_byte(options.flipped_publish)
        plans = [
            Plan(name, roles, Ed25519Signer(seed.bytes(32, "key", name)))
            for name, roles in MACHINES
        ]
        network = _network(plans, engine.profile, self._parameters)
        self._hosts = {
            plan.name: Host(plan, seed=seed, network=network, medium=medium, engine=engine)
            for plan in plans
        }
        for cut in options.cuts:
            self._hosts[cut.machine].drive.cut_at_sync(cut.sync, durable=cut.durable)
        for name, sync in options.dropped_syncs:
            self._hosts[name].drive.drop_sync(sync)
        messenger = self._hosts["mu"]
        self._owner = Client("owner", seed, messenger, self._trace)
        self._wallets = [
            Client(f"wallet{number}", seed, messenger, self._trace) for number in range(WALLETS)
        ]
        self._processes: list[ProcessId] = []

    async def run(self) -> Report:
        report = Report(self._options.seed)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._fabric.run)
            for host in self._hosts.values():
                nursery.start_soon(host.run)
            for name, at_s in self._options.crashes:
                nursery.start_soon(self._crash, self._hosts[name], at_s)
            for name, from_s, to_s in self._options.outages:
                nursery.start_soon(self._outage, self._hosts[name], from_s, to_s)
            with trio.move_on_at(self._options.rest_s_max) as limit:
                await self._clients()
                while not self._at_rest():
                    await trio.sleep(POLL_S)
                await trio.sleep(CALM_S)
                while not self._at_rest():
                    await trio.sleep(POLL_S)
            if limit.cancelled_caught:
                report.violations.append(f"liveness: no rest within {self._options.rest_s_max:g} s")
                report.violations.extend(self._unrest())
            self._judge(report)
            nursery.cancel_scope.cancel()
        return report

    async def _crash(self, host: Host, at_s: float) -> None:
        await trio.sleep_until(at_s)
        host.crash()

    async def _outage(self, host: Host, from_s: float, to_s: float) -> None:
        await trio.sleep_until(from_s)
        self._fabric.set_down(host.key, True)
        await trio.sleep_until(to_s)
        self._fabric.set_down(host.key, False)

    # Clients

    async def _clients(self) -> None:
        module = await self._owner.publish_module()
        scheduler = address_of(self._hosts["su"].key)
        authority = address_of(self._hosts["mu"].key)
        for _ in range(2):
            self._processes.append(await self._owner.spawn(module, scheduler, authority))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fund)
            for number, wallet in enumerate(self._wallets):
                nursery.start_soon(self._spend, number, wallet)

    async def _fund(self) -> None:
        """The owner sends to the wallets and, every third time, to the other process."""
        coin, other = self._processes
        for number in range(self._options.transfers // 2):
            wallet = self._wallets[number % WALLETS].account
            recipient = b64url(other) if number % 3 == 0 else wallet
            await self._owner.transfer(coin, recipient, 100 + number)

    async def _spend(self, number: int, wallet: Client) -> None:
        """A wallet sends what it may not have yet: then the result is an error, everywhere."""
        share = range(number, self._options.transfers - self._options.transfers // 2, WALLETS)
        for count in share:
            recipient = self._wallets[(number + 1) % WALLETS].account
            await wallet.transfer(self._processes[0], recipient, 1 + count)

    # Rest: every node has the whole log, every compute unit its results, every push its slot

    def _acknowledged(self) -> list[ItemId]:
        return [item.id for client in (self._owner, *self._wallets) for item in client.acknowledged]

    def _compute(self) -> list[Host]:
        return [host for host in self._hosts.values() if "compute" in host.plan.roles]

    def _last(self, host: Host, process: ProcessId) -> int:
        chain = host.node.replica.chain(process) if host.node else None
        return -1 if chain is None else chain.nonce

    def _at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> list[str]:
        """What is still to come, in words."""
        su = self._hosts["su"]
        wanted: list[str] = []
        scheduled = 0
        for process in self._processes:
            last = self._last(su, process)
            scheduled += last + 1
            wanted += [
                f"{host.name} has {b64url(process)} to slot {self._last(host, process)} of {last}"
                for host in self._hosts.values()
                if self._last(host, process) != last
            ]
            wanted += [
                f"{host.name} has results of {b64url(process)} below slot {last}"
                for host in self._compute()
                if len(self._results(host, process)) != last + 1
            ]
        due = len(self._acknowledged()) + len(self._due_pushes())
        if scheduled < due:
            wanted.append(f"{scheduled} slots of {due} are scheduled")
        return wanted

    def _results(self, host: Host, process: ProcessId) -> list[EvaluatedSlot]:
        if host.node is None or host.node.compute is None:
            return []
        return host.node.compute.results(process, 0, self._last(host, process), 1 << 20)

    def _due_pushes(self) -> list[tuple[int, int]]:
        """(slot, index) of the first process's outbox entries for the second."""
        parameters = self._parameters
        bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
        target = b64url(self._processes[1])
        return [
            (result.nonce, index)
            for result in self._results(self._hosts["cu1"], self._processes[0])
            for index, message in enumerate(
                derive(FORMAT_CBOR, Status(result.status), result.raw, bounds).outbox.messages
            )
            if message.target == target
        ]

    # Verdict

    def _judge(self, report: Report) -> None:
        places: dict[ItemId, Place] = {}
        for host in self._hosts.values():
            if host.node is None:
                report.violations.append(f"liveness: {host.name} is down at the end")
                continue
            for process in self._processes:
                last = self._last(host, process)
                slots = host.node.replica.slots(process, 0, last, last + 1)
                report.violations += check_log(slots, host.name, self._watch)
                if host.name == "su":
                    report.scheduled += len(slots)
                    report.pushed += sum(slot.message.first("Outbox") is not None for slot in slots)
                    places.update({slot.message.id: (process, slot.nonce) for slot in slots})
        report.violations += check_acknowledged(self._acknowledged(), places)
        report.violations += self._watch.violations
        differing = self._compare_results(report)
        report.violations += differing
        report.roots_equal = report.results > 0 and not differing
        report.messages = len(self._acknowledged())
        report.boots = {host.name: host.boots for host in self._hosts.values()}
        report.syncs = {host.name: host.drive.syncs for host in self._hosts.values()}
        report.virtual_ms = int(trio.current_time() * 1000)
        report.trace, report.events = self._trace.hex(), self._trace.count
        report.tail = self._trace.events

    def _compare_results(self, report: Report) -> list[str]:
        differing: list[str] = []
        for process in self._processes:
            runs = [(host.name, self._results(host, process)) for host in self._compute()]
            for nonce in range(min(len(results) for _, results in runs)):
                receipts = [
                    (name, Receipt.decode(results[nonce].receipt)) for name, results in runs
                ]
                differing += check_receipts(receipts)
                report.results += 1
        return differing


def _network(plans: Sequence[Plan], profile: bytes, parameters: Parameters) -> Network:
    units = tuple(Unit(plan.signer.key, plan.roles, ()) for plan in plans)
    scheduler = next(unit for unit in units if "scheduler" in unit.roles)
    return Network("corridor", scheduler.address, profile, parameters, units)
