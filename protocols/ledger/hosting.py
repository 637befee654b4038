"""Logs that have lost their host: what a node that keeps, runs or feeds one asks the ledger's
state.

A log without a host takes no more messages. Slots that exist stay; of a log that was forked only
those of one branch, and who has the other stops there. Nobody can take over a log.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.ledger.entries import Unhosted
from protocols.ledger.state import State
from protocols.wire.assignment import Slot

Marks = Callable[[ProcessId], Unhosted | None]
"""Why a log has lost its host; None while it has one."""
Assigned = Callable[[int], ItemId | None]
"""The assignment ids of a log by slot; None beyond its end."""


def all_hosted(process: ProcessId) -> None:
    """`Marks` where there is no ledger."""
    return


def unhosted(state: State, process: ProcessId) -> Unhosted | None:
    """Why the log's scheduler may keep it no longer; None if it may."""
    return state.get(Unhosted, process)


def marks(state: State) -> dict[ProcessId, Unhosted]:
    """All logs that have lost their host."""
    return {ProcessId(key): mark for key, mark in state.all(Unhosted)}


def check_open(process: ProcessId, marks: Marks) -> None:
    """Raise Invalid(UNHOSTED) for a log that takes no more messages."""
    mark = marks(process)
    if mark is not None:
        raise Invalid(
            Reason.UNHOSTED,
            f"process {b64url(process)} takes no more messages: its scheduler "
            f"{b64url(mark.scheduler)} has lost it by fault {mark.fault} (ledger slot {mark.at}). "
            "What it has can be read; to go on, spawn a new process with another scheduler",
        )


def is_selected(entry: Unhosted, assigned: Assigned) -> bool | None:
    """Whether a log, given by its assignment ids (None beyond its end), is the branch that holds.

    None if it does not reach the slot that was given twice, so that it may be either. The chain
    of a log is checked by whoever keeps it, and its assignment of one slot names all before it.
    """
    if entry.slot is None:
        return True
    own = assigned(entry.slot)
    return None if own is None else own == entry.assignment


def check_branch(mark: Unhosted, slot: Slot, assigned: Assigned) -> None:
    """Raise Invalid(FORK) for a slot that is not of the branch that holds, or that would extend a
    log that is not."""
    given = slot.assignment.id if slot.nonce == mark.slot else None
    lost = is_selected(mark, assigned) is False
    if lost or (given is not None and given != mark.assignment):
        raise Invalid(Reason.FORK, _lost(slot.process, mark))


def lost_branch(process: ProcessId, mark: Unhosted | None, assigned: Assigned) -> str:
    """Why a log is not the branch that holds; empty if it is, or may be."""
    if mark is None or is_selected(mark, assigned) is not False:
        return ""
    return _lost(process, mark)


def _lost(process: ProcessId, mark: Unhosted) -> str:
    held = b64url(mark.assignment or bytes(32))
    return (
        f"slot {mark.slot} of {b64url(process)} was given twice, and assignment {held} holds: the "
        "other branch is not followed. A node that has it keeps it, to answer for what it signed, "
        "and goes no further"
    )
