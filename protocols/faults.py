"""The classes of provable faults, and what each costs.

Shares are basis points of what is at stake. They are rules of the ledger and not parameters of a
network: clients and stakers compare networks by their parameters, and a fault must cost the same
wherever a unit works.
"""

from __future__ import annotations

import enum

from protocols.parameters import SHARE_WHOLE


class Fault(enum.StrEnum):
    """What a unit can be punished for. Closed: it is a metric label."""

    WRONG_LEAF = "F1"
    """A leaf is not what running its segment gives."""
    CONTRADICTION = "F2"
    """Two statements, or two votes, exclude each other."""
    WITHHELD = "F3"
    """The leaves behind a statement, or what it continues, were not shown."""
    INVENTED_LOG = "F4"
    """Nobody could show the assignment that a statement stands on."""
    MALFORMED = "F5"
    """A statement does not fit its own leaves or its anchor."""
    FALSE_PUSH = "F7"
    """Nobody could show the outbox entry that a pushed item claims to be."""
    TWO_ASSIGNMENTS = "S1"
    """One slot was given twice."""
    UNPUBLISHED = "S2"
    """Nobody could show a slot of a log that goes on behind it."""
    CENSORED = "S3"
    """An admissible message was demanded to be scheduled, and was not."""
    BAD_ASSIGNMENT = "S4"
    """An item that must be refused was assigned, or an assignment does not follow the last."""


SHARES: dict[Fault, int] = {
    **dict.fromkeys(Fault, SHARE_WHOLE),
    # A false push can take what its target believes the sender may give, as a wrong leaf can.
    Fault.BAD_ASSIGNMENT: 5000,
    # Nobody gains by it, and a long outage looks the same: it must hurt, and not ruin.
    Fault.UNPUBLISHED: 2000,
    # The message is public by then and any other scheduler can be chosen for the next process.
    Fault.CENSORED: 500,
}
"""Basis points of the stake by fault."""
