"""Every node's log replica: reads of the store, and the streams that serve them to peers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import trio

from aonode.env import Env
from aonode.net import verification
from aonode.ports import Store, Wire
from aonode.roles.recent_slots import RecentSlots
from aonode.roles.waiters import Waiters
from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.limits import HEADS_PROCESSES_MAX
from protocols.machine.effects import Event
from protocols.machine.events import Extended, ForkFound
from protocols.machine.rows import slot_of_row
from protocols.network import Parameters
from protocols.wire import streams
from protocols.wire.assignment import Assignment, Chain, Slot, assignment_of
from protocols.wire.batch import ASSIGNMENT_BYTES_MAX
from protocols.wire.item import Item, decode_item
from protocols.wire.process import ProcessInfo, process_info
from protocols.wire.streams import Head, Heads, HeadsRequest, ItemRequest, LogRequest
from protocols.wire.topics import Protocol

INFOS_MAX = 4096
"""Process descriptions kept in memory; the others are read again from slot 0."""


class ReplicaRole:
    """`aonode.api.ReplicaApi` over the store, and what peers may read of it."""

    def __init__(self, *, env: Env, db: Store, parameters: Parameters) -> None:
        self._env = env
        self._db = db
        self._parameters = parameters
        self._chains: dict[ProcessId, Chain] = {}
        self._infos: dict[ProcessId, ProcessInfo] = {}
        self._waiters = Waiters()
        self._recent = RecentSlots()
        self._seconds: dict[bytes, bytes] = {}
        """Keys of the evidence rows by assignment: what a scheduler has signed a second time."""

    def recover(self) -> None:
        """Read where every log stands."""
        for _, row in self._db.scan(*keyspace.prefix_range(Prefix.HEAD)):
            chain = Chain.decode(row)
            self._chains[chain.process] = chain
        for key, _ in self._db.scan(*keyspace.prefix_range(Prefix.EVIDENCE)):
            self._seconds[key[-32:]] = key

    def logs(self) -> list[tuple[Chain, ProcessInfo]]:
        """Where every durable log stands, and what its slot 0 says; for the machines."""
        return [(chain, self.info(chain.process)) for chain in self._chains.values()]

    def serve(self, wire: Wire) -> None:
        """Answer peers' reads."""
        wire.serve(Protocol.LOG, self._log)
        wire.serve(Protocol.HEADS, self._heads)
        wire.serve(Protocol.ITEM, self._item)
        wire.serve(Protocol.MODULE, self._module)

    def extended(self, event: Event) -> None:
        """The log of one process grew, durably."""
        assert isinstance(event, Extended)
        last = event.slots[-1]
        self._chains[event.process] = Chain(
            event.process,
            last.nonce,
            event.heads[-1],
            last.assignment.hash_chain,
            last.assignment.id,
            last.assignment.timestamp,
        )
        for slot in event.slots:
            self._recent.put(slot)
            place = (event.process, slot.nonce)
            self._waiters.tell(slot.message.id, place)
            self._waiters.tell(slot.assignment.id, place)

    def forked(self, event: Event) -> None:
        """A second assignment of a slot became durable."""
        assert isinstance(event, ForkFound)
        key = keyspace.evidence_key(event.process, event.nonce, event.second)
        self._seconds[event.second] = key

    def forks(self) -> list[tuple[ProcessId, ItemId, ItemId]]:
        """Slots given twice that are on disk: process, the assignment in the log, the other."""
        found = []
        for second, key in self._seconds.items():
            process, nonce = ProcessId(keyspace.id_of(key)), keyspace.nonce_of(key[:-32])
            if held := self.held(process, nonce):
                found.append((process, held, ItemId(second)))
        return found

    def misplaced(self) -> list[Assignment]:
        """What schedulers have signed right after the last slot of a log, and does not follow it;
        from disk."""
        found = []
        for key in self._seconds.values():
            process, nonce = ProcessId(keyspace.id_of(key)), keyspace.nonce_of(key[:-32])
            chain, raw = self._chains.get(process), self._db.get(key)
            if chain is not None and chain.nonce + 1 == nonce and raw is not None:
                found.append(assignment_of(decode_item(raw, size_max=ASSIGNMENT_BYTES_MAX)))
        return found

    def total(self) -> int:
        """Slots of all followed logs."""
        return sum(chain.nonce + 1 for chain in self._chains.values())

    # ReplicaApi

    def processes(self) -> list[ProcessId]:
        return sorted(self._chains)

    def chain(self, process: ProcessId) -> Chain | None:
        return self._chains.get(process)

    def info(self, process: ProcessId) -> ProcessInfo:
        """Description of a followed process; raises Invalid(UNKNOWN_PROCESS)."""
        if info := self._infos.get(process):
            return info
        slot = self.slot(process, 0)
        if slot is None:
            raise Invalid(
                Reason.UNKNOWN_PROCESS,
                f"process {b64url(process)} has no slot 0 here; check the id, or wait for it",
            )
        if len(self._infos) >= INFOS_MAX:
            self._infos.pop(next(iter(self._infos)))
        info = self._infos[process] = process_info(slot.message)
        return info

    def slot(self, process: ProcessId, nonce: int) -> Slot | None:
        if recent := self._recent.get(process, nonce):
            return recent
        row = self._db.get(keyspace.slot_key(process, nonce))
        return None if row is None else self._slot(row)

    def slots(self, process: ProcessId, first: int, last: int, limit: int) -> list[Slot]:
        return list(itertools.islice(self._slots(process, first, last), limit))

    def held(self, process: ProcessId, nonce: int) -> ItemId | None:
        """Id of the assignment at a nonce of the durable log, if it goes that far."""
        chain = self._chains.get(process)
        if chain is None or nonce > chain.nonce:
            return None
        if nonce == chain.nonce:
            return ItemId(chain.assignment_id)
        slot = self.slot(process, nonce)
        assert slot is not None, f"slot {nonce} of {b64url(process)} is missing below its head"
        return slot.assignment.id

    def find(self, id: bytes, process: ProcessId | None = None) -> tuple[ProcessId, int] | None:
        if process is not None:
            row = self._db.get(keyspace.by_id_key(id, process))
            return None if row is None else (process, keyspace.nonce_of(row))
        for key, row in self._db.scan(*keyspace.process_range(Prefix.BY_ID, id), limit=1):
            return ProcessId(key[-32:]), keyspace.nonce_of(row)
        return None

    async def wait_slot(
        self, id: bytes, timeout_s: float, process: ProcessId | None = None
    ) -> tuple[ProcessId, int]:
        with trio.move_on_after(timeout_s):
            while True:
                # Registered before the look-up: a slot that lands in between wakes the wait.
                with self._waiters.wait(id) as told:
                    if found := self.find(id, process):
                        return found
                    await told()
        where = "here" if process is None else f"in the log of process {b64url(process)}"
        raise Invalid(
            Reason.UNKNOWN_ITEM,
            f"message {b64url(id)} has no slot {where} after {timeout_s:g} s; check the id, "
            "or retry",
        )

    def item(self, id: bytes) -> Item | None:
        return self.message(id) or self.module(id)

    def message(self, id: bytes) -> Item | None:
        # A messenger's promise, and an own transaction of the ledger, is fetched by the scheduler
        # before it stands in any log.
        places = (keyspace.item_key(id), keyspace.delivery_key(id), keyspace.post_key(id))
        raw = next((row for place in places if (row := self._db.get(place)) is not None), None)
        if raw is not None:
            return decode_item(raw, size_max=self._parameters.item_bytes_max)
        if found := self.find(id):
            slot = self.slot(*found)
            assert slot is not None, f"by-id row of {b64url(id)} points nowhere"
            return slot.message if slot.message.id == id else slot.assignment.item
        if key := self._seconds.get(id):
            raw = self._db.get(key)
            assert raw is not None, f"the evidence row of {b64url(id)} is gone"
            return decode_item(raw, size_max=ASSIGNMENT_BYTES_MAX)
        return None

    def module(self, id: bytes) -> Item | None:
        raw = self._db.get(keyspace.module_key(id))
        return None if raw is None else decode_item(raw, size_max=self.module_item_bytes_max)

    @property
    def module_item_bytes_max(self) -> int:
        """Largest raw Module item: the Wasm and its item's fields."""
        return self._parameters.module_bytes_max + self._parameters.item_bytes_max

    async def put_module(self, item: Item) -> None:
        if item.first("Type") != "Module" or item.first("Data-Protocol") != "ao":
            raise Invalid(
                Reason.INADMISSIBLE,
                f"item {b64url(item.id)} has Type {item.first('Type')!r}; "
                "a module needs the tags Data-Protocol=ao and Type=Module",
            )
        raw = item.raw
        await self._env.offload(lambda: verification.check_item(raw, len(raw)))
        self._db.write([(keyspace.module_key(item.id), raw)], sync=True)
        self._waiters.tell(item.id, (ProcessId(b""), -1))

    # Streams

    async def _log(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        request = LogRequest.decode(body)
        slots = self._slots(request.process, request.first, request.last)
        for frame in streams.encode_log(slots, request.bytes_max):
            yield frame

    async def _heads(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        request = HeadsRequest.decode(body)
        named = request.processes or self.processes()
        heads = [
            Head(chain.process, chain.nonce, chain.head)
            for process in named
            if (chain := self._chains.get(process)) is not None
            and (request.scheduler is None or self.info(process).scheduler == request.scheduler)
        ]
        for start in range(0, max(len(heads), 1), HEADS_PROCESSES_MAX):
            yield Heads(tuple(heads[start : start + HEADS_PROCESSES_MAX])).encode()

    async def _item(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        item = self.item(ItemRequest.decode(body).id)
        for frame in streams.cut(item.raw) if item else ():
            yield frame

    async def _module(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        raw = self._db.get(keyspace.module_key(ItemRequest.decode(body).id))
        for frame in streams.cut(raw) if raw else ():
            yield frame

    def _slots(self, process: ProcessId, first: int, last: int) -> Iterator[Slot]:
        while first <= last and (recent := self._recent.get(process, first)):
            yield recent
            first += 1
        for _, row in self._db.scan(*keyspace.nonce_range(Prefix.SLOT, process, first, last)):
            yield self._slot(row)

    def _slot(self, row: bytes) -> Slot:
        return slot_of_row(row, item_bytes_max=self._parameters.item_bytes_max)
