"""What a module's output says: did it fail, and what does it want sent.

One pure function, `derive`, reads the raw output bytes. Engines call it to decide whether to keep
the state, compute units to sign, messengers to push, clients to check. Its rules, in order:

1. Above `output_bytes_max`: TOO_LARGE.
2. JSON-1: `{"ok": bool, "response": ...}` as `protocols.json1` reads it. `ok` false is ERROR, the
   response its text. Else the response is an object; an `Error` member that is not null, false
   or an empty text is ERROR.
   ao-cbor-1: canonical CBOR `[status, output, outbox, error]`, status 0 or 1.
   Whatever does not read like that: BAD_OUTPUT. An ERROR has an empty outbox.
3. An outbox entry of another shape: BAD_OUTPUT.
4. More messages, spawns and assigned processes than `outbox_max`: TOO_LARGE.

In JSON, null is absent. Where text belongs, another value is taken as its source text. Lua writes
an empty table as `[]` or `{}`, so an empty object is an empty list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from protocols import domains, json1
from protocols.accumulator import merkle_root
from protocols.codec import Value, decode, encode
from protocols.errors import Invalid, Reason
from protocols.json1 import Array, Document, Node, Object
from protocols.limits import JSON_VALUES_MAX
from protocols.wire.item import Tag
from protocols.wire.outcome import Status

FORMAT_CBOR = "ao-cbor-1"
"""Module-Format of the clean ABI. Every other format speaks JSON-1."""


class Bounds(NamedTuple):
    """The network parameters that `derive` depends on."""

    output_bytes_max: int
    outbox_max: int


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message to send. Nothing says that `target` is an id: pushing decides."""

    target: str
    anchor: str | None
    tags: tuple[Tag, ...]
    data: bytes

    def to_value(self) -> Value:
        return [0, self.target, self.anchor, [list(tag) for tag in self.tags], self.data]


@dataclass(frozen=True, slots=True)
class OutSpawn:
    """A process to spawn."""

    anchor: str | None
    tags: tuple[Tag, ...]
    data: bytes

    def to_value(self) -> Value:
        return [1, self.anchor, [list(tag) for tag in self.tags], self.data]


@dataclass(frozen=True, slots=True)
class OutAssignment:
    """An item to assign to the logs of other processes."""

    processes: tuple[str, ...]
    message: str

    def to_value(self) -> Value:
        return [2, list(self.processes), self.message]


Entry: TypeAlias = OutMessage | OutSpawn | OutAssignment


@dataclass(frozen=True, slots=True)
class Outbox:
    """What one slot wants sent. An entry's index counts messages, spawns, assignments through."""

    messages: tuple[OutMessage, ...] = ()
    spawns: tuple[OutSpawn, ...] = ()
    assignments: tuple[OutAssignment, ...] = ()

    @property
    def count(self) -> int:
        return len(self.messages) + len(self.spawns) + len(self.assignments)

    @property
    def deliveries(self) -> int:
        """What `outbox_max` bounds: an assignment counts once per process."""
        extra = sum(len(entry.processes) - 1 for entry in self.assignments if entry.processes)
        return self.count + extra

    def entries(self) -> tuple[Entry, ...]:
        """All entries, in index order."""
        return (*self.messages, *self.spawns, *self.assignments)

    def root(self) -> bytes:
        """Merkle root over the canonical encodings of the entries."""
        return merkle_root(domains.OUTBOX, [encode(entry.to_value()) for entry in self.entries()])


EMPTY = Outbox()


class Derived(NamedTuple):
    """What a raw output means."""

    status: Status
    outbox: Outbox
    output: str
    """The module's Output as JSON text; `""` where there is none."""
    error: str
    """The module's own words; empty unless status is ERROR."""


def derive(format: str, status: Status, raw: bytes, bounds: Bounds) -> Derived:
    """Read `raw`, the output of a module of this Module-Format.

    `status` OK or ERROR means that the module returned, and the answer is what its output says;
    any other status is final and has no output. Total: never raises, whatever `raw` is.
    """
    if not status.has_output:
        return _nothing(status)
    if len(raw) > bounds.output_bytes_max:
        return _nothing(Status.TOO_LARGE)
    try:
        derived = _derive_cbor(raw) if format == FORMAT_CBOR else _derive_json(raw)
    except Invalid:
        return _nothing(Status.BAD_OUTPUT)
    if derived.outbox.deliveries > bounds.outbox_max:
        return _nothing(Status.TOO_LARGE)
    return derived


def _nothing(status: Status, error: str = "") -> Derived:
    return Derived(status, EMPTY, '""', error)


def _malformed(what: str) -> Invalid:
    return Invalid(Reason.MALFORMED, f"{what} does not have the shape that `protocols.outbox` asks")


# JSON-1


