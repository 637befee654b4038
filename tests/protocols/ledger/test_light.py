"""The light client against ledgers: it follows what is final, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aonode.crypto.verify import verify_ed25519
from protocols.errors import Invalid
from protocols.ids import NetworkId, NodeKey
from protocols.ledger.entries import Bond, Case, Entry, Session, Totals
from protocols.ledger.light import TRUSTED_BYTES_MAX, Trusted, advance, at_genesis, check_votes
from protocols.ledger.state import State
from protocols.ledger.trie import EntryProof
from protocols.wire.ledger_tx import Checkpoint, Stake, Transfer, Unbond
from protocols.wire.vote import Vote
from tests.protocols.ledger.test_money import delegation
from tests.protocols.ledger.world import POOR, RICH, STAKERS, TOKEN, Ledger, network
from tests.protocols.machine.world import Key

STAKE = 2000 * TOKEN


def proofs_of(state: State) -> list[EntryProof]:
    """What a node gives: totals, stakes, session keys."""
    proofs = [state.prove(Totals)]
    kinds: tuple[type[Entry], ...] = (Bond, Session)
    for kind in kinds:
        proofs += [state.prove(kind, key) for key, _ in state.all(kind)]
    return proofs


def step(trusted: Trusted, ledger: Ledger, signers: Sequence[Key] = STAKERS) -> Trusted:
    """The ledger's next checkpoint, folded and followed."""
    state, tx = ledger.state, ledger.checkpoint(1, signers)
    ledger.do(POOR, tx)
    return advance(trusted, tx, proofs_of(state), verify_ed25519)


def test_it_starts_from_the_network_file() -> None:
    ledger = Ledger()
    trusted = at_genesis(ledger.network)
    assert trusted.bonded == 4 * STAKE
    assert trusted.stake(STAKERS[0].address) == STAKE
    assert trusted.stake(RICH.address) == 0
    assert Trusted.decode(trusted.encode(), size_max=TRUSTED_BYTES_MAX) == trusted


def test_it_follows_stakes_as_they_change() -> None:
    ledger = Ledger()
    trusted = at_genesis(ledger.network)
    ledger.do(RICH, Stake(1, 6000 * TOKEN))
    ledger.do(STAKERS[0], Unbond(1, STAKE))
    trusted = step(trusted, ledger, STAKERS[1:] + [RICH])
    assert (trusted.tick, trusted.bonded) == (1, 3 * STAKE + 6000 * TOKEN)
    assert trusted.stake(RICH.address) == 6000 * TOKEN
    assert trusted.stake(STAKERS[0].address) == 0, "what is on its way out does not count"
    # From here on the old stakers alone are not enough.
    with pytest.raises(Invalid, match="less than two thirds"):
        advance(trusted, ledger.checkpoint(1, STAKERS), proofs_of(ledger.state), verify_ed25519)
    trusted = step(trusted, ledger, STAKERS[1:] + [RICH])
    assert (trusted.tick, trusted.slot) == (2, ledger.state.totals().slot - 1)


def test_a_frozen_stake_weighs_nothing() -> None:
    ledger = Ledger()
    liar = STAKERS[0].address
    frozen = ledger.state.trie.put(b"\2" + liar, Bond(STAKE, 0, True).encode())
    totals = replace(ledger.state.totals(), bonded=3 * STAKE)
    ledger.state = State(frozen.put(b"\0", totals.encode()))
    tx = ledger.checkpoint(1, STAKERS)
    trusted = advance(at_genesis(ledger.network), tx, proofs_of(ledger.state), verify_ed25519)
    assert (trusted.stake(liar), trusted.bonded) == (0, 3 * STAKE)


def test_after_a_slashing_a_third_of_the_old_and_two_thirds_of_the_new_stake_do() -> None:
    ledger = Ledger()
    trusted = at_genesis(ledger.network)
    frozen = ledger.state.trie
    for key in STAKERS[:2]:
        frozen = frozen.put(b"\2" + key.address, Bond(STAKE, 0, True).encode())
    totals = replace(ledger.state.totals(), bonded=2 * STAKE)
    ledger.state = State(frozen.put(b"\0", totals.encode()))
    half = ledger.checkpoint(1, STAKERS[2:])
    assert advance(trusted, half, proofs_of(ledger.state), verify_ed25519).bonded == 2 * STAKE
    for few in (STAKERS[:2], STAKERS[2:3]):
        with pytest.raises(Invalid, match="less than two thirds"):
            advance(trusted, ledger.checkpoint(1, few), proofs_of(ledger.state), verify_ed25519)


def test_a_session_key_votes_for_its_account_once() -> None:
    ledger = Ledger()
    session = Key.of("session")
    ledger.do(STAKERS[0], delegation(ledger, STAKERS[0], session))
    trusted = step(at_genesis(ledger.network), ledger)
    assert trusted.account_of(session.public) == STAKERS[0].address
    both = [STAKERS[0], session, STAKERS[1]]
    with pytest.raises(Invalid, match="less than two thirds"):
        check_votes(trusted, ledger.checkpoint(1, both), verify_ed25519)
    check_votes(trusted, ledger.checkpoint(1, [session, *STAKERS[1:3]]), verify_ed25519)


