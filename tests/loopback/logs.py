"""What stopped nodes have on disk about their logs, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from aonode.local_network import LocalNetwork, LocalNode
from aonode.service import open_stores
from protocols import keyspace
from protocols.ids import ItemId, ProcessId
from protocols.keyspace import Prefix
from protocols.machine.rows import slot_of_row
from protocols.wire.assignment import assignment_of
from protocols.wire.item import decode_item


@dataclass(frozen=True)
class Found:
    """What the replicas and the scheduler's sign-once table say of one process."""

    slots: int
    """Of the longest replica."""
    lost: int
    """Acknowledged messages without a slot."""
    scheduled_twice: int
    """Messages with more than one slot."""
    slots_twice: int
    """Nonces for which somebody has another assignment than somebody else."""
    replicas_equal: bool


def compare(network: LocalNetwork, process: ProcessId, acknowledged: Collection[ItemId]) -> Found:
    """Compare all nodes. They must have been stopped: a store has one owner."""
    replicas = [_replica(network, node, process) for node in network.nodes.values()]
    signed = [_signed(node, process) for node in network.of("scheduler")]
    longest = max(replicas, key=len)
    places = Counter(message for _, message in longest)
    given: dict[int, set[bytes]] = {}
    for rows in replicas:
        for nonce, (assignment, _) in enumerate(rows):
            given.setdefault(nonce, set()).add(assignment)
    for table in signed:
        for nonce, assignment in table.items():
            given.setdefault(nonce, set()).add(assignment)
    return Found(
        slots=len(longest),
        lost=sum(message not in places for message in acknowledged),
        scheduled_twice=sum(count > 1 for count in places.values()),
        slots_twice=sum(len(assignments) > 1 for assignments in given.values()),
        replicas_equal=all(rows == longest for rows in replicas)
        and all(len(table) == len(longest) for table in signed),
    )


def _replica(
    network: LocalNetwork, node: LocalNode, process: ProcessId
) -> list[tuple[bytes, bytes]]:
    """(assignment id, message id) of every slot a node's replica holds, from slot 0 on."""
    size_max = network.network.parameters.item_bytes_max
    db, sign_once = open_stores(node.data)
    try:
        rows: list[tuple[bytes, bytes]] = []
        for key, row in db.scan(*keyspace.process_range(Prefix.SLOT, process)):
            slot = slot_of_row(row, item_bytes_max=size_max)
            assert keyspace.nonce_of(key) == len(rows), f"{node.name} has a gap at {len(rows)}"
            rows.append((bytes(slot.assignment.id), bytes(slot.message.id)))
        evidence = list(db.scan(*keyspace.process_range(Prefix.EVIDENCE, process)))
        assert not evidence, f"{node.name} holds {len(evidence)} rows of equivocation"
        return rows
    finally:
        db.close()
        sign_once.close()


def _signed(node: LocalNode, process: ProcessId) -> dict[int, bytes]:
    """Assignment id by nonce, in a scheduler's sign-once table."""
    db, sign_once = open_stores(node.data)
    try:
        return {
            keyspace.nonce_of(key): bytes(assignment_of(decode_item(raw, size_max=len(raw))).id)
            for key, raw in sign_once.scan(*keyspace.process_range(Prefix.ASSIGNMENT, process))
        }
    finally:
        db.close()
        sign_once.close()
