"""Receipts about one slot, until enough compute units agree on one leaf and its outbox is known.

A unit's vote is the hash of the leaf it signed. The outcome bytes that came with a receipt count
only if they hash to the leaf's outcome hash under one of the two output formats, so a unit cannot
slip in an outbox that nobody signed for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.ids import ItemId, NodeKey
from protocols.outbox import EMPTY, FORMAT_CBOR, Bounds, Outbox, derive
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import Leaf

_FORMATS = (FORMAT_CBOR, "JSON-1")
"""Every Module-Format but the first speaks JSON-1."""


@dataclass(slots=True)
class Outcome:
    """What is known about the outcome of one slot that is to be pushed."""

    item: ItemId
    """The message in it: names the delivery row."""
    root: ItemId
    assignment: ItemId | None
    """What a leaf must be about; None after a restart, when only the place is known."""
    votes: dict[NodeKey, bytes] = field(default_factory=dict)
    outboxes: dict[bytes, Outbox] = field(default_factory=dict)
    """By leaf hash."""
    held_bytes: int = 0

    def vote(self, cu: NodeKey, leaf: Leaf, raw: bytes | None, bounds: Bounds) -> bool:
        """Count a receipt; False if it is about another slot, or `raw` is not its outcome."""
        if self.assignment is not None and leaf.assignment_id != self.assignment:
            return False
        hash = leaf.hash()
        self.votes[cu] = hash
        if hash in self.outboxes:
            return True
        outbox = EMPTY if not _has_output(leaf) else None
        if outbox is None and raw is not None:
            outbox = open_outbox(leaf, raw, bounds)
            if outbox is None:
                return False
            self.held_bytes += len(raw)
        if outbox is not None:
            self.outboxes[hash] = outbox
        return True

    def agreed(self, quorum: int) -> bytes | None:
        """The leaf hash that `quorum` units signed."""
        counts: dict[bytes, int] = {}
        for hash in self.votes.values():
            counts[hash] = counts.get(hash, 0) + 1
            if counts[hash] >= quorum:
                return hash
        return None

    def wants(self, cu: NodeKey, quorum: int, *, raw: bool) -> bool:
        """Whether an answer of `cu` (with the outcome bytes, if `raw`) would help."""
        vote = self.votes.get(cu)
        if vote is None:
            return self.agreed(quorum) is None or raw
        return raw and vote not in self.outboxes


def _has_output(leaf: Leaf) -> bool:
    return leaf.status in (Status.OK, Status.ERROR)


def open_outbox(leaf: Leaf, raw: bytes, bounds: Bounds) -> Outbox | None:
    """The outbox in the outcome bytes of a leaf; None if they are not its outcome."""
    status = Status(leaf.status)
    for format in _FORMATS:
        derived = derive(format, status, raw, bounds)
        if (
            derived.status == status
            and outcome_hash(raw, derived.outbox.root()) == leaf.outcome_hash
        ):
            return derived.outbox
    return None
