"""What happened, as one running hash and the last events in clear.

Every byte that a node puts on a wire or a disk goes through `record`, with the node and the
virtual time. Two runs with one hash did the same.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio
from blake3 import blake3

EVENTS_KEPT_MAX = 4096
"""Events kept in clear for reports; the hash covers all."""
SHOWN_BYTES_MAX = 24


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One recorded act."""

    number: int
    at_s: float
    """Virtual seconds since the start of the run."""
    node: str
    kind: str
    parts: tuple[bytes | str | int, ...]

    def __str__(self) -> str:
        return f"{self.number:>7} {self.at_s:12.6f} {self.node:<12} {self.kind:<14} " + " ".join(
            _shown(part) for part in self.parts
        )


class Trace:
    """The running hash of one run."""

    def __init__(
        self,
        events_kept_max: int = EVENTS_KEPT_MAX,
        now_s: Callable[[], float] = trio.current_time,
    ) -> None:
        self._now_s = now_s
        self._hash = blake3()
        self._events: deque[TraceEvent] = deque(maxlen=events_kept_max)
        self._count = 0

    def record(self, node: str, kind: str, *parts: bytes | str | int) -> None:
        """Add one act. Every part counts with its type and length, so no two acts look alike."""
        at_s = self._now_s()
        self._hash.update(struct.pack(">d", at_s))
        for part in (node, kind, *parts):
            self._hash.update(_framed(part))
        self._hash.update(b".")
        self._events.append(TraceEvent(self._count, at_s, node, kind, _kept(parts)))
        self._count += 1

    @property
    def count(self) -> int:
        """Acts recorded so far."""
        return self._count

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """The last acts, oldest first."""
        return tuple(self._events)

    def hex(self) -> str:
        """The hash of all acts so far, 64 hex digits."""
        return self._hash.hexdigest()


def _framed(part: bytes | str | int) -> bytes:
    if isinstance(part, bytes):
        return b"b%d:" % len(part) + part
    if isinstance(part, str):
        raw = part.encode()
        return b"s%d:" % len(raw) + raw
    return b"i%d:" % part


def _kept(parts: tuple[bytes | str | int, ...]) -> tuple[bytes | str | int, ...]:
    """Payloads are cut before they enter the ring: it must not hold the run's traffic."""
    return tuple(
        part[:SHOWN_BYTES_MAX] + b"+%d" % (len(part) - SHOWN_BYTES_MAX)
        if isinstance(part, bytes) and len(part) > SHOWN_BYTES_MAX
        else part
        for part in parts
    )


def _shown(part: bytes | str | int) -> str:
    return part.hex() if isinstance(part, bytes) else str(part)
