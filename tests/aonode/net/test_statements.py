"""What units state, at the door and in answers: refused by name if it is not theirs or not true."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aonode.net.statements import Statements
from aonode.ports import Verdict
from aonode.roles.book import BookRole
from aonode.store.memory import MemoryStore
from protocols.accumulator import mmr_of
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId
from protocols.ledger.state import genesis
from protocols.machine.book import Book
from protocols.machine.effects import Answered, Event, Persist, Send
from protocols.machine.events import (
    AssignmentArrived,
    ForkHeard,
    LedgerMoved,
    StatementArrived,
    VoteArrived,
)
from protocols.trust import Verified
from protocols.wire.alarm import ForkAlarm
from protocols.wire.demand import LeavesAnswer
from protocols.wire.evidence import statement_id
from protocols.wire.proof import StateProof
from protocols.wire.proof_streams import (
    LeavesRequest,
    ProofsAnswer,
    ProofsRequest,
    encode_leaves,
)
from protocols.wire.streams import ItemRequest, cut
from protocols.wire.topics import Protocol
from protocols.wire.vote import Vote
from tests.aonode.fakes import FakeEnv
from tests.protocols.ledger.world import STAKERS, network
from tests.protocols.machine.world import Key
from tests.protocols.toy import PARAMETERS, branches, receipts, resigned, state_proof

NETWORK = network(PARAMETERS)
ONE, TWO = STAKERS[:2]
STRANGER = Key.of("stranger")
OWN = Key.of("own")
PEER = Key.of("peer").public
TRUTH = branches()[0]
PROCESS = TRUTH.slots[0].process
TAG = ("mine", 1)


def proof(key: Key, first: int, last: int, **changes: object) -> StateProof:
    """A true proof of this network, with some fields changed."""
    made = receipts(TRUTH.leaves, TRUTH.heads, key)
    return resigned(state_proof(made, first, last, key), key, **{"network": NETWORK.id, **changes})


class World:
    """A book with its door and adapter, and what the book's machine hears."""

    def __init__(self) -> None:
        self.book = Book(key=OWN.public, network=NETWORK.id, ledger_tip=lambda: -1)
        self.store = MemoryStore()
        self.role = BookRole(machine=self.book, db=self.store)
        self.heard: list[Event] = []
        self.refused: list[Reason] = []
        self.full = False
        self.statements = Statements(
            env=FakeEnv(),
            network=NETWORK,
            book=self.book,
            heard=self.hear,
            refuse=lambda error: self.refused.append(error.reason),
        )
        self.on(LedgerMoved(genesis(NETWORK), bytes(32), ()))

    def hear(self, event: Event) -> bool:
        if not self.full:
            self.heard.append(event)
            self.on(event)
        return not self.full

    def on(self, event: Event) -> None:
        effects = self.book.on(event, 0)
        rows = [(each.key, each.value) for each in effects if isinstance(each, Persist)]
        self.store.write(rows, sync=True)

    def door(self, made: StateProof, sender: NodeKey | None = None) -> Verdict:
        return self.statements.proofs_door(sender or made.cu, made.encode())

    async def asked(self, request: ProofsRequest) -> ProofsAnswer:
        return ProofsAnswer.decode(
            [frame async for frame in self.role._proofs(PEER, request.encode())]
        )


@pytest.fixture
def world() -> World:
    return World()


def test_a_proof_goes_on_once(world: World) -> None:
    made = proof(ONE, 0, 7)
    assert world.door(made) is Verdict.ACCEPT
    assert world.heard == [StatementArrived(made.encode(), Verified(made))]
    assert world.door(made) is Verdict.IGNORE
    assert world.door(proof(STRANGER, 0, 7)) is Verdict.IGNORE, "it has no stake"
    world.full = True
    assert world.door(proof(ONE, 8, 15)) is Verdict.IGNORE
    assert len(world.heard) == 1


def test_any_profile_is_passed_on(world: World) -> None:
    assert world.door(proof(ONE, 0, 7, profile=bytes(32))) is Verdict.ACCEPT


