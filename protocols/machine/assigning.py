"""A messenger's orders: give an item that exists a slot in one more log, by its id.

Clients order, and so do processes (assignments in an outbox). A client's order lives as long as
its question: one request, one answer. A process's order is durable until the scheduler has signed
the assignment or refused for good, and is asked again until then; since an item gets one slot in
a log, asking again gets the same assignment.

    order --request to the process's scheduler--> assignment --> `delivery` follows its slot
      '--no answer, busy, process or item unknown so far--> again later, backing off

Part of `delivery`, which signs nothing here: the scheduler does.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protocols import codec, keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url, parse_id
from protocols.machine.effects import Effect, Persist, Send, SetTimer, Table
from protocols.machine.events import AssignAsked, AssignmentArrived
from protocols.outbox import OutAssignment
from protocols.wire import shape
from protocols.wire.assignment import Assignment
from protocols.wire.streams import AssignRequest
from protocols.wire.topics import Protocol

REQUESTS_MAX = 32
"""Requests under way; other orders wait."""
CLIENTS_MAX = 1024
"""Orders of clients at a time."""
ORDERS_MAX = 1 << 16
"""Orders of processes; beyond, an outbox entry is given up with an alarm."""
DEADLINE_MS = 10_000
RETRY_MS, RETRY_MS_MAX = 1_000, 60_000
PATIENCE_MS = 15_000
"""How long an order of a process waits for its item or its process to become known."""
RECOVERED_PATIENCE_MS = 60_000
"""The same after a restart: the replica may be catching up."""
ROW_BYTES_MAX = 256 << 10

TIMER = ("assign",)
TAG = "assign"

_LATER = frozenset({Reason.BUSY, Reason.TIMEOUT, Reason.UNAVAILABLE})
"""Refusals that another attempt may overcome, whenever."""
_SOON = frozenset({Reason.UNKNOWN_ITEM, Reason.UNKNOWN_PROCESS})
"""Refusals that gossip on its way may overcome, within `PATIENCE_MS`."""

Entry = tuple[ProcessId, int, int]
"""An outbox entry: process, slot, index."""


@dataclass(slots=True)
class Order:
    """One item, one log."""

    process: ProcessId
    item: ItemId
    exclude: tuple[str, ...]
    ticket: int | None
    """A client's question; None for a process's order."""
    entry: Entry | None
    """The outbox entry, for a process's order."""
    until: int
    """Milliseconds; for a client's order its deadline, for a process's the end of patience."""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an order: the assignment, or why there is none."""

    order: Order
    assignment: Assignment | None
    error: Invalid | None
    effects: tuple[Effect, ...]
    """Rows of a process's order."""


