"""When a compute unit seals its state proofs, and how those it has signed before are kept true.

Rule 1: one proof per (process, last slot, head, profile), for ever. A durable one is used again
        when the process is evaluated again, and never contradicted: if it says something else,
        the process stops.
Rule 2: nothing new is sealed before the newest durable proof is reached, except what fills a gap
        in the durable ones: every proof then has one that ends right before it.
Rule 3: a proof that a peer holds and this unit's table does not is a claim. The table is old then.
        Nothing is signed for the process until it has been evaluated up to the newest claim and
        gives the same root there; claims that hold become durable.

This file does not know clocks: it says when it wants to be asked again.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.machine.effects import Effect, Notify, Persist, Publish, SetTimer, Table
from protocols.machine.events import ProofSealed
from protocols.machine.sealing import OpenProof, Sealer
from protocols.parameters import Parameters
from protocols.wire.proof import Receipt, StateProof
from protocols.wire.topics import Topic

INTERIM_MS_MAX = 60_000
"""The longest a slot waits for a state proof over it."""
TIMER = "interim"
"""First part of the key of the timer for an interim proof; the second is the process."""


def interim_ms(parameters: Parameters) -> int:
    """How long a slot waits for a state proof over it: not longer than a checkpoint takes."""
    return min(INTERIM_MS_MAX, parameters.tick_ms)


class Proving:
    """The state proofs of one process."""

    __slots__ = (
        "_claims",
        "_durable",
        "_firsts",
        "_newest",
        "_open",
        "_parameters",
        "_sealer",
        "process",
    )

    def __init__(self, process: ProcessId, sealer: Sealer, parameters: Parameters) -> None:
        self.process = process
        self._sealer = sealer
        self._parameters = parameters
        self._open = OpenProof.at_genesis(process)
        self._durable: dict[tuple[int, bytes], StateProof] = {}
        """By last slot and head."""
        self._firsts: set[tuple[int, bytes]] = set()
        """Where durable proofs begin: (first slot - 1, head there)."""
        self._newest: StateProof | None = None
        self._claims: dict[tuple[int, bytes], StateProof] = {}

    def recover(self, rows: Iterable[bytes]) -> None:
        """Take up the durable proofs of this process. Raises Invalid(STORAGE, MALFORMED)."""
        for row in rows:
            proof = StateProof.decode(row)
            if proof.process != self.process:
                raise Invalid(
                    Reason.STORAGE,
                    f"a proof row of {b64url(self.process)} is of process {b64url(proof.process)}",
                )
            if proof.profile == self._sealer.profile:
                self._keep(proof)

    def _keep(self, proof: StateProof) -> None:
        self._durable[proof.last, proof.head] = proof
        self._firsts.add((proof.first - 1, proof.head_before))
        if self._newest is None or proof.last > self._newest.last:
            self._newest = proof

    def newest(self) -> StateProof | None:
        """The durable proof that ends last."""
        return self._newest

    # Claims of peers

    def claim(self, proof: StateProof) -> None:
        """A peer holds this proof, signed by this unit. Raises Invalid(MISMATCH) if the table has
        another one in its place."""
        if proof.profile != self._sealer.profile:
            return
        place = proof.last, proof.head
        held = self._durable.get(place)
        if held is None:
            self._claims[place] = proof
        elif held.mmr_root != proof.mmr_root:
            raise _contradicted(proof.last, "a peer holds another proof of it, signed by this key")

    def is_claimed(self) -> bool:
        """Whether nothing may be signed, because peers hold what the table has not."""
        return bool(self._claims)

    def check(self, slot: int, head: bytes, mmr_root: bytes) -> list[Effect]:
        """Settle the claims about this slot, as this unit evaluates it now: rows of those that
        hold. Raises Invalid(MISMATCH). A claim under another head is about another log."""
        effects: list[Effect] = []
        for place in [each for each in self._claims if each[0] == slot]:
            proof = self._claims[place]
            if proof.head == head:
                if proof.mmr_root != mmr_root:
                    raise _contradicted(slot, "this unit has signed another state of it before")
                self._keep(proof)
                effects.append(self._row(proof))
            del self._claims[place]
        return effects

    # Sealing

    def again(self) -> None:
        """The process is evaluated from slot 0 again."""
        self._open = OpenProof.at_genesis(self.process)

    def add(self, receipt: Receipt, *, tip: int, tick: int, now: int) -> list[Effect]:
        """Take in the next slot, by this unit's receipt of it (signed or not).

        `tip` is the last slot of the log, `tick` the latest final checkpoint known. Raises
        Invalid(MISMATCH) if this unit has signed something else.
        """
        parameters = self._parameters
        was_empty = self._open.is_empty()
        self._open = opened = self._open.add(receipt, parameters)
        slot = opened.last
        if self._durable and (effects := self._reached(opened, tick)) is not None:
            return effects
        is_behind = self._newest is not None and slot < self._newest.last
        catching_up = is_behind or tip - slot >= parameters.proof_every
        if opened.is_due(parameters, catching_up=catching_up):
            return self._seal(tick)
        if was_empty and not is_behind:
            return [SetTimer((TIMER, self.process), now + interim_ms(parameters))]
        return []

    def interim(self, tick: int) -> list[Effect]:
        """Seal what has waited long enough."""
        is_behind = self._newest is not None and self._open.last < self._newest.last
        if self._open.is_empty() or is_behind or self._claims:
            return []
        return self._seal(tick)

    def _reached(self, opened: OpenProof, tick: int) -> list[Effect] | None:
        """What a durable proof that ends here, or begins after it, asks for; None for neither."""
        place = opened.last, opened.head
        durable = self._durable.pop(place, None)
        if durable is None:
            return self._seal(tick) if place in self._firsts else None
        if durable.first == opened.first:
            self._sealer.seal(opened, tick, durable)
        elif (durable.mmr_root, durable.state_root) != (opened.mmr_root, opened.state_root):
            raise _contradicted(opened.last, "this unit has signed another state of it before")
        self._open = OpenProof.after(durable)
        return [Notify(ProofSealed(durable))] if durable is self._newest else []

    def _seal(self, tick: int) -> list[Effect]:
        proof = self._sealer.seal(self._open, tick)
        self._open = OpenProof.after(proof)
        return [
            self._row(proof),
            Publish(Topic.PROOFS, self.process, proof.encode()),
            Notify(ProofSealed(proof)),
        ]

    def _row(self, proof: StateProof) -> Persist:
        profile = self._sealer.profile
        key = keyspace.proof_key(self.process, proof.last, proof.head, profile)
        return Persist(Table.SIGN_ONCE, key, proof.encode())


def _contradicted(slot: int, why: str) -> Invalid:
    return Invalid(
        Reason.MISMATCH,
        f"slot {slot}: {why}; the engine or the disk has changed, or a copy of this key signs "
        "elsewhere. Nothing more is signed for this process",
    )
