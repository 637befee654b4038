"""JSON as the protocol means it, so that no library's default decides a result.

Writing equals `JSON.stringify` byte for byte. Reading accepts RFC 8259 and nothing else, keeps
numbers as their source text (no digit limit, no rounding), lets the last of duplicate keys win
and reads lone surrogates as U+FFFD. The reader is a loop with a bounded stack: Python's own
recursion limit, which differs from version to version, has no say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, TypeAlias

from protocols.errors import Invalid, Reason
from protocols.limits import JSON_DEPTH_MAX, JSON_VALUES_MAX

_ESCAPED = re.compile('["\\\\\x00-\x1f]')
_ESCAPES = (
    {'"': '\\"', "\\": "\\\\"}
    | {chr(code): f"\\u{code:04x}" for code in range(32)}
    | {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
)

_SURROGATE = re.compile("[\ud800-\udfff]")

# No possessive quantifiers and no atomic groups: Python 3.11.2 matches some of them wrongly, and
# two nodes must read alike. Every pattern has one way to match at most, so nothing is tried twice.
_SPACE = r"[ \t\n\r]*"
_PLAIN = r'[^"\\\x00-\x1f]*'
_TEXT = rf'"({_PLAIN}(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{{4}}){_PLAIN})*)"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_EMPTY = rf"\[{_SPACE}\]|\{{{_SPACE}\}}"
_VALUE = re.compile(
    rf"{_SPACE}(?:(?:{_TEXT}|({_NUMBER}|true|false|null)|({_EMPTY})){_SPACE}([,\]}}])?|([\[{{]))"
)
"""A value with the mark after it, or the start of an array or object that is not empty."""
_TEXT_GROUP, _SCALAR_GROUP, _EMPTY_GROUP, _MARK_GROUP, _OPEN_GROUP = range(1, 6)
_KEY = re.compile(rf"{_SPACE}{_TEXT}{_SPACE}:")
_MARK = re.compile(rf"{_SPACE}([,\]}}])")
_END = re.compile(rf"{_SPACE}\Z")
_UNESCAPED = re.compile(
    r"\\u([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|\\u([0-9A-Fa-f]{4})|\\([\"\\/bfnrt])"
)
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

REPLACEMENT = "\ufffd"


def text_of(raw: bytes | memoryview) -> str:
    """`raw` as text; every maximal ill-formed part of UTF-8 becomes one U+FFFD (WHATWG)."""
    return bytes(raw).decode("utf-8", "replace")


def without_surrogates(text: str) -> str:
    """`text` with every lone surrogate as U+FFFD, so that it can be encoded."""
    return _SURROGATE.sub(REPLACEMENT, text)


def quote(text: str) -> str:
    """`JSON.stringify(text)` of text without surrogates."""
    if _ESCAPED.search(text):
        text = _ESCAPED.sub(_escape, text)
    return f'"{text}"'


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def array(parts: Iterable[str]) -> str:
    """A JSON array of parts that are JSON already."""
    return "[" + ",".join(parts) + "]"


def object_of(members: Iterable[tuple[str, str]]) -> str:
    """A JSON object, keys in the given order, which need no escapes; values are JSON already."""
    return "{" + ",".join([f'"{name}":{value}' for name, value in members]) + "}"


# Reading


class Scalar(NamedTuple):
    """A number, `true`, `false` or `null`, as it stands in the source."""

    source: str


@dataclass(slots=True)
class Array:
    """An array, and where it stands in the source."""

    start: int
    end: int = 0
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Object:
    """An object without order; of duplicate keys the last has won."""

    start: int
    end: int = 0
    members: dict[str, Node] = field(default_factory=dict)


Node: TypeAlias = str | Scalar | Array | Object
"""A text is a Python str."""

NULL = Scalar("null")
TRUE = Scalar("true")
FALSE = Scalar("false")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document with its source."""

    source: str
    root: Node

    def text(self, node: Node) -> str:
        """A text as it is, anything else as its source text."""
        return node if isinstance(node, str) else self.json(node)

    def json(self, node: Node) -> str:
        """Source text of any value; texts are quoted anew."""
        match node:
            case str():
                return quote(node)
            case Scalar(source):
                return source
            case Array() | Object():
                return self.source[node.start : node.end]


