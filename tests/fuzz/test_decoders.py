"""Whatever bytes come, a decoder gives a value or raises Invalid; and what it gives writes the
same bytes again.

All decoders are here by themselves (`tests.fuzz.decoders`), each with samples that it accepts
(`tests.fuzz.samples`), whole and spoiled in many ways.
"""

from __future__ import annotations

import copy
import itertools
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.codec import decode, encode
from protocols.errors import Invalid
from protocols.limits import CBOR_DEPTH_MAX
from protocols.wire.record import Record
from tests.fuzz.decoders import ALSO, CHOICES, NOT, SIZE_MAX, Decoder, decoders
from tests.fuzz.samples import accepted, pool, sample_of
from tests.protocols.test_network import NETWORK

DECODERS = decoders()
EXAMPLES = 150
MUTATIONS_MAX = 4
INTERESTING = (b"", b"\0", b"\x7f", b"\x80", b"\xff", b"\xff" * 9, b"\x9f", b"\x1b" + b"\xff" * 8)
NAMES = sorted(name for name, decoder in DECODERS.items() if decoder.eats != "document")
DOCUMENTS = sorted(set(DECODERS) - set(NAMES))


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    """Samples that the decoder accepts, with any of its choices."""
    decoder = DECODERS[name]
    kind = getattr(decoder.call, "__self__", None)
    if isinstance(kind, type) and issubclass(kind, Record):
        made = sample_of(kind)
        if made is not None:
            return (made,)
    taken: dict[bytes, None] = {}
    for values in itertools.product(*(CHOICES[each] for each in decoder.chosen)):
        taken |= dict.fromkeys(accepted(decoder, **dict(zip(decoder.chosen, values, strict=True))))
    return tuple(taken)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_accepted(name: str) -> None:
    """Else the fuzzer never gets beyond the first check: add one to `tests.fuzz.samples`."""
    assert seeds(name)


def test_all_exceptions_are_of_use() -> None:
    assert set(DECODERS) >= ALSO
    assert not set(DECODERS) & set(NOT)


@st.composite
def spoiled(draw: st.DrawFn, name: str) -> bytes:
    """Arbitrary bytes, or a sample after a few changes: of bytes, or of its CBOR values."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=256))
    raw = draw(st.sampled_from(seeds(name) if kind < 8 else pool()))
    if kind < 4:
        return _with_other_values(draw, raw)
    for _ in range(draw(st.integers(0, MUTATIONS_MAX))):
        raw = _changed(draw, raw)
    return raw[:SIZE_MAX]


def _changed(draw: st.DrawFn, raw: bytes) -> bytes:
    at = draw(st.integers(0, len(raw)))
    end = draw(st.integers(at, min(len(raw), at + 40)))
    piece = draw(st.one_of(st.sampled_from(INTERESTING), st.binary(max_size=9)))
    match draw(st.integers(0, 4)):
        case 0:  # one bit
            flip = bytes([raw[at] ^ (1 << draw(st.integers(0, 7)))]) if at < len(raw) else b""
            return raw[:at] + flip + raw[at + 1 :]
        case 1:
            return raw[:at] + piece + raw[end:]
        case 2:
            return raw[:at]
        case 3:
            return raw[:end] + raw[at:]
        case _:
            return raw + piece


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([0, 1, -1, 1 << 31, (1 << 63) - 1]),
    st.binary(max_size=70),
    st.text(max_size=8),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


def _with_other_values(draw: st.DrawFn, raw: bytes) -> bytes:
    """The sample with some values inside it replaced, removed or doubled: still canonical."""
    try:
        value: Any = copy.deepcopy(decode(raw, size_max=SIZE_MAX))
    except Invalid:
        return _changed(draw, raw)
    for _ in range(draw(st.integers(0, 2))):
        place, depth = value, 0
        while isinstance(place, list) and place and depth < CBOR_DEPTH_MAX:
            at = draw(st.integers(0, len(place) - 1))
            if isinstance(place[at], list) and draw(st.booleans()):
                place, depth = place[at], depth + 1
                continue
            match draw(st.integers(0, 3)):
                case 0:
                    del place[at]
                case 1:
                    place.insert(at, place[at])
                case _:
                    place[at] = draw(VALUES)
            break
    try:
        return encode(value)
    except (ValueError, AssertionError, Invalid):
        return raw


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_only_invalid_is_raised(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]
    fed = data.draw(spoiled(name), label="fed")
    chosen = {each: data.draw(st.sampled_from(CHOICES[each]), each) for each in decoder.chosen}
    refusal, value = outcome(decoder, fed, **chosen)
    assert refusal is None or refusal.detail, "an error says what was wrong"
    if refusal is None and decoder.eats == "bytes":
        assert written(decoder, value) in (None, fed)


def outcome(decoder: Decoder, fed: Any, **chosen: Any) -> tuple[Invalid | None, Any]:
    """What it raised, and what it gave."""
    try:
        return None, decoder(fed, **chosen)
    except Invalid as refusal:
        return refusal, None


def written(decoder: Decoder, value: Any) -> bytes | None:
    """The bytes that a decoded value writes; None for what cannot be written alone."""
    method = getattr(value, "encode", None)
    if isinstance(value, str) or method is None or not decoder.name.endswith(".decode"):
        return None
    raw = method()
    return raw if isinstance(raw, bytes) else None


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A network file, parsed, with some values in it exchanged, removed or added."""
    document = NETWORK.document()
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key: Any = draw(st.sampled_from(list(keys)))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.integers(0, 3)):
                case 0:
                    del place[key]
                case 1 if isinstance(place, dict):
                    place[draw(st.text(max_size=9))] = draw(VALUES)
                case _:
                    place[key] = draw(st.one_of(VALUES, st.floats(), st.just({})))
            break
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=EXAMPLES)
@given(st.one_of(documents(), VALUES))
def test_documents_only_raise_invalid(name: str, document: Any) -> None:
    decoder = DECODERS[name]
    if name.endswith("parse_parameters") and isinstance(document, dict):
        document = document.get("parameters")
    refusal, _ = outcome(decoder, document)
    assert refusal is None or refusal.detail, "an error says what was wrong"