def test_what_is_not_later_is_refused() -> None:
    ledger = Ledger()
    early = ledger.checkpoint()
    trusted = step(step(at_genesis(ledger.network), ledger), ledger)
    for stale in (early, replace(ledger.checkpoint(), tick=2), ledger.checkpoint(0)):
        with pytest.raises(Invalid, match="is not after checkpoint 2"):
            check_votes(trusted, stale, verify_ed25519)


def test_false_checkpoints_are_refused() -> None:
    ledger = Ledger()
    trusted = at_genesis(ledger.network)
    good = ledger.checkpoint()
    outsiders = [Key.of(f"outsider {number}") for number in range(9)]
    other = replace(trusted, network=NetworkId(bytes(32)))
    for base, wrong, why in (
        (trusted, replace(good, root=bytes(32)), "not signed"),
        (trusted, replace(good, head=bytes(32)), "not signed"),
        (trusted, replace(good, tick=good.tick + 1), "not signed"),
        (trusted, replace(good, votes=good.votes[::-1]), "ascend"),
        (trusted, replace(good, votes=good.votes + good.votes[-1:]), "ascend"),
        (trusted, ledger.checkpoint(1, outsiders), "votes of 0 of the"),
        (trusted, ledger.checkpoint(1, STAKERS[:2] + outsiders), "less than two thirds"),
        (other, good, "not signed"),
        (at_genesis(network(stakes=())), good, "votes of 0 of the 0"),
    ):
        with pytest.raises(Invalid, match=why):
            check_votes(base, wrong, verify_ed25519)


def test_false_proofs_are_refused() -> None:
    ledger = Ledger()
    trusted, tx, before = at_genesis(ledger.network), ledger.checkpoint(), ledger.state
    ledger.do(RICH, Transfer(1, POOR.address, 1))
    with pytest.raises(Invalid, match="another root"):
        advance(trusted, tx, proofs_of(ledger.state), verify_ed25519)
    with pytest.raises(Invalid, match="no proof of the totals"):
        advance(trusted, tx, proofs_of(before)[1:], verify_ed25519)
    forged = [
        replace(each, value=Bond(10 * STAKE, 0, False).encode()) for each in proofs_of(before)
    ]
    with pytest.raises(Invalid, match=r"another root|totals"):
        advance(trusted, tx, forged, verify_ed25519)
    # Proofs of other things do not disturb.
    extra = [*proofs_of(before), before.prove(Case, RICH.address)]
    assert advance(trusted, tx, extra, verify_ed25519).bonded == 4 * STAKE


def test_stakes_that_are_left_out_only_weigh_less() -> None:
    ledger = Ledger()
    tx, state = ledger.checkpoint(), ledger.state
    few = [state.prove(Totals), *(state.prove(Bond, key.address) for key in STAKERS[:2])]
    ledger.do(POOR, tx)
    trusted = advance(at_genesis(ledger.network), tx, few, verify_ed25519)
    assert (trusted.bonded, len(trusted.stakes)) == (4 * STAKE, 2)
    with pytest.raises(Invalid, match="less than two thirds"):
        check_votes(trusted, ledger.checkpoint(), verify_ed25519)


def test_old_trust_is_known() -> None:
    trusted = at_genesis(network())
    assert not trusted.is_old(12, unbonding=12)
    assert trusted.is_old(13, unbonding=12)


amounts = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=6)


@pytest.mark.slow
@given(amounts=amounts, data=st.data())
def test_two_thirds_of_the_trusted_stake_decide(amounts: list[int], data: st.DataObject) -> None:
    keys = [Key.of(f"unit {number}") for number in range(len(amounts))]
    stakes = tuple(zip((key.address for key in keys), amounts, strict=True))
    trusted = at_genesis(network(stakes=stakes))
    chosen = data.draw(st.sets(st.sampled_from(range(len(keys)))))
    strangers = data.draw(st.integers(0, 2))
    signers = [keys[number] for number in chosen]
    signers += [Key.of(f"stranger {number}") for number in range(strangers)]
    tx = signed_by(trusted, signers)
    enough = 3 * sum(amounts[number] for number in chosen) >= 2 * sum(amounts)
    try:
        check_votes(trusted, tx, verify_ed25519)
        passed = True
    except Invalid:
        passed = False
    assert passed == enough


def signed_by(trusted: Trusted, signers: Sequence[Key]) -> Checkpoint:
    """A checkpoint of any root, with these votes."""
    vote = Vote(trusted.network, 1, 0, b"h" * 32, b"r" * 32, NodeKey(bytes(32)))
    votes = [
        (key.public, key.sign(replace(vote, key=key.public).signing_bytes()))
        for key in sorted(signers, key=lambda key: key.public)
    ]
    return Checkpoint(1, 0, vote.head, vote.root, tuple(votes))


@pytest.mark.slow
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), number=st.integers(0, 4))
def test_a_flipped_bit_of_a_proof_never_gives_another_stake(at: int, bit: int, number: int) -> None:
    ledger = Ledger()
    proofs = proofs_of(ledger.state)
    raw = bytearray(proofs[number].encode())
    raw[at % len(raw)] ^= 1 << bit
    try:
        bent = EntryProof.decode(bytes(raw))
        proofs[number] = bent
        trusted = advance(at_genesis(ledger.network), ledger.checkpoint(), proofs, verify_ed25519)
    except Invalid:
        return
    right = dict(at_genesis(ledger.network).stakes)
    assert trusted.bonded == 4 * STAKE
    assert all(right.get(account) == amount for account, amount in trusted.stakes)
