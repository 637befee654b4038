"""Scheduler unit: looks up what is already signed, and hands offers to the slot log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from aonode.env import Env
from aonode.net import verification
from aonode.net.admission import Admission
from aonode.ports import Store, Wire
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.keyspace import Prefix
from protocols.ledger.entries import Demanded
from protocols.ledger.state import State
from protocols.machine.effects import Event
from protocols.machine.events import Offered
from protocols.machine.replies import message_demanded
from protocols.machine.rows import push_key_row
from protocols.machine.slot_log import SlotLog
from protocols.network import Parameters
from protocols.trust import Claimed, Verified
from protocols.wire.assignment import Assignment, Chain, Slot, assignment_of, slot_of
from protocols.wire.demand import KEPT_BYTES_MAX, SCHEDULE, ScheduleKept
from protocols.wire.item import Item, decode_item
from protocols.wire.process import ProcessInfo, home_of, process_info, push_key
from protocols.wire.streams import (
    AssignAnswer,
    AssignRequest,
    MessageAnswer,
    MessageFate,
    MessageRequest,
)
from protocols.wire.topics import Protocol


class SchedulerRole:
    """Adapter of `protocols.machine.slot_log`."""

    def __init__(
        self,
        *,
        env: Env,
        key: NodeKey,
        machine: SlotLog,
        db: Store,
        sign_once: Store,
        parameters: Parameters,
    ) -> None:
        self._env = env
        self._key = key
        self._machine = machine
        self._db = db
        self._sign_once = sign_once
        self._parameters = parameters
        self.runner: Runner | None = None
        self.admission: Admission | None = None
        self._infos: dict[ProcessId, ProcessInfo] = {}
        self._replica: ReplicaRole | None = None

    def recover(self, replica: ReplicaRole) -> None:
        """Rebuild every own log from the sign-once table.

        Slots that were signed but had not reached the replica when the node stopped go out again.
        """
        self._replica = replica
        chains: dict[ProcessId, Chain] = {}
        tail: list[Verified[Slot]] = []
        for key, raw in self._sign_once.scan(*keyspace.prefix_range(Prefix.ASSIGNMENT)):
            process = ProcessId(keyspace.id_of(key))
            assignment = assignment_of(decode_item(raw, size_max=len(raw)))
            chain = chains.get(process) or Chain.genesis(process)
            chains[process] = chain.next_assignment(assignment)
            if replica.held(process, assignment.nonce) is None:
                tail.append(Verified(slot_of(assignment, self._item(assignment.assigned))))
        known = [(chain, process_info(self._item(process))) for process, chain in chains.items()]
        self._infos = {info.id: info for _, info in known}
        self._machine.recover(known, clean=bool(known), tail=tail)

    def serve(self, wire: Wire) -> None:
        """Take by stream what messengers ask for, or could not get through by gossip."""
        wire.serve(Protocol.MESSAGE, self._message)
        wire.serve(Protocol.ASSIGN, self._assign)

    def offer(self, item: Verified[Item], sender: NodeKey) -> None:
        """An item from gossip; dropped and counted if the inbox is full (it will come again)."""
        assert self.runner is not None, "a role is run by its node"
        if self._is_ours(item.value):
            self.runner.post(self._offered(item, sender, None))

    def demanded(self, state: State, ledger: ProcessId) -> None:
        """Offer messages that somebody demands on the ledger to be scheduled by this unit, as if
        they had come by gossip; again whenever the ledger moves, until they have their slots."""
        assert self._replica is not None, "a role is recovered before it runs"
        own = address_of(self._key)
        for _, entry in state.all(Demanded):
            if entry.kind != SCHEDULE or entry.answered:
                continue
            kept = ScheduleKept.decode(entry.subject, size_max=KEPT_BYTES_MAX)
            if kept.scheduler != own:
                continue
            if self._sign_once.get(keyspace.assigned_key(kept.item, kept.process)) is not None:
                continue
            slot = self._replica.slot(ledger, entry.slot)
            if slot is not None:
                # The ledger has checked its signature.
                found = message_demanded(slot.message, self._parameters)
                self.offer(Verified(found), self._key)

    async def schedule(self, item: Item) -> Slot:
        """The slot of a client's item, durable; raises Invalid if it must be refused."""
        assert self.runner is not None, "a role is run by its node"
        checked = await self._env.offload(lambda: verification.checked_item(item))
        if isinstance(checked, Invalid):
            raise checked
        nonce = await self.runner.ask(lambda ticket: self._offered(checked, self._key, ticket))
        return self._signed(_process_of(item), nonce)

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> Slot:
        """Assign an item that this node knows to the log of `process`; as `schedule`."""
        assert self._replica is not None, "a role is recovered before it runs"
        known = self._replica.message(item)
        if known is None:
            raise Invalid(
                Reason.UNKNOWN_ITEM,
                f"item {b64url(item)} is in no log this scheduler follows; check the id, or send "
                "the item itself",
            )
        # It was verified before it was stored.
        return await self._assign_item(Verified(known), process, exclude, self._key)

    async def _assign_item(
        self, item: Verified[Item], process: ProcessId, exclude: tuple[str, ...], sender: NodeKey
    ) -> Slot:
        assert self.runner is not None, "a role is run by its node"
        nonce = await self.runner.ask(
            lambda ticket: replace(
                self._offered(item, sender, ticket, process), into=process, exclude=exclude
            )
        )
        return self._signed(process, nonce)

    async def _assign(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        """Answers `/ao/assign/1`: an item that is not here is fetched from the peer that asks."""
        assert self.admission is not None, "a role is run by its node"
        assert self._replica is not None, "a role is recovered before it runs"
        request = AssignRequest.decode(body)
        try:
            held = self._replica.message(request.item)
            item = Verified(held) if held else await self.admission.item_of(peer, request.item)
            slot = await self._assign_item(item, request.process, request.exclude, peer)
        except Invalid as error:
            yield AssignAnswer(None, error).encode()
            return
        yield AssignAnswer(slot.assignment.item.raw, None).encode()

    async def _message(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        assert self.admission is not None, "a role is run by its node"
        items = await self.admission.items(Claimed(MessageRequest.decode(body), peer))
        assert self.runner is not None, "a role is run by its node"
        answers = await self.runner.ask_many([self._offer_of(item, peer) for item in items])
        fates = [_fate(item.value.id, answer) for item, answer in zip(items, answers, strict=True)]
        yield MessageAnswer(tuple(fates)).encode()

    def _offer_of(self, item: Verified[Item], peer: NodeKey) -> Callable[[int], Event]:
        return lambda ticket: self._offered(item, peer, ticket)

    def _is_ours(self, item: Item) -> bool:
        """Whether the item is for a log of this scheduler; gossip carries everybody's."""
        return item.first("Type") == "Process" or (
            item.target is not None and self._machine.hosts(item.target)
        )

    def _offered(
        self,
        item: Verified[Item],
        sender: NodeKey,
        ticket: int | None,
        into: ProcessId | None = None,
    ) -> Offered:
        value = item.value
        process = into or _process_of(value)
        known = self._known(value, process)
        pushed = None if known else self._pushed(value, process)
        return Offered(item, sender, ticket, known, pushed)

    def _signed(self, process: ProcessId, nonce: int) -> Slot:
        """A slot that the machine has answered with; of a pushed item, maybe another's copy."""
        assignment = self._assignment(process, nonce)
        return slot_of(assignment, self._item(assignment.assigned))

    def _known(self, item: Item, process: ProcessId) -> Slot | None:
        if len(process) != len(item.id):
            return None
        nonce = self._sign_once.get(keyspace.assigned_key(item.id, process))
        if nonce is None:
            return None
        return slot_of(self._assignment(process, keyspace.nonce_of(nonce)), item)

    def _assignment(self, process: ProcessId, nonce: int) -> Assignment:
        raw = self._sign_once.get(keyspace.assignment_key(process, nonce))
        assert raw is not None, "the id row and the assignment are one atomic batch"
        return assignment_of(decode_item(raw, size_max=len(raw)))

    def _pushed(self, item: Item, process: ProcessId) -> int | None:
        if item.first("Outbox") is None:
            return None
        try:
            key = push_key(item, self._info(process))
        except Invalid:
            return None  # the machine refuses it and says why
        row = None if key is None else self._sign_once.get(push_key_row(key))
        return None if row is None else keyspace.nonce_of(row)

    def _info(self, process: ProcessId) -> ProcessInfo | None:
        if process not in self._infos and self._machine.hosts(process):
            self._infos[process] = process_info(self._item(ItemId(process)))
        return self._infos.get(process)

    def _item(self, id: bytes) -> Item:
        raw = self._db.get(keyspace.item_key(id))
        assert raw is not None, "an item is durable before its assignment is signed"
        return decode_item(raw, size_max=self._parameters.item_bytes_max)


def _fate(id: ItemId, answer: int | Invalid) -> MessageFate:
    """What a messenger is told of one item."""
    if isinstance(answer, Invalid):
        return MessageFate(id, None, str(answer))
    return MessageFate(id, answer, None)


def _process_of(item: Item) -> ProcessId:
    """The log an item is for: its target's, or the one it opens."""
    return home_of(item) or ProcessId(b"")
