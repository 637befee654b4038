"""What a node keeps of what units state: bounded, and nobody pushes out the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from protocols import keyspace
from protocols.errors import Invalid
from protocols.ids import ProcessId
from protocols.keyspace import Prefix
from protocols.ledger.state import State, genesis
from protocols.machine.book import (
    UNDATED,
    VOTES_PER_STAKER_MAX,
    Book,
    Place,
    has_stake,
    heard_of_row,
)
from protocols.machine.effects import Effect, Notify, Persist, Table
from protocols.machine.events import LedgerMoved, ProofSealed, StatementArrived, VoteArrived
from protocols.trust import Verified
from protocols.wire.proof import StateProof
from protocols.wire.vote import Vote
from tests.protocols.ledger.world import STAKERS, Ledger, network
from tests.protocols.machine.world import Disk, Key
from tests.protocols.toy import NETWORK, branches, receipts, resigned, state_proof

ONE, TWO = STAKERS[:2]
STRANGER = Key.of("stranger")
OWN = Key.of("own").public
TRUTH = branches()[0]
MADE = {key.public: receipts(TRUTH.leaves, TRUTH.heads, key) for key in (ONE, TWO, STRANGER)}
PROCESS = TRUTH.slots[0].process


def book_of(tip: int = -1, **bounds: int) -> Book:
    return Book(key=OWN, network=NETWORK, ledger_tip=lambda: tip, **bounds)


def proof(key: Key, first: int, last: int) -> StateProof:
    return state_proof(MADE[key.public], first, last, key)


def arrived(made: StateProof) -> StatementArrived:
    return StatementArrived(made.encode(), Verified(made))


def moved(state: State) -> LedgerMoved:
    return LedgerMoved(state, bytes(32), ())


def hear(book: Book, disk: Disk, *proofs: StateProof) -> list[Effect]:
    effects = [effect for made in proofs for effect in book.on(arrived(made), 0)]
    disk.write(effects)
    return effects


def places(disk: Disk) -> list[Place]:
    return [
        (ProcessId(keyspace.id_of(key)), keyspace.nonce_of(key[:-32]), key[-32:])  # type: ignore[misc]
        for key, _ in disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.HEARD))
    ]


def test_a_proof_is_kept_once_and_passed_on() -> None:
    book, disk = book_of(), Disk()
    book.on(moved(genesis(network())), 0)
    made = proof(ONE, 0, 7)
    effects = hear(book, disk, made)
    assert effects[-1:] == [Notify(arrived(made))]
    (row,) = [each for each in effects if isinstance(each, Persist)]
    assert row.value is not None
    assert heard_of_row(row.value) == (0, made.encode())
    assert book.holds(made, made.encode())
    other = resigned(made, ONE, mmr_root=bytes(32))
    assert hear(book, disk, other) == [Notify(arrived(other))], "the first one stays in the book"
    assert not book.holds(other, other.encode())
    assert book.status() == {"proofs": 1, "units": 1, "voters": 0, "forks": 0}


def test_it_remembers_the_tick_at_which_a_proof_was_first_heard() -> None:
    ledger = Ledger()
    book, disk = book_of(), Disk()
    book.on(moved(ledger.state), 0)
    hear(book, disk, proof(ONE, 0, 7))
    ledger.tick(3)
    book.on(moved(ledger.state), 0)
    hear(book, disk, proof(ONE, 0, 7), proof(ONE, 8, 15))
    assert ticks(disk) == [0, ledger.state.totals().tick]


def ticks(disk: Disk) -> list[int]:
    rows = disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.HEARD))
    return [heard_of_row(row)[0] for _, row in rows]


def test_what_is_heard_while_the_ledger_is_behind_is_dated_when_it_has_caught_up() -> None:
    """Its state may be days old after a start: nobody may count from there."""
    ledger = Ledger()
    before = ledger.state
    ledger.tick(3)
    tip = ledger.state.totals().slot
    book, disk = book_of(tip), Disk()
    hear(book, disk, proof(ONE, 0, 7))
    disk.write(book.on(moved(before), 0))
    hear(book, disk, proof(ONE, 8, 15))
    assert ticks(disk) == [UNDATED, UNDATED]

    book = book_of(tip)
    book.recover(
        [(place, disk.tables[Table.LOG][keyspace.heard_key(*place)]) for place in places(disk)]
    )
    hear(book, disk, proof(ONE, 16, 23))
    disk.write(book.on(moved(ledger.state), 0))
    assert ticks(disk) == [ledger.state.totals().tick] * 3
    assert ledger.state.totals().tick > 0


def test_own_proofs_are_in_the_book() -> None:
    book, disk = book_of(), Disk()
    made = proof(ONE, 0, 7)
    effects = book.on(ProofSealed(made), 0)
    disk.write(effects)
    assert len(effects) == 1
    assert places(disk) == [(PROCESS, 7, ONE.public)]


def test_nothing_of_those_with_no_stake() -> None:
    book, disk = book_of(), Disk()
    made, theirs = proof(ONE, 0, 7), proof(STRANGER, 0, 7)
    assert len(hear(book, disk, made, theirs)) == 4, "the ledger is not known yet"
    disk.write(book.on(moved(genesis(network())), 0))
    assert places(disk) == [(PROCESS, 7, ONE.public)]
    assert hear(book, disk, proof(STRANGER, 0, 9)) == []
    assert has_stake(genesis(network()), ONE.public)
    assert not book.is_staked(STRANGER.public)
    book.on(VoteArrived(Verified(vote(STRANGER, 1))), 0)
    assert book.votes(STRANGER.public) == []


@pytest.mark.parametrize("order", [range(8), reversed(range(8)), [3, 0, 7, 1, 6, 2, 5, 4]])
def test_the_newest_of_a_process_stay(order: Sequence[int]) -> None:
    book, disk = book_of(proofs_per_process_max=3), Disk()
    hear(book, disk, *(proof(ONE, last, last) for last in order))
    assert [last for _, last, _ in places(disk)] == [5, 6, 7]
    assert list(book.places(PROCESS, ONE.public, 0)) == places(disk)[::-1]


def test_who_states_most_loses_its_oldest() -> None:
    book, disk = book_of(proofs_max=4), Disk()
    hear(book, disk, proof(ONE, 0, 0), *(proof(TWO, last, last) for last in range(9)))
    kept = places(disk)
    assert (PROCESS, 0, ONE.public) in kept
    assert sorted(last for _, last, cu in kept if cu == TWO.public) == [6, 7, 8]
    assert book.status()["proofs"] == 4


def test_reading_it() -> None:
    book, disk = book_of(), Disk()
    hear(book, disk, *(proof(key, last, last) for last in (1, 5, 9) for key in (ONE, TWO)))
    foreign = ProcessId(bytes(32))
    hear(book, disk, resigned(proof(ONE, 3, 3), ONE, process=foreign))
    of_one = list(book.places(None, ONE.public, 0))
    assert of_one[:2] == [(PROCESS, 9, ONE.public), (foreign, 3, ONE.public)]
    assert of_one[2:] == [(PROCESS, 5, ONE.public), (PROCESS, 1, ONE.public)]
    assert [last for _, last, _ in book.places(PROCESS, None, 5)] == [9, 9, 5, 5]
    assert list(book.places(PROCESS, STRANGER.public, 0)) == []

    again = book_of()
    again.recover(
        [
            (place, disk.tables[Table.LOG][keyspace.heard_key(*place)])
            for place in places(disk)[::-1]
        ]
    )
    assert set(again.places(None, None, 0)) == set(book.places(None, None, 0))
    assert again.status() == book.status()
    with pytest.raises(Invalid):
        book_of().recover([((PROCESS, 1, ONE.public), b"\x80")])


def vote(key: Key, tick: int, slot: int = 0) -> Vote:
    draft = Vote(NETWORK, tick, slot, bytes(32), bytes(32), key.public)
    return draft.signed(key.sign(draft.signing_bytes()))


def test_newest_votes_are_kept() -> None:
    book = book_of()
    for tick in range(1, VOTES_PER_STAKER_MAX + 3):
        book.on(VoteArrived(Verified(vote(ONE, tick))), 0)
        book.on(VoteArrived(Verified(vote(ONE, tick, slot=9))), 0)
    votes = book.votes(ONE.public)
    assert [each.tick for each in votes] == list(range(VOTES_PER_STAKER_MAX + 2, 2, -1))
    assert {each.slot for each in votes} == {0}, "the first of a tick"
