"""The door for what units state to everybody, and the answers to requests for it."""

from __future__ import annotations

from collections.abc import Callable

from aonode.net import verification
from aonode.ports import Verdict
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, b64url
from protocols.machine.book import Book
from protocols.machine.effects import Event
from protocols.machine.events import StatementArrived
from protocols.network import Network
from protocols.wire.proof import StateProof


class Statements:
    """Statements of other units: bytes -> `Verified`, or a verdict."""

    def __init__(self, *, network: Network, book: Book, heard: Callable[[Event], bool]) -> None:
        """`heard` hands an event to the book's machine without waiting; False if it is full."""
        self._network = network
        self._book = book
        self._heard = heard

    def proofs_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A state proof, by its unit itself. One signature: checked on the spot."""
        proof = StateProof.decode(payload)
        if proof.cu != sender:
            raise Invalid(
                Reason.WRONG_SENDER, f"{b64url(sender)} gossiped a proof of {b64url(proof.cu)}"
            )
        if self._book.holds(proof, payload) or not self._book.is_staked(sender):
            return Verdict.IGNORE
        verified = verification.check_proof(payload, self._network.id, self._network.parameters)
        taken = self._heard(StatementArrived(payload, verified))
        return Verdict.ACCEPT if taken else Verdict.IGNORE
