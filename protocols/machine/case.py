"""What a watcher holds against one statement, from suspicion to the end, and its durable row."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from protocols.codec import decode, encode
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.parameters import Parameters
from protocols.wire import shape
from protocols.wire.evidence import evidence_bytes_max
from protocols.wire.proof import PROOF_BYTES_MAX

WHY_BYTES_MAX = 1000
_ROW_OVERHEAD_BYTES = 4096


class Stage(enum.StrEnum):
    """How far a case has come."""

    SUSPECTED = "suspected"
    """It differs from what this node computes, or this node has to find out whether it does."""
    LEAVES = "leaves"
    """Its leaf hashes, or what it continues, are being asked for."""
    DEMANDED = "demanded"
    """They were demanded on the ledger."""
    WITNESS = "witness"
    """The state before the wrong segment is being made, and the segment run from it."""
    PROVED = "proved"
    """There is evidence that this node itself would judge guilty."""
    COMMITTED = "committed"
    SENT = "sent"
    """The commit stands in the ledger's log; the parts are on their way."""
    REVEALED = "revealed"
    """All parts stand there; the reveal is on its way."""
    FROZEN = "frozen"
    BURNT = "burnt"
    VERDICT = "verdict"
    """The ledger has judged otherwise."""
    DROPPED = "dropped"


OVER = frozenset({Stage.BURNT, Stage.VERDICT, Stage.DROPPED})
"""Nothing more comes of these."""
POSTED = frozenset({Stage.COMMITTED, Stage.SENT, Stage.REVEALED})
"""There is a bond in these, or will be."""


class Kind(enum.StrEnum):
    """What is accused, and so what `Case.accused` holds."""

    STATEMENT = "statement"
    """Encoded statement."""
    EVIDENT = "evident"
    """Encoded statement, of which nothing but itself, or another one of its unit, has to be known;
    the evidence holds both."""
    VOTES = "votes"
    """The encoded vote that was heard last."""
    ASSIGNMENTS = "assignments"
    """The assignment that was heard last."""


@dataclass(slots=True)
class Case:
    """One case. What follows `tries` is not durable: it is found out again after a restart."""

    id: bytes
    """Id of the accused statement, vote or assignment; of two that do not follow each other the
    evidence's."""
    kind: Kind
    accused: bytes
    unit: NodeKey
    process: ProcessId
    first: int
    last: int
    """Slots that may be wrong; of a vote the tick."""
    opened_ms: int
    stage: Stage = Stage.SUSPECTED
    why: str = ""
    """What was found, what it waits for, or how it ended; for people."""
    changed_ms: int = 0
    evidence: bytes = b""
    sequence: int | None = None
    """Of the commit, or before there is evidence of the demand."""
    since: int = 0
    """Ledger slot from which on to look for what became of the demand."""
    tries: int = 0
    """Commits that were refused."""

    theirs: list[bytes] | None = None
    """The accused's leaf hashes, once known."""
    asked: int = 0
    """Peers asked for them."""
    waiting: bool = False
    """For an answer, an audit or a segment."""
    commit_ms: int | None = None
    """Until then it is left to other watchers to commit to evidence against it."""
    deadline: int | None = None
    """Tick by which its demand is to be answered, once that stands in the ledger."""
    witness_at: int | None = None
    """First slot of the segment whose state before it is being made."""
    facts: dict[bytes, tuple[bytes, ...] | None] = field(default_factory=dict)
    """Segments that were run for it."""

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    @property
    def is_brought(self) -> bool:
        """Whether its evidence is on its way to the ledger, or waits for its turn only."""
        waits = self.stage is Stage.PROVED and self.commit_ms is not None
        return waits or self.stage in POSTED

    def encode(self) -> bytes:
        """The row."""
        return encode(
            [
                self.kind.value,
                self.accused,
                self.unit,
                self.process,
                self.first,
                self.last,
                self.opened_ms,
                self.stage.value,
                self.why,
                self.changed_ms,
                self.evidence,
                self.sequence,
                self.since,
                self.tries,
            ]
        )

    @classmethod
    def decode(cls, id: bytes, row: bytes, parameters: Parameters) -> Case:
        """Inverse of `encode`. Raises Invalid(STORAGE, MALFORMED)."""
        most = evidence_bytes_max(parameters) + PROOF_BYTES_MAX + _ROW_OVERHEAD_BYTES
        fields = shape.record(decode(row, size_max=most), "a case", 14)
        kind, accused, unit, process, first, last, opened, stage, why = fields[:9]
        changed, evidence, sequence, since, tries = fields[9:]
        if kind not in list(Kind) or stage not in list(Stage):
            raise Invalid(Reason.STORAGE, f"row of case {b64url(id)}: {kind!r}, {stage!r}")
        return cls(
            id,
            Kind(str(kind)),
            shape.octets(accused, "case accused", most=most),
            NodeKey(shape.identifier(unit, "case unit")),
            ProcessId(shape.identifier(process, "case process")),
            shape.integer(first, "case first"),
            shape.integer(last, "case last"),
            shape.integer(opened, "case time"),
            Stage(str(stage)),
            shape.text(why, "case reason", most=WHY_BYTES_MAX),
            shape.integer(changed, "case time"),
            shape.octets(evidence, "case evidence", most=most),
            None if sequence is None else shape.integer(sequence, "case sequence"),
            shape.integer(since, "case slot"),
            shape.integer(tries, "case tries"),
        )

    def summary(self) -> dict[str, Any]:
        """JSON-ready facts."""
        return {
            "statement": b64url(self.id),
            "kind": self.kind.value,
            "unit": b64url(self.unit),
            "process": b64url(self.process),
            "slots": [self.first, self.last],
            "stage": self.stage.value,
            "why": self.why,
            "evidence_bytes": len(self.evidence),
            "deadline": self.deadline if self.stage is Stage.DEMANDED else None,
            "opened_ms": self.opened_ms,
            "changed_ms": self.changed_ms,
        }
