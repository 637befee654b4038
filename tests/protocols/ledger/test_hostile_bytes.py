"""Whatever bytes come as a demand, an answer or evidence: a note, never an exception, and nobody
honest pays."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.codec import decode, encode
from protocols.court import Finding
from protocols.errors import Invalid
from protocols.ledger.entries import Case, Demanded, Fine, Unhosted
from protocols.verdict import verdict
from protocols.wire.demand import (
    ASSIGNMENT,
    LEAVES,
    PUSH,
    SCHEDULE,
    SLOT,
    PushAnswer,
    ScheduleAnswer,
    SlotAnswer,
    StatementSlot,
)
from protocols.wire.evidence import BadAssignment, Evidence, TwoAssignments
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, Reply
from tests.protocols.ledger.bench import (
    CBOR_OUTPUT,
    UNIT,
    WATCHER,
    Bench,
    Hosted,
    outbox_of,
    pushed,
    receipt_of,
)
from tests.protocols.ledger.test_demands import reply, shown_log
from tests.protocols.ledger.world import POOR, transaction
from tests.protocols.toy import COURT, branches, receipts, state_proof, toy_run

OF = Hosted()
TRUTH = branches()[0]
PROOF = state_proof(receipts(TRUTH.leaves, TRUTH.heads, UNIT), 8, 15, UNIT)


@cache
def valid() -> dict[int, tuple[bytes, bytes]]:
    """A subject and its answer, by kind of demand."""
    court = Bench()
    statement = court.sealed(PROOF, UNIT)
    receipt = receipt_of(court, OF, UNIT, CBOR_OUTPUT).encode()
    push = PushAnswer(OF.head, receipt, outbox_of(CBOR_OUTPUT).root(), CBOR_OUTPUT, None)
    message = OF.message(30)
    return {
        LEAVES: (statement, reply(b"", 8, 15).answer),
        ASSIGNMENT: (StatementSlot(statement, 9).encode(), shown_log(8, 15, 9).encode()),
        PUSH: (ItemHead.of(pushed(OF, 0)).encode(), push.encode()),
        SLOT: (
            OF.slot_subject(2),
            SlotAnswer(OF.assignment(2), OF.slots[2].message.raw).encode(),
        ),
        SCHEDULE: (
            OF.schedule_subject(message),
            ScheduleAnswer(OF.assign(5, message).assignment.item.raw, OF.head, OF.head).encode(),
        ),
    }


@st.composite
def bent(draw: st.DrawFn, blob: bytes) -> bytes:
    """The bytes with some of them changed, left out or added; or the value with fields moved."""
    if draw(st.booleans()):
        at = draw(st.integers(0, len(blob)))
        cut = draw(st.integers(0, 40))
        return blob[:at] + draw(st.binary(max_size=40)) + blob[at + cut :]
    try:
        value = decode(blob, size_max=len(blob))
    except Invalid:
        return blob
    assert isinstance(value, list)
    field = draw(st.integers(0, len(value) - 1))
    value[field] = draw(
        st.sampled_from(value) | st.none() | st.integers(-1, 1 << 63) | st.binary(max_size=64)
    )
    return encode(value)


def untouched(court: Bench) -> bool:
    kinds = (Case, Fine, Unhosted)
    return not any(True for kind in kinds for _ in court.state.all(kind))


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from(sorted(valid())), st.data())
def test_bent_demands_and_answers(kind: int, data: st.DataObject) -> None:
    court = Bench()
    subject, answer = valid()[kind]
    court.slot(transaction(WATCHER, Demand(1, kind, data.draw(bent(subject))), 1))
    court.slot(transaction(WATCHER, Demand(2, kind, subject), 2))
    for id, _ in list(court.state.all(Demanded)):
        for number in range(2):
            court.slot(transaction(POOR, Reply(id, data.draw(bent(answer))), number))
    assert untouched(court)


EVIDENCE: tuple[Evidence, ...] = (
    BadAssignment(OF.head, OF.assignment(3), OF.assignment(2), None),
    BadAssignment(OF.head, OF.assignment(3), None, ItemHead.of(OF.slots[3].message)),
    TwoAssignments(OF.assignment(3), OF.assignment(3), OF.head),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from(EVIDENCE), st.data())
def test_bent_evidence_convicts_nobody(evidence: Evidence, data: st.DataObject) -> None:
    fields = data.draw(bent(evidence.encode()))
    kind = bytes([evidence.KIND])
    assert verdict(b"\x82" + kind + fields, toy_run, COURT).finding != Finding.GUILTY
