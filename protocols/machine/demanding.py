"""Demands of a watcher on the ledger, and the answers in its log. Part of `investigating`."""

from __future__ import annotations

from protocols.errors import Invalid
from protocols.ledger.demands import demand_bond
from protocols.ledger.entries import Demanded
from protocols.ledger.subjects import demand_id
from protocols.machine.case import Case, Stage
from protocols.machine.effects import Effect
from protocols.machine.watch import Watch
from protocols.wire.demand import ASSIGNMENT, LEAVES, PREVIOUS, StatementSlot
from protocols.wire.ledger_tx import Demand, EvidencePart, Reply, transaction_of

DEMANDS_MAX = 3
"""Demands of one case that the ledger may refuse, or that may end without an answer."""
SCAN_SLOTS = 64
WANTED = {
    LEAVES: "its leaf hashes",
    PREVIOUS: "what it continues",
    ASSIGNMENT: "the assignment it stands on",
}


class Demanding:
    """Demands for what stands behind a statement."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def demand(self, case: Case, kind: int, now: int) -> list[Effect]:
        """Demand it, or say what that waits for."""
        watch = self._watch
        if not watch.at_stake(watch.account_of(case.unit)):
            return watch.hold(case, "nothing is at stake behind it", now)
        if watch.account_of(case.unit) in watch.accused:
            return watch.hold(case, "there is evidence against its unit already", now)
        subject, id = _subject(case, kind)
        known = watch.state.get(Demanded, id)
        if known is not None:
            case.sequence, case.since = None, known.slot
            case.deadline = known.deadline
            return watch.move(case, Stage.DEMANDED, _why(kind, known), now)
        if case.tries >= DEMANDS_MAX:
            return watch.move(case, Stage.DROPPED, "its demands came to nothing", now)
        bond = demand_bond(kind, len(subject), watch.parameters)
        if watch.balance() < bond:
            why = f"a demand costs {bond}, the balance is {watch.balance()}"
            return watch.hold(case, why, now)
        if not watch.is_free():
            return []
        case.sequence, case.since = watch.sequence(now), watch.state.totals().slot
        case.tries += 1
        effects = watch.move(case, Stage.DEMANDED, _why(kind, None), now)
        return effects + self.post(case, kind)

    def post(self, case: Case, kind: int) -> list[Effect]:
        """Post the demand of a case, also after a restart: it is the same item."""
        if case.sequence is None:
            return []
        tx = Demand(case.sequence, kind, _subject(case, kind)[0])
        return self._watch.post(tx, sequenced=True)

    def wait(self, case: Case, kind: int, now: int) -> list[Effect]:
        """The demand is not over: say until when it may be answered."""
        _, id = _subject(case, kind)
        entry = self._watch.state.get(Demanded, id)
        if entry is None:
            return []
        case.deadline = entry.deadline
        return self._watch.hold(case, _why(kind, entry), now)

    def answers(self, case: Case, kind: int) -> list[bytes] | None:
        """Everything that was sent as an answer, now that the demand is over; None before."""
        watch = self._watch
        subject, id = _subject(case, kind)
        entry = watch.state.get(Demanded, id)
        if entry is not None and not entry.answered:
            return None
        if entry is None and case.sequence is not None:
            demand = watch.item(Demand(case.sequence, kind, subject))
            if not watch.has_landed(demand.id):
                return None
        return self._sent(id, case.since)

    def _sent(self, id: bytes, since: int) -> list[bytes]:
        """Answers to a demand in the ledger's log, right or wrong, put together from parts."""
        parts: dict[bytes, bytes] = {}
        found: list[bytes] = []
        last = self._watch.state.totals().slot
        for first in range(since, last + 1, SCAN_SLOTS):
            end = min(last, first + SCAN_SLOTS - 1)
            for slot in self._watch.views.slots(self._watch.ledger, first, end):
                try:
                    tx = transaction_of(slot.message)
                except Invalid:
                    continue
                if isinstance(tx, EvidencePart) and tx.commit == id:
                    parts[slot.message.id] = tx.data
                elif isinstance(tx, Reply) and tx.demand == id:
                    found.append(tx.answer or b"".join(parts.get(p, b"") for p in tx.parts))
        return found


def _why(kind: int, demanded: Demanded | None) -> str:
    by = "" if demanded is None else f", to be answered by tick {demanded.deadline}"
    return f"nobody gave {WANTED[kind]}: demanded on the ledger{by}"


def _subject(case: Case, kind: int) -> tuple[bytes, bytes]:
    """What is demanded, encoded, and the id of the demand."""
    if kind == ASSIGNMENT:
        subject = StatementSlot(case.accused, case.last).encode()
        return subject, demand_id(kind, case.id, case.last)
    return case.accused, demand_id(kind, case.id)
