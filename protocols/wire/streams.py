"""Bodies of the stream protocols: one request, and an answer of frames.

Every frame is canonical CBOR of at most 1 MiB. What does not fit one frame (items, modules,
results) is cut in byte strings and joined again; a log answer is slot batches that stand alone.
An answer without frames says "not here".

    protocol        request                                 answer
    /ao/message/1   [1, [item, ...]]                        [[id, nonce | null, text | null], ...]
    /ao/item/1      [id]                                    byte strings
    /ao/module/1    [id]                                    byte strings
    /ao/log/1       [process, first, last, bytes max]       slot batches
    /ao/heads/1     [scheduler | null, [process, ...]]      [[process, nonce, head], ...]
    /ao/result/1    [process, first, last, wait ms, raw?]   byte strings of
                                                            [[receipt, raw | null], ...]
    /ao/assign/1    [process, item id, [field name, ...]]   [0, assignment] | [1, reason, text]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, ProcessId
from protocols.limits import (
    BATCH_ENTRIES_MAX,
    HEADS_PROCESSES_MAX,
    ITEM_BYTES_MIN,
    LOG_RANGE_SLOTS_MAX,
    RESULT_RANGE_SLOTS_MAX,
    RESULT_WAIT_MS_MAX,
)
from protocols.wire import batch, shape
from protocols.wire.assignment import (
    EXCLUDE_CHARACTERS_MAX,
    EXCLUDES_MAX,
    Slot,
    check_excludes,
)
from protocols.wire.batch import ItemRef, SlotRef
from protocols.wire.topics import FRAME_BYTES_MAX

CHUNK_BYTES = FRAME_BYTES_MAX - 16
"""Payload of one frame that carries a part of something larger."""
LOG_BYTES_MAX = 8 << 20
"""Most bytes a log request may ask for."""
LOG_INLINE_BYTES_MAX = FRAME_BYTES_MAX - batch.ASSIGNMENT_BYTES_MAX - 64
"""Largest item that fits a frame beside its assignment; a larger one travels by id and size."""
RESULT_BYTES_MAX = 4 << 20
"""Receipts and outcomes of one result answer; an answerer stops before, after at least one."""
REFUSAL_BYTES_MAX = 192
"""Text of one refusal; `BATCH_ENTRIES_MAX` of them fit one frame."""
RECEIPT_BYTES_MAX = 16 << 10
REQUEST_BYTES_MAX = 64 << 10
"""Largest request, but for `/ao/message/1`, which carries items in one frame."""


# Parts of something large


def cut(raw: bytes) -> tuple[bytes, ...]:
    """`raw` as frames; one (empty) frame for no bytes, since no frame says "not here"."""
    return tuple(
        codec.encode(raw[start : start + CHUNK_BYTES])
        for start in range(0, max(len(raw), 1), CHUNK_BYTES)
    )


def join(frames: Sequence[bytes], *, size_max: int) -> bytes | None:
    """Inverse of `cut`, None if there are no frames. Raises Invalid above `size_max` bytes."""
    if not frames:
        return None
    total = sum(len(frame) for frame in frames)
    if total > size_max + 16 * len(frames):
        raise Invalid(Reason.OVERSIZE, f"an answer of {total} bytes, at most {size_max}")
    parts = []
    for index, frame in enumerate(frames):
        part = shape.octets(codec.decode(frame, size_max=FRAME_BYTES_MAX), "part", most=CHUNK_BYTES)
        if index < len(frames) - 1 and len(part) != CHUNK_BYTES:
            raise Invalid(
                Reason.NOT_CANONICAL, f"part {index} of {len(frames)} has {len(part)} bytes"
            )
        parts.append(part)
    raw = b"".join(parts)
    if len(raw) > size_max or (not parts[-1] and len(parts) > 1):
        raise Invalid(Reason.OVERSIZE, f"an answer of {len(raw)} bytes, at most {size_max}")
    return raw


def frames_of(size_max: int) -> int:
    """How many frames an answer of `size_max` bytes has at most."""
    return max(1, -(-size_max // CHUNK_BYTES))


# Items and modules


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """Ask for one raw item (or, on `/ao/module/1`, module) by id. Answer: `cut` / `join`."""

    id: ItemId

    def encode(self) -> bytes:
        return codec.encode((self.id,))

    @classmethod
    def decode(cls, body: bytes) -> ItemRequest:
        (id,) = shape.record(codec.decode(body, size_max=64), "item request", 1)
        return cls(ItemId(shape.identifier(id, "item id")))


ModuleRequest = ItemRequest


# The log


def _range(first: object, last: object, slots_max: int) -> tuple[int, int]:
    start = shape.integer(first, "first slot")  # type: ignore[arg-type]
    end = shape.integer(last, "last slot", least=start)  # type: ignore[arg-type]
    if end - start >= slots_max:
        raise Invalid(Reason.OVERSIZE, f"{end - start + 1} slots asked for, at most {slots_max}")
    return start, end


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Slots first..last of a log, in order; the answerer may stop early, after at least one."""

    process: ProcessId
    first: int
    last: int
    bytes_max: int
    """Most bytes of the whole answer."""

    def encode(self) -> bytes:
        return codec.encode((self.process, self.first, self.last, self.bytes_max))

    @classmethod
    def decode(cls, body: bytes) -> LogRequest:
        fields = shape.record(codec.decode(body, size_max=128), "log request", 4)
        process, first, last, bytes_max = fields
        return cls(
            ProcessId(shape.identifier(process, "process")),
            *_range(first, last, LOG_RANGE_SLOTS_MAX),
            shape.integer(bytes_max, "bytes max", least=1, most=LOG_BYTES_MAX),
        )


