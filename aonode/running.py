"""`running.json`: what a started node writes into its data directory, for clients on the machine.

It exists while the node serves. After a crash a stale one stays: `pid` tells.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from protocols.errors import Invalid, Reason

FILE = "running.json"
FILE_BYTES_MAX = 1 << 20


class Running(msgspec.Struct, frozen=True):
    """Where a node, or a whole network on this machine, is reached."""

    pid: int
    key: str
    addresses: list[str]
    """Multiaddresses for peers, with the peer id."""
    urls: dict[str, list[str]]
    """HTTP addresses by role."""


def write_running(directory: Path, running: Running) -> None:
    """Replace the file in one step: a reader sees the old one or the new one."""
    temporary = directory / f".{FILE}.{running.pid}"
    temporary.write_bytes(msgspec.json.encode(running))
    os.replace(temporary, directory / FILE)


def read_running(directory: Path) -> Running | None:
    """The file's content; None if there is none. Raises Invalid(CONFIG) if it cannot be read."""
    path = directory / FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Running)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(Reason.CONFIG, f"{path} cannot be read: {error}; remove it") from None


def remove_running(directory: Path, pid: int) -> None:
    """The node `pid` has stopped: its file goes, another node's stays."""
    running = read_running(directory)
    if running is not None and running.pid == pid:
        (directory / FILE).unlink(missing_ok=True)
