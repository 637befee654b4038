"""This release and its wasmtime mean by the profile what the vectors say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.aonode.engine.conformance import PATH, REAL, real_log, small_logs

VECTORS: dict[str, Any] = json.loads(PATH.read_text("utf-8"))


def test_small_modules() -> None:
    found = small_logs()
    assert found == {name: VECTORS[name] for name in found}
    assert set(VECTORS) == {*found, *REAL}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_modules(name: str) -> None:
    assert real_log(name) == VECTORS[name]
