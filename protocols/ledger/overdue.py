"""The end of a demand: what silence costs."""

from __future__ import annotations

from protocols.faults import SHARES
from protocols.ledger.draft import Draft
from protocols.ledger.entries import Answering, Demanded, Part
from protocols.ledger.penalties import silent, silent_host
from protocols.ledger.subjects import FAULTS, process_of
from protocols.parameters import SHARE_WHOLE


def demand_over(draft: Draft, id: bytes) -> None:
    """Forget a demand at its deadline; punish silence. The demander has its bond back, and no
    more: an outage must not be worth hunting."""
    demand = draft.get(Demanded, id)
    assert demand is not None, "a demand is dropped here only"
    draft.drop(Demanded, id)
    if demand.answered:
        return
    drop_parts(draft, id)
    draft.credit(demand.demander, demand.bond)
    fault = FAULTS[demand.kind]
    if SHARES[fault] == SHARE_WHOLE:
        silent(draft, demand.accused, fault, id)
    else:
        process = process_of(demand.kind, demand.subject)
        silent_host(draft, demand.accused, fault, id, process)


def drop_parts(draft: Draft, id: bytes) -> None:
    """Forget the parts of answers to a demand."""
    for kind in (Part, Answering):
        for key, _ in draft.all(kind, id):
            draft.drop(kind, key)