class Assigning:
    """All orders of one messenger."""

    def __init__(self, scheduler: Callable[[ProcessId], NodeKey | None]) -> None:
        """`scheduler` is a view: the key of a process's scheduler, if both are known."""
        self._scheduler = scheduler
        self._under_way: dict[int, Order] = {}
        self._ready: deque[Order] = deque()
        self._later: list[tuple[int, int, Order]] = []
        self._numbers = 0
        self._clients = 0
        self._left: dict[Entry, list[ProcessId]] = {}
        """Of each outbox entry, the processes still to be served."""

    def __len__(self) -> int:
        return len(self._under_way) + len(self._ready) + len(self._later)

    # Taking orders

    def ask(self, event: AssignAsked, now: int) -> list[Effect]:
        """A client's order. Raises Invalid if it cannot even be tried."""
        if self._clients >= CLIENTS_MAX:
            raise Invalid(
                Reason.BUSY, f"{CLIENTS_MAX} assignments are being asked for; try again later"
            )
        if self._scheduler(event.process) is None:
            raise Invalid(
                Reason.UNKNOWN_PROCESS,
                f"process {b64url(event.process)}, or its scheduler, is not known here",
            )
        self._clients += 1
        item, exclude = event.item, event.exclude
        self._ready.append(
            Order(event.process, item, exclude, event.ticket, None, now + DEADLINE_MS)
        )
        return self.requests(now)

    def place(
        self, entry: Entry, assignment: OutAssignment, now: int
    ) -> tuple[list[Effect], list[str]]:
        """A process's orders, durable; and what is wrong with those there cannot be."""
        errors: list[str] = []
        processes: list[ProcessId] = []
        try:
            item = ItemId(parse_id(assignment.message, "item to assign"))
        except Invalid as error:
            return [], [error.detail]
        for name in assignment.processes:
            try:
                process = ProcessId(parse_id(name, "process to assign it to"))
            except Invalid as error:
                errors.append(error.detail)
                continue
            if process not in processes:
                processes.append(process)
        if not processes or entry in self._left:
            return [], errors
        if len(self) + len(processes) > ORDERS_MAX:
            return [], [*errors, f"{len(self)} assignments are waiting already"]
        self._take(entry, item, processes, now + PATIENCE_MS)
        return [self._row(entry, item), *self.requests(now)], errors

    def recover(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take up the rows that `place` has written. Raises Invalid(STORAGE)."""
        for key, row in rows:
            process, slot, index = keyspace.outbox_of(key)
            match codec.decode(row, size_max=ROW_BYTES_MAX):
                case [item, list(processes)]:
                    self._take(
                        (ProcessId(process), slot, index),
                        ItemId(shape.identifier(item, "item")),
                        [ProcessId(shape.identifier(each, "process")) for each in processes],
                        0,
                    )
                case _:
                    raise Invalid(
                        Reason.STORAGE, f"an outbox row of {len(row)} bytes is not an order"
                    )

    def start(self, now: int) -> list[Effect]:
        """Ask for what `recover` took up."""
        for order in self._ready:
            order.until = now + RECOVERED_PATIENCE_MS
        return self.requests(now)

    def _take(self, entry: Entry, item: ItemId, processes: list[ProcessId], until: int) -> None:
        self._left[entry] = list(processes)
        self._ready.extend(Order(process, item, (), None, entry, until) for process in processes)

    def _row(self, entry: Entry, item: ItemId) -> Persist:
        left = self._left.get(entry)
        value = None if not left else codec.encode((item, left))
        return Persist(Table.ITEMS, keyspace.outbox_key(*entry), value)

    # Asking

    def due(self, now: int) -> list[Effect]:
        """The timer has fired, and `expired` was called: try again what is due."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        return self.requests(now)

    def requests(self, now: int) -> list[Effect]:
        """As many requests as may be under way."""
        effects: list[Effect] = []
        for _ in range(len(self._ready)):
            if len(self._under_way) >= REQUESTS_MAX:
                break
            order = self._ready.popleft()
            key = self._scheduler(order.process)
            if key is None:
                self._postpone(order, now)
                continue
            self._numbers += 1
            self._under_way[self._numbers] = order
            body = AssignRequest(order.process, order.item, order.exclude).encode()
            effects.append(Send(key, Protocol.ASSIGN, body, (TAG, self._numbers), DEADLINE_MS))
        if self._later:
            effects.append(SetTimer(TIMER, self._later[0][0]))
        return effects

    def _postpone(self, order: Order, now: int) -> None:
        order.attempts += 1
        wait = min(RETRY_MS << min(order.attempts - 1, 16), RETRY_MS_MAX)
        self._numbers += 1
        heapq.heappush(self._later, (now + wait, self._numbers, order))

    # Answers

    def arrived(self, event: AssignmentArrived, now: int) -> Settled | None:
        """An answer: None if the order is tried again later."""
        order = self._under_way.pop(event.tag[1], None)
        if order is None:
            return None
        error = None
        if event.refusal is not None:
            error = Invalid(event.refusal.reason, event.refusal.detail)
        assignment = None if event.assignment is None else event.assignment.value
        if assignment is not None:
            error = self._wrong(order, assignment, event.peer)
        if error is not None and order.ticket is None and self._may_retry(order, error, now):
            self._postpone(order, now)
            return None
        return self._settle(order, None if error else assignment, error)

    def expired(self, now: int) -> list[Settled]:
        """Orders whose process has not become known in time."""
        lost = [each for each in self._later if self._is_lost(each[2], now)]
        if not lost:
            return []
        self._later = [each for each in self._later if not self._is_lost(each[2], now)]
        heapq.heapify(self._later)
        return [
            self._settle(
                order,
                None,
                Invalid(
                    Reason.UNKNOWN_PROCESS,
                    f"process {b64url(order.process)}, or its scheduler, is not known here",
                ),
            )
            for _, _, order in lost
        ]

    def _is_lost(self, order: Order, now: int) -> bool:
        return now >= order.until and self._scheduler(order.process) is None

    def _may_retry(self, order: Order, error: Invalid, now: int) -> bool:
        return error.reason in _LATER or (error.reason in _SOON and now < order.until)

    def _wrong(self, order: Order, assignment: Assignment, peer: NodeKey) -> Invalid | None:
        """What a scheduler's answer has to do with the question."""
        if (
            assignment.process == order.process
            and assignment.assigned == order.item
            and assignment.item.owner == peer == self._scheduler(order.process)
        ):
            return None
        return Invalid(
            Reason.UNAVAILABLE,
            f"scheduler {b64url(peer)} answered with assignment {b64url(assignment.id)}, which is "
            f"not its own of item {b64url(order.item)} to process {b64url(order.process)}",
        )

    def _settle(
        self, order: Order, assignment: Assignment | None, error: Invalid | None
    ) -> Settled:
        rows: list[Effect] = []
        if order.ticket is not None:
            self._clients -= 1
        if order.entry is not None:
            left = self._left[order.entry]
            left.remove(order.process)
            rows.append(self._row(order.entry, order.item))
            if not left:
                del self._left[order.entry]
        return Settled(order, assignment, error, tuple(rows))
