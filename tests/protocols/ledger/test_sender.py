"""Only what its owner wrote to this ledger is carried out."""

from __future__ import annotations

from dataclasses import replace

from protocols.ids import ProcessId
from protocols.ledger.draft import NoteKind
from protocols.wire.ledger_tx import Transfer
from tests.protocols.ledger.world import LEDGER, POOR, RICH, TOKEN, Ledger, transaction
from tests.protocols.machine.world import item


def test_a_transaction_for_another_ledger_changes_nothing() -> None:
    ledger = Ledger()
    ledger.rules = replace(ledger.rules, ledger=ProcessId(b"another ledger".ljust(32)))
    (note,) = ledger.slot(transaction(RICH, Transfer(1, POOR.address, TOKEN), 1))
    assert note.kind is NoteKind.REFUSED
    assert "not addressed to this ledger" in note.detail
    assert ledger.balance(POOR) == 0


def test_a_process_cannot_spend_what_belongs_to_who_pushes_its_messages() -> None:
    ledger = Ledger()
    tx = Transfer(1, POOR.address, TOKEN)
    tags = [("Type", "Message"), ("Action", tx.ACTION), ("From-Process", "x" * 43)]
    (note,) = ledger.slot(item(RICH, tags, target=LEDGER, data=tx.encode()))
    assert note.kind is NoteKind.REFUSED
    assert "a process has no account" in note.detail
    assert ledger.balance(POOR) == 0
