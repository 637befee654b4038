"""What every node has more on a network with a ledger, put together: the ledger, the book of what
units state, segments for verdicts, the watcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Shape

import trio

from aonode.net.admission import Admission
from aonode.net.statements import Statements
from aonode.ops import log
from aonode.ports import Door, Parts
from aonode.roles.book import BookRole
from aonode.roles.compute import ComputeRole
from aonode.roles.hosting import Hosting
from aonode.roles.ledger import LedgerRole, LedgerViews
from aonode.roles.modules import Modules
from aonode.roles.release import Release
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Machine, Runner
from aonode.roles.scheduler import SchedulerRole
from aonode.roles.segments import Segments
from aonode.roles.watcher import WatcherRole, WatcherViews
from protocols.errors import Invalid
from protocols.ids import ProcessId, address_of
from protocols.ledger.process import ledger_process
from protocols.machine.book import Book
from protocols.machine.effects import Event
from protocols.machine.events import (
    Evaluated,
    Extended,
    ForkFound,
    ForkSeen,
    LedgerMoved,
    Misplaced,
    PeersChanged,
    PostAsked,
    ProofSealed,
    StatementArrived,
    UnitSeen,
    VoteArrived,
)
from protocols.machine.ledger import Ledger
from protocols.machine.watching import Watching
from protocols.network import Network
from protocols.wire.topics import Protocol, Topic

LEDGER_POLL_SECONDS = 1.0
"""Between attempts to give the ledger its slot 0."""


class MakeRunner(Shape):
    """Makes the runner of a machine and registers it."""

    def __call__(self, name: str, machine: Machine, *listens: type[Event]) -> Runner: ...


@dataclass(frozen=True, slots=True)
class Around:
    """The node around it."""

    network: Network
    roles: tuple[str, ...]
    parts: Parts
    replica: ReplicaRole
    hosting: Hosting
    admission: Admission
    release: Release
    modules: Modules
    make_runner: MakeRunner
    subscribe: Callable[[Topic, Door], None]


class WithLedger:
    """Made in the order: this, then the other roles, then `build_watcher`."""

    def __init__(self, around: Around, ledger: ProcessId) -> None:
        self._around = around
        self._id = ledger
        self._log = log.get("ledger")
        self._scheduler: SchedulerRole | None = None
        self.segments = self._build_segments()
        self.ledger = self._build_ledger()
        self.book = self._build_book()
        self.watcher: WatcherRole | None = None
        """None on a node that only answers demands."""

    def _build_segments(self) -> Segments:
        parts, around = self._around.parts, self._around
        assert parts.engine is not None, "verdicts of the ledger need an engine"
        segments = Segments(
            env=parts.env,
            engine=parts.engine,
            parameters=around.network.parameters,
            replica=around.replica,
            fetch_module=around.modules.fetch,
        )
        around.release.run_segment = segments.run_segment
        around.release.audit = segments.audit
        return segments

    def _build_ledger(self) -> LedgerRole:
        parts, around = self._around.parts, self._around
        machine = Ledger(
            network=around.network,
            key=parts.signer.key,
            sign=parts.signer.sign,
            views=LedgerViews(self._id, around.replica).views(),
        )
        role = LedgerRole(
            machine=machine,
            db=parts.db,
            sign_once=parts.sign_once,
            replica=around.replica,
            parameters=around.network.parameters,
        )
        role.recover()
        role.runner = around.make_runner(
            "ledger", machine, Extended, VoteArrived, PostAsked, PeersChanged, UnitSeen
        )
        around.release.observers[LedgerMoved] = self._moved
        around.subscribe(Topic.VOTES, around.admission.votes_door)
        return role

    def _build_book(self) -> BookRole:
        parts, around = self._around.parts, self._around

        def ledger_tip() -> int:
            chain = around.replica.chain(self._id)
            return -1 if chain is None else chain.nonce

        machine = Book(key=parts.signer.key, network=around.network.id, ledger_tip=ledger_tip)
        role = BookRole(machine=machine, db=parts.db)
        role.recover(around.replica.forks())
        role.serve(parts.wire)
        runner = around.make_runner(
            "book", machine, LedgerMoved, ProofSealed, VoteArrived, ForkFound
        )
        statements = Statements(
            env=parts.env,
            network=around.network,
            book=machine,
            heard=runner.post,
            refuse=around.admission.refuse,
        )
        around.subscribe(Topic.PROOFS, statements.proofs_door)
        around.subscribe(Topic.ALARMS, statements.alarms_door)
        around.release.translators[Protocol.ITEM] = statements.assignment_arrived
        around.release.translators[Protocol.LEAVES] = statements.leaves_arrived
        around.release.translators[Protocol.PROOFS] = statements.proofs_arrived
        return role

    def build_watcher(
        self, compute: ComputeRole | None, scheduler: SchedulerRole | None, audit_share: int
    ) -> None:
        """Every node answers demands; who evaluates or has the role watches as well."""
        parts, around = self._around.parts, self._around
        self._scheduler = scheduler
        views = WatcherViews(
            env=parts.env,
            key=parts.signer.key,
            network=around.network,
            db=parts.db,
            sign_once=parts.sign_once,
            replica=around.replica,
            book=self.book,
            compute=compute,
        )
        watches = "compute" in around.roles or "watcher" in around.roles
        machine = Watching(
            network=around.network,
            key=parts.signer.key,
            sign=parts.signer.sign,
            views=views.views(),
            audit_share=audit_share,
            watches=watches,
        )
        role = WatcherRole(machine=machine, db=parts.db, network=around.network)
        role.recover(around.replica.misplaced())
        role.runner = around.make_runner(
            "watcher",
            machine,
            LedgerMoved,
            StatementArrived,
            VoteArrived,
            Evaluated,
            Extended,
            ForkSeen,
            Misplaced,
            ProofSealed,
            PeersChanged,
        )
        if watches:
            self.watcher = role
            if translate := around.release.translators.get(Protocol.RESULT):
                around.release.translators[Protocol.RESULT] = role.overhear(translate)

    def _moved(self, event: Event) -> None:
        assert isinstance(event, LedgerMoved)
        self._around.hosting.moved(event.state)
        self.ledger.moved(event)
        if self._scheduler is not None:
            self._scheduler.demanded(event.state, self._id)

    async def begin(self) -> None:
        """On the node that keeps its log: give the ledger its slot 0, once and for ever."""
        network, replica = self._around.network, self._around.replica
        is_keeper = network.ledger_scheduler == address_of(self._around.parts.signer.key)
        item = ledger_process(network)
        if item is None or self._scheduler is None or not is_keeper:
            return
        while replica.chain(ProcessId(item.id)) is None:
            try:
                # An item that has its slot gets the same one again.
                await self._scheduler.schedule(item)
            except Invalid as error:
                self._log.warning("ledger", detail=f"it has no slot 0 yet: {error}")
            await trio.sleep(LEDGER_POLL_SECONDS)
