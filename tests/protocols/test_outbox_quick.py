"""The quick reader of outputs gives what `derive` gives, for everything."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.json1 import Scalar
from protocols.limits import JSON_DEPTH_MAX, JSON_VALUES_MAX
from protocols.outbox import FORMAT_CBOR, Bounds, derive
from protocols.outbox_quick import _read, status_and_outbox
from protocols.wire.outcome import Status
from tests.protocols.golden import BOUNDS, JSON_FORMAT, ok
from tests.vectors import load

WIDE = Bounds(1 << 22, 256)
VECTORS = load("outbox")


def agree(raw: bytes, bounds: Bounds = WIDE, format: str = JSON_FORMAT) -> Status:
    """The status both give."""
    for status in Status:
        derived = derive(format, status, raw, bounds)
        assert status_and_outbox(format, status, raw, bounds) == (derived.status, derived.outbox)
    return derive(format, Status.OK, raw, bounds).status


def test_golden_outputs() -> None:
    for format, name in ((JSON_FORMAT, "json"), (FORMAT_CBOR, "cbor")):
        for case in VECTORS[name]:
            for bounds in (BOUNDS, WIDE, Bounds(64, 1)):
                agree(bytes.fromhex(case["raw"]), bounds, format)


@pytest.mark.parametrize("case", load("aos")["cases"], ids=lambda case: str(case["name"]))
def test_real_answers_are_read_quickly(case: dict[str, Any]) -> None:
    raw = ok(case["response"])
    agree(raw)
    _read(raw)


texts = st.text(max_size=4)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(["", "x"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, or now and then anything else."""
    return st.fixed_dictionaries({}, optional=fields) | anything


tag = some(name=scalars, value=scalars | anything)
tags: st.SearchStrategy[Any] = st.lists(tag, max_size=3) | st.just({}) | anything
entry = some(Target=scalars, Anchor=scalars, Data=scalars | anything, Tags=tags)
entries = st.lists(entry, max_size=3) | anything
assignments = st.lists(some(Processes=texts | anything, Message=scalars), max_size=3) | anything
response = st.fixed_dictionaries(
    {},
    optional={
        "Messages": entries,
        "Spawns": entries,
        "Assignments": assignments,
        "Error": scalars | anything,
        "Output": anything,
    },
)
answers = st.fixed_dictionaries({"ok": st.just(True)}, optional={"response": response}) | anything


@given(answers, st.booleans(), st.integers(0, 4))
def test_any_json(answer: object, ascii_only: bool, outbox_max: int) -> None:
    raw = json.dumps(answer, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    agree(raw, Bounds(1 << 20, outbox_max))


ORDINARY = ok(
    '{"Messages":[{"Target":"t","Anchor":"0","Data":"d\\u00e9","Tags":[{"name":"n","value":1}]}],'
    '"Spawns":[{"Anchor":"a","Tags":{},"Data":null}],"Assignments":[{"Processes":["p"],'
    '"Message":"m"}],"Output":{"data":[1.5e3,true]},"Error":""}'
)


def test_ordinary_output_is_read_quickly() -> None:
    assert agree(ORDINARY) == Status.OK
    assert _read(ORDINARY) is not None


@given(st.integers(0, len(ORDINARY) - 1), st.binary(max_size=3), st.integers(0, 3))
@example(0, b"\xef\xbb\xbf", 0)
@example(len(ORDINARY) - 1, b"}", 0)
def test_damaged_output(at: int, new: bytes, cut: int) -> None:
    agree(ORDINARY[:at] + new + ORDINARY[at + cut :])


WORDS = [
    *('NaN', 'Infinity', '-Infinity', '-0', '01', '1.', '.5', '1e5', '1E+5', '-', '+1', '0x1'),
    *('"\\ud800"', '"\\uD83D\\ude00"', '"\\u00e9"', '"\\u0000"', '"\x01"', '"\x7f"', '"\\x"'),
    *('"\\/"', 'nul', 'True'),
    *('"\u2028"', "'a'", '[1,]', '[,1]', '{"a":1,}', '{"a":1,"a":2}', '{a:1}', '[1 2]'),
    *('\x0c1', '\u00a01', '1\ufeff', '//', '"', '["a"', '9' * 5000, '{"":{}}', '[]', '[{}]'),
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS, ids=[word[:12] for word in WORDS])
def test_words_that_readers_differ_on(word: str) -> None:
    for template in (
        "{}",
        '{{"ok":true,"response":{{"Output":{}}}}}',
        '{{"ok":true,"response":{{"Error":{}}}}}',
        '{{"ok":true,"response":{{"Messages":{}}}}}',
        '{{"ok":true,"response":{{"Messages":[{{"Data":{},"Tags":[{{"name":{}}}]}}]}}}}',
        '{{"ok":true,"response":{{"Assignments":[{{"Processes":{}}}]}}}}',
        '{{"ok":{},"response":{{}}}}',
    ):
        agree(template.replace("{}", word).replace("{{", "{").replace("}}", "}").encode())


@pytest.mark.parametrize("depth", [JSON_DEPTH_MAX - 2, JSON_DEPTH_MAX - 1, 390, 100_000])
@pytest.mark.parametrize("wide", [0, 70])
def test_nesting(depth: int, wide: int) -> None:
    siblings = "[]," * wide
    agree(ok(f'{{"Output":[{siblings}{"[" * depth}{"]" * depth}]}}'))
    agree(ok(f'{{"Output":[{siblings}{"[" * depth}1{"]" * depth}]}}'))


@pytest.mark.slow
def test_number_of_values() -> None:
    # ok, the response, Output and its root are values besides.
    statuses = {
        agree(ok('{"Output":[' + ",".join(["1"] * count) + "]}"))
        for count in range(JSON_VALUES_MAX - 6, JSON_VALUES_MAX + 2)
    }
    assert statuses == {Status.OK, Status.BAD_OUTPUT}


def test_random_bytes() -> None:
    chance = random.Random(1)
    alphabet = b'{}[]",:\\ \xc3\xa9truefalsn0123.eE+-u'
    for _ in range(3000):
        agree(bytes(chance.choices(alphabet, k=chance.randrange(24))))


def test_numbers_keep_their_source() -> None:
    assert agree(ok('{"Messages":[{"Data":1.50,"Target":-0,"Anchor":true}]}')) == Status.OK
    assert Scalar("1.50").source == "1.50"
