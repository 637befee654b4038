"""What the HTTP edge and the command line may ask of a running node. Shapes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aonode.ports import SlotResult
from protocols.errors import Invalid
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.ledger.state import State
from protocols.machine.events import FoldedSlot
from protocols.network import Network
from protocols.wire.assignment import Chain, Slot
from protocols.wire.item import Item
from protocols.wire.unit import UnitAnnouncement


@dataclass(frozen=True, slots=True)
class EvaluatedSlot:
    """One slot's result as this node signed it."""

    nonce: int
    status: int
    raw: bytes
    """The module's output; empty unless status is OK or ERROR."""
    fuel: int
    receipt: bytes
    """Encoded `protocols.wire.proof.Receipt`."""


class MessengerApi(Protocol):
    """A messenger unit's door."""

    async def submit(self, item: Item) -> None:
        """Returns when `item` is durable here and will be scheduled; else raises Invalid."""

    async def submit_many(self, items: Sequence[Item]) -> list[Invalid | None]:
        """As `submit` for the items of a bundle: for each None, or why it is refused."""

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> ItemId:
        """Have an item that this node knows assigned to the log of `process`, less the excluded
        fields; the assignment's id, once it is durable at the scheduler. Raises Invalid."""


class ReplicaApi(Protocol):
    """The local log replica, which every node has."""

    def processes(self) -> list[ProcessId]: ...

    def chain(self, process: ProcessId) -> Chain | None: ...

    def slot(self, process: ProcessId, nonce: int) -> Slot | None: ...

    def slots(self, process: ProcessId, first: int, last: int, limit: int) -> list[Slot]: ...

    def find(self, id: bytes, process: ProcessId | None = None) -> tuple[ProcessId, int] | None:
        """Where a message, assignment or process id stands: in the log of `process`, or in any."""

    async def wait_slot(
        self, id: bytes, timeout_s: float, process: ProcessId | None = None
    ) -> tuple[ProcessId, int]:
        """As `find`, waiting for it; raises Invalid(UNKNOWN_ITEM) at the deadline."""

    def item(self, id: bytes) -> Item | None:
        """An item of any kind that this node holds."""

    def message(self, id: bytes) -> Item | None:
        """As `item`, but for modules."""

    def module(self, id: bytes) -> Item | None: ...

    async def put_module(self, item: Item) -> None:
        """Keep a verified Module item and serve it to peers; raises Invalid."""


@dataclass(frozen=True, slots=True)
class LeafRange:
    """Leaf hashes of some slots in a row, and what it takes to reach MMR roots from them."""

    peaks: tuple[bytes, ...]
    """Of the range before the first one."""
    leaves: tuple[bytes, ...]


class ComputeApi(Protocol):
    """A compute unit's results."""

    async def result(self, process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        """Waits for the slot to be evaluated; raises Invalid(TIMEOUT, REFUSED, ...)."""

    def results(
        self, process: ProcessId, first: int, last: int, limit: int, *, reverse: bool = False
    ) -> list[EvaluatedSlot]:
        """Already evaluated slots with first <= nonce <= last."""

    def leaves(self, process: ProcessId, first: int, last: int) -> LeafRange:
        """Leaf hashes of slots first..last, as far as they are evaluated."""

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult: ...

    async def state(self, process: ProcessId) -> bytes:
        """Linear memory after the last evaluated slot."""


class LedgerApi(Protocol):
    """The ledger as this node has folded it."""

    def state(self) -> State:
        """After the last folded slot, which is `totals().slot`."""

    def head(self) -> bytes:
        """Head of the ledger's log after that slot."""

    def final(self) -> tuple[Item, State] | None:
        """The transaction that made the last checkpoint final, and the state under that
        checkpoint: the one whose root was voted for. None before the first."""

    def recent(self, first: int, limit: int) -> list[FoldedSlot]:
        """At most `limit` folded slots from `first` on, as far back as this node remembers."""

    async def follow(self, slot: int, timeout_s: float) -> None:
        """Returns once `slot` is folded here; raises Invalid(TIMEOUT)."""

    async def post(self, item: Item) -> None:
        """Bring an own transaction into the log; returns when that is durable here."""


class WatcherApi(Protocol):
    """What this node holds against others."""

    def cases(self) -> list[dict[str, Any]]:
        """JSON-ready, newest first, a bounded number."""

    def show(self, statement: bytes) -> dict[str, Any] | None:
        """All there is about the statement with this id; None for none."""

    async def accuse(self, raw: bytes) -> None:
        """Look into an encoded receipt or state proof. Raises Invalid if it is none of this
        network, or not signed by its unit."""


@dataclass(frozen=True, slots=True)
class HeardProof:
    """A unit's state proof that came by gossip."""

    raw: bytes
    """Encoded `protocols.wire.proof.StateProof`, its signature verified."""
    tick: int
    """Last final checkpoint this node knew when it first heard it; later than any
    (`protocols.machine.book.UNDATED`) while it has yet to fold the ledger's log up to there."""


class ProofsApi(Protocol):
    """State proofs that this node has heard or made."""

    def heard(self, process: ProcessId, first: int, limit: int) -> list[HeardProof]:
        """Proofs that end at slot `first` or later, ascending by their last slot."""


class NodeApi(Protocol):
    """A running node."""

    @property
    def key(self) -> NodeKey: ...

    @property
    def network(self) -> Network: ...

    @property
    def ledger(self) -> LedgerApi | None:
        """None on a network without a ledger."""

    @property
    def watcher(self) -> WatcherApi | None:
        """None on a node that does not watch."""

    @property
    def proofs(self) -> ProofsApi | None:
        """None on a network without a ledger."""

    @property
    def messenger(self) -> MessengerApi | None: ...

    @property
    def compute(self) -> ComputeApi | None: ...

    @property
    def replica(self) -> ReplicaApi: ...

    async def find_module(self, id: ItemId) -> Item | None:
        """A module that this node or one of its peers has; from then on this node has it."""

    def units(self) -> list[UnitAnnouncement]:
        """Unexpired announcements, own one first."""

    def status(self) -> dict[str, Any]:
        """JSON-ready facts for `/status`."""

    def ready(self) -> list[str]:
        """Why this node is not ready; empty when it is."""

    def metrics(self) -> bytes:
        """Prometheus text exposition."""


__all__ = [
    "ComputeApi",
    "EvaluatedSlot",
    "HeardProof",
    "ItemId",
    "LeafRange",
    "LedgerApi",
    "MessengerApi",
    "NodeApi",
    "ProofsApi",
    "ReplicaApi",
    "WatcherApi",
]
