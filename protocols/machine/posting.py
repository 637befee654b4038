"""Own transactions on their way into the ledger's log. Part of `ledger`.

A transaction is durable before it is sent, and sent again, less and less often, until its slot
has been folded here. The scheduler answers an item that it knows with the slot it has, so sending
one twice gives it one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Persist,
    Send,
    SetTimer,
    Table,
)
from protocols.wire import batch
from protocols.wire.item import Item
from protocols.wire.streams import MessageAnswer, MessageRequest
from protocols.wire.topics import Protocol

POSTS_MAX, POSTS_BYTES_MAX = 4096, 256 << 20
"""Own transactions without a slot."""
RESEND_MS, RESEND_MS_MAX = 1_000, 30_000
"""No slot after this long: send it again; each time after twice as long."""
DEADLINE_MS = 20_000
"""A large item is fetched from here by the scheduler while the request waits."""

TIMER = ("post",)
TAG = "post"


@dataclass(slots=True)
class _Post:
    entry: bytes
    """As a request carries it; a large item by id and size only."""
    size: int
    due: int
    attempts: int = 0


class Posting:
    """All own transactions that have no slot yet."""

    def __init__(
        self,
        ledger: ProcessId,
        *,
        inline_bytes_max: int,
        scheduler: Callable[[], NodeKey | None],
    ) -> None:
        """`scheduler` is a view: the key behind the ledger scheduler's address, if known."""
        self._ledger = ledger
        self._inline_bytes_max = inline_bytes_max
        self._scheduler = scheduler
        self._posts: dict[ItemId, _Post] = {}
        self._bytes = 0
        self._armed: int | None = None
        self.refusal = ""
        """The last refusal of the scheduler, for people."""

    def __len__(self) -> int:
        return len(self._posts)

    def __contains__(self, id: ItemId) -> bool:
        return id in self._posts

    def recover(self, items: Iterable[Item]) -> None:
        """Take up the durable rows."""
        for item in items:
            self._add(item, 0)

    def post(self, item: Item, now: int) -> list[Effect]:
        """Make it durable and send it. Raises Invalid(BUSY, INADMISSIBLE)."""
        if item.target != self._ledger:
            raise Invalid(
                Reason.INADMISSIBLE, f"item {b64url(item.id)} is no message to the ledger"
            )
        if item.id in self._posts:
            return []
        if len(self._posts) >= POSTS_MAX or self._bytes + len(item.raw) > POSTS_BYTES_MAX:
            raise Invalid(
                Reason.BUSY,
                f"{len(self._posts)} transactions wait for a slot of the ledger; try again later",
            )
        self._add(item, now)
        return [Persist(Table.ITEMS, keyspace.post_key(item.id), item.raw), *self.due(now)]

    def _add(self, item: Item, due: int) -> None:
        entry = batch.item_entry(item.raw, item.id, self._inline_bytes_max)
        self._posts[item.id] = _Post(entry, len(item.raw), due)
        self._bytes += len(item.raw)

    def forget(self, id: ItemId) -> list[Effect]:
        """It has its slot, or is of no use any more."""
        post = self._posts.pop(id, None)
        if post is None:
            return []
        self._bytes -= post.size
        return [Persist(Table.ITEMS, keyspace.post_key(id), None)]

    def due(self, now: int) -> list[Effect]:
        """Send what has waited long enough, each in a request of its own."""
        effects: list[Effect] = []
        key = self._scheduler()
        for id, post in self._posts.items():
            if post.due > now:
                continue
            post.due = now + min(RESEND_MS << min(post.attempts, 16), RESEND_MS_MAX)
            if key is not None:
                post.attempts += 1
                body = MessageRequest((post.entry,)).encode()
                effects.append(Send(key, Protocol.MESSAGE, body, (TAG, id), DEADLINE_MS))
        return effects + self._arm(now)

    def _arm(self, now: int) -> list[Effect]:
        if not self._posts:
            self._armed = None
            return []
        at = min(post.due for post in self._posts.values())
        if self._armed is not None and now < self._armed <= at:
            return []
        self._armed = at
        return [SetTimer(TIMER, at)]

    def answered(self, event: Answered, folded: int) -> list[Effect]:
        """What the scheduler said. `folded` is the last ledger slot folded here: one up to it
        was passed before this node knew that it would look for it."""
        try:
            fates = [
                fate for frame in event.frames or () for fate in MessageAnswer.decode(frame).fates
            ]
        except Invalid as error:
            detail = f"scheduler {b64url(event.peer)} answered with no fates: {error.detail}"
            return [Alarm(error.reason, self._ledger, detail)]
        if event.peer != self._scheduler():
            return []
        effects: list[Effect] = []
        for fate in fates:
            post = self._posts.get(fate.id)
            if post is None:
                continue
            if fate.nonce is not None and fate.nonce <= folded:
                effects += self.forget(fate.id)
            elif fate.refusal is not None and post.attempts == 1:
                self.refusal = fate.refusal
                detail = f"the scheduler does not take {b64url(fate.id)}: {fate.refusal}"
                effects.append(Alarm(Reason.UNAVAILABLE, self._ledger, detail))
        return effects

    def status(self) -> dict[str, Any]:
        return {"count": len(self._posts), "bytes": self._bytes, "last_refusal": self.refusal}
