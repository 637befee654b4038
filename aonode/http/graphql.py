"""The part of GraphQL that AO's clients speak, as a parser and an evaluator over plain dicts.

One anonymous or named `query` of fields with aliases, arguments, variables and nested selections.
Not spoken, and refused by name: mutations, fragments, directives. Type declarations of variables
are read and ignored; their defaults hold. Bounded: characters, tokens and depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import Invalid, Reason

QUERY_CHARACTERS_MAX = 16 << 10
DEPTH_MAX = 12
FIELDS_MAX = 256

_TOKEN = re.compile(
    r"""(?:[\s,\ufeff]|\#[^\n]*(?:\n|\Z))*(?:
        (?P<name>[_A-Za-z][_0-9A-Za-z]*)
      | (?P<number>-?[0-9]+(?![.eE0-9]))
      | (?P<block>\"\"\"(?:[^"\\]|\\.|"(?!""))*\"\"\")
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<mark>\.\.\.|[!$&()\[\]{}:=|@])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Field:
    """One selected field."""

    name: str
    alias: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str


Resolver = Callable[[Mapping[str, Any]], Any]
"""A root field: arguments to a dict, a list of dicts, or None."""


def execute(query: str, variables: Mapping[str, Any], roots: Mapping[str, Resolver]) -> Any:
    """The `data` of the answer. Raises Invalid(MALFORMED, UNSUPPORTED, OVERSIZE)."""
    data = {}
    for selected in parse(query, variables):
        resolver = roots.get(selected.name)
        if selected.name == "__typename":
            data[selected.alias] = "Query"
        elif resolver is None:
            known = ", ".join(sorted(roots))
            raise Invalid(Reason.UNSUPPORTED, f"no field {selected.name!r} here; there are {known}")
        else:
            data[selected.alias] = _project(resolver(selected.arguments), selected.fields)
    return data


def _project(value: Any, fields: tuple[Field, ...]) -> Any:
    """`value` cut down to what was selected; a field it does not have is null."""
    if not fields:
        return value
    if isinstance(value, list):
        return [_project(entry, fields) for entry in value]
    if not isinstance(value, dict):
        return value
    return {each.alias: _project(value.get(each.name), each.fields) for each in fields}


def parse(query: str, variables: Mapping[str, Any]) -> tuple[Field, ...]:
    """The root fields of `query`, its variables filled in. Raises Invalid."""
    if len(query) > QUERY_CHARACTERS_MAX:
        raise Invalid(
            Reason.OVERSIZE, f"a query of {len(query)} characters, at most {QUERY_CHARACTERS_MAX}"
        )
    return _Parser(query, variables).document()


class _Parser:
    def __init__(self, query: str, variables: Mapping[str, Any]) -> None:
        self._query = query
        self._variables = dict(variables)
        self._position = 0
        self._fields = 0
        self._kind, self._text = "", ""
        self._next()

    def document(self) -> tuple[Field, ...]:
        if self._kind == "name":
            operation = self._name()
            if operation != "query":
                raise Invalid(Reason.UNSUPPORTED, f"only queries are answered, not {operation!r}")
            if self._kind == "name":
                self._name()
            if self._take("("):
                while not self._take(")"):
                    self._declaration()
        fields = self._selection(0)
        if self._kind != "end":
            raise self._unexpected("the end; one query at a time, without fragments")
        return fields

    def _declaration(self) -> None:
        self._expect("$")
        name = self._name()
        self._expect(":")
        while self._text in ("[", "]", "!") or self._kind == "name":
            self._next()
        default = self._value(0) if self._take("=") else None
        self._variables.setdefault(name, default)

    def _selection(self, depth: int) -> tuple[Field, ...]:
        if depth > DEPTH_MAX:
            raise Invalid(Reason.OVERSIZE, f"a query nested deeper than {DEPTH_MAX}")
        self._expect("{")
        fields = []
        while not self._take("}"):
            fields.append(self._field(depth))
        return tuple(fields)

    def _field(self, depth: int) -> Field:
        self._fields += 1
        if self._fields > FIELDS_MAX:
            raise Invalid(Reason.OVERSIZE, f"a query of more than {FIELDS_MAX} fields")
        if self._text in ("...", "@") and self._kind == "mark":
            raise Invalid(Reason.UNSUPPORTED, "fragments and directives are not spoken here")
        alias = name = self._name()
        if self._take(":"):
            name = self._name()
        arguments: dict[str, Any] = {}
        if self._take("("):
            while not self._take(")"):
                key = self._name()
                self._expect(":")
                arguments[key] = self._value(depth)
        fields = self._selection(depth + 1) if self._is("{") else ()
        return Field(name, alias, arguments, fields)

    def _value(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise Invalid(Reason.OVERSIZE, f"a query nested deeper than {DEPTH_MAX}")
        kind, text = self._kind, self._text
        if self._take("$"):
            return self._variables.get(self._name())
        if self._take("["):
            entries = []
            while not self._take("]"):
                entries.append(self._value(depth + 1))
            return entries
        if self._take("{"):
            members = {}
            while not self._take("}"):
                name = self._name()
                self._expect(":")
                members[name] = self._value(depth + 1)
            return members
        if kind not in ("number", "string", "block", "name"):
            raise self._unexpected("a value")
        self._next()
        if kind == "number":
            return int(text[:20])
        if kind == "name":
            return {"true": True, "false": False, "null": None}.get(text, text)
        return _unescape(text[1:-1]) if kind == "string" else text[3:-3].replace('\\"""', '"""')

    def _name(self) -> str:
        if self._kind != "name":
            raise self._unexpected("a name")
        text = self._text
        self._next()
        return text

    def _is(self, mark: str) -> bool:
        return self._kind == "mark" and self._text == mark

    def _take(self, mark: str) -> bool:
        if not self._is(mark):
            return False
        self._next()
        return True

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise self._unexpected(repr(mark))

    def _next(self) -> None:
        match = _TOKEN.match(self._query, self._position)
        if match is None:
            raise Invalid(
                Reason.MALFORMED,
                f"the query cannot be read at character {self._position}: "
                f"{self._query[self._position :][:32]!r}",
            )
        self._kind = match.lastgroup or "end"
        self._text = match[self._kind]
        self._position = match.end()

    def _unexpected(self, wanted: str) -> Invalid:
        found = self._text[:32] or "the end"
        return Invalid(
            Reason.MALFORMED,
            f"the query has {found!r} before character {self._position}, where {wanted} belongs",
        )


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(one, text)
