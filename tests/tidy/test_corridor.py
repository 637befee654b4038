"""docs/CORRIDOR.md names files and functions; each must exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.tidy.source import ROOT

CORRIDOR = (ROOT / "docs" / "CORRIDOR.md").read_text("utf-8")
STATIONS = re.findall(r"^\| (\d+) \|[^|]*\| `([^`]+)` \| `([^`]+)` \|", CORRIDOR, re.MULTILINE)


def test_the_table_is_complete() -> None:
    """Stations are numbered without a gap, so that none has been lost to a typing error."""
    assert [int(number) for number, _, _ in STATIONS] == list(range(1, len(STATIONS) + 1))
    assert len(STATIONS) > 20


@pytest.mark.parametrize(("number", "path", "name"), STATIONS)
def test_station_exists(number: str, path: str, name: str) -> None:
    scope: list[ast.stmt] = ast.parse((ROOT / path).read_text("utf-8")).body
    for part in name.split("."):
        found = [
            node
            for node in scope
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == part
        ]
        assert found, f"station {number}: {path} has no {name}"
        scope = found[0].body


def test_files_of_the_repairs_exist() -> None:
    for path in re.findall(r"`((?:aonode|protocols)/[a-z_0-9/]+\.py)`", CORRIDOR):
        assert (ROOT / path).is_file(), path
