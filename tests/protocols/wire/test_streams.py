from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId
from protocols.limits import BATCH_ENTRIES_MAX, RESULT_RANGE_SLOTS_MAX
from protocols.wire import streams
from protocols.wire.assignment import Slot
from protocols.wire.batch import InlineItem, RemoteItem
from protocols.wire.streams import CHUNK_BYTES, ResultEntry, cut, decode_results, encode_results
from protocols.wire.topics import FRAME_BYTES_MAX
from tests.protocols.wire.sample import extend, message_item, sample_log

PROCESS = ProcessId(bytes(32))


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
def test_parts_join_again(size: int) -> None:
    raw = bytes(size)
    frames = cut(raw)
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
    assert len(frames) == streams.frames_of(size)
    assert streams.join(frames, size_max=size) == raw


def test_no_frames_say_not_here() -> None:
    assert streams.join((), size_max=10) is None
    assert decode_results((), outcome_bytes_max=1) == ()


@pytest.mark.parametrize(
    "frames",
    [
        cut(bytes(11)),
        (codec.encode(b"x"), codec.encode(b"y")),
        (*cut(bytes(CHUNK_BYTES)), codec.encode(b"")),
        (codec.encode("text"),),
        (b"",),
    ],
)
def test_other_parts_are_refused(frames: tuple[bytes, ...]) -> None:
    size_max = CHUNK_BYTES if len(frames[0]) > 100 else 10
    with pytest.raises(Invalid):
        streams.join(frames, size_max=size_max)


def read(frames: tuple[bytes, ...]) -> list[tuple[bytes, int]]:
    """(assignment, size of item) of each slot in the frames."""
    slots = [slot for frame in frames for slot in streams.decode_log(frame)]
    return [
        (
            slot.assignment_raw,
            len(slot.item.raw) if isinstance(slot.item, InlineItem) else slot.item.size,
        )
        for slot in slots
    ]


def expected(slots: list[Slot]) -> list[tuple[bytes, int]]:
    return [(slot.assignment.item.raw, len(slot.message.raw)) for slot in slots]


def test_a_log_answer_holds_the_slots_in_order() -> None:
    slots, _ = sample_log(9)
    frames = streams.encode_log(slots, 1 << 20)
    assert len(frames) == 1
    assert read(frames) == expected(slots)
    assert streams.encode_log([], 1 << 20) == ()


def test_a_log_answer_stops_at_its_bytes_but_never_before_one_slot() -> None:
    slots, _ = sample_log(5)
    assert read(streams.encode_log(slots, 1)) == expected(slots[:1])
    assert 1 < len(read(streams.encode_log(slots, 3000))) < 6


def test_a_log_answer_fills_several_frames_and_names_what_fits_none() -> None:
    slots, chains = sample_log(0)
    chain = chains[0]
    for number, size in enumerate((400_000, 400_000, 400_000, 2_000_000, 10), start=1):
        item = message_item(slots[0].process, data=bytes(size), number=number)
        slots.append(extend(chain, item, 0))
        chain = chain.next(slots[-1])
    frames = streams.encode_log(slots, 8 << 20)
    assert len(frames) == 2
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
    assert read(frames) == expected(slots)
    last = streams.decode_log(frames[1])[-2].item
    assert last == RemoteItem(slots[4].message.id, len(slots[4].message.raw))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([bytes(32), 5, 4, 1000], Reason.OVERSIZE),
        ([bytes(32), 0, 4096, 1000], Reason.OVERSIZE),
        ([bytes(32), 0, 1, 0], Reason.OVERSIZE),
        ([bytes(32), 0, 1, (8 << 20) + 1], Reason.OVERSIZE),
        ([bytes(32), -1, 1, 1], Reason.OVERSIZE),
        ([bytes(32), False, 1, 1], Reason.MALFORMED),
        ([bytes(32), 0, 1 << 63, 1], Reason.OVERSIZE),
    ],
)
def test_other_log_requests_are_refused(body: codec.Value, reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        streams.LogRequest.decode(codec.encode(body))
    assert refusal.value.reason is reason


def test_result_request_bounds() -> None:
    good = streams.ResultRequest(PROCESS, 0, RESULT_RANGE_SLOTS_MAX - 1, 0, False)
    assert streams.ResultRequest.decode(good.encode()) == good
    for wrong in (
        streams.ResultRequest(PROCESS, 0, RESULT_RANGE_SLOTS_MAX, 0, False),
        streams.ResultRequest(PROCESS, 0, 0, 10_001, False),
        streams.ResultRequest(PROCESS, 0, 0, 0, 1),  # type: ignore[arg-type]
    ):
        with pytest.raises(Invalid):
            streams.ResultRequest.decode(wrong.encode())


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=64), st.none() | st.binary(max_size=64))))
def test_results_come_back(rows: list[tuple[bytes, bytes | None]]) -> None:
    entries = [ResultEntry(*row) for row in rows]
    assert decode_results(encode_results(entries), outcome_bytes_max=64) == tuple(entries)


def test_a_result_answer_is_bounded_but_never_empty() -> None:
    entry = ResultEntry(bytes(200), bytes(1 << 20))
    frames = encode_results([entry] * 9)
    assert decode_results(frames, outcome_bytes_max=1 << 20) == (entry,) * 3
    huge = ResultEntry(bytes(200), bytes(6 << 20))
    assert decode_results(encode_results([huge, entry]), outcome_bytes_max=6 << 20) == (huge,)
    with pytest.raises(Invalid):
        decode_results(encode_results([entry]), outcome_bytes_max=(1 << 20) - 1)


def test_a_full_message_answer_fits_a_frame() -> None:
    fate = streams.MessageFate(ItemId(bytes(32)), None, "é" * 500)
    frame = streams.MessageAnswer((fate,) * BATCH_ENTRIES_MAX).encode()
    assert len(frame) <= FRAME_BYTES_MAX
    answer = streams.MessageAnswer.decode(frame)
    assert answer.fates[0].refusal == "é" * 96


def test_assign_answers() -> None:
    refused = streams.AssignAnswer(None, Invalid(Reason.INADMISSIBLE, "é" * 500))
    read = streams.AssignAnswer.decode(refused.encode()).refusal
    assert read is not None
    assert (read.reason, read.detail) == (Reason.INADMISSIBLE, "é" * 96)
    wrong_answers: list[codec.Value] = [
        [0, bytes(79)],
        [False, bytes(80)],
        [1, "moody", "x"],
        [2, "busy", "x"],
        [],
    ]
    for wrong in wrong_answers:
        with pytest.raises(Invalid):
            streams.AssignAnswer.decode(codec.encode(wrong))


@pytest.mark.parametrize("exclude", [["x"] * 17, [""], ["x" * 65], [b"x"], "x"])
def test_excluded_fields_are_bounded(exclude: codec.Value) -> None:
    with pytest.raises(Invalid):
        streams.AssignRequest.decode(codec.encode([bytes(32), bytes(32), exclude]))


def test_message_request_is_a_batch() -> None:
    body = streams.MessageRequest((codec.encode((0, bytes(80))),)).encode()
    assert streams.MessageRequest.decode(body) == [InlineItem(bytes(80))]
