"""Reads the golden bytes of `protocols/vectors/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "protocols" / "vectors"


def load(name: str) -> Any:
    """The parsed vector file `name`.json."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
