"""Random ledgers: supply is conserved, refusals change nothing, and a restart leaves no trace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.codec import digest
from protocols.domains import HEAD
from protocols.ids import Address
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Bond, Totals
from protocols.ledger.fold import apply
from protocols.ledger.state import State, genesis
from protocols.wire.ledger_tx import (
    CommitEvidence,
    Faucet,
    Stake,
    Transaction,
    Transfer,
    Unbond,
    Withdraw,
)
from tests.protocols.ledger.world import POOR, RICH, STAKERS, TOKEN, Ledger, transaction
from tests.protocols.machine.world import Key

KEYS = [*STAKERS, RICH, POOR]
AMOUNTS = st.integers(1, 3000).map(lambda tokens: tokens * TOKEN) | st.integers(1, 10)
SEQUENCES = st.integers(0, 30)
TRANSACTIONS = st.one_of(
    st.builds(Transfer, SEQUENCES, st.sampled_from([key.address for key in KEYS]), AMOUNTS),
    st.builds(Stake, SEQUENCES, AMOUNTS),
    st.builds(Unbond, SEQUENCES, AMOUNTS),
    st.builds(Withdraw),
    st.builds(Faucet),
    st.builds(CommitEvidence, SEQUENCES, st.binary(min_size=32, max_size=32), st.integers(1, 99)),
    st.integers(1, 9),  # a checkpoint that many ticks later
)
STEPS = st.lists(st.tuples(st.sampled_from(KEYS), TRANSACTIONS), max_size=25)


def play(ledger: Ledger, steps: list[tuple[Key, Transaction | int]]) -> None:
    for key, step in steps:
        if isinstance(step, int):
            bonded = [each for each in STAKERS if ledger.state.get(Bond, each.address)]
            step = ledger.checkpoint(step, bonded)
        before = dict(ledger.state.trie.items())
        notes = ledger.slot(transaction(key, step, len(ledger.items)))
        after = dict(ledger.state.trie.items())
        if notes[0].kind is NoteKind.REFUSED:
            changed = {key[0] for key in before | after if before.get(key) != after.get(key)}
            assert changed <= {0, 12}


def bonded_of(state: State) -> int:
    return sum(bond.amount for _, bond in state.all(Bond) if not bond.frozen)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(STEPS, st.integers(0, 25))
def test_any_log_gives_one_state_however_it_is_folded(
    steps: list[tuple[Key, Transaction | int]], restart: int
) -> None:
    ledger = Ledger()
    play(ledger, steps)  # checks the supply after every slot
    totals = ledger.state.totals()
    assert totals.bonded == bonded_of(ledger.state)
    assert totals.minted + totals.left + totals.genesis == ledger.network.parameters.supply_cap

    state = genesis(ledger.network)
    head = bytes(32)
    for number, item in enumerate(ledger.items):
        if number == restart:
            state = State.decode(state.encode())
        state, _ = apply(state, head, item, ledger.rules, ledger)
        head = digest(HEAD, head, item.id)
    assert state.root() == ledger.state.root()
    assert state.get(Totals) == totals


def test_genesis_holds_what_the_network_file_says() -> None:
    ledger = Ledger()
    totals = ledger.state.totals()
    assert totals.genesis == 108_000 * TOKEN
    assert totals.bonded == 8000 * TOKEN
    assert ledger.state.get(Bond, Address(bytes(32))) is None