def _derive_json(raw: bytes) -> Derived:
    document = json1.parse(raw)
    if not isinstance(document.root, Object):
        raise _malformed("the output")
    answer = document.root.members
    response = answer.get("response", json1.NULL)
    if answer.get("ok") == json1.FALSE:
        return _nothing(Status.ERROR, _text(document, response) or "")
    if answer.get("ok") != json1.TRUE or not isinstance(response, Object):
        raise _malformed("the output")
    fields = response.members
    error = fields.get("Error", json1.NULL)
    if error not in (json1.NULL, json1.FALSE, ""):
        return _nothing(Status.ERROR, document.text(error))
    outbox = _json_outbox(document, fields)
    output = fields.get("Output", "")
    return Derived(Status.OK, outbox, document.json("" if output == json1.NULL else output), "")


def _json_outbox(document: Document, fields: dict[str, Node]) -> Outbox:
    messages, spawns, assignments = (
        _list(fields.get(name), name) for name in ("Messages", "Spawns", "Assignments")
    )
    return Outbox(
        tuple(_json_message(document, entry) for entry in messages),
        tuple(_json_spawn(document, entry) for entry in spawns),
        tuple(_json_assignment(document, entry) for entry in assignments),
    )


def _json_message(document: Document, entry: Node) -> OutMessage:
    fields = _members(entry)
    return OutMessage(
        _text(document, fields.get("Target")) or "",
        _text(document, fields.get("Anchor")),
        _json_tags(document, fields),
        (_text(document, fields.get("Data")) or "").encode("utf-8"),
    )


def _json_spawn(document: Document, entry: Node) -> OutSpawn:
    fields = _members(entry)
    return OutSpawn(
        _text(document, fields.get("Anchor")),
        _json_tags(document, fields),
        (_text(document, fields.get("Data")) or "").encode("utf-8"),
    )


def _json_tags(document: Document, fields: dict[str, Node]) -> tuple[Tag, ...]:
    tags = []
    for tag in _list(fields.get("Tags"), "Tags"):
        pair = _members(tag)
        name, value = _text(document, pair.get("name")), _text(document, pair.get("value"))
        tags.append(Tag(name or "", value or ""))
    return tuple(tags)


def _json_assignment(document: Document, entry: Node) -> OutAssignment:
    fields = _members(entry)
    processes = fields.get("Processes")
    names = [processes] if isinstance(processes, str) else _list(processes, "Processes")
    return OutAssignment(
        tuple(document.text(name) for name in names), _text(document, fields.get("Message")) or ""
    )


def _text(document: Document, node: Node | None) -> str | None:
    return None if node is None or node == json1.NULL else document.text(node)


def _members(node: Node) -> dict[str, Node]:
    if not isinstance(node, Object):
        raise _malformed("an outbox entry or tag that is not an object")
    return node.members


def _list(node: Node | None, what: str) -> list[Node]:
    match node:
        case None | json1.NULL:
            return []
        case Array(items=items):
            return items
        case Object(members=members) if not members:
            return []
    raise _malformed(what)


# ao-cbor-1


def _derive_cbor(raw: bytes) -> Derived:
    match decode(raw, size_max=len(raw), items_max=JSON_VALUES_MAX):
        case [bool(), *_]:  # True == 1
            pass
        case [0, output, list(entries), None]:
            outbox = _cbor_outbox(entries)
            return Derived(Status.OK, outbox, json1.quote(_output_text(output)), "")
        case [1, output, list(), str(error)]:
            _output_text(output)
            return _nothing(Status.ERROR, error)
    raise _malformed("the output")


def _output_text(output: Value) -> str:
    match output:
        case None:
            return ""
        case str():
            return output
        case bytes():
            return json1.text_of(output)
    raise _malformed("the output")


def _cbor_outbox(entries: Iterable[Value]) -> Outbox:
    read = [_cbor_entry(entry) for entry in entries]
    return Outbox(
        tuple(entry for entry in read if isinstance(entry, OutMessage)),
        tuple(entry for entry in read if isinstance(entry, OutSpawn)),
        tuple(entry for entry in read if isinstance(entry, OutAssignment)),
    )


def _cbor_entry(entry: Value) -> Entry:
    match entry:
        case [bool(), *_]:
            pass
        case [0, str(target), None | str() as anchor, list(tags), bytes(data)]:
            return OutMessage(target, anchor, _cbor_tags(tags), data)
        case [1, None | str() as anchor, list(tags), bytes(data)]:
            return OutSpawn(anchor, _cbor_tags(tags), data)
        case [2, list(processes), str(message)]:
            names = tuple(process for process in processes if isinstance(process, str))
            if len(names) == len(processes):
                return OutAssignment(names, message)
    raise _malformed("an outbox entry")


def _cbor_tags(tags: Iterable[Value]) -> tuple[Tag, ...]:
    read = []
    for tag in tags:
        match tag:
            case [str(name), str(value)]:
                read.append(Tag(name, value))
            case _:
                raise _malformed("a tag")
    return tuple(read)
