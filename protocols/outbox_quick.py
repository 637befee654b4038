"""What most outputs say, read by the standard library: the hot path of evaluation.

`status_and_outbox` gives the first two fields of `protocols.outbox.derive`, always. Ordinary JSON
goes through Python's own reader, which takes a tenth of the time; that reader's defaults decide
nothing, because whatever the two might take differently is left to `derive`: bytes that are not
UTF-8, surrogates, NaN and infinities, anything refused, deep, long, or of another shape.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NoReturn

from protocols.json1 import Scalar
from protocols.limits import JSON_DEPTH_MAX, JSON_VALUES_MAX
from protocols.outbox import (
    EMPTY,
    FORMAT_CBOR,
    Bounds,
    OutAssignment,
    Outbox,
    OutMessage,
    OutSpawn,
    derive,
)
from protocols.wire.item import Tag
from protocols.wire.outcome import Status

_CONTAINERS_MAX = 400
"""More arrays and objects than this are left to `derive`: nesting stays below any limit of
Python's."""
_REMEMBERED_MAX, _REMEMBERED_BYTES_MAX = 16, 16 << 10
"""Outputs whose meaning is kept for the next question: at least one for each thread."""
_LITERALS = {True: "true", False: "false"}


class _Unusual(Exception):
    """Not for this reader."""


def _unusual(_: str = "") -> NoReturn:
    raise _Unusual


_READER = json.JSONDecoder(parse_int=Scalar, parse_float=Scalar, parse_constant=_unusual)


def status_and_outbox(
    format: str, status: Status, raw: bytes, bounds: Bounds
) -> tuple[Status, Outbox]:
    """`derive(format, status, raw, bounds)[:2]`."""
    if len(raw) > _REMEMBERED_BYTES_MAX:
        return _status_and_outbox(format, status, raw, bounds)
    return _remembered(format, status, raw, bounds)


def _status_and_outbox(
    format: str, status: Status, raw: bytes, bounds: Bounds
) -> tuple[Status, Outbox]:
    if status.has_output and format != FORMAT_CBOR and len(raw) <= bounds.output_bytes_max:
        try:
            outbox = _read(raw)
        except (ValueError, RecursionError, _Unusual):
            pass  # `derive` says what it is
        else:
            if outbox is None:
                return Status.ERROR, EMPTY
            if outbox.deliveries > bounds.outbox_max:
                return Status.TOO_LARGE, EMPTY
            return Status.OK, outbox
    derived = derive(format, status, raw, bounds)
    return derived.status, derived.outbox


# An output is read twice in a row: by the engine, which commits or goes back, and for its leaf.
_remembered = lru_cache(maxsize=_REMEMBERED_MAX)(_status_and_outbox)


def _read(raw: bytes) -> Outbox | None:
    """The outbox; None if the process says that it failed. Raises ValueError, _Unusual."""
    opened = raw.count(b"[") + raw.count(b"{")
    if opened > _CONTAINERS_MAX or opened + raw.count(b",") >= JSON_VALUES_MAX:
        _unusual()
    text = raw.decode("utf-8")
    if "\\u" in text and ("\\ud" in text or "\\uD" in text):
        _unusual()
    answer = _READER.decode(text)
    if opened > JSON_DEPTH_MAX:
        _check_depth(answer, JSON_DEPTH_MAX)
    if not isinstance(answer, dict):
        _unusual()
    if answer.get("ok") is False:
        return None
    response = answer.get("response")
    if answer.get("ok") is not True or not isinstance(response, dict):
        _unusual()
    error = response.get("Error")
    if not (error is None or error is False or error == ""):
        return None
    return Outbox(
        tuple(
            OutMessage(
                _text(entry, "Target") or "", _text(entry, "Anchor"), _tags(entry), _data(entry)
            )
            for entry in _list(response, "Messages")
        ),
        tuple(
            OutSpawn(_text(entry, "Anchor"), _tags(entry), _data(entry))
            for entry in _list(response, "Spawns")
        ),
        tuple(
            OutAssignment(_processes(entry), _text(entry, "Message") or "")
            for entry in _list(response, "Assignments")
        ),
    )


def _check_depth(value: object, left: int) -> None:
    """Raise _Unusual if arrays and objects nest deeper than `left`."""
    if isinstance(value, Scalar) or not isinstance(value, list | dict):
        return
    if not left:
        _unusual()
    for inner in value.values() if isinstance(value, dict) else value:
        _check_depth(inner, left - 1)


def _list(fields: Any, name: str) -> list[Any]:
    value = fields.get(name) if isinstance(fields, dict) else _unusual()
    if isinstance(value, list):
        return value
    if value is None or value == {}:
        return []
    _unusual()


def _text(fields: Any, name: str) -> str | None:
    value = fields.get(name) if isinstance(fields, dict) else _unusual()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return _LITERALS[value]
    if isinstance(value, Scalar):
        return value.source
    _unusual()


def _data(fields: Any) -> bytes:
    return (_text(fields, "Data") or "").encode("utf-8")


def _tags(fields: Any) -> tuple[Tag, ...]:
    found = []
    for tag in _list(fields, "Tags"):
        if isinstance(tag, dict):
            name, value = tag.get("name"), tag.get("value")
            if isinstance(name, str) and isinstance(value, str):
                found.append(Tag(name, value))
                continue
        found.append(Tag(_text(tag, "name") or "", _text(tag, "value") or ""))
    return tuple(found)


def _processes(fields: Any) -> tuple[str, ...]:
    names = fields.get("Processes") if isinstance(fields, dict) else _unusual()
    if isinstance(names, str):
        return (names,)
    found = _list(fields, "Processes")
    if not all(isinstance(name, str) for name in found):
        _unusual()
    return tuple(found)
