"""The stores that one suite runs on: `make(directory)` opens an empty one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aonode.ports import Store
from aonode.store.level import LevelStore
from aonode.store.memory import MemoryStore

MakeStore = Callable[[Path], Store]

STORES: dict[str, MakeStore] = {
    "memory": lambda _: MemoryStore(),
    "level": lambda directory: LevelStore(directory / "store"),
}
