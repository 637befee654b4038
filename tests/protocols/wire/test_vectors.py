"""The golden bytes stay, every strict decoder reads them, and the .cddl files describe them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocols import codec
from protocols.codec import Value
from protocols.errors import Invalid
from protocols.wire import batch, proof_streams, streams
from protocols.wire.alarm import ALARM_BYTES_MAX, ForkAlarm
from protocols.wire.assignment import Chain, assignment_of, slot_of
from protocols.wire.batch import ASSIGNMENT_BYTES_MAX
from protocols.wire.item import decode_item
from protocols.wire.unit import UnitAnnouncement
from tests.protocols.wire.cddl import Grammar
from tests.protocols.wire.vectors import FILES, FOLDER, NETWORK, text_of

WIRE = Path(batch.__file__).parent


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_bytes_are_the_golden_ones(name: str) -> None:
    assert text_of(name) == (FOLDER / name).read_text(encoding="utf-8"), (
        "wire bytes have changed; if that is meant, run "
        "`python -m tests.protocols.wire.vectors --write` and bump the version they carry"
    )


def test_assignment_vectors_form_a_log() -> None:
    chain: Chain | None = None
    for row in load("assignment")["slots"]:
        raw = bytes.fromhex(row["assignment"])
        assignment = assignment_of(decode_item(raw, size_max=ASSIGNMENT_BYTES_MAX))
        message = decode_item(bytes.fromhex(row["message"]), size_max=4096)
        chain = (chain or Chain.genesis(assignment.process)).next(slot_of(assignment, message))
        assert chain.head.hex() == row["head"]
        assert chain.encode().hex() == row["chain_row"]
        assert Chain.decode(chain.encode()) == chain


def again_heads(blob: bytes) -> bytes:
    return streams.Heads.decode(blob).encode()


READERS: dict[str, Callable[[bytes], bytes]] = {
    "item_request": lambda blob: streams.ItemRequest.decode(blob).encode(),
    "log_request": lambda blob: streams.LogRequest.decode(blob).encode(),
    "heads_request": lambda blob: streams.HeadsRequest.decode(blob).encode(),
    "heads_request_named": lambda blob: streams.HeadsRequest.decode(blob).encode(),
    "heads": again_heads,
    "result_request": lambda blob: streams.ResultRequest.decode(blob).encode(),
    "message_answer": lambda blob: streams.MessageAnswer.decode(blob).encode(),
    "assign_request": lambda blob: streams.AssignRequest.decode(blob).encode(),
    "assign_answer": lambda blob: streams.AssignAnswer.decode(blob).encode(),
    "assign_answer_refused": lambda blob: streams.AssignAnswer.decode(blob).encode(),
    "leaves_request": lambda blob: proof_streams.LeavesRequest.decode(blob).encode(),
    "proofs_request": lambda blob: proof_streams.ProofsRequest.decode(blob).encode(),
    "proofs_request_named": lambda blob: proof_streams.ProofsRequest.decode(blob).encode(),
}
RULES = {
    "heads_request_named": "heads-request",
    "assign_answer_refused": "assign-answer",
    "proofs_request_named": "proofs-request",
}


def again_leaves(frames: list[bytes]) -> tuple[bytes, ...]:
    answer = proof_streams.decode_leaves(frames)
    return () if answer is None else proof_streams.encode_leaves(answer)


JOINED: dict[str, tuple[str, Callable[[list[bytes]], tuple[bytes, ...] | None]]] = {
    "result_answer": (
        "results",
        lambda frames: streams.encode_results(
            streams.decode_results(frames, outcome_bytes_max=1 << 20)
        ),
    ),
    "leaves_answer": ("leaves-answer", again_leaves),
    "proofs_answer": (
        "proofs-answer",
        lambda frames: proof_streams.ProofsAnswer.decode(frames).encode(),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_stream_vectors_read_and_write_back(name: str) -> None:
    blob = bytes.fromhex(load("streams")[name])
    assert READERS[name](blob) == blob
    rule = RULES.get(name, name.replace("_", "-"))
    assert Grammar(WIRE / "streams.cddl").matches(rule, codec.decode(blob, size_max=1 << 20))


@pytest.mark.parametrize("name", JOINED)
def test_joined_answers_read_and_write_back(name: str) -> None:
    rule, again = JOINED[name]
    frames = [bytes.fromhex(frame) for frame in load("streams")[name]]
    grammar = Grammar(WIRE / "streams.cddl")
    assert all(grammar.matches("part", codec.decode(frame, size_max=1 << 20)) for frame in frames)
    joined = streams.join(frames, size_max=1 << 20)
    assert joined is not None
    assert grammar.matches(rule, codec.decode(joined, size_max=1 << 20))
    assert again(frames) == tuple(frames)


@pytest.mark.parametrize("name", JOINED)
def test_joined_answers_and_their_grammar_agree_on_what_is_wrong(name: str) -> None:
    rule, again = JOINED[name]
    joined = streams.join([bytes.fromhex(each) for each in load("streams")[name]], size_max=1 << 20)
    assert joined is not None
    grammar = Grammar(WIRE / "streams.cddl")
    for edit in edits(codec.decode(joined, size_max=1 << 20)):
        try:
            again(list(streams.cut(codec.encode(edit))))
            accepted = True
        except Invalid:
            accepted = False
        assert accepted == grammar.matches(rule, edit), edit


def test_batches_match_their_grammar() -> None:
    grammar = Grammar(WIRE / "batch.cddl")
    for name, rule in (("messages", "message-batch"), ("slots", "slot-batch")):
        blob = bytes.fromhex(load("batch")[name])
        assert grammar.matches(rule, codec.decode(blob, size_max=1 << 20))
    for frame in load("streams")["log_answer"]:
        assert grammar.matches("slot-batch", codec.decode(bytes.fromhex(frame), size_max=1 << 20))


def test_unit_matches_its_grammar() -> None:
    grammar = Grammar(WIRE / "unit.cddl")
    document = load("unit")
    blob = bytes.fromhex(document["announcement"])
    unit = UnitAnnouncement.decode(blob)
    assert unit.encode() == blob
    assert grammar.matches("unit", codec.decode(blob, size_max=2048))
    assert unit.message(NETWORK).hex() == document["signed_bytes"]
    signed = codec.decode(unit.message(NETWORK), size_max=2048)
    assert grammar.matches("unit-signed", signed)


def test_alarms_match_their_grammar() -> None:
    blob = bytes.fromhex(load("alarm")["fork"])
    assert ForkAlarm.decode(blob).encode() == blob
    assert len(blob) <= ALARM_BYTES_MAX
    value = codec.decode(blob, size_max=ALARM_BYTES_MAX)
    assert Grammar(WIRE / "alarm.cddl").matches("fork-alarm", value)


def test_chain_rows_match_their_grammar() -> None:
    grammar = Grammar(WIRE / "assignment.cddl")
    rows = [bytes.fromhex(row["chain_row"]) for row in load("assignment")["slots"]]
    empty = Chain.genesis(Chain.decode(rows[0]).process).encode()
    for row in (empty, *rows):
        assert grammar.matches("chain", codec.decode(row, size_max=256))


def edits(value: Value) -> list[Value]:
    """`value` with each of its parts replaced by something of another type, or left out."""
    if not isinstance(value, list):
        return [[], None if value is not None else 0, -1 if isinstance(value, int) else "x" * 9000]
    changed: list[Value] = []
    for index, part in enumerate(value):
        before, after = value[:index], value[index + 1 :]
        changed.append([*before, *after])
        changed.extend([*before, edited, *after] for edited in edits(part))
    return changed


DECODERS: list[tuple[str, str, Callable[[bytes], object], str, str]] = [
    *(
        (
            "streams",
            name,
            READERS[name],
            "streams.cddl",
            RULES.get(name, name.replace("_", "-")),
        )
        for name in READERS
    ),
    ("batch", "messages", batch.unpack_messages, "batch.cddl", "message-batch"),
    ("batch", "slots", batch.unpack_slots, "batch.cddl", "slot-batch"),
    ("unit", "announcement", UnitAnnouncement.decode, "unit.cddl", "unit"),
    ("alarm", "fork", ForkAlarm.decode, "alarm.cddl", "fork-alarm"),
]


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: str(case[1]))
def test_decoders_and_grammar_agree_on_what_is_wrong(
    case: tuple[str, str, Callable[[bytes], object], str, str],
) -> None:
    """Whatever one edit of a golden value gives, decoder and .cddl say the same of its shape."""
    file, name, decoder, cddl, rule = case
    grammar = Grammar(WIRE / cddl)
    value = codec.decode(bytes.fromhex(load(file)[name]), size_max=1 << 20)
    changed = edits(value)
    assert len(changed) > 2
    for edit in changed:
        try:
            decoder(codec.encode(edit))
            accepted = True
        except Invalid:
            accepted = False
        assert accepted == grammar.matches(rule, edit), edit
