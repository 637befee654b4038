"""Logs that have lost their host: what a node that follows one asks the ledger's state."""

from __future__ import annotations

from collections.abc import Callable

from protocols.ids import ItemId, ProcessId
from protocols.ledger.entries import Unhosted
from protocols.ledger.state import State


def unhosted(state: State, process: ProcessId) -> Unhosted | None:
    """Why the log's scheduler may keep it no longer; None if it may."""
    return state.get(Unhosted, process)


def is_selected(entry: Unhosted, assigned: Callable[[int], ItemId | None]) -> bool | None:
    """Whether a log, given by its assignment ids (None beyond its end), is the branch that holds.

    None if it does not reach the slot that was given twice, so that it may be either. The chain
    of a log is checked by whoever keeps it, and its assignment of one slot names all before it.
    """
    if entry.slot is None:
        return True
    own = assigned(entry.slot)
    return None if own is None else own == entry.assignment
