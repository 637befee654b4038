"""What the ledger made of a message, in the shape of a compute unit's result.

The ledger has no receipts: every node folds it, so any node's word can be checked against any
other's, and what is final against the votes in `/ledger/checkpoint`.
"""

from __future__ import annotations

from typing import Any

from aonode.api import LedgerApi
from protocols.errors import Invalid, Reason
from protocols.ledger.draft import NoteKind


async def ledger_result(ledger: LedgerApi, nonce: int, wait_s: float) -> dict[str, Any]:
    """Result JSON of a ledger slot, once it is folded. Raises Invalid(TIMEOUT, UNKNOWN_ITEM)."""
    await ledger.follow(nonce, wait_s)
    rows = ledger.recent(nonce, 1)
    if not rows or rows[0].nonce != nonce:
        raise Invalid(
            Reason.UNKNOWN_ITEM,
            f"ledger slot {nonce} was folded too long ago for this node to say what it did; read "
            "its message from the log and the accounts from /ledger",
        )
    lines = [f"{note.kind}: {note.detail}" for note in rows[0].notes]
    refused = [note.detail for note in rows[0].notes if note.kind is NoteKind.REFUSED]
    result: dict[str, Any] = {
        "Messages": [],
        "Spawns": [],
        "Assignments": [],
        "Output": "\n".join(lines),
        "GasUsed": 0,
    }
    return result | ({"Error": refused[0]} if refused else {})
