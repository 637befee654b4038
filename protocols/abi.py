"""The exact bytes given to a module. The order of JSON keys changes aos's memory, so every byte
here is protocol, guarded by golden vectors.

JSON-1 (the encoding of every Module-Format but `ao-cbor-1`): keys in the order of the functions
below, absent fields omitted, no spaces, non-ASCII raw, bytes that are not UTF-8 as U+FFFD. The
shape is AO's compute unit's. `env` is given to the module beside every message.

ao-cbor-1: canonical CBOR `[1, process, module, slot, timestamp, id, from, owner, tags, data]`:
ids are 32 bytes, `from` and `owner` texts as AO shows them, tags pairs of texts, data bytes.
There `from` is a From-Process tag only if the owner is one of the process's authorities, and
empty for an item that another process was meant to get (assigned by id): nobody sent it here.
Withheld fields are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols.codec import encode
from protocols.ids import b64url
from protocols.json1 import array, object_of, quote, text_of, without_surrogates
from protocols.outbox import FORMAT_CBOR
from protocols.wire.assignment import Slot
from protocols.wire.item import Item, Tag
from protocols.wire.process import ProcessInfo, home_of, owner_text, sender_of

CBOR_VERSION = 1

EXCLUDABLE = (
    "Signature",
    "Data",
    "Owner",
    "Anchor",
    "From",
    "Forwarded-By",
    "Tags",
    "Target",
)
"""Message fields that an assignment may withhold (its `Exclude` tags). Other names do nothing."""

_RESERVED = ("From", "Owner")
"""Tags of these names never reach a process: the fields of the message say it."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """A message that is evaluated and forgotten; fields as a client wrote them (texts)."""

    id: str
    owner: str
    target: str
    tags: tuple[Tag, ...]
    data: str
    timestamp: int
    block_height: int = 0
    signature: str | None = None
    anchor: str | None = None


def env_for(format: str, process: ProcessInfo, module: Item) -> bytes:
    """The environment of a process; empty where the ABI has none."""
    return b"" if format == FORMAT_CBOR else json_env(process, module)


def call_for(format: str, slot: Slot, process: ProcessInfo) -> bytes:
    """What a module of this Module-Format gets for one slot."""
    return cbor_call(slot, process) if format == FORMAT_CBOR else json_call(slot)


def dry_call_for(format: str, dry: DryRun, process: ProcessInfo, slot: int) -> bytes:
    """What a module gets for a dry run after `slot`, the last evaluated one."""
    if format != FORMAT_CBOR:
        return json_dry_call(dry)
    owner = without_surrogates(dry.owner)
    tags = [[without_surrogates(text) for text in tag] for tag in dry.tags]
    data = without_surrogates(dry.data).encode("utf-8")
    return encode(
        [
            CBOR_VERSION,
            process.id,
            process.module,
            slot,
            dry.timestamp,
            bytes(32),
            owner,
            owner,
            tags,
            data,
        ]
    )


# JSON-1


def json_env(process: ProcessInfo, module: Item) -> bytes:
    """`{"Process":{"Id","Owner","Tags"},"Module":{"Id","Owner","Tags"}}`."""
    return object_of(
        [
            ("Process", _identity(process.id, process.owner_text, process.tags)),
            ("Module", _identity(module.id, owner_text(module), module.tags)),
        ]
    ).encode("utf-8")


def _identity(id: bytes, owner: str, tags: Iterable[Tag]) -> str:
    return object_of([("Id", quote(b64url(id))), ("Owner", quote(owner)), ("Tags", _tags(tags))])


def json_call(slot: Slot) -> bytes:
    """The message of one slot. At nonce 0 it is the Process item, whose target is itself."""
    assignment, item = slot.assignment, slot.message
    owner = owner_text(item)
    pushed_from = item.first("From-Process")
    target = assignment.process if assignment.nonce == 0 else item.target
    message = assignment.message
    fields: list[tuple[str, str | None]] = [
        ("Id", quote(b64url(item.id))),
        ("Signature", quote(b64url(item.signature))),
        ("Data", quote(text_of(item.data))),
        ("Owner", quote(owner)),
        ("Anchor", None if item.anchor is None else quote(text_of(item.anchor))),
        ("From", quote(pushed_from or owner)),
        ("Forwarded-By", quote(owner) if pushed_from else None),
        ("Tags", _tags(_without_reserved(item.tags))),
        ("Target", quote("" if target is None else b64url(target))),
        ("Epoch", str(assignment.epoch)),
        ("Nonce", str(assignment.nonce)),
        ("Timestamp", str(assignment.timestamp)),
        ("Block-Height", assignment.block_height.lstrip("0") or "0"),
        ("Hash-Chain", quote(b64url(assignment.hash_chain))),
        ("Message", None if message is None else quote(b64url(message))),
        ("Cron", "false"),
        ("Read-Only", "false"),
    ]
    if assignment.exclude:
        hidden = [name for name in assignment.exclude if name in EXCLUDABLE]
        fields = [(name, text) for name, text in fields if name not in hidden]
    return _object_of_present(fields).encode("utf-8")


def json_dry_call(dry: DryRun) -> bytes:
    """The message of a dry run: no nonce, Read-Only."""
    pushed_from = next((tag.value for tag in dry.tags if tag.name == "From-Process"), None)
    text = _object_of_present(
        [
            ("Id", quote(dry.id)),
            ("Signature", None if dry.signature is None else quote(dry.signature)),
            ("Data", quote(dry.data)),
            ("Owner", quote(dry.owner)),
            ("Anchor", None if dry.anchor is None else quote(dry.anchor)),
            ("From", quote(pushed_from or dry.owner)),
            ("Tags", _tags(_without_reserved(dry.tags))),
            ("Target", quote(dry.target)),
            ("Timestamp", str(dry.timestamp)),
            ("Block-Height", str(dry.block_height)),
            ("Cron", "false"),
            ("Read-Only", "true"),
        ]
    )
    return without_surrogates(text).encode("utf-8")


def _object_of_present(fields: Iterable[tuple[str, str | None]]) -> str:
    return object_of([(name, text) for name, text in fields if text is not None])


def _without_reserved(tags: Iterable[Tag]) -> Iterable[Tag]:
    return (tag for tag in tags if tag.name not in _RESERVED)


def _tags(tags: Iterable[Tag]) -> str:
    return array([f'{{"name":{quote(tag.name)},"value":{quote(tag.value)}}}' for tag in tags])


# ao-cbor-1


def cbor_call(slot: Slot, process: ProcessInfo) -> bytes:
    """The message of one slot. At nonce 0 it is the Process item."""
    assignment, item = slot.assignment, slot.message
    hidden = assignment.exclude
    # This convention has no target field: without this rule anybody could replay to one token a
    # transfer that was signed for another.
    sent_here = home_of(item) == process.id
    return encode(
        [
            CBOR_VERSION,
            process.id,
            process.module,
            assignment.nonce,
            assignment.timestamp,
            item.id,
            sender_of(item, process) if sent_here and "From" not in hidden else "",
            "" if "Owner" in hidden else owner_text(item),
            [] if "Tags" in hidden else _pairs(item.tags),
            b"" if "Data" in hidden else item.data,
        ]
    )


def _pairs(tags: Sequence[Tag]) -> list[list[str]]:
    return [[tag.name, tag.value] for tag in tags]
