"""Processes: what slot 0 says of one, what may enter its log, and who speaks in a message.

Everything here is a pure function of items and network parameters. `admissible` holds all that a
scheduler may refuse an item for, and a messenger runs it before it answers 202, so an accepted
message cannot be refused later.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.errors import Invalid, Reason
from protocols.ethereum import address_text
from protocols.ids import Address, ItemId, ProcessId, b64url, parse_id
from protocols.limits import ITEM_TAGS_MAX
from protocols.network import Parameters
from protocols.wire.assignment import decimal
from protocols.wire.item import Item, SignatureType, Tag

LINK_SUFFIX = "+link"
"""Tag names and values that end so mean a linked value elsewhere in AO; refused, as AO does."""

AUTHORITIES_MAX = 64
OUTBOX_INDEX_MAX = (1 << 32) - 1
_MEMORY_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What the process item fixes for the life of a process."""

    id: ProcessId
    owner: bytes
    owner_address: Address
    owner_text: str
    """The owner as messages name it (`owner_text`)."""
    module: ItemId
    scheduler: Address
    authorities: tuple[str, ...]
    """Owners whose From-Process tags are believed, as text. One tag may list several by comma."""
    tags: tuple[Tag, ...]
    memory_limit: int | None
    """Bytes of its Memory-Limit tag, None without one (then the module's holds)."""


@dataclass(frozen=True, slots=True)
class PushKey:
    """The outbox entry a pushed item stands for. A scheduler gives one slot to each key."""

    target: ProcessId
    from_process: ProcessId
    slot: int
    index: int
    owner: Address | None
    """None if the owner is an authority of the target. Anybody else's copies are counted by
    owner, so that a stranger who guesses an entry cannot take its place."""


def process_info(item: Item) -> ProcessInfo:
    """Read a process item. Raises Invalid(INADMISSIBLE) naming the tag that is wrong."""
    _require_protocol(item)
    if item.first("Type") != "Process":
        raise _inadmissible(item, f"its Type is {item.first('Type')!r}, not 'Process'")
    authorities = tuple(
        name.strip() for value in item.all("Authority") for name in value.split(",") if name.strip()
    )
    if len(authorities) > AUTHORITIES_MAX:
        raise _inadmissible(
            item, f"it names {len(authorities)} authorities, at most {AUTHORITIES_MAX}"
        )
    limit = item.first("Memory-Limit")
    return ProcessInfo(
        id=ProcessId(item.id),
        owner=item.owner,
        owner_address=item.owner_address,
        owner_text=owner_text(item),
        module=ItemId(_id_tag(item, "Module")),
        scheduler=Address(_id_tag(item, "Scheduler")),
        authorities=authorities,
        tags=item.tags,
        memory_limit=None if limit is None else memory_limit(limit),
    )


def memory_limit(text: str) -> int:
    """Bytes of a Memory-Limit tag: `<count>-<b, kb, mb or gb>`, in powers of 1024."""
    count, _, unit = text.partition("-")
    factor = _MEMORY_UNITS.get(unit)
    if factor is None:
        raise Invalid(
            Reason.INADMISSIBLE, f"Memory-Limit {text[:64]!r} is not like '512-mb' or '1-gb'"
        )
    return decimal(count, "Memory-Limit") * factor


def memory_bytes(process: ProcessInfo, module: Item, parameters: Parameters) -> int:
    """The process's memory bound: the least of the network's and its own (else its module's).

    The maximum that the module itself declares bounds it further (`aonode.engine`).
    """
    limit = process.memory_limit
    if limit is None:
        text = module.first("Memory-Limit")
        limit = parameters.memory_max if text is None else memory_limit(text)
    return min(limit, parameters.memory_max)


def admissible(item: Item, process: ProcessInfo | None, parameters: Parameters) -> None:
    """Raise Invalid unless a scheduler must give `item` a slot.

    `process` is the log it is for; None iff the item is a process, the slot 0 of its own log.
    Not checked here: the signature, and that the process is this scheduler's.
    """
    _check_bounds(item, parameters)
    _require_protocol(item)
    kind = item.first("Type")
    if process is None:
        if kind != "Process":
            raise _inadmissible(item, f"the first slot of a log is a Process, not {kind!r}")
        process_info(item)
        return
    if kind != "Message":
        raise _inadmissible(item, f"its Type is {kind!r}; a log takes a Message")
    if item.target != process.id:
        target = "none" if item.target is None else b64url(item.target)
        raise _inadmissible(item, f"its target is {target}, not process {b64url(process.id)}")
    push_key(item, process)


def home_of(item: Item) -> ProcessId | None:
    """The log an item is for: its target's, or its own if it is a process. It can stand in other
    logs too (`assignable`)."""
    if item.first("Type") == "Process":
        return ProcessId(item.id)
    return None if item.target is None else ProcessId(item.target)


def assignable(item: Item, parameters: Parameters) -> None:
    """Raise Invalid unless `item` may be assigned, by its id, to the log of a process that it is
    not for. What it means there is the process's business: anybody may ask for it.

    An item in its own log is `admissible`, however it got there.
    """
    _check_bounds(item, parameters)
    if item.first("Type") == "Assignment":
        raise _inadmissible(item, "it is an assignment; name the message it assigns")


