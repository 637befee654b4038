"""One node: the only place where ports, machines and adapters are put together.

`build_node` makes production nodes and simulated ones alike; what differs is in `Parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from aonode.api import ComputeApi, LedgerApi, ProofsApi, WatcherApi
from aonode.env import TaskStatus
from aonode.net.admission import Admission, Arrivals
from aonode.net.batcher import Batcher
from aonode.net.own_streams import OwnStreams
from aonode.ops import log
from aonode.ops.metrics import Metrics
from aonode.ports import Door, Parts, Verdict
from aonode.roles.compute import ComputeRole
from aonode.roles.hosting import Hosting
from aonode.roles.messenger import MessengerRole
from aonode.roles.modules import Modules
from aonode.roles.release import Release
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Hub, Machine, Runner, Stores
from aonode.roles.scheduler import SchedulerRole
from aonode.roles.sessions import Sessions
from aonode.roles.units import Units
from aonode.roles.with_ledger import Around, WithLedger
from protocols.errors import Invalid
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.ledger.hosting import lost_branch
from protocols.machine.delivery import Delivery
from protocols.machine.effects import Event
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import (
    Evaluated,
    Extended,
    ForkFound,
    LedgerMoved,
    PeersChanged,
    Scheduled,
    UnitSeen,
    VoteArrived,
)
from protocols.machine.replica import Replica
from protocols.machine.slot_log import SlotLog
from protocols.network import Network
from protocols.trust import Verified
from protocols.wire.item import Item
from protocols.wire.topics import Protocol, Topic
from protocols.wire.unit import UnitAnnouncement

PEERS_POLL_SECONDS = 0.25
"""How often the wire's connections are compared with what the machines were told."""


class Adversary:
    """Bends a real node, for tests and research. This one bends nothing; a subclass overrides
    what it needs."""

    def parts(self, parts: Parts) -> Parts:
        """The node's ports, before anything is built on them."""
        return parts

    def machine(self, name: str, machine: Machine) -> Machine:
        """The machine of a runner: what it hears, and the effects it asks for."""
        return machine

    def compute(self, api: ComputeApi) -> ComputeApi:
        """What the compute unit's HTTP port serves."""
        return api


HONEST = Adversary()


