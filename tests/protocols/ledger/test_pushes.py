"""F7: who pushes an item must be able to show the outbox entry that it is, and anybody can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.ledger.demands import demand_bond
from protocols.ledger.entries import Case, Demanded
from protocols.wire.demand import PUSH, PushAnswer
from protocols.wire.item import Item
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, Reply, Unbond, Withdraw
from protocols.wire.outcome import Status
from protocols.wire.proof import StateProof
from protocols.wire.pushed import spawned_reply
from tests.protocols.ledger.bench import (
    CBOR_OUTPUT,
    JSON_OUTPUT,
    MESSENGER,
    OTHER,
    OUT,
    STAKE,
    UNIT,
    WATCHER,
    Bench,
    Hosted,
    false_push,
    outbox_of,
    pushed,
    receipt_of,
    resigned,
    with_tag,
)
from tests.protocols.ledger.world import PARAMETERS, POOR
from tests.protocols.machine.world import Key, item, message_item
from tests.protocols.toy import USER, branches, receipts, state_proof

OF = Hosted()


def demanded(court: Bench, item: Item) -> bytes:
    return court.demand(PUSH, ItemHead.of(item).encode())


def answer(court: Bench, raw: bytes = CBOR_OUTPUT, key: Key = UNIT) -> PushAnswer:
    receipt = receipt_of(court, OF, key, raw).encode()
    return PushAnswer(OF.head, receipt, outbox_of(raw).root(), raw, None)


@pytest.mark.parametrize("raw", [CBOR_OUTPUT, JSON_OUTPUT])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_right_push_is_answered_for_by_anyone(index: int, raw: bytes) -> None:
    court = Bench()
    id = demanded(court, pushed(OF, index))
    court.do(POOR, Reply(id, answer(court, raw).encode()))
    assert court.state.totals().burnt == demand_bond(PUSH, 500, PARAMETERS)
    court.tick(PARAMETERS.demand_window)
    assert court.state.get(Case, MESSENGER.address) is None


def test_the_news_of_a_child_is_the_entry_that_spawned_it() -> None:
    court = Bench()
    child = pushed(OF, 2)
    unsigned = spawned_reply(MESSENGER.public, child)
    news = unsigned.signed(MESSENGER.sign(unsigned.message()))
    id = demanded(court, news)
    good = answer(court)
    court.refuse(POOR, Reply(id, good.encode()), "another item")
    court.refuse(POOR, Reply(id, replace(good, child=bytes(64)).encode()), "not signed")
    court.do(POOR, Reply(id, replace(good, child=child.signature).encode()))
    other = demanded(court, pushed(OF, 0))
    wrong = replace(good, child=child.signature)
    court.refuse(POOR, Reply(other, wrong.encode()), "spawns nothing")


def test_silence_about_a_false_push_costs_the_whole_stake() -> None:
    court = Bench()
    id = demanded(court, false_push(OF))
    court.refuse(POOR, Reply(id, answer(court).encode()), "another item")
    court.tick(PARAMETERS.demand_window)
    case = court.state.get(Case, MESSENGER.address)
    assert case is not None
    assert (case.amount, case.challenger) == (STAKE, None)
    assert case.reason.startswith("F7")
    court.tick(1)
    assert court.state.totals().burnt == STAKE


def test_answers_that_show_nothing() -> None:
    court = Bench()
    id = demanded(court, pushed(OF, 0))
    good = answer(court)
    other_slot = receipt_of(court, OF, UNIT, CBOR_OUTPUT, 2).encode()
    trapped = receipt_of(court, OF, UNIT, CBOR_OUTPUT)
    trapped = replace(trapped, leaf=replace(trapped.leaf, status=Status.TRAP), signature=b"")
    trapped = trapped.signed(UNIT.sign(trapped.signing_bytes()))
    lie = outbox_of(b'{"ok":true,"response":{}}').root()
    truth = branches()[0]
    proof: StateProof = state_proof(receipts(truth.leaves, truth.heads, UNIT), 0, 7, UNIT)
    for wrong, why in (
        (replace(good, receipt=receipt_of(court, OF, POOR, CBOR_OUTPUT).encode()), "nobody"),
        (replace(good, receipt=other_slot), "another slot"),
        (replace(good, receipt=trapped.encode()), "no outbox"),
        (replace(good, receipt=good.receipt[:-1] + bytes([good.receipt[-1] ^ 1])), "not signed"),
        (replace(good, receipt=court.sealed(proof, UNIT)[:640]), ""),
        (replace(good, raw=JSON_OUTPUT), "not the receipt's"),
        (replace(good, outbox_root=lie), "not the receipt's"),
        (replace(good, process=Hosted(number=51).head), "another process"),
        (replace(good, process=ItemHead(OF.head.head, 1, bytes(48))), "not signed"),
    ):
        court.refuse(POOR, Reply(id, wrong.encode()), why)
    court.do(POOR, Reply(id, good.encode()))


def test_what_the_outbox_does_not_hold() -> None:
    court = Bench()
    beyond = with_tag(pushed(OF, 0), "Outbox", "3.9")
    assert len(OUT.entries()) < 9
    id = demanded(court, resigned(pushed(OF, 0), MESSENGER, beyond))
    court.refuse(POOR, Reply(id, answer(court).encode()), "none of index 9")
    assigning = b'{"ok":true,"response":{"Assignments":[{"Processes":["x"],"Message":"y"}]}}'
    id = demanded(court, pushed(OF, 0))
    court.refuse(POOR, Reply(id, answer(court, assigning).encode()), "is an assignment")
    another = JSON_OUTPUT.replace(b'"5"', b'"6"')
    court.refuse(POOR, Reply(id, answer(court, another).encode()), "another item")


def test_a_messenger_that_believed_liars_is_not_guilty() -> None:
    """The receipt's own truth is another matter: its unit may have lost its stake for it."""
    court = Bench()
    lie = JSON_OUTPUT.replace(b'"5"', b'"6"')
    id = demanded(court, false_push(OF))
    word = answer(court, lie, UNIT)
    court.accuse(WATCHER, court.fraud(UNIT))
    court.tick(1)
    assert court.state.get(Case, UNIT.address) is not None
    court.do(MESSENGER, Reply(id, word.encode()))


