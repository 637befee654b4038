"""From a unit's own receipts to its state proofs: one signature for a range of slots.

A proof is sealed at the end of a proof block, and may be sealed at any other slot by a clock
(an interim proof). The next one begins where it ended, with the next sequence. While a unit
catches up it may let one proof run over several block ends, whose MMR roots it then names.

Pure: whoever holds the receipts of one process in order gets the same proofs. Nothing is signed
twice for one slot and head: a durable proof is used again, or contradicted aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey, ProcessId, b64url
from protocols.parameters import Parameters
from protocols.wire.assignment import Chain
from protocols.wire.proof import BLOCK_ENDS_MAX, Receipt, StateProof, is_border


@dataclass(frozen=True, slots=True)
class OpenProof:
    """What has been evaluated of a process since its last state proof. Immutable."""

    process: ProcessId
    first: int
    """First slot of the proof to come."""
    head_before: bytes
    mmr_before: bytes
    sequence: int
    start: bytes | None
    """Id of the anchor the unit's proofs of this process start from; None for genesis."""
    last: int
    """Last slot in it; first - 1 if there is none yet."""
    head: bytes
    mmr_root: bytes
    state_root: bytes | None = None
    fuel: int = 0
    block_roots: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def at_genesis(cls, process: ProcessId) -> OpenProof:
        """Before slot 0."""
        head, root = Chain.genesis(process).head, Mmr().root()
        return cls(process, 0, head, root, 0, None, -1, head, root)

    @classmethod
    def at_anchor(
        cls, process: ProcessId, slot: int, head: bytes, mmr_root: bytes, id: bytes
    ) -> OpenProof:
        """Before the slot after the anchor with this id."""
        return cls(process, slot + 1, head, mmr_root, 0, id, slot, head, mmr_root)

    @classmethod
    def after(cls, proof: StateProof) -> OpenProof:
        """Before the slot after a sealed proof."""
        head, root = proof.head, proof.mmr_root
        sequence = proof.sequence + 1
        return cls(
            proof.process,
            proof.last + 1,
            head,
            root,
            sequence,
            proof.start,
            proof.last,
            head,
            root,
        )

    def add(self, receipt: Receipt, parameters: Parameters) -> OpenProof:
        """With one more slot, by this unit's receipt of it."""
        assert receipt.process == self.process, "a receipt of another process"
        assert receipt.slot == self.last + 1, f"slot {receipt.slot} after slot {self.last}"
        blocks = self.block_roots
        if self.last >= self.first and is_border(self.last, parameters.proof_every):
            assert len(blocks) < BLOCK_ENDS_MAX, f"a proof crosses {BLOCK_ENDS_MAX} block ends"
            blocks = (*blocks, (self.last, self.mmr_root))
        return OpenProof(  # for every slot: `replace` would take five times as long
            self.process,
            self.first,
            self.head_before,
            self.mmr_before,
            self.sequence,
            self.start,
            receipt.slot,
            receipt.head,
            receipt.mmr_root,
            receipt.leaf.root,
            self.fuel + receipt.leaf.fuel,
            blocks,
        )

    def is_empty(self) -> bool:
        """Whether there is nothing to seal."""
        return self.last < self.first

    def is_due(self, parameters: Parameters, *, catching_up: bool = False) -> bool:
        """Whether it must be sealed now: at a block end, or, for a unit that is still catching
        up, at the last block end that one proof can have."""
        if self.is_empty() or not is_border(self.last, parameters.proof_every):
            return False
        return not catching_up or len(self.block_roots) == BLOCK_ENDS_MAX


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals, in which network. `sign` is the unit's Ed25519 signature, a pure function."""

    network: NetworkId
    profile: bytes
    key: NodeKey
    sign: Callable[[bytes], bytes]

    def seal(self, open: OpenProof, tick: int, durable: StateProof | None = None) -> StateProof:
        """The signed proof of what is open. `tick` is the latest final checkpoint known.

        `durable` is the proof this unit has signed for the same slots and head already: it is
        used again whatever its tick, sequence and start. Raises Invalid(MISMATCH) if it says
        something else; then the unit must sign nothing more of this process.
        """
        assert not open.is_empty(), "a proof of no slots"
        draft = StateProof(
            self.network,
            open.process,
            open.first,
            open.last,
            open.head_before,
            open.head,
            open.mmr_before,
            open.mmr_root,
            open.block_roots,
            open.state_root,
            open.fuel,
            self.profile,
            tick,
            open.sequence,
            open.start,
            self.key,
        )
        if durable is None:
            return draft.signed(self.sign(draft.signing_bytes()))
        said = replace(durable, signature=b"", tick=tick, sequence=open.sequence, start=open.start)
        if said != draft:
            raise Invalid(
                Reason.MISMATCH,
                f"slots {open.first}..{open.last} of {b64url(open.process)} give another state "
                "proof than the one signed before; find out which is wrong before signing more",
            )
        return durable
