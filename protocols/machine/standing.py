"""One process as a compute unit has evaluated it since its start. Part of `evaluation`."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.accumulator import Mmr
from protocols.codec import HASH_BYTES
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import Effect, Execute
from protocols.machine.proving import Proving
from protocols.machine.sealing import Sealer
from protocols.parameters import Parameters
from protocols.wire.assignment import Chain
from protocols.wire.proof import Receipt, is_border

RUN_SLOTS_MAX = 64
"""Slots of one `Execute`: bounds what is in memory between the engine and the commit."""
RUN_FUEL = 1_000_000_000
"""Fuel one run should take, judged by the run before: about a fifth of a second until the first
result of a run is visible."""


class Standing:
    """Where the evaluation of one process stands, and what is durable of it."""

    __slots__ = (
        "_leaves",
        "_parameters",
        "block_root",
        "head",
        "id",
        "mmr",
        "next",
        "proving",
        "receipts",
        "run_slots",
        "running",
        "stopped",
        "tip",
    )

    def __init__(self, id: ProcessId, sealer: Sealer, parameters: Parameters) -> None:
        self.id = id
        self._parameters = parameters
        self.tip = -1
        """Last slot of the durable log."""
        self.running = False
        self.run_slots = 1
        self.stopped = ""
        """Why nothing more is evaluated; empty while it is."""
        self.proving = Proving(id, sealer, parameters)
        self._leaves = b""
        """Durable leaf hashes from slot 0 on, one after another."""
        self.receipts: dict[tuple[int, bytes], Receipt] = {}
        """Durable receipts, by slot and head, of slots that have no durable result."""
        self.again()

    def again(self) -> None:
        """Begin at slot 0."""
        self.next = 0
        """First slot not evaluated since then."""
        self.head = Chain.genesis(self.id).head
        """Log head before `next`."""
        self.mmr = Mmr()
        """Over the leaves before `next`."""
        self.block_root: bytes | None = None
        """MMR root at the last proof-block end before `next`."""
        self.proving.again()

    def recover(
        self,
        *,
        tip: int,
        leaves: Iterable[bytes],
        receipts: Iterable[bytes],
        proofs: Iterable[bytes],
        profile: bytes,
    ) -> None:
        """See `Evaluation.recover`."""
        self.tip = tip
        self._leaves = b"".join(leaves)
        if len(self._leaves) % HASH_BYTES:
            raise Invalid(Reason.STORAGE, f"leaf rows of {b64url(self.id)} are not hashes")
        for row in receipts:
            receipt = Receipt.decode(row)
            if receipt.process != self.id:
                raise Invalid(
                    Reason.STORAGE, f"a receipt row of {b64url(self.id)} is of another process"
                )
            if receipt.profile == profile and not self.leaf(receipt.slot):
                self.receipts[receipt.slot, receipt.head] = receipt
        self.proving.recover(proofs)

    def leaf(self, slot: int) -> bytes:
        """The durable leaf hash of a slot; empty if there is none."""
        return self._leaves[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]

    def advance(self, head: bytes, mmr: Mmr, mmr_root: bytes) -> None:
        """The next slot has been taken in."""
        if is_border(self.next, self._parameters.proof_every):
            self.block_root = mmr_root
        self.next += 1
        self.head = head
        self.mmr = mmr

    def run(self) -> list[Effect]:
        """The next run, if there is something to run and the engine is not at it."""
        if self.running or self.stopped or self.tip < self.next:
            return []
        self.running = True
        return [Execute(self.id, self.next, min(self.tip, self.next + self.run_slots - 1))]

    def ran(self, fuel: int) -> None:
        """The engine has answered a run; its slots took so much fuel on average."""
        self.running = False
        self.run_slots = max(1, min(RUN_SLOTS_MAX, RUN_FUEL // max(1, fuel)))
