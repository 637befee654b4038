"""How the evaluation of one slot ended, and the hash that a leaf holds of it."""

from __future__ import annotations

import enum

from protocols import domains
from protocols.codec import digest


class Status(enum.IntEnum):
    """The only statuses a leaf may have. Anything but OK leaves the state as it was.

    A slot that cannot be evaluated deterministically has no status and no leaf: the compute unit
    signs nothing at or after it.
    """

    OK = 0
    ERROR = 1
    """The module answered that it failed; its output holds the reason."""
    TRAP = 2
    """The module trapped. Counts the slot's whole fuel."""
    OUT_OF_FUEL = 3
    BAD_OUTPUT = 4
    """The output cannot be read (`protocols.outbox`)."""
    TOO_LARGE = 5
    """The output, or the number of its outbox entries, is above the network's bound."""

    @property
    def has_output(self) -> bool:
        """Whether the raw output is part of the outcome."""
        return self is Status.OK or self is Status.ERROR


def outcome_hash(raw: bytes, outbox_root: bytes) -> bytes:
    """H(raw, outbox root). `raw` is empty unless the status has an output."""
    return digest(domains.OUTCOME, raw, outbox_root)
