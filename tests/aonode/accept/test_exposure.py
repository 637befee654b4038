"""What is accepted softly never adds up to more than what its signers lose, whoever they are."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aonode.accept.decision import burnt_share
from aonode.accept.exposure import Entry, Exposures
from protocols.ids import Address, ItemId, ProcessId, b64url
from protocols.parameters import demo_parameters

PARAMETERS = demo_parameters()
UNITS = 5
PROCESS = ProcessId(bytes(32))
WINDOW = 20


@dataclass(frozen=True)
class Wish:
    """A result that some units agree on, worth so much."""

    tick: int
    units: frozenset[int]
    value: int


units = st.frozensets(st.integers(0, UNITS - 1), min_size=1)
wishes = st.lists(st.builds(Wish, st.integers(0, 60), units, st.integers(1, 3000)), max_size=30)
stakes = st.lists(st.integers(1, 2000), min_size=UNITS, max_size=UNITS)


def account(unit: int) -> Address:
    return Address(bytes((unit,)) * 32)


def accepted(wishes: list[Wish], stakes: list[int]) -> list[Entry]:
    """What a client accepts of them, in the order of time."""
    entries: list[Entry] = []
    for number, wish in enumerate(sorted(wishes, key=lambda wish: wish.tick)):
        live = Exposures(tuple(entry for entry in entries if wish.tick < entry.until))
        message = ItemId(number.to_bytes(32, "big"))
        accounts = [account(unit) for unit in sorted(wish.units)]
        free = burnt_share(sum(stakes[unit] for unit in wish.units), PARAMETERS)
        if free - live.behind(accounts, PROCESS, message) >= wish.value:
            names = tuple(b64url(each) for each in accounts)
            until = wish.tick + 1 + WINDOW
            entry = Entry(b64url(PROCESS), b64url(message), wish.value, wish.tick, until, names)
            entries.append(entry)
    return entries


@pytest.mark.slow
@given(wishes=wishes, stakes=stakes, liars=units, tick=st.integers(0, 90))
def test_liars_never_gain_more_than_they_lose(
    wishes: list[Wish], stakes: list[int], liars: frozenset[int], tick: int
) -> None:
    """A result is wrong only if all who signed it lie; then they lose what burns of their stakes,
    once, and the client every value that is live."""
    names = {b64url(account(unit)) for unit in liars}
    gained = sum(
        entry.value
        for entry in accepted(wishes, stakes)
        if entry.tick <= tick < entry.until and names.issuperset(entry.accounts)
    )
    assert gained <= burnt_share(sum(stakes[unit] for unit in liars), PARAMETERS)