def parse(raw: bytes) -> Document:
    """Read one document. Raises Invalid(MALFORMED), also beyond depth or value bounds."""
    source = text_of(raw)
    return Document(source, _Reader(source).document())


class _Reader:
    """One pass over the source, with the open arrays and objects on a list of its own."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._open: list[Array | Object] = []
        self._keys: list[str] = []
        """Name of the member whose value is due, for each open object."""

    def document(self) -> Node:
        """The one value that fills the source."""
        for _ in range(JSON_VALUES_MAX):
            match = _VALUE.match(self._source, self._position)
            if match is None:
                self._refuse("a value")
            self._position = match.end()
            value = self._value(match)
            if value is None:
                continue
            done = self._place(value, match[_MARK_GROUP])
            if done is not None:
                return done
        raise Invalid(Reason.MALFORMED, f"JSON of more than {JSON_VALUES_MAX} values")

    def _value(self, match: re.Match[str]) -> Node | None:
        """The value that was read; None for an array or object that is open now."""
        if (text := match[_TEXT_GROUP]) is not None:
            return _unescaped(text)
        if (source := match[_SCALAR_GROUP]) is not None:
            return Scalar(source)
        group = _OPEN_GROUP if match[_OPEN_GROUP] else _EMPTY_GROUP
        if len(self._open) == JSON_DEPTH_MAX:
            raise Invalid(Reason.MALFORMED, f"JSON nests deeper than {JSON_DEPTH_MAX}")
        start, end = match.span(group)
        node = Array(start, end) if self._source[start] == "[" else Object(start, end)
        if group == _EMPTY_GROUP:
            return node
        self._open.append(node)
        if isinstance(node, Object):
            self._key()
        return None

    def _place(self, value: Node, mark: str | None) -> Node | None:
        """Put a finished value where it belongs; `mark` comes after it.

        Returns the whole document once nothing is open.
        """
        while self._open:
            node = self._open[-1]
            if isinstance(node, Array):
                closing = "]"
                node.items.append(value)
            else:
                closing = "}"
                node.members[self._keys.pop()] = value
            if mark is None:
                mark = self._mark()
            if mark == ",":
                if closing == "}":
                    self._key()
                return None
            if mark != closing:
                self._position -= 1
                self._refuse(f"',' or {closing!r}")
            node.end = self._position
            value = self._open.pop()
            mark = None
        if mark is not None or _END.match(self._source, self._position) is None:
            self._refuse("the end")
        return value

    def _mark(self) -> str | None:
        match = _MARK.match(self._source, self._position)
        if match is None:
            self._refuse("',' or the end of an array or object")
        self._position = match.end()
        return match[1]

    def _key(self) -> None:
        """Read a member's name and its colon."""
        match = _KEY.match(self._source, self._position)
        if match is None:
            self._refuse("a member name and ':'")
        self._position = match.end()
        self._keys.append(_unescaped(match[1]))

    def _refuse(self, expected: str) -> NoReturn:
        found = self._source[self._position : self._position + 16]
        raise Invalid(
            Reason.MALFORMED,
            f"JSON has {found!r} at character {self._position} where {expected} belongs",
        )


def _unescaped(body: str) -> str:
    """What stands between the quotes of a text."""
    return _UNESCAPED.sub(_character, body) if "\\" in body else body


def _character(match: re.Match[str]) -> str:
    """What one escape stands for."""
    high, low, single, short = match.groups()
    if short is not None:
        return _SHORT[short]
    if single is not None:
        code = int(single, 16)
        return REPLACEMENT if 0xD800 <= code <= 0xDFFF else chr(code)
    return chr(0x10000 + (int(high, 16) - 0xD800 << 10) + (int(low, 16) - 0xDC00))
