"""Random cases of lies, honest mishaps and hostile evidence: `tests.protocols.cases`.

The golden file holds what some cases come to, so every Python must come to the same. To write it
again after a change of the ledger's rules:

    python -m tests.protocols.cases --seeds 50 --golden > tests/protocols/cases/golden.txt
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.protocols.cases.__main__ import run_seeds
from tests.protocols.cases.case import run_case
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import Toy
from tests.protocols.cases.units import LEAF_LIES, STATEMENT_LIES

GOLDEN = Path(__file__).parent / "cases" / "golden.txt"


def check(seeds: range, *, wasm: bool = False) -> Counter[str]:
    counts: Counter[str] = Counter()
    for results, violation in run_seeds(seeds, wasm=wasm):
        assert violation is None, violation
        for result in results:
            counts.update(result.counts)
    return counts


def test_a_few_cases() -> None:
    for seed in range(100_000, 100_003):
        run_case(seed, Toy())


@pytest.mark.slow
def test_a_thousand_cases_in_which_every_kind_of_unit_occurs() -> None:
    counts = check(range(50, 1050))
    for kind in (*LEAF_LIES, *STATEMENT_LIES, "anchor"):
        assert counts[f"liar {kind}"] > 0, kind
    for kind in ("plain", "lost", "forked", "anchored", "profile", "carrier"):
        assert counts[f"honest {kind}"] > 0, kind
    for finding in ("guilty", "innocent", "void"):
        assert counts[finding] > 0, finding


@pytest.mark.slow
def test_twenty_cases_on_the_real_engine() -> None:
    counts = check(range(20), wasm=True)
    assert counts["guilty"] > 0
    assert counts["runs"] > 0


@pytest.mark.slow
def test_the_same_roots_and_verdicts_on_every_python() -> None:
    lines = []
    for results, violation in run_seeds(range(50)):
        assert violation is None, violation
        lines += [f"{each.seed} {each.root.hex()} {each.verdicts.hex()}" for each in results]
    assert lines == GOLDEN.read_text("ascii").splitlines()


def test_draws_are_a_function_of_their_path() -> None:
    one, other = Draws("case", 7, "a"), Draws("case", 7).child("a")
    assert [one.below(1000) for _ in range(5)] == [other.below(1000) for _ in range(5)]
    assert Draws("x").shuffled(range(9)) == [4, 7, 5, 0, 8, 3, 2, 1, 6]
    assert Draws("x").octets(4).hex() == "4987d432"
