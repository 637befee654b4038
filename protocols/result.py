"""The result of a slot as AO's compute units show it over HTTP. For display: nothing is signed
over it, the raw output and `protocols.outbox` are what counts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from protocols.json1 import array, object_of, quote, text_of
from protocols.outbox import Bounds, Outbox, derive
from protocols.wire.item import Tag
from protocols.wire.outcome import Status

_UNSAID = {
    Status.ERROR: "the process returned an error",
    Status.TRAP: "the module trapped; its state is as before this message",
    Status.OUT_OF_FUEL: "the message used more fuel than a slot may, which is {fuel}",
    Status.BAD_OUTPUT: "the module's output cannot be read: it is not what Module-Format "
    "{format!r} asks for, is nested too deep, holds more than {outbox_max} messages, or lies "
    "outside the module's memory",
    Status.TOO_LARGE: "the module's output is larger than the {output_bytes_max} bytes that this "
    "network allows",
}
"""Error text where the module gives none of its own."""

_INTEGER_CHARACTERS_MAX = 15
"""Integers of at most so many characters are exact in every JSON reader."""


def public_json(format: str, status: Status, raw: bytes, bounds: Bounds, fuel: int = 0) -> str:
    """Result JSON of `GET /result`: the outbox as text, the Output exactly as the module wrote it.

    `fuel` is shown as GasUsed. Total, like `derive`.
    """
    derived = derive(format, status, raw, bounds)
    gas = ("GasUsed", str(fuel))
    if derived.status is not Status.OK:
        error = quote(derived.error or _unsaid(derived.status, format, bounds, fuel))
        lists = [(name, "[]") for name in ("Messages", "Assignments", "Spawns")]
        return object_of([("Error", error), *lists, ("Output", '""'), gas])
    return object_of([*_outbox(derived.outbox), ("Output", derived.output), gas])


def _unsaid(status: Status, format: str, bounds: Bounds, fuel: int) -> str:
    return _UNSAID[status].format(
        fuel=fuel,
        format=format[:64],
        outbox_max=bounds.outbox_max,
        output_bytes_max=bounds.output_bytes_max,
    )


def public_result(
    format: str, status: Status, raw: bytes, bounds: Bounds, fuel: int = 0
) -> dict[str, Any]:
    """As `public_json`, parsed: numbers of the Output that are not short integers are text."""
    document: dict[str, Any] = json.loads(
        public_json(format, status, raw, bounds, fuel), parse_int=_integer, parse_float=str
    )
    return document


def _integer(source: str) -> int | str:
    return int(source) if len(source) <= _INTEGER_CHARACTERS_MAX else source


def _outbox(outbox: Outbox) -> Iterable[tuple[str, str]]:
    messages = [
        object_of(
            [
                ("Target", quote(message.target)),
                *_anchor(message.anchor),
                ("Data", quote(text_of(message.data))),
                ("Tags", _tags(message.tags)),
            ]
        )
        for message in outbox.messages
    ]
    spawns = [
        object_of(
            [
                *_anchor(spawn.anchor),
                ("Data", quote(text_of(spawn.data))),
                ("Tags", _tags(spawn.tags)),
            ]
        )
        for spawn in outbox.spawns
    ]
    assignments = [
        object_of(
            [
                ("Processes", array(quote(process) for process in entry.processes)),
                ("Message", quote(entry.message)),
            ]
        )
        for entry in outbox.assignments
    ]
    return (
        ("Messages", array(messages)),
        ("Spawns", array(spawns)),
        ("Assignments", array(assignments)),
    )


def _anchor(anchor: str | None) -> Iterable[tuple[str, str]]:
    return () if anchor is None else (("Anchor", quote(anchor)),)


def _tags(tags: Iterable[Tag]) -> str:
    return array(
        object_of([("name", quote(tag.name)), ("value", quote(tag.value))]) for tag in tags
    )