def enterable(
    item: Item, process: ProcessInfo, exclude: tuple[str, ...], parameters: Parameters
) -> None:
    """Raise Invalid unless `item` may have a slot after the first in the log of `process`, with
    these fields withheld: if it is for this process `admissible` and whole, else `assignable`."""
    if home_of(item) != process.id:
        assignable(item, parameters)
        return
    # Its author wrote to this process: whoever asks first, it comes whole, and once.
    if exclude:
        raise Invalid(
            Reason.INADMISSIBLE,
            f"item {b64url(item.id)} is for process {b64url(process.id)} itself, so no field of "
            f"it can be withheld ({', '.join(exclude)}); leave out exclude",
        )
    admissible(item, process, parameters)


def _check_bounds(item: Item, parameters: Parameters) -> None:
    """Raise Invalid above the bounds of any item in a log, or for a linked tag."""
    if item.size > parameters.item_bytes_max:
        raise Invalid(
            Reason.OVERSIZE,
            f"item {b64url(item.id)} has {item.size} bytes, at most "
            f"{parameters.item_bytes_max} on this network",
        )
    if len(item.tags) > ITEM_TAGS_MAX:
        raise Invalid(Reason.OVERSIZE, f"{len(item.tags)} tags, at most {ITEM_TAGS_MAX}")
    for name, value in item.tags:
        if name.endswith(LINK_SUFFIX) or value.endswith(LINK_SUFFIX):
            raise _inadmissible(item, f"tag {name[:64]!r} is a link (it ends in {LINK_SUFFIX!r})")


def _require_protocol(item: Item) -> None:
    if "ao" not in item.all("Data-Protocol"):
        raise _inadmissible(item, "it has no tag Data-Protocol = ao")


def _id_tag(item: Item, name: str) -> bytes:
    value = item.first(name)
    if value is None:
        raise _inadmissible(item, f"a process needs a {name} tag")
    try:
        return parse_id(value)
    except Invalid as error:
        raise _inadmissible(item, f"its {name} tag: {error.detail}") from None


def _inadmissible(item: Item, why: str) -> Invalid:
    return Invalid(Reason.INADMISSIBLE, f"item {b64url(item.id)} cannot be scheduled: {why}")


# Who speaks


def owner_text(item: Item) -> str:
    """The owner as AO names it: base64url address, or the 0x address of an Ethereum key."""
    if item.signature_type == SignatureType.ETHEREUM:
        return address_text(item.owner)
    return b64url(item.owner_address)


def is_authority(item: Item, process: ProcessInfo) -> bool:
    """Whether `process` believes what the item's owner says of its origin."""
    authorities = process.authorities
    return bool(authorities) and (
        owner_text(item) in authorities or b64url(item.owner_address) in authorities
    )


def sender_of(item: Item, process: ProcessInfo) -> str:
    """The sender that `process` may trust: From-Process only from its authorities, else the
    owner. This is `from` of the ao-cbor-1 ABI."""
    source = item.first("From-Process")
    return source if source and is_authority(item, process) else owner_text(item)


def push_key(item: Item, process: ProcessInfo | None) -> PushKey | None:
    """The outbox entry that `item` is, None for an item nobody pushed to `process`.

    Its tag is `Outbox: <slot>.<index>`, of the process that From-Process names. Raises
    Invalid(INADMISSIBLE) for an Outbox tag of another form. A spawned process has no target
    log to compare with: None for `process` None. An item that was pushed to another process and
    assigned to this one by id is no entry for this one.
    """
    if process is None or home_of(item) != process.id:
        return None
    entry = outbox_entry(item)
    if entry is None:
        return None
    owner = None if is_authority(item, process) else item.owner_address
    return PushKey(process.id, *entry, owner)


def outbox_entry(item: Item) -> tuple[ProcessId, int, int] | None:
    """(process, slot, index) of the outbox entry that `item` says it is; None without an Outbox
    tag. Raises Invalid(INADMISSIBLE) for one of another form."""
    entries = item.all("Outbox")
    if not entries:
        return None
    sources = item.all("From-Process")
    if len(entries) != 1 or len(sources) != 1:
        raise _inadmissible(item, "a pushed item has one Outbox tag and one From-Process tag")
    slot, point, index = entries[0].partition(".")
    try:
        source = ProcessId(parse_id(sources[0], "From-Process"))
        entry = source, decimal(slot, "Outbox slot"), decimal(index, "Outbox index")
    except Invalid as error:
        raise _inadmissible(
            item, f"Outbox {entries[0][:64]!r} is not '<slot>.<index>' of a process: {error.detail}"
        ) from None
    if not point or entry[2] > OUTBOX_INDEX_MAX:
        raise _inadmissible(item, f"Outbox {entries[0][:64]!r} is not '<slot>.<index>'")
    return entry


def outbox_tag(slot: int, index: int) -> Tag:
    """The tag a messenger puts on the item it makes of an outbox entry."""
    return Tag("Outbox", f"{slot}.{index}")
