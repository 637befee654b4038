"""What a messenger makes of an outbox entry: a pure function of its key and the entry.

The same entry gives the same bytes, after a crash too, so pushing twice schedules once. Tags as
AO's messenger writes them (Variant and SDK are the process's own business), and an `Outbox` tag,
by which schedulers tell two messengers' copies of one entry. A process cannot set the tags that
say where an item comes from: its own are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocols import domains
from protocols.codec import digest
from protocols.errors import Invalid
from protocols.ids import ItemId, NodeKey, ProcessId, b64url, parse_id
from protocols.limits import ANCHOR_BYTES
from protocols.outbox import OutMessage, OutSpawn
from protocols.wire.item import Item, SignatureType, Tag, Unsigned
from protocols.wire.process import ProcessInfo, outbox_tag

VARIANT = "ao.TN.1"
EMPTY_DATA = b" "
"""Data of an entry without any: AO's clients and processes do not expect none."""

_ORIGIN = ("From-Process", "From-Module", "Pushed-For", "Outbox")
_NOT_IN_MESSAGE = ("Data-Protocol", "Type", "Assignments", *_ORIGIN)
_NOT_IN_PROCESS = ("Data-Protocol", "Type", "Variant", *_ORIGIN)
_NOT_IN_REPLY = ("Data-Protocol", "Type", "Variant", "Process", "Action")


@dataclass(frozen=True, slots=True)
class Parent:
    """The slot whose outbox is pushed."""

    info: ProcessInfo
    slot: int
    root: ItemId
    """First item of the chain of pushes: `Pushed-For`."""


def root_of(item: Item, messenger: NodeKey) -> ItemId:
    """The item that a chain of pushes began with; `item` itself unless we pushed it."""
    if item.owner != messenger:
        return item.id
    try:
        return ItemId(parse_id(item.first("Pushed-For") or "", "Pushed-For"))
    except Invalid:
        return item.id  # the operator's own message, signed with the node's key


def entry_of(
    messenger: NodeKey, parent: Parent, index: int, entry: OutMessage | OutSpawn
) -> Unsigned:
    """The item of an outbox entry. Raises Invalid if there can be none."""
    if isinstance(entry, OutSpawn):
        return process_of(messenger, parent, index, entry)
    return message_of(messenger, parent, index, entry)


def message_of(messenger: NodeKey, parent: Parent, index: int, entry: OutMessage) -> Unsigned:
    """The message of an outbox entry. Raises Invalid if its target is no id, or no item fits."""
    target = parse_id(entry.target, "target of an outbox entry")
    tags = (
        *_without(entry.tags, _NOT_IN_MESSAGE),
        Tag("Data-Protocol", "ao"),
        Tag("Type", "Message"),
        *_origin(parent, index),
    )
    return _unsigned(
        messenger,
        parent,
        index,
        target=target,
        anchor=entry.anchor,
        tags=tags,
        data=entry.data,
    )


def process_of(messenger: NodeKey, parent: Parent, index: int, entry: OutSpawn) -> Unsigned:
    """The process of an outbox entry. Raises Invalid if no item can hold it."""
    scheduler: tuple[Tag, ...] = ()
    if not any(tag.name == "Scheduler" for tag in entry.tags):
        scheduler = (Tag("Scheduler", b64url(parent.info.scheduler)),)
    tags = (
        *_without(entry.tags, _NOT_IN_PROCESS),
        Tag("Data-Protocol", "ao"),
        Tag("Variant", VARIANT),
        Tag("Type", "Process"),
        *scheduler,
        *_origin(parent, index),
    )
    return _unsigned(
        messenger,
        parent,
        index,
        target=None,
        anchor=entry.anchor,
        tags=tags,
        data=entry.data,
    )


def is_spawned(item: Item, messenger: NodeKey) -> bool:
    """Whether `item` is a process that we spawned, so that its parent must hear of it."""
    return (
        item.owner == messenger
        and item.first("Type") == "Process"
        and item.first("From-Process") is not None
        and item.first("Outbox") is not None
    )


def spawned_reply(messenger: NodeKey, process: Item) -> Unsigned:
    """The message that tells a parent the id of its child, once the child has its slot 0.

    It is the same outbox entry as the child: the child's log is another than the parent's, so
    the entry still has one slot in each. Raises Invalid.
    """
    parent = ProcessId(parse_id(process.first("From-Process") or "", "From-Process"))
    tags = (
        *_without(process.tags, _NOT_IN_REPLY),
        Tag("Data-Protocol", "ao"),
        Tag("Type", "Message"),
        Tag("Process", b64url(process.id)),
        Tag("Action", "Spawned"),
        Tag("Variant", VARIANT),
    )
    anchor = digest(domains.PUSH_ANCHOR, messenger, process.id, 0, 0)
    return Unsigned(SignatureType.ED25519, messenger, parent, anchor, tags, EMPTY_DATA)


def _without(tags: Iterable[Tag], names: tuple[str, ...]) -> tuple[Tag, ...]:
    return tuple(tag for tag in tags if tag.name not in names)


def _origin(parent: Parent, index: int) -> tuple[Tag, ...]:
    return (
        Tag("From-Process", b64url(parent.info.id)),
        Tag("From-Module", b64url(parent.info.module)),
        Tag("Pushed-For", b64url(parent.root)),
        outbox_tag(parent.slot, index),
    )


def _unsigned(
    messenger: NodeKey,
    parent: Parent,
    index: int,
    *,
    target: bytes | None,
    anchor: str | None,
    tags: tuple[Tag, ...],
    data: bytes,
) -> Unsigned:
    given = b"" if anchor is None else anchor.encode("utf-8", "replace")
    if len(given) != ANCHOR_BYTES:
        given = digest(domains.PUSH_ANCHOR, messenger, parent.info.id, parent.slot, index)
    return Unsigned(SignatureType.ED25519, messenger, target, given, tags, data or EMPTY_DATA)
