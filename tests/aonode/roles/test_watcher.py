"""What a watcher reads from a node's rows is what its compute unit has in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from aonode.roles.watcher import StoredLeaves, receipt_reader
from aonode.store.memory import MemoryStore
from protocols import keyspace
from protocols.machine.audit import Suspicion, check
from protocols.machine.results import StoredResult
from protocols.wire.outcome import Status
from protocols.wire.proof import Leaf, Statement
from tests.protocols.machine.watch_world import PARAMETERS, PROCESS, TRUTH
from tests.protocols.machine.world import Key
from tests.protocols.toy import receipts, state_proof

UNIT = Key.of("unit")
OWN = TRUTH.own()
COUNT = len(OWN.leaves)


def stored(count: int = COUNT) -> StoredLeaves:
    """The rows a compute unit writes."""
    db = MemoryStore()
    rows: list[tuple[bytes, bytes | None]] = []
    for receipt in receipts(TRUTH.leaves, TRUTH.heads, UNIT):
        slot = receipt.slot
        result = StoredResult(Status.OK, receipt.leaf.fuel, b"raw", receipt)
        rows.append((keyspace.result_key(PROCESS, slot), result.encode()))
        rows.append((keyspace.leaf_key(PROCESS, slot), receipt.leaf.hash()))
    db.write(rows, sync=True)
    return StoredLeaves(db, PROCESS, count, receipt_reader(db, 1 << 20))


def test_rows_say_what_memory_says() -> None:
    found = stored()
    pairs: list[tuple[Sequence[Any], list[Any]]] = [
        (found.leaves, OWN.leaves),
        (found.hashes, OWN.hashes),
        (found.heads, OWN.heads),
        (found.roots, OWN.roots),
    ]
    for theirs, mine in pairs:
        assert len(theirs) == len(mine)
        assert list(theirs) == list(mine)
        assert [theirs[at] for at in range(len(mine))] == list(mine)
        for first, stop in ((0, 0), (0, 1), (3, 9), (0, len(mine)), (7, 10**6), (9, 3)):
            assert list(theirs[first:stop]) == list(mine[first:stop])
        with pytest.raises(IndexError):
            theirs[len(mine)]
    assert [found.head_before(slot) for slot in range(COUNT)] == [
        OWN.head_before(slot) for slot in range(COUNT)
    ]


def test_what_is_not_evaluated_is_not_there() -> None:
    found = stored(10)
    assert len(found.leaves) == len(found.hashes) == len(found.heads) == 10
    assert len(found.roots) == 11
    assert list(found.hashes[8:20]) == OWN.hashes[8:10]
    with pytest.raises(IndexError):
        found.leaves[10]


def test_statements_compare_the_same() -> None:
    found = stored()
    made = receipts(TRUTH.leaves, TRUTH.heads, UNIT)
    wrong: list[Leaf] = list(TRUTH.leaves)
    wrong[13] = replace(wrong[13], fuel=1)
    lied = receipts(wrong, TRUTH.heads, UNIT)
    for statements in (made, lied):
        said: list[Statement] = [*statements, state_proof(statements, 8, 23, UNIT)]
        for statement in said:
            theirs = check(statement, found, PARAMETERS)
            assert theirs == check(statement, OWN, PARAMETERS)
    assert check(lied[13], found, PARAMETERS).suspicion is Suspicion.LEAF