def test_a_unit_that_left_with_its_stake_is_nobodys_witness() -> None:
    court = Bench()
    court.do(OTHER, Unbond(court.next_sequence(), STAKE))
    court.tick(PARAMETERS.unbonding)
    id = demanded(court, pushed(OF, 0))
    word = Reply(id, answer(court, key=OTHER).encode())
    court.do(OTHER, Withdraw())
    court.refuse(POOR, word, "nobody with a stake")


def test_items_that_are_no_push_cannot_be_demanded() -> None:
    court = Bench()
    right = pushed(OF, 0)
    tags = with_tag(right, "", "")
    for wrong, why in (
        (message_item(MESSENGER, OF.process.id), "does not say"),
        (resigned(right, MESSENGER, [*tags, ("Outbox", "1.1")]), "one Outbox tag"),
        (resigned(right, MESSENGER, [tag for tag in tags if tag[0] != "From-Process"]), "one"),
        (pushed(OF, 0, USER), "at stake"),
        (item(MESSENGER, [("Outbox", "x"), ("From-Process", "y")]), "is not '<slot>.<index>'"),
    ):
        subject = ItemHead.of(wrong).encode()
        court.refuse(WATCHER, Demand(court.next_sequence(), PUSH, subject), why)
    forged = replace(ItemHead.of(right), size=9).encode()
    court.refuse(WATCHER, Demand(court.next_sequence(), PUSH, forged), "not signed")
    court.refuse(WATCHER, Demand(court.next_sequence(), PUSH, right.raw), "")
    assert not list(court.state.all(Demanded))


def test_a_push_without_its_root_is_false() -> None:
    court = Bench()
    tags = [tag for tag in with_tag(pushed(OF, 0), "", "") if tag[0] != "Pushed-For"]
    id = demanded(court, resigned(pushed(OF, 0), MESSENGER, tags))
    court.refuse(POOR, Reply(id, answer(court).encode()), "another item")
