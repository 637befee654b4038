"""Drives one machine: inbox, `on()`, one commit, effects in order, timers.

The order is the safety rule of the node: every `Persist` of a group of events is durable before
any other effect of that group leaves. A commit that fails raises, and that ends the node.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from aonode.env import Env, TaskStatus
from aonode.ops.metrics import Metrics
from aonode.ports import Store
from protocols.errors import Invalid, Reason
from protocols.machine.effects import (
    Effect,
    Event,
    Persist,
    Refusal,
    Reply,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import PeersChanged

INBOX_EVENTS_MAX = 4096
"""Events that may wait for one machine; gossip beyond it is dropped and counted."""
GROUP_EVENTS_MAX = 512
"""Events committed as one group; bounds the latency of a group under load."""
TICKETS_MAX = 8192
"""Questions that may wait for a `Reply` of one machine."""


class Machine(Protocol):
    """What every role's pure part looks like."""

    def on(self, event: Event, now: int) -> list[Effect]:
        """Decide. `now` is milliseconds since the epoch."""

    def status(self) -> dict[str, Any]:
        """A few JSON-ready facts."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The two stores of a node. SIGN_ONCE is one of its own, so that it can be kept apart."""

    db: Store
    sign_once: Store

    def commit(self, rows: dict[Table, list[tuple[bytes, bytes | None]]]) -> None:
        """Write the tables in their order, each with its sync. Blocking."""
        for table in Table:
            if group := rows.get(table):
                store = self.sign_once if table is Table.SIGN_ONCE else self.db
                store.write(group, sync=True)


class Runner:
    """One machine in one task."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        *,
        env: Env,
        stores: Stores,
        metrics: Metrics,
        release: Callable[[Runner, Effect], Awaitable[None]],
        listens: Sequence[type[Event]] = (),
    ) -> None:
        self.name = name
        self.machine = machine
        self.listens = tuple(listens)
        self._env = env
        self._stores = stores
        self._metrics = metrics
        self._release = release
        self._into, self._inbox = trio.open_memory_channel[Event](INBOX_EVENTS_MAX)
        self._tickets: dict[int, _Ticket] = {}
        self._ticket_numbers = itertools.count(1)
        self._timers = Timers(env)

    def post(self, event: Event) -> bool:
        """Hand over an event without waiting; False (and counted) if the inbox is full."""
        try:
            self._into.send_nowait(event)
        except trio.WouldBlock:
            self._metrics.dropped.labels(queue=self.name).inc()
            return False
        return True

    async def send(self, event: Event) -> None:
        """Hand over an event, waiting for room.

        Where there is room this does not yield: what one group of events tells another machine
        arrives there as one group, and is committed as one.
        """
        try:
            self._into.send_nowait(event)
        except trio.WouldBlock:
            await self._into.send(event)

    async def ask(self, make: Callable[[int], Event]) -> Any:
        """Post `make(ticket)` and wait for its Reply; raises Invalid for a Refusal, or if full."""
        (answer,) = await self.ask_many([make])
        if isinstance(answer, Invalid):
            raise answer
        return answer

    async def ask_many(self, makes: Sequence[Callable[[int], Event]]) -> list[Any]:
        """Post events in this order and wait for all their Replies; a Refusal becomes Invalid."""
        numbers: list[int] = []
        answers: list[Any] = []
        try:
            tickets = [self._post_asking(make, numbers) for make in makes]
            for ticket in tickets:
                if isinstance(ticket, _Ticket):
                    await ticket.answered.wait()
                    value = ticket.value
                    refused = isinstance(value, Refusal)
                    answers.append(Invalid(value.reason, value.detail) if refused else value)
                else:
                    answers.append(ticket)
        finally:
            for number in numbers:
                del self._tickets[number]
        return answers

    def _post_asking(self, make: Callable[[int], Event], numbers: list[int]) -> _Ticket | Invalid:
        if len(self._tickets) >= TICKETS_MAX:
            return Invalid(Reason.BUSY, f"{self.name} has {TICKETS_MAX} open questions; try later")
        number = next(self._ticket_numbers)
        if not self.post(make(number)):
            return Invalid(Reason.BUSY, f"the {self.name} inbox is full; try again later")
        ticket = self._tickets[number] = _Ticket()
        numbers.append(number)
        return ticket

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the machine, then serve it for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._timers.run, self.send)
            await self._step([Started()])
            task_status.started()
            async for first in self._inbox:
                await self._step([first, *self._waiting()])

    def _waiting(self) -> list[Event]:
        events: list[Event] = []
        while len(events) < GROUP_EVENTS_MAX - 1:
            try:
                events.append(self._inbox.receive_nowait())
            except trio.WouldBlock:
                break
        return events

    async def _step(self, events: list[Event]) -> None:
        now = self._env.now_ms()
        effects = [effect for event in events for effect in self.machine.on(event, now)]
        rows: dict[Table, list[tuple[bytes, bytes | None]]] = {}
        for effect in effects:
            if isinstance(effect, Persist):
                rows.setdefault(effect.table, []).append((effect.key, effect.value))
        if rows:
            await self._env.offload(lambda: self._stores.commit(rows))
            self._metrics.commits.labels(machine=self.name).inc()
        for effect in effects:
            match effect:
                case Persist():
                    pass
                case SetTimer():
                    self._timers.set(effect)
                case Reply(ticket=number, value=value):
                    # Whoever asked may have gone away; then nobody needs the answer.
                    if ticket := self._tickets.get(number):
                        ticket.value = value
                        ticket.answered.set()
                case _:
                    await self._release(self, effect)

    def depth(self) -> int:
        """Events waiting in the inbox."""
        return self._into.statistics().current_buffer_used


class Timers:
    """The timers of one machine: one heap, one task."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._heap: list[tuple[int, int, tuple[Any, ...]]] = []
        self._current: dict[tuple[Any, ...], int] = {}
        self._numbers = itertools.count()
        self._changed = trio.Event()

    def set(self, timer: SetTimer) -> None:
        """Arm or re-arm."""
        number = next(self._numbers)
        self._current[timer.key] = number
        heapq.heappush(self._heap, (timer.at_ms, number, timer.key))
        if self._heap[0][1] == number:
            self._changed.set()

    async def run(self, send: Callable[[Event], Awaitable[None]]) -> None:
        """Deliver `TimerFired` for every timer that runs out."""
        while True:
            self._changed = trio.Event()
            wait_s = (self._heap[0][0] - self._env.now_ms()) / 1000 if self._heap else float("inf")
            if wait_s > 0:
                with trio.move_on_after(wait_s):
                    await self._changed.wait()
                continue
            _, number, key = heapq.heappop(self._heap)
            # Only the latest SetTimer of a key counts; the others are stale heap entries.
            if self._current.get(key) == number:
                del self._current[key]
                await send(TimerFired(key))


class _Ticket:
    __slots__ = ("answered", "value")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.value: Any = None


class Hub:
    """The runners of one node, and who listens to what."""

    def __init__(self) -> None:
        self.runners: list[Runner] = []

    def add(self, runner: Runner) -> None:
        """Register a runner before the node runs."""
        self.runners.append(runner)

    async def notify(self, event: Event, sender: Runner | None = None) -> None:
        """Deliver to every other runner that listens to this type of event, in order."""
        for runner in self.runners:
            if runner is not sender and type(event) in runner.listens:
                await runner.send(event)

    def peers_changed(self, event: PeersChanged) -> None:
        """Tell all; a machine with a full inbox hears of the next change instead."""
        for runner in self.runners:
            if PeersChanged in runner.listens:
                runner.post(event)
