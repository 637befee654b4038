"""Processor time of processes: what a figure per second costs, whatever else the machine does."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
OWN = "client"
"""Name of this process among the measured ones."""


def cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time used so far, user and system, by name; this process as well."""
    return {OWN: time.process_time(), **{name: _of(pid) for name, pid in pids.items()}}


def spent_ms(
    before: Mapping[str, float], after: Mapping[str, float], count: int
) -> dict[str, float]:
    """Milliseconds per unit of work, by process, and their sum."""
    each = {name: round((after[name] - before[name]) * 1000 / count, 2) for name in before}
    return {**each, "sum": round(sum(each.values()), 2)}


def _of(pid: int) -> float:
    # The command name, in parentheses, may hold anything: fields are counted behind it (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
