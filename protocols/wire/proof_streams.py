"""Bodies of the streams about what units state; frames and parts are those of `streams`.

protocol       request                                    answer: byte strings of
/ao/leaves/1   [statement]                                [peaks, leaf hashes]
/ao/proofs/1   [process | null, unit | null, slot, votes?]  [[proof, ...], [vote, ...]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols import codec
from protocols.ids import NodeKey, ProcessId
from protocols.limits import MMR_PEAKS_MAX
from protocols.wire import shape
from protocols.wire.demand import LeavesAnswer
from protocols.wire.evidence import CLAIM_SLOTS_MAX
from protocols.wire.proof import PROOF_BYTES_MAX
from protocols.wire.streams import cut, join
from protocols.wire.vote import VOTE_BYTES_MAX

PROOFS_ANSWER_MAX = 4096
"""Proofs of one answer."""
PROOFS_ANSWER_BYTES_MAX = 4 << 20
"""Proofs and votes of one answer; an answerer stops before."""
VOTES_ANSWER_MAX = 64
_LEAVES_BYTES_MAX = 32 * CLAIM_SLOTS_MAX + 34 * MMR_PEAKS_MAX + 64
_ENTRY_OVERHEAD_BYTES = 8


@dataclass(frozen=True, slots=True)
class LeavesRequest:
    """Ask for the leaf hashes that an encoded statement answers for. No frames: not here."""

    statement: bytes

    def encode(self) -> bytes:
        return codec.encode((self.statement,))

    @classmethod
    def decode(cls, body: bytes) -> LeavesRequest:
        value = codec.decode(body, size_max=PROOF_BYTES_MAX + 64)
        (statement,) = shape.record(value, "leaves request", 1)
        return cls(shape.octets(statement, "statement", least=1, most=PROOF_BYTES_MAX))


def encode_leaves(answer: LeavesAnswer) -> tuple[bytes, ...]:
    """Frames of an answer of `/ao/leaves/1`: what would answer a demand, too."""
    return cut(answer.encode())


def decode_leaves(frames: Sequence[bytes]) -> LeavesAnswer | None:
    """Inverse of `encode_leaves`; None if there are no frames. Raises Invalid."""
    raw = join(frames, size_max=_LEAVES_BYTES_MAX)
    return None if raw is None else LeavesAnswer.decode(raw, size_max=_LEAVES_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class ProofsRequest:
    """Ask for state proofs that the answerer has heard: of one process or all, of one unit or
    all, that end at `from_slot` or later. The newest of each unit over each process come first."""

    process: ProcessId | None
    cu: NodeKey | None
    from_slot: int
    votes: bool
    """Also the newest votes of `cu`."""

    def encode(self) -> bytes:
        return codec.encode((self.process, self.cu, self.from_slot, self.votes))

    @classmethod
    def decode(cls, body: bytes) -> ProofsRequest:
        fields = shape.record(codec.decode(body, size_max=128), "proofs request", 4)
        process, cu, from_slot, votes = fields
        return cls(
            None if process is None else ProcessId(shape.identifier(process, "process")),
            None if cu is None else NodeKey(shape.identifier(cu, "unit")),
            shape.integer(from_slot, "first slot"),
            shape.boolean(votes, "votes"),
        )


@dataclass(frozen=True, slots=True)
class ProofsAnswer:
    """Encoded state proofs and votes."""

    proofs: tuple[bytes, ...]
    votes: tuple[bytes, ...] = ()

    def encode(self) -> tuple[bytes, ...]:
        """Frames of as much of it as an answer holds."""
        votes = self.votes[:VOTES_ANSWER_MAX]
        room = PROOFS_ANSWER_BYTES_MAX - _size(votes)
        proofs: list[bytes] = []
        for proof in self.proofs[:PROOFS_ANSWER_MAX]:
            room -= _size((proof,))
            if room < 0:
                break
            proofs.append(proof)
        return cut(codec.encode((proofs, votes)))

    @classmethod
    def decode(cls, frames: Sequence[bytes]) -> ProofsAnswer:
        """Inverse of `encode`; empty if there are no frames. Raises Invalid."""
        raw = join(frames, size_max=PROOFS_ANSWER_BYTES_MAX)
        if raw is None:
            return cls(())
        value = codec.decode(raw, size_max=PROOFS_ANSWER_BYTES_MAX)
        proofs, votes = shape.record(value, "proofs answer", 2)
        return cls(
            _listed(proofs, "proofs", PROOFS_ANSWER_MAX, PROOF_BYTES_MAX),
            _listed(votes, "votes", VOTES_ANSWER_MAX, VOTE_BYTES_MAX),
        )


def _size(entries: Sequence[bytes]) -> int:
    return sum(len(each) + _ENTRY_OVERHEAD_BYTES for each in entries) + _ENTRY_OVERHEAD_BYTES


def _listed(value: codec.Value, what: str, most: int, bytes_max: int) -> tuple[bytes, ...]:
    return tuple(
        shape.octets(each, what, least=1, most=bytes_max)
        for each in shape.array(value, what, most=most)
    )