def encode_log(slots: Iterable[Slot], bytes_max: int) -> tuple[bytes, ...]:
    """Frames of as many slots as `bytes_max` bytes hold, at least one if there is any."""
    frames: list[bytes] = []
    entries: list[bytes] = []
    total = held = 0
    for slot in slots:
        raw = slot.message.raw
        item = batch.item_entry(raw, slot.message.id, LOG_INLINE_BYTES_MAX)
        entry = batch.slot_entry(slot.assignment.item.raw, item)
        if total and total + len(entry) > bytes_max:
            break
        full = held + len(entry) + batch.BATCH_OVERHEAD_BYTES > FRAME_BYTES_MAX
        if entries and (full or len(entries) == BATCH_ENTRIES_MAX):
            frames.append(batch.pack(entries))
            entries, held = [], 0
        entries.append(entry)
        held += len(entry)
        total += len(entry)
    if entries:
        frames.append(batch.pack(entries))
    return tuple(frames)


def decode_log(frame: bytes) -> list[SlotRef]:
    """Slots of one frame of a log answer."""
    return batch.unpack_slots(frame, size_max=FRAME_BYTES_MAX)


# Heads


@dataclass(frozen=True, slots=True)
class HeadsRequest:
    """Heads of the named processes, or of all processes of `scheduler`."""

    scheduler: Address | None
    processes: tuple[ProcessId, ...] = ()

    def encode(self) -> bytes:
        return codec.encode((self.scheduler, self.processes))

    @classmethod
    def decode(cls, body: bytes) -> HeadsRequest:
        value = codec.decode(body, size_max=REQUEST_BYTES_MAX)
        scheduler, processes = shape.record(value, "heads request", 2)
        return cls(
            None if scheduler is None else Address(shape.identifier(scheduler, "scheduler")),
            tuple(
                ProcessId(shape.identifier(process, "process"))
                for process in shape.array(processes, "processes", most=HEADS_PROCESSES_MAX)
            ),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """Where the answerer's replica of one log stands."""

    process: ProcessId
    nonce: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Heads:
    """Answer of `/ao/heads/1`: one frame."""

    heads: tuple[Head, ...]

    def encode(self) -> bytes:
        return codec.encode([(each.process, each.nonce, each.head) for each in self.heads])

    @classmethod
    def decode(cls, frame: bytes) -> Heads:
        value = codec.decode(frame, size_max=FRAME_BYTES_MAX)
        heads = []
        for each in shape.array(value, "heads", most=HEADS_PROCESSES_MAX):
            process, nonce, head = shape.record(each, "head", 3)
            heads.append(
                Head(
                    ProcessId(shape.identifier(process, "process")),
                    shape.integer(nonce, "nonce"),
                    shape.identifier(head, "head"),
                )
            )
        return cls(tuple(heads))


# Results


@dataclass(frozen=True, slots=True)
class ResultRequest:
    """Receipts of slots first..last, waiting up to `wait_ms` for the last to be evaluated."""

    process: ProcessId
    first: int
    last: int
    wait_ms: int
    with_raw: bool
    """Send the outcome bytes too, not only the receipts."""

    def encode(self) -> bytes:
        return codec.encode((self.process, self.first, self.last, self.wait_ms, self.with_raw))

    @classmethod
    def decode(cls, body: bytes) -> ResultRequest:
        fields = shape.record(codec.decode(body, size_max=128), "result request", 5)
        process, first, last, wait_ms, with_raw = fields
        return cls(
            ProcessId(shape.identifier(process, "process")),
            *_range(first, last, RESULT_RANGE_SLOTS_MAX),
            shape.integer(wait_ms, "wait", most=RESULT_WAIT_MS_MAX),
            shape.boolean(with_raw, "with raw"),
        )


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One slot's receipt (`protocols.wire.proof.Receipt`, encoded) and outcome bytes."""

    receipt_raw: bytes
    outcome_raw: bytes | None


def encode_results(entries: Sequence[ResultEntry]) -> tuple[bytes, ...]:
    """Frames of as many entries as `RESULT_BYTES_MAX` holds, at least one if there is any."""
    kept: list[tuple[bytes, bytes | None]] = []
    total = 0
    for entry in entries[:RESULT_RANGE_SLOTS_MAX]:
        total += len(entry.receipt_raw) + len(entry.outcome_raw or b"") + 16
        if kept and total > RESULT_BYTES_MAX:
            break
        kept.append((entry.receipt_raw, entry.outcome_raw))
    return cut(codec.encode(kept)) if kept else ()


def decode_results(frames: Sequence[bytes], *, outcome_bytes_max: int) -> tuple[ResultEntry, ...]:
    """Inverse of `encode_results`; `outcome_bytes_max` is the network's `output_bytes_max`."""
    size_max = max(RESULT_BYTES_MAX, RECEIPT_BYTES_MAX + outcome_bytes_max) + 64
    raw = join(frames, size_max=size_max)
    if raw is None:
        return ()
    entries = []
    value = codec.decode(raw, size_max=size_max)
    for each in shape.array(value, "results", least=1, most=RESULT_RANGE_SLOTS_MAX):
        receipt, outcome = shape.record(each, "result entry", 2)
        entries.append(
            ResultEntry(
                shape.octets(receipt, "receipt", least=1, most=RECEIPT_BYTES_MAX),
                None
                if outcome is None
                else shape.octets(outcome, "outcome", most=outcome_bytes_max),
            )
        )
    return tuple(entries)


# Messages handed to a scheduler


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """Items for a scheduler: `batch.item_entry` each, packed in one frame."""

    entries: tuple[bytes, ...]

    def encode(self) -> bytes:
        return batch.pack(self.entries)

    @staticmethod
    def decode(body: bytes) -> list[ItemRef]:
        """The items asked to be scheduled; the entries' bytes are not kept."""
        return batch.unpack_messages(body, size_max=FRAME_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class MessageFate:
    """What became of one item: a slot, a refusal, or (neither) it waits for its slot."""

    id: ItemId
    nonce: int | None
    refusal: str | None


def _shortened(text: str | None) -> str | None:
    if text is None or len(text) * 4 <= REFUSAL_BYTES_MAX:
        return text
    return text.encode("utf-8")[:REFUSAL_BYTES_MAX].decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True)
class MessageAnswer:
    """Answer of `/ao/message/1`: one frame, in the order of the request."""

    fates: tuple[MessageFate, ...]

    def encode(self) -> bytes:
        """A refusal longer than `REFUSAL_BYTES_MAX` is cut short."""
        return codec.encode(
            [(each.id, each.nonce, _shortened(each.refusal)) for each in self.fates]
        )

    @classmethod
    def decode(cls, frame: bytes) -> MessageAnswer:
        value = codec.decode(frame, size_max=FRAME_BYTES_MAX)
        fates = []
        for each in shape.array(value, "message answer", most=BATCH_ENTRIES_MAX):
            id, nonce, refusal = shape.record(each, "message fate", 3)
            fates.append(
                MessageFate(
                    ItemId(shape.identifier(id, "item id")),
                    None if nonce is None else shape.integer(nonce, "nonce"),
                    None
                    if refusal is None
                    else shape.text(refusal, "refusal", most=REFUSAL_BYTES_MAX),
                )
            )
        return cls(tuple(fates))


# Assigning by id


@dataclass(frozen=True, slots=True)
class AssignRequest:
    """Ask a scheduler to give an existing item a slot in another log.

    The scheduler has the item, or fetches it by `/ao/item/1` from whoever asks."""

    process: ProcessId
    item: ItemId
    exclude: tuple[str, ...]
    """Message fields to withhold from the process."""

    def encode(self) -> bytes:
        return codec.encode((self.process, self.item, self.exclude))

    @classmethod
    def decode(cls, body: bytes) -> AssignRequest:
        size_max = 128 + EXCLUDES_MAX * (EXCLUDE_CHARACTERS_MAX * 4 + 3)
        fields = shape.record(codec.decode(body, size_max=size_max), "assign request", 3)
        process, item, exclude = fields
        names = shape.array(exclude, "excluded fields", most=EXCLUDES_MAX)
        most = EXCLUDE_CHARACTERS_MAX * 4
        return cls(
            ProcessId(shape.identifier(process, "process")),
            ItemId(shape.identifier(item, "item id")),
            check_excludes([shape.text(name, "excluded field", most=most) for name in names]),
        )


@dataclass(frozen=True, slots=True)
class AssignAnswer:
    """Answer of `/ao/assign/1`, one frame: the durable assignment, raw, or a refusal."""

    assignment_raw: bytes | None
    refusal: Invalid | None

    def encode(self) -> bytes:
        """A refusal longer than `REFUSAL_BYTES_MAX` is cut short."""
        if self.refusal is not None:
            return codec.encode((1, str(self.refusal.reason), _shortened(self.refusal.detail)))
        return codec.encode((0, self.assignment_raw))

    @classmethod
    def decode(cls, frame: bytes) -> AssignAnswer:
        value = codec.decode(frame, size_max=FRAME_BYTES_MAX)
        match value:
            case [0, assignment] if type(value[0]) is int:
                least, most = ITEM_BYTES_MIN, batch.ASSIGNMENT_BYTES_MAX
                return cls(shape.octets(assignment, "assignment", least=least, most=most), None)
            case [1, reason, detail] if type(value[0]) is int:
                text = shape.text(detail, "refusal", most=REFUSAL_BYTES_MAX)
                return cls(None, Invalid(_reason(reason), text))
        raise Invalid(
            Reason.MALFORMED, "an assign answer is neither [0, assignment] nor [1, reason, text]"
        )


def decode_assign_answer(frames: Sequence[bytes] | None) -> AssignAnswer:
    """The answer in the frames of a request. Raises Invalid, UNAVAILABLE for no frames."""
    if not frames:
        raise Invalid(Reason.UNAVAILABLE, "the scheduler did not answer in time; try again")
    return AssignAnswer.decode(frames[0])


def _reason(value: codec.Value) -> Reason:
    text = shape.text(value, "reason of a refusal", most=32)
    if text not in {str(reason) for reason in Reason}:
        raise Invalid(Reason.MALFORMED, f"{text!r} is no reason for a refusal")
    return Reason(text)
