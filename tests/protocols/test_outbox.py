"""What outputs mean: golden cases, and that nothing whatever gives anything but a status."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.codec import encode
from protocols.json1 import parse
from protocols.outbox import (
    EMPTY,
    FORMAT_CBOR,
    Bounds,
    Derived,
    OutAssignment,
    Outbox,
    OutMessage,
    OutSpawn,
    derive,
)
from protocols.result import public_json, public_result
from protocols.wire.item import Tag
from protocols.wire.outcome import Status, outcome_hash
from tests.protocols.golden import BOUNDS, JSON_FORMAT, MESSAGE, meaning, ok
from tests.vectors import load

WIDE = Bounds(1 << 20, 256)
VECTORS = load("outbox")
CASES = [(format, case) for format in ("json", "cbor") for case in VECTORS[format]]
FORMATS = {"json": JSON_FORMAT, "cbor": FORMAT_CBOR}


@pytest.mark.parametrize(
    ("format", "case"), CASES, ids=[f"{format}: {case['name']}" for format, case in CASES]
)
def test_golden_outputs(format: str, case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["raw"])
    for status in (Status.OK, Status.ERROR):
        derived = derive(FORMATS[format], status, raw, BOUNDS)
        assert {"name": case["name"], "raw": case["raw"], **meaning(derived)} == case


def test_golden_cases_have_every_status_an_output_can_have() -> None:
    assert {case["status"] for _, case in CASES} == {"OK", "ERROR", "BAD_OUTPUT", "TOO_LARGE"}


@pytest.mark.parametrize("case", load("aos")["cases"], ids=lambda case: str(case["name"]))
def test_real_aos_results_keep_their_content(case: dict[str, Any]) -> None:
    """Nothing of an aos answer is lost, but that non-text becomes text."""
    answer = json.loads(case["response"])
    shown = public_result(JSON_FORMAT, Status.OK, ok(case["response"]), WIDE)
    if "Error" in answer:
        assert shown["Error"] == answer["Error"]
        assert shown["Messages"] == shown["Spawns"] == shown["Assignments"] == []
        return
    assert shown["Output"] == answer["Output"]
    for message in answer["Messages"]:
        message["Data"] = str(message["Data"])
        for tag in message["Tags"]:
            tag["value"] = str(tag["value"])
    for name in ("Messages", "Spawns", "Assignments"):
        assert shown[name] == answer[name]


def test_other_statuses_have_no_output() -> None:
    for status in set(Status) - {Status.OK, Status.ERROR}:
        assert derive(JSON_FORMAT, status, ok("{}"), WIDE) == Derived(status, EMPTY, '""', "")


def test_entries_are_numbered_through() -> None:
    message = OutMessage("t", None, (Tag("n", "v"),), b"d")
    spawn = OutSpawn("a", (), b"")
    assignment = OutAssignment(("p", "q"), "m")
    outbox = Outbox((message,), (spawn,), (assignment,))
    assert outbox.entries() == (message, spawn, assignment)
    assert outbox.count == 3
    assert outbox.deliveries == 4
    assert [entry.to_value() for entry in outbox.entries()] == [
        [0, "t", None, [["n", "v"]], b"d"],
        [1, "a", [], b""],
        [2, ["p", "q"], "m"],
    ]
    assert outbox.root() != Outbox((message,), (spawn,)).root()
    assert outcome_hash(b"", outbox.root()) != outcome_hash(b"x", outbox.root())


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e" + "9" * 5000])
def test_long_numbers_reach_output_data_and_tags_as_they_are(number: str) -> None:
    raw = ok(
        f'{{"Output":{{"n":{number}}},"Messages":[{{"Data":{number},'
        f'"Tags":[{{"name":"n","value":{number}}}]}}]}}'
    )
    derived = derive(JSON_FORMAT, Status.OK, raw, WIDE)
    assert derived.output == f'{{"n":{number}}}'
    assert derived.outbox.messages[0].data == number.encode()
    assert derived.outbox.messages[0].tags == (Tag("n", number),)
    shown = public_result(JSON_FORMAT, Status.OK, raw, WIDE)
    assert shown["Output"] == {"n": number}


def mutated(chance: random.Random, raw: bytes) -> bytes:
    """`raw` with bytes changed, cut, doubled."""
    blob = bytearray(raw)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(blob) + 1)
        match chance.randrange(4):
            case 0:
                blob[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del blob[at : at + chance.randrange(1, 9)]
            case 2:
                blob[at:at] = blob[chance.randrange(len(blob) + 1) :][:9]
            case 3:
                blob[at:at] = chance.choice(
                    [b'"', b"{", b"}", b"[", b"null", b"\\u", b"\xff", b","]
                )
    return bytes(blob)


def check_total(format: str, raw: bytes) -> Status:
    """`derive` and the public result hold together for `raw`."""
    derived = derive(format, Status.OK, raw, BOUNDS)
    assert derived == derive(format, Status.ERROR, raw, BOUNDS)
    assert derived.status in {Status.OK, Status.ERROR, Status.BAD_OUTPUT, Status.TOO_LARGE}
    assert (derived.status is Status.OK) or derived.outbox == EMPTY
    assert derived.outbox.deliveries <= BOUNDS.outbox_max
    derived.outbox.root()
    parse(derived.output.encode("utf-8"))
    shown = public_result(format, derived.status, raw, BOUNDS, 5)
    assert ("Error" in shown) == (derived.status is not Status.OK)
    assert shown["GasUsed"] == 5
    return derived.status


def test_mutants_of_good_outputs() -> None:
    chance = random.Random(7)
    good = [bytes.fromhex(case["raw"]) for _, case in CASES if len(case["raw"]) < 2000]
    seen = set()
    for _ in range(3000):
        raw = mutated(chance, chance.choice(good))
        seen.add(check_total(JSON_FORMAT, raw))
        check_total(FORMAT_CBOR, raw)
    assert seen >= {Status.OK, Status.BAD_OUTPUT}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Messages", "Spawns", "Assignments", "Output", "Error", "Target", "Anchor", "Data"]
                + ["Tags", "name", "value", "Processes", "Message", "ok", "response"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)
cbor_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_response(response: Any) -> None:
    check_total(JSON_FORMAT, ok(json.dumps(response)))


@given(json_values)
def test_any_json(answer: Any) -> None:
    check_total(JSON_FORMAT, json.dumps(answer).encode())


@given(cbor_values, st.lists(cbor_values, max_size=3), cbor_values)
def test_any_cbor(output: Any, entries: list[Any], error: Any) -> None:
    for status in (0, 1, True):
        try:
            raw = encode([status, output, entries, error])
        except TypeError:  # nested too deep to travel
            continue
        check_total(FORMAT_CBOR, raw)


@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    check_total(JSON_FORMAT, raw)
    check_total(FORMAT_CBOR, raw)


# The result as AO shows it


def test_public_result_has_aos_shape() -> None:
    raw = ok(
        f'{{"Messages":[{MESSAGE}],"Spawns":[{{"Data":"NODATA","Tags":[]}}],'
        '"Assignments":[{"Processes":["p"],"Message":"m"}],"Output":{"data": 1.5e3}}'
    )
    assert public_json(JSON_FORMAT, Status.OK, raw, WIDE, 7) == (
        f'{{"Messages":[{MESSAGE}],"Spawns":[{{"Data":"NODATA","Tags":[]}}],'
        '"Assignments":[{"Processes":["p"],"Message":"m"}],"Output":{"data": 1.5e3},"GasUsed":7}'
    )
    assert public_result(JSON_FORMAT, Status.OK, raw, WIDE)["Output"] == {"data": "1.5e3"}


def test_public_result_of_an_error() -> None:
    assert public_json(JSON_FORMAT, Status.ERROR, ok('{"Error":"bo\\"om"}'), WIDE) == (
        '{"Error":"bo\\"om","Messages":[],"Assignments":[],"Spawns":[],"Output":"","GasUsed":0}'
    )
    named = {
        Status.ERROR: "an error",
        Status.TRAP: "trapped",
        Status.OUT_OF_FUEL: "which is 77",
        Status.BAD_OUTPUT: f"{JSON_FORMAT!r} asks for",
        Status.TOO_LARGE: f"than the {WIDE.output_bytes_max} bytes",
    }
    assert set(named) == set(Status) - {Status.OK}
    for status, part in named.items():
        shown = public_result(JSON_FORMAT, status, b'{"ok":false}', WIDE, 77)
        assert part in shown["Error"]
        assert list(shown) == ["Error", "Messages", "Assignments", "Spawns", "Output", "GasUsed"]


def test_public_data_that_is_not_text_shows_replacement() -> None:
    raw = encode([0, "", [[0, "t", None, [], b"\xffa"]], None])
    shown = public_result(FORMAT_CBOR, Status.OK, raw, WIDE)
    assert shown["Messages"] == [{"Target": "t", "Data": "\ufffda", "Tags": []}]
    again = copy.deepcopy(shown)
    assert public_result(FORMAT_CBOR, Status.OK, raw, WIDE) == again
