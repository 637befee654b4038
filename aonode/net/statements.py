"""The door for what units state to everybody, and the answers to requests for it."""

from __future__ import annotations

from collections.abc import Callable

from aonode.env import Env
from aonode.net import verification
from aonode.ports import Verdict
from protocols.court import leaves_of
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, b64url
from protocols.machine.book import Book
from protocols.machine.effects import Answered, Event, Refusal, Send
from protocols.machine.events import (
    AssignmentArrived,
    ForkHeard,
    LeavesArrived,
    ProofsArrived,
    StatementArrived,
)
from protocols.network import Network
from protocols.trust import Verified
from protocols.wire.alarm import ForkAlarm
from protocols.wire.batch import ASSIGNMENT_BYTES_MAX
from protocols.wire.demand import LeavesAnswer
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.proof import StateProof
from protocols.wire.proof_streams import (
    LeavesRequest,
    ProofsAnswer,
    ProofsRequest,
    decode_leaves,
)
from protocols.wire.streams import ItemRequest, join
from protocols.wire.vote import Vote


class Statements:
    """Statements of other units: bytes -> `Verified`, or a verdict."""

    def __init__(
        self,
        *,
        env: Env,
        network: Network,
        book: Book,
        heard: Callable[[Event], bool],
        refuse: Callable[[Invalid], None],
    ) -> None:
        """`heard` hands an event to the book's machine without waiting, False if it is full;
        `refuse` counts a wrong answer."""
        self._env = env
        self._network = network
        self._parameters = network.parameters
        self._book = book
        self._heard = heard
        self._refuse = refuse

    def proofs_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A state proof, by its unit itself. One signature: checked on the spot."""
        proof = StateProof.decode(payload)
        if proof.cu != sender:
            raise Invalid(
                Reason.WRONG_SENDER, f"{b64url(sender)} gossiped a proof of {b64url(proof.cu)}"
            )
        if self._book.holds(proof, payload) or not self._book.is_staked(sender):
            return Verdict.IGNORE
        verified = verification.check_proof(payload, self._network.id, self._parameters)
        taken = self._heard(StatementArrived(payload, verified))
        return Verdict.ACCEPT if taken else Verdict.IGNORE

    def alarms_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """An alarm by anybody with something to lose here: it makes all others ask."""
        alarm = ForkAlarm.decode(payload)
        if alarm.network != self._network.id:
            raise Invalid(
                Reason.WRONG_NETWORK,
                f"an alarm of network {b64url(alarm.network)}, this is {b64url(self._network.id)}",
            )
        is_known = any(unit.key == sender for unit in self._network.units)
        if not is_known and not self._book.is_staked(sender):
            return Verdict.IGNORE
        return Verdict.ACCEPT if self._heard(ForkHeard(alarm, sender)) else Verdict.IGNORE

    async def assignment_arrived(self, sent: Send, answered: Answered) -> AssignmentArrived:
        """Verify an assignment that was asked for by its id."""
        id = ItemRequest.decode(sent.body).id
        peer, tag = answered.peer, answered.tag
        try:
            raw = join(answered.frames or (), size_max=ASSIGNMENT_BYTES_MAX)
            if raw is None:
                raise Invalid(Reason.UNKNOWN_ITEM, f"peer {b64url(peer)} has no item {b64url(id)}")
            assignment = await self._env.offload(lambda: verification.check_assignment(raw))
            if assignment.value.id != id:
                raise Invalid(
                    Reason.MISMATCH, f"peer {b64url(peer)} gave another item for {b64url(id)}"
                )
        except Invalid as error:
            self._refuse(error)
            return AssignmentArrived(None, Refusal(error.reason, error.detail), peer, tag)
        return AssignmentArrived(assignment, None, peer, tag)

    async def leaves_arrived(self, sent: Send, answered: Answered) -> LeavesArrived:
        """Check that the leaves of a LEAVES answer are those the statement rests on."""
        raw = LeavesRequest.decode(sent.body).statement
        peer, tag, id = answered.peer, answered.tag, statement_id(raw)
        statement = statement_of(raw)

        def check() -> tuple[LeavesAnswer, tuple[bytes, ...]] | None:
            answer = decode_leaves(answered.frames or ())
            if answer is None:
                return None
            return answer, leaves_of(statement, answer.peaks, answer.leaves, self._parameters)

        try:
            found = await self._env.offload(check)
        except Invalid as error:
            self._refuse(error)
            found = None
        if found is None:
            return LeavesArrived(id, peer, (), None, tag)
        return LeavesArrived(id, peer, found[0].peaks, found[1], tag)

    async def proofs_arrived(self, sent: Send, answered: Answered) -> ProofsArrived:
        """Verify the proofs and votes of a PROOFS answer, and enter the proofs in the book."""
        asked = ProofsRequest.decode(sent.body)
        frames = answered.frames
        if frames is None:
            return ProofsArrived(answered.peer, None, (), answered.tag)
        try:
            proofs, votes = await self._env.offload(
                lambda: self._check_answer(asked, ProofsAnswer.decode(frames))
            )
        except Invalid as error:
            self._refuse(error)
            return ProofsArrived(answered.peer, None, (), answered.tag)
        for raw, proof in proofs:
            if not self._book.holds(proof.value, raw):
                self._heard(StatementArrived(raw, proof))
        told = tuple(proof for _, proof in proofs)
        return ProofsArrived(answered.peer, told, votes, answered.tag)

    def _check_answer(
        self, asked: ProofsRequest, answer: ProofsAnswer
    ) -> tuple[list[tuple[bytes, Verified[StateProof]]], tuple[Verified[Vote], ...]]:
        """Blocking: thousands of signatures at the worst. Raises Invalid at the first bad one.

        What is in the book has been verified before; that is what most answers hold."""
        proofs = []
        for raw in answer.proofs:
            proof = StateProof.decode(raw)
            verified = (
                Verified(proof)
                if self._book.holds(proof, raw)
                else verification.check_proof(raw, self._network.id, self._parameters)
            )
            if (
                asked.process not in (None, proof.process)
                or asked.cu not in (None, proof.cu)
                or proof.last < asked.from_slot
            ):
                raise Invalid(
                    Reason.MISMATCH,
                    f"a proof of {b64url(proof.cu)} about {b64url(proof.process)}, slots up to "
                    f"{proof.last}, was not asked for",
                )
            proofs.append((raw, verified))
        votes = tuple(verification.check_vote(raw, self._network.id) for raw in answer.votes)
        for vote in votes:
            if not asked.votes or vote.value.key != asked.cu:
                raise Invalid(
                    Reason.MISMATCH, f"a vote of {b64url(vote.value.key)} was not asked for"
                )
        return proofs, votes