BAD: dict[str, tuple[Callable[[], StateProof], Reason]] = {
    "another network": (lambda: proof(ONE, 0, 7, network=bytes(32)), Reason.WRONG_NETWORK),
    "unsigned": (
        lambda: proof(ONE, 0, 7).signed(bytes(64)),
        Reason.BAD_SIGNATURE,
    ),
    "a root inside a segment": (lambda: proof(ONE, 0, 6, state_root=bytes(32)), Reason.MALFORMED),
    "no root at a border": (lambda: proof(ONE, 0, 7, state_root=None), Reason.MALFORMED),
    "no block roots": (lambda: proof(ONE, 0, 23, block_roots=()), Reason.MALFORMED),
    "too many blocks": (
        lambda: resigned(proof(ONE, 0, 23), ONE, last=(1 << 63) - 1),
        Reason.OVERSIZE,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_proof_is_refused(world: World, name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(Invalid) as refusal:
        world.door(make())
    assert refusal.value.reason is reason
    assert world.heard == []


def test_who_speaks_for_another_is_refused(world: World) -> None:
    with pytest.raises(Invalid) as refusal:
        world.door(proof(ONE, 0, 7), TWO.public)
    assert refusal.value.reason is Reason.WRONG_SENDER
    with pytest.raises(Invalid):
        world.statements.proofs_door(ONE.public, b"\x80")


async def test_the_book_is_read_back_and_served(world: World) -> None:
    made = [proof(key, first, first + 7) for first in (0, 8) for key in (ONE, TWO)]
    for each in made:
        assert world.door(each) is Verdict.ACCEPT
    vote = Vote(NETWORK.id, 1, 0, bytes(32), bytes(32), ONE.public)
    vote = vote.signed(ONE.sign(vote.signing_bytes()))
    world.on(VoteArrived(Verified(vote)))
    assert {row.raw for row in world.role.heard(PROCESS, 8, 9)} == {p.encode() for p in made[2:]}
    assert len(world.role.heard(PROCESS, 0, 3)) == 3

    everything = await world.asked(ProofsRequest(None, None, 0, False))
    assert set(everything.proofs[:2]) == {each.encode() for each in made[2:]}
    assert len(everything.proofs) == 4
    named = await world.asked(ProofsRequest(PROCESS, ONE.public, 8, True))
    assert named == ProofsAnswer((made[2].encode(),), (vote.encode(),))
    assert await world.asked(ProofsRequest(ProcessId(bytes(32)), None, 0, True)) == ProofsAnswer(())

    again = World()
    again.store = world.store
    again.role = BookRole(machine=again.book, db=world.store)
    again.role.recover()
    assert (await again.asked(ProofsRequest(PROCESS, ONE.public, 0, False))).proofs == (
        made[2].encode(),
        made[0].encode(),
    )


def answered(request: ProofsRequest, frames: tuple[bytes, ...] | None) -> tuple[Send, Answered]:
    send = Send(PEER, Protocol.PROOFS, request.encode(), TAG, 1000)
    return send, Answered(TAG, PEER, frames)


async def test_answers_about_proofs_are_verified(world: World) -> None:
    request = ProofsRequest(PROCESS, ONE.public, 8, True)
    vote = Vote(NETWORK.id, 1, 0, bytes(32), bytes(32), ONE.public)
    vote = vote.signed(ONE.sign(vote.signing_bytes()))
    good = proof(ONE, 8, 15)
    frames = ProofsAnswer((good.encode(),), (vote.encode(),)).encode()
    told = await world.statements.proofs_arrived(*answered(request, frames))
    assert told.proofs == (Verified(good),)
    assert (told.peer, told.votes, told.tag) == (PEER, (Verified(vote),), TAG)
    assert world.heard == [StatementArrived(good.encode(), Verified(good))]
    await world.statements.proofs_arrived(*answered(request, frames))
    assert len(world.heard) == 1, "it is in the book"

    assert (await world.statements.proofs_arrived(*answered(request, None))).proofs is None
    assert (await world.statements.proofs_arrived(*answered(request, ()))).proofs == ()
    stray = proof(ONE, 8, 15, process=bytes(32))
    other_vote = Vote(NETWORK.id, 1, 0, bytes(32), bytes(32), TWO.public)
    other_vote = other_vote.signed(TWO.sign(other_vote.signing_bytes()))
    for wrong in (
        ProofsAnswer((proof(TWO, 8, 15).encode(),)),
        ProofsAnswer((proof(ONE, 0, 7).encode(),)),
        ProofsAnswer((stray.encode(),)),
        ProofsAnswer((good.signed(bytes(64)).encode(),)),
        ProofsAnswer((), (other_vote.encode(),)),
        ProofsAnswer((), (vote.signed(bytes(64)).encode(),)),
    ):
        told = await world.statements.proofs_arrived(*answered(request, wrong.encode()))
        assert (told.proofs, told.votes) == (None, ())
    assert len(world.refused) == 6


async def test_leaves_must_give_the_roots_that_the_statement_names(world: World) -> None:
    made = proof(ONE, 8, 22)
    hashes = [leaf.hash() for leaf in TRUTH.leaves]
    peaks = mmr_of(hashes[:8]).peaks

    async def arrived(answer: LeavesAnswer | None) -> tuple[bytes, ...] | None:
        body = LeavesRequest(made.encode()).encode()
        frames = () if answer is None else encode_leaves(answer)
        event = await world.statements.leaves_arrived(
            Send(PEER, Protocol.LEAVES, body, TAG, 1000), Answered(TAG, PEER, frames)
        )
        assert (event.statement, event.peer, event.tag) == (statement_id(made.encode()), PEER, TAG)
        assert event.peaks == (peaks if event.leaves is not None else ())
        return event.leaves

    good = LeavesAnswer(peaks, b"".join(hashes[8:23]))
    assert await arrived(good) == tuple(hashes[8:23])
    assert await arrived(None) is None
    assert world.refused == []
    for wrong in (
        LeavesAnswer(peaks, b"".join(hashes[8:22])),
        LeavesAnswer(peaks, b"".join([*hashes[8:22], hashes[0]])),
        LeavesAnswer((bytes(32),), b"".join(hashes[8:23])),
        LeavesAnswer((), b"".join(hashes[8:23])),
    ):
        assert await arrived(wrong) is None
    assert len(world.refused) == 4


def alarm(one: bytes = bytes(32), network: bytes = NETWORK.id) -> ForkAlarm:
    return ForkAlarm(NetworkId(network), PROCESS, ItemId(one), ItemId(bytes([1]) * 32))


def test_alarms_are_taken_from_those_with_something_to_lose(world: World) -> None:
    assert world.statements.alarms_door(ONE.public, alarm().encode()) is Verdict.ACCEPT
    assert world.heard == [ForkHeard(alarm(), ONE.public)]
    assert world.statements.alarms_door(STRANGER.public, alarm().encode()) is Verdict.IGNORE
    world.full = True
    assert world.statements.alarms_door(ONE.public, alarm().encode()) is Verdict.IGNORE
    for wrong, reason in (
        (alarm(network=bytes(32)).encode(), Reason.WRONG_NETWORK),
        (b"\x85\x02" + alarm().encode()[2:], Reason.UNSUPPORTED),
        (alarm().encode()[:-1], Reason.MALFORMED),
    ):
        with pytest.raises(Invalid) as refusal:
            world.statements.alarms_door(ONE.public, wrong)
        assert refusal.value.reason is reason


async def test_an_assignment_is_verified_as_it_arrives(world: World) -> None:
    good = TRUTH.slots[3].assignment

    async def arrived(id: bytes, frames: tuple[bytes, ...] | None) -> AssignmentArrived:
        send = Send(PEER, Protocol.ITEM, ItemRequest(ItemId(id)).encode(), TAG, 1000)
        event = await world.statements.assignment_arrived(send, Answered(TAG, PEER, frames))
        assert (event.peer, event.tag) == (PEER, TAG)
        return event

    assert (await arrived(good.id, cut(good.item.raw))).assignment == Verified(good)
    message = TRUTH.slots[3].message
    bent = good.item.raw[:9] + bytes([good.item.raw[9] ^ 1]) + good.item.raw[10:]
    for id, frames, reason in (
        (good.id, (), Reason.UNKNOWN_ITEM),
        (good.id, None, Reason.UNKNOWN_ITEM),
        (good.id, cut(TRUTH.slots[4].assignment.item.raw), Reason.MISMATCH),
        (message.id, cut(message.raw), Reason.MALFORMED),
        (good.id, cut(bent), Reason.BAD_SIGNATURE),
        (good.id, cut(bytes(1 << 20)), Reason.OVERSIZE),
    ):
        event = await arrived(id, frames)
        assert event.assignment is None
        assert event.refusal is not None
        assert event.refusal.reason is reason, event.refusal
