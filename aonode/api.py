"""What the HTTP edge and the command line may ask of a running node. Shapes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aonode.ports import SlotResult
from protocols.errors import Invalid
from protocols.ids import ItemId, NodeKey, ProcessId
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


class ComputeApi(Protocol):
    """A compute unit's results."""

    async def result(self, process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        """Waits for the slot to be evaluated; raises Invalid(TIMEOUT, REFUSED, ...)."""

    def results(
        self, process: ProcessId, first: int, last: int, limit: int, *, reverse: bool = False
    ) -> list[EvaluatedSlot]:
        """Already evaluated slots with first <= nonce <= last."""

    async def dry_run(self, process: ProcessId, call: bytes) -> SlotResult: ...

    async def state(self, process: ProcessId) -> bytes:
        """Linear memory after the last evaluated slot."""


class NodeApi(Protocol):
    """A running node."""

    @property
    def key(self) -> NodeKey: ...

    @property
    def messenger(self) -> MessengerApi | None: ...

    @property
    def compute(self) -> ComputeApi | None: ...

    @property
    def replica(self) -> ReplicaApi: ...

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
    "ItemId",
    "MessengerApi",
    "NodeApi",
    "ReplicaApi",
]
