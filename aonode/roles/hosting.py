"""Which logs have lost their host, for the machines that keep, run and feed logs."""

from __future__ import annotations

from protocols.ids import ProcessId
from protocols.ledger.entries import Unhosted
from protocols.ledger.hosting import marks
from protocols.ledger.state import State


class Hosting:
    """The marks of the ledger as this node has folded it; none before that, and none on a network
    without a ledger."""

    def __init__(self, ledger: ProcessId | None) -> None:
        self._ledger = ledger
        self._marks: dict[ProcessId, Unhosted] = {}

    def moved(self, state: State) -> None:
        """The ledger was folded further. It goes on itself, whatever its scheduler has done: nobody
        else could say so."""
        self._marks = marks(state)
        if self._ledger is not None:
            self._marks.pop(self._ledger, None)

    def mark(self, process: ProcessId) -> Unhosted | None:
        """Why a log has lost its host; None while it has one."""
        return self._marks.get(process)
