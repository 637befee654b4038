"""Two kinds of trouble, told apart by type.

`Invalid` says that the outside world is wrong: bytes from a peer, a client or a file that we
refuse. It is expected in normal operation, counted under its `Reason`, and never a bug of ours.
An `AssertionError` says that we are wrong, and ends the node.
"""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """Why an input was refused. Closed: it is a metric label and part of error documents."""

    MALFORMED = "malformed"
    """The bytes do not have the stated shape."""
    NOT_CANONICAL = "not_canonical"
    """A value was not in its one canonical encoding."""
    OVERSIZE = "oversize"
    """A size, count or depth is above its bound."""
    BAD_SIGNATURE = "bad_signature"
    """A signature does not verify under its owner's key."""
    UNSUPPORTED = "unsupported"
    """A signature type, module format or version that this release does not know."""
    WRONG_NETWORK = "wrong_network"
    """The statement belongs to a network with another id."""
    WRONG_SENDER = "wrong_sender"
    """A gossip sender is not the unit it speaks for."""
    UNKNOWN_PROCESS = "unknown_process"
    """No slot 0 of this process is known here."""
    UNKNOWN_MODULE = "unknown_module"
    """The module of a process is not known here and no peer has it."""
    UNKNOWN_ITEM = "unknown_item"
    """No item of this id is known here."""
    UNKNOWN_SCHEDULER = "unknown_scheduler"
    """The Scheduler tag names nobody that this network knows."""
    INADMISSIBLE = "inadmissible"
    """An item that a scheduler must refuse (see `admissible`)."""
    NOT_NEXT = "not_next"
    """A slot whose nonce, head or hash chain does not follow the one before."""
    UNHOSTED = "unhosted"
    """The log of this process has lost its scheduler by a verdict, and takes no more messages."""
    FORK = "fork"
    """Two different assignments for one nonce of one process."""
    MISMATCH = "mismatch"
    """Two statements that had to be equal are not (receipt and outcome, leaf and replay)."""
    BUSY = "busy"
    """A bounded queue is full; try again later."""
    TIMEOUT = "timeout"
    """No answer within the stated time."""
    UNAVAILABLE = "unavailable"
    """The peer cannot be reached, or is not ready to serve."""
    FORBIDDEN_MODULE = "forbidden_module"
    """A Wasm module that hides state or depends on the machine (see the module validator)."""
    REFUSED = "refused"
    """This node cannot evaluate the slot deterministically; it signs nothing at or after it."""
    CONFIG = "config"
    """A configuration or network file that cannot be used as it is."""
    STORAGE = "storage"
    """What is on disk is not what a node of this release wrote."""


class Invalid(Exception):
    """Input we refuse.

    `detail` is a sentence for a person: what was wrong, with which value, and what to do.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