class Node:
    """A running node; `aonode.api.NodeApi`."""

    def __init__(
        self,
        *,
        roles: tuple[str, ...],
        network: Network,
        parts: Parts,
        sole_copy: bool = False,
        adversary: Adversary = HONEST,
        audit_share: int = 0,
    ) -> None:
        self._adversary = adversary
        parts = replace(parts, wire=OwnStreams(parts.wire, parts.signer.key))
        self.network = network
        self.roles = roles
        self.registry = Metrics()
        self._parts = parts
        self._hub = Hub()
        self._log = log.get("node")
        parameters = network.parameters
        self._stores = Stores(parts.db, parts.sign_once)
        self.replica = ReplicaRole(env=parts.env, db=parts.db, parameters=parameters)
        self._hosting = Hosting(network.ledger)
        self._units = Units(
            env=parts.env,
            wire=parts.wire,
            signer=parts.signer,
            network=network,
            roles=roles,
            heard=self._unit_heard,
        )
        self._release = Release(
            key=parts.signer.key,
            hub=self._hub,
            wire=parts.wire,
            batcher=Batcher(parts.wire),
            metrics=self.registry,
            shards=parameters.shards,
        )
        self.scheduler: SchedulerRole | None = None
        self.messenger: MessengerRole | None = None
        self.compute: ComputeRole | None = None
        self._with_ledger: WithLedger | None = None
        self.ledger: LedgerApi | None = None
        self.watcher: WatcherApi | None = None
        self.proofs: ProofsApi | None = None
        self._admission = Admission(
            env=parts.env,
            wire=parts.wire,
            network=network,
            metrics=self.registry,
            held=self.replica.held,
            arrivals=self._arrivals(),
        )
        self._build_replica()
        self._modules = Modules(wire=parts.wire, replica=self.replica, admission=self._admission)
        if network.ledger is not None:
            self._with_ledger = self._build_with_ledger(network.ledger)
        if "scheduler" in roles:
            self._build_scheduler(sole_copy)
        if "compute" in roles:
            self._build_compute()
        if "messenger" in roles:
            self._build_messenger()
        if self._with_ledger is not None:
            self._with_ledger.build_watcher(self.compute, self.scheduler, audit_share)
            self.watcher = self._with_ledger.watcher
        self._connect_wire()

    # Composition: one machine, one adapter, one runner each

    def _runner(self, name: str, machine: Machine, *listens: type[Event]) -> Runner:
        runner = Runner(
            name,
            self._adversary.machine(name, machine),
            env=self._parts.env,
            stores=self._stores,
            metrics=self.registry,
            release=self._release,
            listens=listens,
        )
        self._hub.add(runner)
        return runner

    def _build_replica(self) -> None:
        machine = Replica(
            key=self._parts.signer.key, marks=self._hosting.mark, held=self.replica.held
        )
        self.replica.recover()
        machine.recover(self.replica.logs())
        self._replica_runner = self._runner("replica", machine, Scheduled, PeersChanged, UnitSeen)
        self._release.observers[Extended] = self._extended
        self._release.observers[ForkFound] = self.replica.forked
        self._release.translators[Protocol.LOG] = self._admission.log_arrived
        self.replica.serve(self._parts.wire)

    def _build_with_ledger(self, ledger: ProcessId) -> WithLedger:
        around = Around(
            network=self.network,
            roles=self.roles,
            parts=self._parts,
            replica=self.replica,
            hosting=self._hosting,
            admission=self._admission,
            release=self._release,
            modules=self._modules,
            make_runner=self._runner,
            subscribe=self._subscribe,
        )
        made = WithLedger(around, ledger)
        self.ledger, self.proofs = made.ledger, made.book
        return made

    def _build_scheduler(self, sole_copy: bool) -> None:
        parts = self._parts
        machine = SlotLog(
            key=parts.signer.key,
            parameters=self.network.parameters,
            sign=parts.signer.sign,
            sole_copy=sole_copy,
            marks=self._hosting.mark,
        )
        role = self.scheduler = SchedulerRole(
            env=parts.env,
            key=parts.signer.key,
            machine=machine,
            db=parts.db,
            sign_once=parts.sign_once,
            parameters=self.network.parameters,
        )
        role.recover(self.replica)
        role.runner = self._runner("scheduler", machine, PeersChanged)
        role.admission = self._admission
        role.serve(parts.wire)
        self._subscribe(Topic.MESSAGES, self._admission.messages_door)
        self._release.local_doors[Topic.MESSAGES] = self._admission.messages_door

    def _build_compute(self) -> None:
        parts = self._parts
        assert parts.engine is not None, "a compute unit needs an engine"
        machine = Evaluation(
            network=self.network.id,
            parameters=self.network.parameters,
            profile=parts.engine.profile,
            key=parts.signer.key,
            sign=parts.signer.sign,
            ledger=self.network.ledger,
            lost=self._lost_branch,
        )
        self._sessions = Sessions(
            env=parts.env,
            engine=parts.engine,
            parameters=self.network.parameters,
            fetch_module=self._modules.fetch,
            awake_max=parts.engine_instances_max,
        )
        role = self.compute = ComputeRole(
            machine=machine,
            db=parts.db,
            sign_once=parts.sign_once,
            replica=self.replica,
            sessions=self._sessions,
            parameters=self.network.parameters,
        )
        role.recover()
        role.runner = self._runner("compute", machine, Extended, LedgerMoved, PeersChanged)
        role.serve(parts.wire)
        self._release.execute = role.execute
        self._release.observers[Evaluated] = role.evaluated

    def _build_messenger(self) -> None:
        parts = self._parts
        role = self.messenger = MessengerRole(
            env=parts.env,
            db=parts.db,
            replica=self.replica,
            parameters=self.network.parameters,
        )
        machine = Delivery(
            key=parts.signer.key,
            parameters=self.network.parameters,
            sign=parts.signer.sign,
            units=self.network.units,
            ledger=self.network.ledger,
            marks=self._hosting.mark,
        )
        machine.recover(role.deliveries(), self.replica.logs(), self.replica.find, role.orders())
        role.runner = self._runner(
            "messenger", machine, Extended, Evaluated, PeersChanged, UnitSeen
        )
        self._release.translators[Protocol.RESULT] = self._admission.receipts_arrived
        self._release.translators[Protocol.ASSIGN] = self._admission.assignment_arrived

    def _connect_wire(self) -> None:
        self._subscribe(Topic.SLOTS, self._admission.slots_door)
        self._subscribe(Topic.UNITS, self._admission.units_door)
        for unit in self.network.units:
            if unit.key != self._parts.signer.key and unit.addresses:
                self._parts.wire.connect(unit.key, unit.addresses)

    def _subscribe(self, topic: Topic, door: Door) -> None:
        self._parts.wire.subscribe(topic, partial(self._judge, topic, door))

    def _judge(self, topic: Topic, door: Door, sender: NodeKey, payload: bytes) -> Verdict:
        try:
            verdict = door(sender, payload)
        except Invalid as error:
            self._admission.refuse(error)
            verdict = Verdict.REJECT
        self.registry.gossip.labels(topic=topic.value, verdict=verdict.value).inc()
        return verdict

    def _arrivals(self) -> Arrivals:
        return Arrivals(
            slots=self._slots_arrived,
            units=self._units.seen,
            offers=self._offer if "scheduler" in self.roles else None,
            votes=self._vote_heard if self.network.ledger is not None else None,
        )

    def _slots_arrived(self, event: Event) -> None:
        self._replica_runner.post(event)

    def _offer(self, item: Verified[Item], sender: NodeKey) -> None:
        assert self.scheduler is not None, "only a scheduler takes offers"
        self.scheduler.offer(item, sender)

    def _extended(self, event: Event) -> None:
        assert isinstance(event, Extended)
        self.replica.extended(event)
        self.registry.slots_followed.inc(len(event.slots))

    def _lost_branch(self, process: ProcessId) -> str:
        """Why this node's log of a process is not the one that holds; empty if it may be."""
        held = partial(self.replica.held, process)
        return lost_branch(process, self._hosting.mark(process), held)

    def _unit_heard(self, event: UnitSeen) -> None:
        self._post_to_listeners(event)

    def _vote_heard(self, event: VoteArrived) -> bool:
        assert self._with_ledger is not None, "votes are heard on a network with a ledger"
        counts = self._with_ledger.ledger.is_staked(event.vote.value.key)
        if counts:
            self._post_to_listeners(event)
        return counts

    def _post_to_listeners(self, event: Event) -> None:
        """Hand over what gossip brought; a runner with a full inbox does without."""
        for runner in self._hub.runners:
            if type(event) in runner.listens:
                runner.post(event)

    # Life

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; `started()` when the wire listens and every machine has started."""
        try:
            async with trio.open_nursery() as nursery:
                self._release.nursery = nursery
                if self.compute is not None:
                    self.compute.nursery = nursery
                if self._with_ledger is not None:
                    self._with_ledger.segments.nursery = nursery
                await nursery.start(self._parts.wire.run)
                nursery.start_soon(self._release.batcher.run)
                nursery.start_soon(self._admission.run)
                for runner in self._hub.runners:
                    await nursery.start(runner.run)
                nursery.start_soon(self._watch_peers)
                nursery.start_soon(self._units.run)
                if self._with_ledger is not None:
                    nursery.start_soon(self._with_ledger.begin)
                task_status.started()
        finally:
            self.close()

    def close(self) -> None:
        """Close the sessions and stores. Called by `run`; harmless when called twice."""
        if self.compute is not None:
            self._sessions.close()
        self._parts.db.close()
        self._parts.sign_once.close()

    async def _watch_peers(self) -> None:
        told: tuple[NodeKey, ...] = ()
        while True:
            peers = self._parts.wire.peers()
            if peers != told:
                if set(peers) - set(told):
                    self._units.hurry()
                told = peers
                self.registry.peers.set(len(peers))
                self._hub.peers_changed(PeersChanged(peers))
            await trio.sleep(PEERS_POLL_SECONDS)

    # NodeApi

    @property
    def key(self) -> NodeKey:
        return self._parts.signer.key

    async def find_module(self, id: ItemId) -> Item | None:
        return await self._modules.search(id)

    def units(self) -> list[UnitAnnouncement]:
        return self._units.all()

    def set_urls(self, urls: Mapping[str, str]) -> None:
        """Announce the HTTP addresses of this node's roles."""
        self._units.set_urls(urls)

    def ready(self) -> list[str]:
        """Why this node is not ready; empty when it is."""
        reasons = []
        others = [unit for unit in self.network.units if unit.key != self.key]
        if others and not self._parts.wire.peers():
            reasons.append("no peer is connected; check bootstrap addresses and the firewall")
        for runner in self._hub.runners:
            restoring = runner.machine.status().get("restoring")
            if restoring is not None and not restoring["decided"]:
                reasons.append("the scheduler is still asking peers for the heads of its logs")
            reasons += _recalling(runner.machine.status().get("recall"))
        if self._with_ledger is not None and (why := self._with_ledger.ledger.stopped):
            reasons.append(f"the ledger is followed no further: {why}")
        return reasons

    def status(self) -> dict[str, Any]:
        return {
            "key": b64url(self.key),
            "address": b64url(address_of(self.key)),
            "network": {"name": self.network.name, "id": b64url(self.network.id)},
            "roles": list(self.roles),
            "addresses": list(self._parts.wire.addresses()),
            "peers": [b64url(peer) for peer in self._parts.wire.peers()],
            "processes": len(self.replica.processes()),
            "slots": self.replica.total(),
            "machines": {
                runner.name: {**runner.machine.status(), "inbox": runner.depth()}
                for runner in self._hub.runners
            },
            "ready": not self.ready(),
        }

    def count_http(self, code: int) -> None:
        """One HTTP answer with this status code has left."""
        self.registry.http_requests.labels(code=str(code)).inc()

    def metrics(self) -> bytes:
        for runner in self._hub.runners:
            self.registry.queue_depth.labels(queue=runner.name).set(runner.depth())
        return self.registry.text()


def _recalling(recall: Mapping[str, Any] | None) -> list[str]:
    """What a compute unit has to find out before it signs."""
    if recall is None:
        return []
    if not recall["decided"]:
        return ["the compute unit is still asking peers for the state proofs it has signed"]
    if behind := recall["processes_behind"]:
        return [
            "the sign-once table is older than what peers hold of this unit: "
            f"{behind} processes are being caught up"
        ]
    return []


def build_node(
    *,
    roles: tuple[str, ...],
    network: Network,
    parts: Parts,
    sole_copy: bool = False,
    adversary: Adversary = HONEST,
    audit_share: int = 0,
) -> Node:
    """A node of any mix of roles over the given ports, recovered and ready to `run`.

    Raises Invalid(STORAGE) if its stores do not hold what a node of this release wrote.
    """
    return Node(
        roles=roles,
        network=network,
        parts=adversary.parts(parts),
        sole_copy=sole_copy,
        adversary=adversary,
        audit_share=audit_share,
    )


__all__ = ["HONEST", "Adversary", "Node", "Parts", "build_node"]
