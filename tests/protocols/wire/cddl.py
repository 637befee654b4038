"""A reader of the CDDL that this repository uses (a subset of RFC 8610), for tests.

Known: rules, choices with `/`, arrays with occurrences `n*m`, named members, `bstr`, `tstr`,
`bool`, `null`, integers, integer ranges, text literals, `.size` with a number or a range, and
`.cbor` with a rule.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from protocols.codec import decode

_TOKEN = re.compile(
    r"""\s*(?:;[^\n]*|(?P<range>-?\d+\.\.-?\d+)|(?P<occurs>\d+\*\d+)|(?P<number>-?\d+)
    |(?P<text>"[^"]*")|(?P<size>\.size)|(?P<cbor>\.cbor)|(?P<name>[A-Za-z][\w-]*)|(?P<mark>[\[\]()=/,:]))""",
    re.VERBOSE,
)


class Grammar:
    """The rules of one .cddl file."""

    def __init__(self, path: Path) -> None:
        self._tokens: list[tuple[str, str]] = []
        text, position = path.read_text(encoding="utf-8").rstrip(), 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match, f"{path.name}: cannot read {text[position : position + 40]!r}"
            if match.lastgroup:
                self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self.rules: dict[str, Any] = {}
        while self._tokens:
            name = self._take("name")
            self._take("mark", "=")
            assert name not in self.rules, f"{path.name}: rule {name} twice"
            self.rules[name] = self._choice()
        for rule in self.rules.values():
            self._check_names(rule)

    def _peek(self, offset: int = 0) -> tuple[str, str]:
        return self._tokens[offset] if offset < len(self._tokens) else ("end", "")

    def _take(self, kind: str, text: str | None = None) -> str:
        found_kind, found = self._tokens.pop(0)
        assert (found_kind, found) == (kind, text or found), (
            f"{found!r} where {text or kind} is due"
        )
        return found

    def _choice(self) -> Any:
        options = [self._type()]
        while self._peek() == ("mark", "/"):
            self._take("mark", "/")
            options.append(self._type())
        return ("choice", options) if len(options) > 1 else options[0]

    def _type(self) -> Any:
        kind, text = self._tokens.pop(0)
        if kind == "number":
            return ("range", int(text), int(text))
        if kind == "range":
            low, high = text.split("..")
            return ("range", int(low), int(high))
        if kind == "text":
            return ("literal", text[1:-1])
        if (kind, text) == ("mark", "["):
            return self._array()
        assert kind == "name", f"{text!r} is no type"
        if self._peek()[0] == "size":
            self._take("size")
            return ("sized", text, *self._size())
        if self._peek()[0] == "cbor":
            self._take("cbor")
            return ("cbor", ("name", self._take("name")))
        return ("name", text)

    def _size(self) -> tuple[int, int]:
        if self._peek()[0] == "number":
            size = int(self._take("number"))
            return size, size
        self._take("mark", "(")
        low, high = self._take("range").split("..")
        self._take("mark", ")")
        return int(low), int(high)

    def _array(self) -> Any:
        members = []
        while self._peek() != ("mark", "]"):
            low = high = 1
            if self._peek()[0] == "occurs":
                low, high = (int(bound) for bound in self._take("occurs").split("*"))
            if self._peek()[0] == "name" and self._peek(1) == ("mark", ":"):
                self._take("name")
                self._take("mark", ":")
            members.append((low, high, self._choice()))
            if self._peek() == ("mark", ","):
                self._take("mark", ",")
        self._take("mark", "]")
        return ("array", members)

    def _check_names(self, rule: Any) -> None:
        if rule[0] == "name":
            assert rule[1] in {"bstr", "tstr", "bool", "null", *self.rules}, f"no rule {rule[1]}"
        elif rule[0] == "cbor":
            self._check_names(rule[1])
        elif rule[0] == "choice":
            for option in rule[1]:
                self._check_names(option)
        elif rule[0] == "array":
            for _, _, member in rule[1]:
                self._check_names(member)

    def matches(self, name: str, value: object) -> bool:
        """Whether `value` (decoded CBOR) has the form of rule `name`."""
        return self._matches(self.rules[name], value)

    def _matches(self, rule: Any, value: Any) -> bool:
        kind = rule[0]
        if kind == "choice":
            return any(self._matches(option, value) for option in rule[1])
        if kind == "range":
            return type(value) is int and rule[1] <= value <= rule[2]
        if kind == "cbor":
            if type(value) is not bytes:
                return False
            return self._matches(rule[1], decode(value, size_max=len(value)))
        if kind == "literal":
            return type(value) is str and value == rule[1]
        if kind == "sized":
            if not self._matches(("name", rule[1]), value):
                return False
            size = len(value.encode() if type(value) is str else value)
            low, high = int(rule[2]), int(rule[3])
            return low <= size <= high
        if kind == "array":
            return type(value) is list and self._members(rule[1], value)
        basic: dict[str, type] = {"bstr": bytes, "tstr": str, "bool": bool, "null": type(None)}
        if rule[1] in basic:
            return bool(type(value) is basic[rule[1]])
        return self._matches(self.rules[rule[1]], value)

    def _members(self, members: list[Any], values: list[Any]) -> bool:
        """Greedy: our arrays repeat a member only at their end."""
        position = 0
        for low, high, member in members:
            count = 0
            while (
                count < high and position < len(values) and self._matches(member, values[position])
            ):
                count += 1
                position += 1
            if count < low:
                return False
        return position == len(values)
