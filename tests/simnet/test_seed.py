"""Draws are addressed: they depend on their path and on nothing else."""

from __future__ import annotations

import pytest

from simnet.seed import Seed


def test_equal_paths_give_equal_draws() -> None:
    assert Seed.root(1).fork("a", 1).bytes(40, "b") == Seed.root(1).fork("a", 1).bytes(40, "b")
    assert Seed.root(1).stream("a").random() == Seed.root(1).stream("a").random()


def test_every_part_of_a_path_counts() -> None:
    seed = Seed.root(7)
    paths: list[tuple[str | int, ...]] = [
        ("a",), ("b",), ("a", 1), ("a", "1"), ("a1",), ("a", "b"), ("b", "a"), (1,), ("'a', 1",),
    ]  # fmt: skip
    draws = [seed.bytes(8, *path) for path in paths] + [Seed.root(8).bytes(8, "a")]
    assert len(draws) == len({*draws})


def test_known_draws() -> None:
    """A change here changes every run of every seed: replays of old reports are lost."""
    assert Seed.root(0).bytes(8, "x").hex() == "06429b2e477a9fd8"
    assert Seed.root(0).below(1000, "x") == 408
    assert Seed.root(0).unit("x") == 0.043705083320364935


def test_ranges() -> None:
    seed = Seed.root(3)
    assert {seed.below(4, number) for number in range(64)} == {0, 1, 2, 3}
    assert all(0 <= seed.unit(number) < 1 for number in range(64))


def test_only_text_and_numbers_are_paths() -> None:
    with pytest.raises(AssertionError):
        Seed.root(1).fork()
    with pytest.raises(AssertionError):
        Seed.root(1).fork(True)
