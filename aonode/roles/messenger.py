"""Messenger unit: takes clients' items, answers when they are durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aonode.env import Env
from aonode.net import verification
from aonode.ports import Store
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.events import AssignAsked, Submit
from protocols.machine.waiting import CLIENT_WAIT_MS
from protocols.network import Parameters
from protocols.trust import Verified
from protocols.wire.item import Item, decode_item
from protocols.wire.process import home_of


class MessengerRole:
    """Adapter of `protocols.machine.delivery`; `aonode.api.MessengerApi`."""

    def __init__(
        self, *, env: Env, db: Store, replica: ReplicaRole, parameters: Parameters
    ) -> None:
        self._env = env
        self._db = db
        self._replica = replica
        self._parameters = parameters
        self.runner: Runner | None = None

    def deliveries(self) -> list[Item]:
        """Items promised before the node stopped, in the order of their ids."""
        return [
            decode_item(row, size_max=self._parameters.item_bytes_max)
            for _, row in self._db.scan(*keyspace.prefix_range(Prefix.DELIVERY))
        ]

    def orders(self) -> list[tuple[bytes, bytes]]:
        """Rows of assignments that processes ordered and that are not made yet."""
        return list(self._db.scan(*keyspace.prefix_range(Prefix.OUTBOX)))

    async def submit(self, item: Item) -> None:
        (refused,) = await self.submit_many([item])
        if refused is not None:
            raise refused

    async def submit_many(self, items: Sequence[Item]) -> list[Invalid | None]:
        """Submit a bundle's items; for each None once it is durable, or why it is refused."""
        checked = await self._env.offload(
            lambda: [verification.checked_item(item) for item in items]
        )
        assert self.runner is not None, "a role is run by its node"
        good = [item for item in checked if isinstance(item, Verified)]
        answers = iter(await self.runner.ask_many([self._submission(item) for item in good]))
        fates = [item if isinstance(item, Invalid) else next(answers) for item in checked]
        return [fate if isinstance(fate, Invalid) else None for fate in fates]

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> ItemId:
        """Have an item assigned by its id; the assignment's id, durable at the scheduler."""
        assert self.runner is not None, "a role is run by its node"
        await self._wait_for(process)
        if self._replica.message(item) is None:
            raise Invalid(
                Reason.UNKNOWN_ITEM,
                f"item {b64url(item)} is in no log this node follows; check the id, or send the "
                "item itself",
            )
        if found := self._replica.find(item, process):
            slot = self._replica.slot(*found)
            assert slot is not None, "its id leads to a slot"
            return slot.assignment.id
        answer: ItemId = await self.runner.ask(
            lambda ticket: AssignAsked(ticket, process, item, exclude)
        )
        return answer

    async def _wait_for(self, process: ProcessId) -> None:
        """Slot 0 of a process that was spawned just now may still be on its way."""
        try:
            await self._replica.wait_slot(process, CLIENT_WAIT_MS / 1000, process)
        except Invalid as error:
            if error.reason is not Reason.UNKNOWN_ITEM:
                raise
            raise Invalid(
                Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known here"
            ) from None

    def _submission(self, item: Verified[Item]) -> Callable[[int], Submit]:
        known = self._replica.find(item.value.id, home_of(item.value))
        return lambda ticket: Submit(ticket, item, known)
