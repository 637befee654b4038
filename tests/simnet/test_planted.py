"""Bugs planted in production code must be found: a simulator that finds nothing proves nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from aonode.roles.runner import Stores
from aonode.roles.sessions import Sessions
from protocols.machine.effects import Table
from protocols.machine.restore import Restore
from simnet.corridor import Options, run
from simnet.fabric import LinkModel

pytestmark = pytest.mark.slow


def _forgetful(keeps: Callable[[int], bool], *tables: Table) -> Callable[..., None]:
    """`Stores.commit` that forgets the syncs of some tables, all but those that it `keeps`."""
    count = 0

    def commit(self: Stores, rows: dict[Table, list[tuple[bytes, bytes | None]]]) -> None:
        nonlocal count
        for table in Table:
            if group := rows.get(table):
                count += table in tables
                sync = table not in tables or keeps(count)
                store = self.sign_once if table is Table.SIGN_ONCE else self.db
                store.write(group, sync=sync)

    return commit


def _found(
    invariant: str, machine: str, seeds: int, at_s: Callable[[int], float], loss: float = 0.0
) -> bool:
    """Whether a crash of `machine` shows a break of `invariant` in one of so many runs."""
    for number in range(seeds):
        options = Options(
            seed=number,
            transfers=12,
            crashes=((machine, at_s(number)),),
            links=LinkModel(loss=loss),
            rest_s_max=60,
        )
        if any(text.startswith(invariant) for text in run(options).violations):
            return True
    return False


def test_a_202_before_the_sync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where gossip is lost, what was acknowledged stays with the messenger for a while."""
    commit = _forgetful(lambda count: False, Table.ITEMS, Table.LOG)
    monkeypatch.setattr(Stores, "commit", commit)
    assert _found("I2", "mu", 6, lambda number: 7.0 + number / 4, loss=0.8)


def test_an_assignment_told_before_the_sync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that asks its peers after a crash survives even that; one that does not, not."""
    commit = _forgetful(lambda count: count % 3 == 1, Table.SIGN_ONCE)
    monkeypatch.setattr(Stores, "commit", commit)
    assert not _found("I3", "su", 3, lambda number: 6.0 + number / 4)
    monkeypatch.setattr(Restore, "holds", lambda self, process: False)
    assert _found("I3", "su", 6, lambda number: 1.0 + number / 4)


def test_a_compute_unit_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Sessions._evaluate
    first: list[Sessions] = []

    def differing(self: Sessions, session: Any, program: Any, slots: Any) -> Any:
        first.append(self)
        done, refused = evaluate(self, session, program, slots)
        if self is first[0]:
            done = [dataclasses.replace(slot, fuel=slot.fuel + 1) for slot in done]
        return done, refused

    monkeypatch.setattr(Sessions, "_evaluate", differing)
    report = run(Options(seed=1, transfers=2))
    assert any(text.startswith("I1") for text in report.violations)
    assert not report.roots_equal
