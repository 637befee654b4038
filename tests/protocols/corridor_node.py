"""One node of the pure corridor: machines, a disk that loses what was not synced, and doors.

It does what the adapters of a real node do (look-ups, verification, one commit per group with one
sync per table, effects in order), in as few lines as show the contract.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from nacl.bindings import crypto_sign_open

from protocols import keyspace
from protocols.codec import digest
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.keyspace import Prefix
from protocols.machine.delivery import Delivery
from protocols.machine.effects import (
    Answered,
    Effect,
    Event,
    Execute,
    Notify,
    Persist,
    Publish,
    Reply,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import (
    Executed,
    Extended,
    LogArrived,
    Offered,
    PeersChanged,
    ReceiptsArrived,
    Scheduled,
    SlotsArrived,
    Submit,
)
from protocols.machine.replica import Replica
from protocols.machine.results import StoredResult, executed_slot
from protocols.machine.rows import push_key_row, slot_of_row
from protocols.machine.slot_log import SlotLog
from protocols.network import Parameters, Unit
from protocols.trust import Verified
from protocols.wire import batch, streams
from protocols.wire import topics as wire
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, decode_item, signing_message
from protocols.wire.process import ProcessInfo, process_info, push_key
from protocols.wire.proof import Receipt, is_border
from tests.protocols.machine.outcomes import BOUNDS, NETWORK, output
from tests.protocols.machine.world import Disk, Key

SIZE_MAX = 1 << 21
PROFILE = b"toy profile".ljust(32)
LISTENS: dict[str, tuple[type[Event], ...]] = {
    "scheduler": (PeersChanged,),
    "replica": (PeersChanged, Scheduled),
    "messenger": (PeersChanged, Extended),
    "compute": (PeersChanged, Extended),
}


class Machine(Protocol):
    def on(self, event: Event, now: int) -> list[Effect]: ...


class World(Protocol):
    """What a node needs of the world around it."""

    now: int
    parameters: Parameters
    units: tuple[Unit, ...]

    def later(self, delay_ms: int, call: Callable[[], None]) -> None: ...
    def crash_point(self, tables: int) -> int | None:
        """After how many synced tables of a commit the node dies; None: it lives."""

    def publish(self, origin: Node, effect: Publish) -> None: ...
    def send(self, origin: Node, effect: Send, answer: Callable[[Any], None]) -> None: ...
    def crashed(self, node: Node) -> None: ...
    def effect(self, node: Node, name: str, effect: Effect) -> None:
        """Every effect of every machine, once it is out."""


def checked(raw: bytes) -> Item:
    """A decoded item whose signature is right."""
    item = decode_item(raw, size_max=SIZE_MAX)
    message = signing_message(item)
    assert crypto_sign_open(item.signature + message, item.owner) == message
    return item


def checked_slots(refs: list[batch.SlotRef]) -> tuple[Verified[Slot], ...]:
    slots = []
    for ref in refs:
        assert isinstance(ref.item, batch.InlineItem), "the test's items are small"
        slots.append(
            Verified(slot_of(assignment_of(checked(ref.assignment_raw)), checked(ref.item.raw)))
        )
    return tuple(slots)


class Node:
    """A node with the given roles (beside the replica that every node has)."""

    def __init__(self, world: World, key: Key, *roles: str) -> None:
        self.world = world
        self.key = key
        self.roles = roles
        self.disk = Disk()
        self.life = 0
        self.up = False
        self.engine: dict[ProcessId, bytes] = {}

    # Life

    def boot(self, peers: tuple[NodeKey, ...]) -> None:
        """Start from what is on disk."""
        self.life += 1
        self.up = True
        self.engine = {}
        self.machines: dict[str, Machine] = {}
        self.inbox: dict[str, deque[Event]] = {}
        self.timers: dict[tuple[str, Any], int] = {}
        self.tickets: dict[int, Callable[[Any], None]] = {}
        self.ticket = 0
        for name in ("scheduler", "replica", *self.roles):
            if name in ("replica", *self.roles) and name not in self.machines:
                self.machines[name] = getattr(self, f"_{name}")()
                self.inbox[name] = deque()
                self.post(name, Started(peers))

    def crash(self) -> None:
        self.up = False
        self.life += 1
        self.world.crashed(self)

    def _here(self, call: Callable[[], None]) -> Callable[[], None]:
        """`call`, unless this life is over by then."""
        life = self.life
        return lambda: call() if self.up and self.life == life else None

    # Recovery: what adapters read back

    def logs(self) -> list[tuple[Chain, ProcessInfo]]:
        rows = self.disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.HEAD))
        chains = [Chain.decode(row) for _, row in rows]
        return [(chain, process_info(self.slot(chain.process, 0).message)) for chain in chains]

    def slot(self, process: ProcessId, nonce: int) -> Slot:
        row = self.disk.tables[Table.LOG][keyspace.slot_key(process, nonce)]
        return slot_of_row(row, item_bytes_max=SIZE_MAX)

    def find(self, id: ItemId) -> tuple[ProcessId, int] | None:
        for key, row in self.disk.scan(Table.LOG, *keyspace.process_range(Prefix.BY_ID, id)):
            return ProcessId(key[-32:]), keyspace.nonce_of(row)
        return None

    def signed(self) -> dict[ProcessId, list[Slot]]:
        """What the sign-once table holds, by log."""
        logs: dict[ProcessId, list[Slot]] = {}
        for _, raw in self.disk.scan(Table.SIGN_ONCE, *keyspace.prefix_range(Prefix.ASSIGNMENT)):
            assignment = assignment_of(checked(raw))
            item = self.disk.tables[Table.ITEMS][keyspace.item_key(assignment.assigned)]
            logs.setdefault(assignment.process, []).append(slot_of(assignment, checked(item)))
        return logs

    def _replica(self) -> Machine:
        machine = Replica(key=self.key.public)
        machine.recover(self.logs())
        return machine

    def _scheduler(self) -> Machine:
        machine = SlotLog(key=self.key.public, parameters=self.world.parameters, sign=self.key.sign)
        chains, tail = [], []
        for process, slots in self.signed().items():
            chain = Chain.genesis(process)
            for slot in slots:
                chain = chain.next(slot)
                if keyspace.slot_key(process, slot.nonce) not in self.disk.tables[Table.LOG]:
                    tail.append(Verified(slot))
            chains.append((chain, process_info(slots[0].message)))
        machine.recover(chains, clean=bool(chains), tail=tail)
        return machine

    def _messenger(self) -> Machine:
        machine = Delivery(
            key=self.key.public,
            parameters=self.world.parameters,
            sign=self.key.sign,
            units=self.world.units,
        )
        rows = self.disk.scan(Table.ITEMS, *keyspace.prefix_range(Prefix.DELIVERY))
        machine.recover([checked(raw) for _, raw in rows], self.logs(), self.find)
        return machine

    def _compute(self) -> Machine:
        machine = Evaluation(
            network=NETWORK,
            parameters=self.world.parameters,
            profile=PROFILE,
            key=self.key.public,
            sign=self.key.sign,
        )
        for chain, _ in self.logs():
            process = chain.process
            leaves = [
                row
                for _, row in self.disk.scan(
                    Table.LOG, *keyspace.process_range(Prefix.LEAF, process)
                )
            ]
            receipts = [
                row
                for _, row in self.disk.scan(
                    Table.SIGN_ONCE, *keyspace.process_range(Prefix.RECEIPT, process)
                )
            ]
            machine.recover(process, tip=chain.nonce, leaves=leaves, receipts=receipts)
        return machine

    # Running: one group at a time

    def post(self, name: str, event: Event) -> None:
        """Into a machine's inbox; a group is taken a little later."""
        if not self.up or name not in self.machines:
            return
        self.inbox[name].append(event)
        if len(self.inbox[name]) == 1:
            self.world.later(1, self._here(lambda: self.step(name)))

    def step(self, name: str) -> None:
        events = list(self.inbox[name])
        self.inbox[name].clear()
        machine = self.machines[name]
        effects = [effect for event in events for effect in machine.on(event, self.world.now)]
        groups = [
            [e for e in effects if isinstance(e, Persist) and e.table is table] for table in Table
        ]
        groups = [group for group in groups if group]
        point = self.world.crash_point(len(groups)) if groups else None
        for index, group in enumerate(groups):
            if point is not None and index >= point:
                break
            self.disk.write(group)
        if point is not None:
            self.crash()
            return
        for effect in effects:
            if self.up:
                self._release(name, effect)

    def _release(self, name: str, effect: Effect) -> None:
        self.world.effect(self, name, effect)
        match effect:
            case Publish():
                self._local(effect)
                self.world.publish(self, effect)
            case Send():
                self.world.send(self, effect, self._answer_to(name, effect))
            case SetTimer(key=key, at_ms=at):
                self.timers[name, key] = at
                delay = max(0, at - self.world.now)
                self.world.later(delay, self._here(lambda: self._fire(name, key, at)))
            case Reply(ticket=ticket, value=value):
                if done := self.tickets.pop(ticket, None):
                    done(value)
            case Notify(event=event):
                for other in self.machines:
                    if other != name and type(event) in LISTENS[other]:
                        self.post(other, event)
            case Execute():
                self.world.later(3, self._here(lambda: self._execute(effect)))

    def _fire(self, name: str, key: Any, at: int) -> None:
        if self.timers.get((name, key)) == at:
            del self.timers[name, key]
            self.post(name, TimerFired(key))

    def _local(self, effect: Publish) -> None:
        if effect.topic is wire.Topic.MESSAGES and "scheduler" in self.roles:
            self.gossip(self.key.public, effect.topic, effect.entry)

    # Doors

    def ask(self, make: Callable[[int], Event], name: str, done: Callable[[Any], None]) -> None:
        self.ticket += 1
        self.tickets[self.ticket] = done
        self.post(name, make(self.ticket))

    def submit(self, item: Item, done: Callable[[Any], None]) -> None:
        known = self.find(item.id)
        self.ask(lambda ticket: Submit(ticket, Verified(item), known), "messenger", done)

    def gossip(self, sender: NodeKey, topic: wire.Topic, entry: bytes) -> None:
        payload = batch.pack([entry])
        if topic is wire.Topic.SLOTS:
            slots = checked_slots(batch.unpack_slots(payload))
            self.post("replica", SlotsArrived(slots, sender))
        elif "scheduler" in self.roles:
            for ref in batch.unpack_messages(payload):
                assert isinstance(ref, batch.InlineItem)
                self.post("scheduler", self._offered(checked(ref.raw), sender, None))

    def _offered(self, item: Item, sender: NodeKey, ticket: int | None) -> Offered:
        is_process = item.first("Type") == "Process"
        process = ProcessId(item.id if is_process else item.target or b"")
        rows = self.disk.tables[Table.SIGN_ONCE]
        known = pushed = None
        nonce = rows.get(keyspace.assigned_key(item.id, process))
        if nonce is not None:
            raw = rows[keyspace.assignment_key(process, keyspace.nonce_of(nonce))]
            known = slot_of(assignment_of(checked(raw)), item)
        first = self.disk.tables[Table.ITEMS].get(keyspace.item_key(process))
        if first is not None and not is_process:
            push = push_key(item, process_info(checked(first)))
            row = None if push is None else rows.get(push_key_row(push))
            pushed = None if row is None else keyspace.nonce_of(row)
        return Offered(Verified(item), sender, ticket, known, pushed)

    # Streams

    def serve(
        self,
        peer: NodeKey,
        protocol: wire.Protocol,
        body: bytes,
        answer: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        """Answer one request of a peer."""
        match protocol:
            case wire.Protocol.LOG:
                request = streams.LogRequest.decode(body)
                slots = list(self._slots(request.process, request.first, request.last))
                answer(streams.encode_log(slots, request.bytes_max))
            case wire.Protocol.HEADS:
                asked = streams.HeadsRequest.decode(body)
                heads = [
                    streams.Head(chain.process, chain.nonce, chain.head)
                    for chain, info in self.logs()
                    if asked.scheduler in (None, info.scheduler)
                    and (not asked.processes or chain.process in asked.processes)
                ]
                answer((streams.Heads(tuple(heads)).encode(),))
            case wire.Protocol.RESULT:
                answer(streams.encode_results(list(self._results(body))))
            case wire.Protocol.MESSAGE:
                self._serve_messages(peer, body, answer)

    def _slots(self, process: ProcessId, first: int, last: int) -> Iterator[Slot]:
        start, stop = keyspace.nonce_range(Prefix.SLOT, process, first, last)
        for _, row in self.disk.scan(Table.LOG, start, stop):
            yield slot_of_row(row, item_bytes_max=SIZE_MAX)

    def _results(self, body: bytes) -> Iterator[streams.ResultEntry]:
        request = streams.ResultRequest.decode(body)
        start, stop = keyspace.nonce_range(
            Prefix.RESULT, request.process, request.first, request.last
        )
        for _, row in self.disk.scan(Table.LOG, start, stop):
            stored = StoredResult.decode(row, output_bytes_max=SIZE_MAX)
            yield streams.ResultEntry(
                stored.receipt.encode(), stored.raw if request.with_raw else None
            )

    def _serve_messages(
        self, peer: NodeKey, body: bytes, answer: Callable[[tuple[bytes, ...]], None]
    ) -> None:
        items = [
            checked(ref.raw)
            for ref in streams.MessageRequest.decode(body)
            if isinstance(ref, batch.InlineItem)
        ]
        fates: dict[ItemId, streams.MessageFate] = {}

        def fate(item: Item, value: Any) -> None:
            nonce = value if isinstance(value, int) else None
            refusal = None if nonce is not None else f"{value.reason}: {value.detail}"
            fates[item.id] = streams.MessageFate(item.id, nonce, refusal)
            if len(fates) == len(items):
                answer((streams.MessageAnswer(tuple(fates.values())).encode(),))

        for each in items:
            self.ask(
                lambda ticket, each=each: self._offered(each, peer, ticket),  # type: ignore[misc]
                "scheduler",
                lambda value, each=each: fate(each, value),  # type: ignore[misc]
            )

    def _answer_to(self, name: str, sent: Send) -> Callable[[tuple[bytes, ...] | None], None]:
        """What becomes of the answer to `sent`, if this life lasts."""
        life = self.life

        def answer(frames: tuple[bytes, ...] | None) -> None:
            if self.up and self.life == life:
                self.post(name, self._translated(sent, frames))

        return answer

    def _translated(self, sent: Send, frames: tuple[bytes, ...] | None) -> Event:
        """Admission: unverified frames become events a machine may trust."""
        if sent.protocol is wire.Protocol.LOG:
            process = streams.LogRequest.decode(sent.body).process
            if frames is None:
                return LogArrived(process, None, sent.peer, sent.tag)
            refs = [ref for frame in frames for ref in streams.decode_log(frame)]
            return LogArrived(process, checked_slots(refs), sent.peer, sent.tag)
        if sent.protocol is wire.Protocol.RESULT:
            process = streams.ResultRequest.decode(sent.body).process
            if frames is None:
                return ReceiptsArrived(process, sent.peer, None, sent.tag)
            entries = []
            for entry in streams.decode_results(frames, outcome_bytes_max=SIZE_MAX):
                receipt = Receipt.decode(entry.receipt_raw)
                message = receipt.signing_bytes()
                assert crypto_sign_open(receipt.signature + message, receipt.cu) == message
                entries.append((Verified(receipt), entry.outcome_raw))
            return ReceiptsArrived(process, sent.peer, tuple(entries), sent.tag)
        return Answered(sent.tag, sent.peer, frames)

    # The toy engine: state is a hash over all messages, the output is what the message says

    def _execute(self, effect: Execute) -> None:
        results = []
        for slot in self._slots(effect.process, effect.first, effect.last):
            if slot.nonce == 0:
                self.engine[effect.process] = bytes(32)
            before = self.engine[effect.process]
            state = digest("state", before, slot.message.id, slot.assignment.timestamp)
            self.engine[effect.process] = state
            data = slot.message.data
            results.append(
                executed_slot(
                    slot,
                    "JSON-1",
                    0,
                    data if data.startswith(b"{") else output(),
                    fuel=len(data),
                    root=state if is_border(slot.nonce, self.world.parameters.root_every) else None,
                    bounds=BOUNDS,
                )
            )
        self.post("compute", Executed(effect.process, tuple(results)))
