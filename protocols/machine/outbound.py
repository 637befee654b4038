"""A messenger's items that have no slot yet: offered by gossip, then again and again by stream.

Part of `delivery`. Every item here is durable. Nothing leaves but by `take` and `take_push`, so
whatever a scheduler answers, an item is offered until its slot is seen.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NodeKey, ProcessId, b64url
from protocols.ledger.hosting import Marks, all_hosted
from protocols.limits import BATCH_ENTRIES_MAX
from protocols.machine.effects import Answered, Effect, Publish, Send, SetTimer
from protocols.wire import batch
from protocols.wire.item import Item
from protocols.wire.process import PushKey
from protocols.wire.streams import MessageAnswer, MessageFate, MessageRequest
from protocols.wire.topics import FRAME_BYTES_MAX, Protocol, Topic

OPEN_MAX, OPEN_BYTES_MAX = 1 << 16, 256 << 20
"""Items without a slot that clients may hand in; pushed ones may take four times as much."""
SCHEDULER_OPEN_MAX = 1 << 14
"""Of these, for one scheduler: a dead one must not stop the others."""
PUSHED_FACTOR = 4
RESEND_MS, RESEND_MS_MAX = 2_000, 60_000
"""No slot after this long: offer it by stream; each time after twice as long. Not while the
scheduler gives slots to what was offered before it: then it waits in line, and offering it again
would only make the line longer."""
DEADLINE_MS = 10_000
REQUEST_BYTES_MAX = FRAME_BYTES_MAX - batch.BATCH_OVERHEAD_BYTES
REQUEST_ENTRIES_MAX = 256
assert REQUEST_ENTRIES_MAX <= BATCH_ENTRIES_MAX, "a request is one batch"

TIMER = ("resend",)
TAG = ("resend",)


@dataclass(slots=True)
class Open:
    """One item without a slot."""

    item: Item
    process: ProcessId
    scheduler: Address
    push: PushKey | None
    entry: bytes
    due: int
    number: int
    """Its place in the order in which items were offered."""
    seen: int
    """What `_Line.taken` was when it was last looked at."""
    attempts: int = 0


@dataclass(slots=True)
class _Line:
    """The items that wait for one scheduler."""

    open: int = 0
    taken: int = 0
    """Items that have left it."""
    newest: int = -1
    """Largest number of these: what is older has been overtaken."""


class Outbound:
    """All items without a slot."""

    def __init__(
        self,
        *,
        inline_bytes_max: int,
        scheduler_key: Callable[[Address], NodeKey | None],
        marks: Marks = all_hosted,
    ) -> None:
        """Views: `scheduler_key` is the key behind a scheduler's address, if known; `marks` says
        which logs take no more messages."""
        self._marks = marks
        self._closed: list[ItemId] = []
        self._inline_bytes_max = inline_bytes_max
        self._scheduler_key = scheduler_key
        self._open: dict[ItemId, Open] = {}
        self._by_push: dict[PushKey, ItemId] = {}
        self._lines: dict[Address, _Line] = {}
        self._numbers = itertools.count()
        self._bytes = 0
        self._due: list[tuple[int, ItemId]] = []
        self._armed: int | None = None
        self.resent = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: ItemId) -> bool:
        return id in self._open

    @property
    def has_pushes(self) -> bool:
        """Whether any of them came from an outbox."""
        return bool(self._by_push)

    def check_room(self, item: Item, scheduler: Address, *, pushed: bool) -> None:
        """Raise Invalid(BUSY) if there is none."""
        factor = PUSHED_FACTOR if pushed else 1
        line = self._lines.get(scheduler)
        mine = line.open if line else 0
        if (
            len(self._open) >= OPEN_MAX * factor
            or self._bytes + len(item.raw) > OPEN_BYTES_MAX * factor
            or mine >= SCHEDULER_OPEN_MAX * factor
        ):
            raise Invalid(
                Reason.BUSY,
                f"{len(self._open)} items wait for their slot, {mine} of them at scheduler "
                f"{b64url(scheduler)}; try again later",
            )

    def add(
        self, item: Item, process: ProcessId, scheduler: Address, push: PushKey | None, now: int
    ) -> list[Effect]:
        """Offer a durable item from now on."""
        entry = batch.item_entry(item.raw, item.id, self._inline_bytes_max)
        line = self._lines.setdefault(scheduler, _Line())
        line.open += 1
        self._open[item.id] = Open(
            item,
            process,
            scheduler,
            push,
            entry,
            due=now + RESEND_MS,
            number=next(self._numbers),
            seen=line.taken,
        )
        if push is not None:
            self._by_push[push] = item.id
        self._bytes += len(item.raw)
        heapq.heappush(self._due, (now + RESEND_MS, item.id))
        return [Publish(Topic.MESSAGES, process, entry), *self._arm()]

    def take(self, id: ItemId) -> Open | None:
        """The item has its slot: stop offering it."""
        found = self._open.pop(id, None)
        if found is not None:
            if found.push is not None and self._by_push.get(found.push) == id:
                del self._by_push[found.push]
            line = self._lines[found.scheduler]
            line.open -= 1
            line.taken += 1
            line.newest = max(line.newest, found.number)
            if not line.open:
                del self._lines[found.scheduler]
            self._bytes -= len(found.item.raw)
        return found

    def take_push(self, push: PushKey) -> Open | None:
        """The outbox entry has its slot, by another messenger: stop offering our copy."""
        id = self._by_push.get(push)
        return None if id is None else self.take(id)

    # Offering again

    def due(self, now: int) -> list[Effect]:
        """Offer by stream what has waited too long, in few requests."""
        self._armed = None
        by_key: dict[NodeKey, list[Open]] = {}
        while self._due and self._due[0][0] <= now:
            at, id = heapq.heappop(self._due)
            found = self._open.get(id)
            if found is None or found.due != at:
                continue  # it has its slot, or another place in the heap
            if self._marks(found.process) is not None:
                self._closed.append(id)
                continue
            line = self._lines[found.scheduler]
            in_line = line.taken != found.seen and line.newest < found.number
            found.seen = line.taken
            found.attempts += not in_line
            wait = RESEND_MS if in_line else RESEND_MS << min(found.attempts, 16)
            found.due = now + min(wait, RESEND_MS_MAX)
            heapq.heappush(self._due, (found.due, id))
            if in_line:
                continue
            key = self._scheduler_key(found.scheduler)
            if key is not None:
                by_key.setdefault(key, []).append(found)
        effects: list[Effect] = []
        for key, items in by_key.items():
            effects += self._requests(key, items)
        return effects + self._arm()

    def take_closed(self) -> list[ItemId]:
        """Items that no scheduler will take any more, found by `due`: they are taken out."""
        closed, self._closed = self._closed, []
        return [id for id in closed if self.take(id) is not None]

    def _requests(self, key: NodeKey, items: list[Open]) -> list[Effect]:
        effects: list[Effect] = []
        entries: list[bytes] = []
        size = 0
        for found in items:
            full = size + len(found.entry) > REQUEST_BYTES_MAX
            if entries and (full or len(entries) == REQUEST_ENTRIES_MAX):
                effects.append(_request(key, entries))
                entries, size = [], 0
            entries.append(found.entry)
            size += len(found.entry)
        effects.append(_request(key, entries))
        self.resent += len(items)
        return effects

    def _arm(self) -> list[Effect]:
        """One timer for all: set when something is due earlier than it fires."""
        if not self._due or (self._armed is not None and self._armed <= self._due[0][0]):
            return []
        self._armed = self._due[0][0]
        return [SetTimer(TIMER, self._armed)]

    def answered(self, event: Answered) -> list[tuple[Open, MessageFate]]:
        """What a scheduler said about items that are still here. Raises Invalid."""
        fates = [fate for frame in event.frames or () for fate in MessageAnswer.decode(frame).fates]
        return [
            (found, fate)
            for fate in fates
            if (found := self._open.get(fate.id)) is not None
            and self._scheduler_key(found.scheduler) == event.peer
        ]


def _request(key: NodeKey, entries: list[bytes]) -> Send:
    body = MessageRequest(tuple(entries)).encode()
    return Send(key, Protocol.MESSAGE, body, TAG, DEADLINE_MS)
