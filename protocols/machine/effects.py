"""What a machine may ask of the world, as data.

A machine is a pure object: `on(event, now) -> list[Effect]`, where `now` is in milliseconds since
the epoch. The runner (`aonode.roles.runner`) applies `on()` to every waiting event, commits all
their `Persist` effects as one group with one sync per table, and only then releases the other
effects in event order: durable before visible. If the commit fails, the node ends.

An adversary in the simulator is a function on this list.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from protocols.court import Segment
from protocols.errors import Reason
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.wire.topics import Protocol, Topic


class Table(enum.IntEnum):
    """Where a row goes. Tables of one group are committed in this order, each with its sync."""

    ITEMS = 0
    """Raw data items by id, outbox rows: durable before anything is signed over them."""
    SIGN_ONCE = 1
    """A store of its own: what this node has signed, as the full signed bytes."""
    LOG = 2
    """Slots, heads, results: all that follows from items and signatures."""


@dataclass(frozen=True, slots=True)
class Persist:
    """Write (or, with `value` None, delete) one row. Keys come from `protocols.keyspace`."""

    table: Table
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Gossip one entry. The batcher packs entries of one topic and shard into one payload."""

    topic: Topic
    process: ProcessId
    entry: bytes
    """Canonical CBOR of one batch entry (`protocols.wire.batch`)."""


@dataclass(frozen=True, slots=True)
class Send:
    """One request on a stream. Its answer, or None, returns as `Answered(tag, ...)`."""

    peer: NodeKey
    protocol: Protocol
    body: bytes
    tag: tuple[Any, ...]
    """Opaque to everybody but the machine that sent it."""
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Evaluate slots `first..last` of `process` in order; returns as `Executed`."""

    process: ProcessId
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class RunSegment:
    """Run a segment that the ledger has to know; returns as `SegmentRun`."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Audit:
    """Evaluate `process` afresh, slots 0..last, apart from its live session; returns as `Audited`.

    With `witness_at`, a segment's first slot above 0, the answer is the state before it.
    """

    process: ProcessId
    last: int
    witness_at: int | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver `TimerFired(key)` at `at_ms`. A later SetTimer with the same key replaces it."""

    key: tuple[Any, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer whoever asked with `ticket`: `value`, or a refusal."""

    ticket: int
    value: Any


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the other machines of this node, through their inboxes. Roles share nothing else."""

    event: Event


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator, and later the ledger, must hear of."""

    reason: Reason
    process: ProcessId
    detail: str


Effect = Persist | Publish | Send | Execute | RunSegment | Audit | SetTimer | Reply | Notify | Alarm


class Event:
    """Base of all events. Frozen dataclasses only."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """A timer set with `SetTimer` has run out."""

    key: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """The answer to a `Send`: its frames, or None if the peer gave none in time."""

    tag: tuple[Any, ...]
    peer: NodeKey
    frames: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The first event of every machine, after `recover` and before any other."""

    peers: tuple[NodeKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The value of a `Reply` that says no."""

    reason: Reason
    detail: str


__all__ = [
    "Alarm",
    "Answered",
    "Audit",
    "Effect",
    "Event",
    "Execute",
    "ItemId",
    "Notify",
    "Persist",
    "Publish",
    "Refusal",
    "Reply",
    "RunSegment",
    "Send",
    "SetTimer",
    "Started",
    "Table",
    "TimerFired",
]
