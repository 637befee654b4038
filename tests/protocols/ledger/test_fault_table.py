"""The fault table of docs/PROTOCOL.md, row by row: what each class costs, who is paid,
and what becomes of the log. Another test says the same of the document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from protocols.faults import SHARES, Fault
from protocols.ids import Address
from protocols.ledger.entries import Bond, Case, Fine, Unhosted
from protocols.machine.audit import bad_state_root
from protocols.wire.demand import ASSIGNMENT, LEAVES, PREVIOUS, PUSH, SCHEDULE, SLOT, StatementSlot
from protocols.wire.evidence import BadAssignment, Contradiction, Evidence, TwoAssignments
from protocols.wire.item_head import ItemHead
from tests.protocols.ledger.bench import (
    MESSENGER,
    OTHER,
    STAKE,
    UNIT,
    WATCHER,
    Bench,
    Hosted,
    false_push,
)
from tests.protocols.ledger.world import PARAMETERS, TOKEN
from tests.protocols.machine.world import Key, message_item
from tests.protocols.toy import FORK, SCHEDULER, USER, branches, receipts, state_proof

TRUTH, FORKED = branches()
OF = Hosted()
MADE = receipts(TRUTH.leaves, TRUTH.heads, UNIT)
PROOF = state_proof(MADE, 8, 15, UNIT)


@dataclass(frozen=True)
class Row:
    """One class of fault, committed once and brought to the ledger once."""

    fault: Fault
    name: str
    accused: Key
    bring: Callable[[Bench], object]
    unhosts: bytes | None = None
    """The process that loses its host."""

    def is_demand(self) -> bool:
        return self.fault in (
            Fault.WITHHELD,
            Fault.INVENTED_LOG,
            Fault.FALSE_PUSH,
            Fault.UNPUBLISHED,
            Fault.CENSORED,
        )


def evidence(made: Callable[[Bench], Evidence]) -> Callable[[Bench], object]:
    def bring(court: Bench) -> None:
        assert court.accuse(WATCHER, made(court)).startswith("guilty")

    return bring


def demand(kind: int, subject: Callable[[Bench], bytes]) -> Callable[[Bench], object]:
    def bring(court: Bench) -> None:
        court.demand(kind, subject(court))
        court.tick(PARAMETERS.demand_window)

    return bring


def two_roots(court: Bench) -> Contradiction:
    one = court.sealed(PROOF, UNIT)
    return Contradiction(one, court.sealed(replace(PROOF, mmr_root=bytes(32)), UNIT), False)


def another_root(court: Bench) -> Evidence:
    return bad_state_root(court.sealed(replace(PROOF, state_root=bytes(32)), UNIT), TRUTH.own())


def invented(court: Bench) -> bytes:
    return StatementSlot(court.sealed(replace(PROOF, head=bytes(32)), UNIT), 15).encode()


def refusable(court: Bench) -> Evidence:
    item = message_item(USER, OF.process.id, ("Data+link", "x"))
    return BadAssignment(OF.head, OF.assign(5, item).assignment.item.raw, None, ItemHead.of(item))


def given_twice(court: Bench) -> Evidence:
    one, other = (branch.log().slot(FORK)[0] for branch in (TRUTH, FORKED))
    return TwoAssignments(one, other, ItemHead.of(TRUTH.process))


def statement(court: Bench) -> bytes:
    return court.sealed(PROOF, UNIT)


def late_message(court: Bench) -> bytes:
    return OF.schedule_subject(OF.message(30))


TABLE = (
    Row(Fault.WRONG_LEAF, "leaf", UNIT, evidence(lambda court: court.fraud(UNIT))),
    Row(Fault.CONTRADICTION, "roots", UNIT, evidence(two_roots)),
    Row(Fault.WITHHELD, "leaves", UNIT, demand(LEAVES, statement)),
    Row(Fault.WITHHELD, "previous", UNIT, demand(PREVIOUS, statement)),
    Row(Fault.INVENTED_LOG, "log", UNIT, demand(ASSIGNMENT, invented)),
    Row(Fault.MALFORMED, "state-root", UNIT, evidence(another_root)),
    Row(
        Fault.FALSE_PUSH,
        "push",
        MESSENGER,
        demand(PUSH, lambda court: ItemHead.of(false_push(OF)).encode()),
    ),
    Row(Fault.TWO_ASSIGNMENTS, "fork", SCHEDULER, evidence(given_twice), TRUTH.process.id),
    Row(
        Fault.UNPUBLISHED,
        "slot",
        SCHEDULER,
        demand(SLOT, lambda court: OF.slot_subject(3)),
        OF.process.id,
    ),
    Row(Fault.CENSORED, "message", SCHEDULER, demand(SCHEDULE, late_message), OF.process.id),
    Row(Fault.BAD_ASSIGNMENT, "item", SCHEDULER, evidence(refusable)),
)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.fault}-{row.name}")
def test_each_fault_costs_what_the_table_says(row: Row) -> None:
    court = Bench()
    share = STAKE * SHARES[row.fault] // 10_000
    row.bring(court)
    assert court.state.totals().burnt == 0, "frozen at once, burnt when final"
    whole = SHARES[row.fault] == 10_000
    bond = court.state.get(Bond, row.accused.address)
    assert bond == Bond(STAKE if whole else STAKE - share, 0, whole)
    record = verdict_of(court, row.accused.address)
    assert record.amount == share
    assert record.reason.startswith(f"{row.fault}: ")

    minted = court.state.totals().minted
    balances = [court.balance(key) for key in (WATCHER, OTHER)]
    court.tick(1)
    assert court.state.totals().minted == minted
    voters = 6 if not whole else 5
    each = 0 if row.is_demand() else share * 500 // 10_000 // voters
    bounty = 0 if row.is_demand() else share * 2000 // 10_000
    gains = [court.balance(key) - old for key, old in zip((WATCHER, OTHER), balances, strict=True)]
    assert gains == [bounty + each, each]
    assert court.state.totals().burnt == share - bounty - voters * each
    assert verdict_of(court, row.accused.address).burnt_tick == court.state.totals().tick
    left = court.state.get(Bond, row.accused.address)
    assert left == Bond(0 if whole else STAKE - share, 0, whole)

    marks = [(key, entry.fault) for key, entry in court.state.all(Unhosted)]
    assert marks == ([(row.unhosts, row.fault)] if row.unhosts else [])
    honest = {key for key, _ in court.state.all(Case)} | {
        key[:32] for key, _ in court.state.all(Fine)
    }
    assert honest == {row.accused.address}, "nobody else pays"


def verdict_of(court: Bench, account: Address) -> Case | Fine:
    case = court.state.get(Case, account)
    if case is not None:
        return case
    ((_, record),) = court.state.all(Fine, account)
    return record


def test_every_class_is_in_the_table() -> None:
    assert {row.fault for row in TABLE} == set(Fault)
    assert TOKEN < STAKE


def test_the_document_says_the_same() -> None:
    """docs/PROTOCOL.md: `| F1 wrong leaf | evidence | pays | penalty | test |`."""
    text = (Path(__file__).parents[3] / "docs" / "PROTOCOL.md").read_text("utf-8")
    rows = re.findall(r"^\| (F\d|S\d) [^|]*\|[^|]*\|[^|]*\| ([^|]*) \| `([^`|]*)` \|$", text, re.M)
    said = {fault: (penalty, test) for fault, penalty, test in rows}
    assert set(said) == {fault.value for fault in Fault}
    for fault, share in SHARES.items():
        penalty, test = said[fault.value]
        assert penalty.startswith(f"{share // 100} %"), fault
        unhosts = any(row.unhosts for row in TABLE if row.fault is fault)
        assert ("unhosted" in penalty) == unhosts, fault
        file, name = test.split("::")
        source = (Path(__file__).parents[1] / file).read_text("utf-8")
        assert f"def {name}(" in source, test
