"""The stores that one suite runs on: `make(directory)` opens an empty one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aonode.ports import Store
from aonode.store.level import LevelStore
from aonode.store.memory import MemoryStore
from simnet.disk import Drive
from simnet.power import Power
from simnet.trace import Trace

MakeStore = Callable[[Path], Store]

STORES: dict[str, MakeStore] = {
    "memory": lambda _: MemoryStore(),
    "simulated": lambda _: _simulated(),
    "level": lambda directory: LevelStore(directory / "store"),
}


def _simulated() -> Store:
    return Drive("node", Trace(now_s=lambda: 0.0)).open("store", Power("node", 1))
