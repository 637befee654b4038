"""TOML files: bounded reading, and writing of the little that our files need."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocols.errors import Invalid, Reason

FILE_BYTES_MAX = 8 << 20
"""Largest network or config file that is read."""


def _config(detail: str) -> Invalid:
    return Invalid(Reason.CONFIG, detail)


def read_toml(path: Path) -> dict[str, Any]:
    """A parsed TOML file. Raises Invalid(CONFIG) with path, and line where TOML is wrong."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _config(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise _config(f"{path} has more than {FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _config(f"{path} is not TOML: {error}") from None


def toml(document: Mapping[str, Any]) -> str:
    """TOML of a mapping of integers, booleans, strings, lists, tables and lists of tables.

    Deterministic: keys in the mapping's order, plain values before tables.
    """
    lines = []
    tables = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{key}]\n{toml(value)}")
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            tables.extend(f"\n[[{key}]]\n{toml(each)}" for each in value)
        else:
            lines.append(f"{key} = {_toml_value(value)}\n")
    return "".join(lines + tables)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(each) for each in value) + "]"
    raise TypeError(f"a {type(value).__name__} has no place in these files")


def _toml_text(text: str) -> str:
    """A basic string (TOML 1.0): quote, backslash and control characters escaped."""
    out = []
    for character in text:
        if character in '"\\':
            out.append("\\" + character)
        elif character < " " or character == "\x7f":
            out.append(f"\\u{ord(character):04x}")
        else:
            out.append(character)
    return '"' + "".join(out) + '"'
