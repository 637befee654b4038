"""What a client has accepted softly and could still lose: its own account of live exposure.

A result that is accepted at once is only as good as what its signers lose if it is wrong, and a
stake can be lost once. So every soft acceptance with a value is written down here until the
challenge window is over, and what stands behind it counts for no other one.

The sum is cautious: an acceptance counts in full against every set of signers that shares one
account with it. So no group of units can gain more than what it loses, however results overlap.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aonode.accept.saved import write_json
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, ProcessId, b64url

FILE = "exposure.json"
FILE_BYTES_MAX = 64 << 20
ENTRIES_MAX = 1 << 16


class Entry(msgspec.Struct, frozen=True):
    """One accepted result."""

    process: str
    message: str
    value: int
    """Base units the client loses if it is wrong."""
    tick: int
    """Final checkpoint at which it was accepted."""
    until: int
    """Checkpoint from which on it is no exposure any more."""
    accounts: tuple[str, ...]
    """Whose stakes are behind it."""


class _File(msgspec.Struct, frozen=True):
    network: str
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Exposures:
    """The live entries of one network."""

    entries: tuple[Entry, ...]

    def behind(self, accounts: Collection[Address], process: ProcessId, message: ItemId) -> int:
        """Base units that stakes of these accounts already stand for, but for this message."""
        names = {b64url(account) for account in accounts}
        own = (b64url(process), b64url(message))
        return sum(
            entry.value
            for entry in self.entries
            if (entry.process, entry.message) != own and not names.isdisjoint(entry.accounts)
        )


class ExposureFile:
    """The file in a client's directory."""

    def __init__(self, directory: Path, network: NetworkId) -> None:
        self._path = directory / FILE
        self._network = b64url(network)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other client on this directory reads or writes meanwhile: of two that accept at the
        same time the second sees what the first has accepted."""
        lock = self._path.with_name(f".{FILE}.lock")
        try:
            handle = lock.open("ab")
        except OSError as error:
            raise Invalid(Reason.CONFIG, f"{lock} cannot be written: {error.strerror}") from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def read(self, tick: int) -> Exposures:
        """Entries that are live at `tick`. Raises Invalid(CONFIG) for a file that is none."""
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(FILE_BYTES_MAX), type=_File)
        except FileNotFoundError:
            return Exposures(())
        except (OSError, ValueError) as error:
            raise Invalid(
                Reason.CONFIG,
                f"{self._path} cannot be read: {error}; it says what this client can still lose: "
                "restore it, or remove it and accept nothing of value for one challenge window",
            ) from None
        if found.network != self._network:
            return Exposures(())
        return Exposures(tuple(entry for entry in found.entries if tick < entry.until))

    def add(self, entry: Entry, tick: int) -> None:
        """Write one more entry down, durably; in place of an old one about the same message."""
        old = [
            each
            for each in self.read(tick).entries
            if (each.process, each.message) != (entry.process, entry.message)
        ]
        if len(old) >= ENTRIES_MAX:
            raise Invalid(
                Reason.BUSY,
                f"{ENTRIES_MAX} soft acceptances are still exposed; wait for a challenge window, "
                "or accept hard",
            )
        document = _File(self._network, [*old, entry])
        write_json(self._path, msgspec.to_builtins(document))
