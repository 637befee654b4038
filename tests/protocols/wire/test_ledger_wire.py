"""Transactions, votes and evidence: one encoding, strict decoders, grammars that say the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protocols import codec
from protocols.codec import Value, encode
from protocols.errors import Invalid
from protocols.network import default_parameters
from protocols.wire import demand, evidence, ledger_tx
from protocols.wire.demand import (
    ANSWERS,
    ASSIGNMENT,
    LEAVES,
    PREVIOUS,
    PUSH,
    SCHEDULE,
    SLOT,
    read_answer,
)
from protocols.wire.evidence import decode_evidence, encode_evidence, evidence_bytes_max
from protocols.wire.ledger_tx import ACTIONS, transaction_of
from protocols.wire.record import Record
from protocols.wire.vote import VOTE_BYTES_MAX, Vote
from tests.protocols.machine.world import Key, item
from tests.protocols.wire.cddl import Grammar
from tests.protocols.wire.ledger_vectors import DEMANDS, EVIDENCE, TRANSACTIONS, VOTE
from tests.protocols.wire.test_vectors import edits, load

TX_GRAMMAR = Grammar(Path(ledger_tx.__file__).with_suffix(".cddl"))
EVIDENCE_GRAMMAR = Grammar(Path(evidence.__file__).with_suffix(".cddl"))
DEMAND_GRAMMAR = Grammar(Path(demand.__file__).with_suffix(".cddl"))
PARAMETERS = default_parameters()
USER = Key.of("user")


def test_every_action_has_a_vector() -> None:
    assert [tx.ACTION for tx in TRANSACTIONS] == list(ACTIONS)
    assert set(load("ledger_tx")) == {*ACTIONS, "vote"}


@pytest.mark.parametrize("tx", TRANSACTIONS, ids=lambda tx: str(tx.ACTION))
def test_transactions_read_and_write_back(tx: ledger_tx.Transaction) -> None:
    blob = bytes.fromhex(load("ledger_tx")[tx.ACTION])
    assert blob == tx.encode()
    message = item(USER, [("Action", tx.ACTION)], data=blob)
    assert transaction_of(message) == tx


def test_votes_read_and_write_back() -> None:
    blob = bytes.fromhex(load("ledger_tx")["vote"])
    assert Vote.decode(blob, size_max=VOTE_BYTES_MAX) == VOTE
    assert VOTE.encode() == blob


@pytest.mark.parametrize("number", range(len(EVIDENCE)))
def test_evidence_reads_and_writes_back(number: int) -> None:
    blob = bytes.fromhex(load("evidence")[number])
    assert decode_evidence(blob, PARAMETERS) == EVIDENCE[number]
    assert encode_evidence(EVIDENCE[number]) == blob


@pytest.mark.parametrize("record", DEMANDS, ids=lambda record: type(record).__name__)
def test_subjects_and_answers_read_and_write_back(record: Record) -> None:
    blob = bytes.fromhex(load("demand")[type(record).__name__])
    assert blob == record.encode()
    assert type(record).decode(blob, size_max=9999) == record


def test_every_kind_of_demand_has_its_answer() -> None:
    kinds = (LEAVES, PREVIOUS, ASSIGNMENT, PUSH, SLOT, SCHEDULE)
    answers = {type(record): record for record in DEMANDS}
    for kind in kinds:
        answer = answers[ANSWERS[kind]]
        assert read_answer(kind, answer.encode(), PARAMETERS) == answer
        other = answers[ANSWERS[kind - 1]]
        with pytest.raises(Invalid):
            read_answer(kind, other.encode(), PARAMETERS)


def cases() -> list[tuple[str, Grammar, Callable[[bytes], Any], bytes]]:
    made: list[tuple[str, Grammar, Callable[[bytes], Any], bytes]] = [
        (
            tx.ACTION,
            TX_GRAMMAR,
            partial(type(tx).decode, size_max=1 << 21),
            tx.encode(),
        )
        for tx in TRANSACTIONS
    ]
    made.append(("vote", TX_GRAMMAR, lambda blob: Vote.decode(blob, size_max=9999), VOTE.encode()))
    made += [
        (
            type(record).__name__,
            DEMAND_GRAMMAR,
            partial(type(record).decode, size_max=1 << 21),
            record.encode(),
        )
        for record in DEMANDS
    ]
    made += [
        (
            "evidence",
            EVIDENCE_GRAMMAR,
            lambda blob: decode_evidence(blob, PARAMETERS),
            encode_evidence(each),
        )
        for each in EVIDENCE
    ]
    return made


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case[0]))
def test_decoders_and_grammars_agree_on_what_is_wrong(
    case: tuple[str, Grammar, Callable[[bytes], Any], bytes],
) -> None:
    rule, grammar, decoder, blob = case
    value: Value = codec.decode(blob, size_max=1 << 20)
    assert grammar.matches(rule, value)
    for edit in edits(value):
        try:
            decoder(encode(edit))
            accepted = True
        except Invalid:
            accepted = False
        assert accepted == grammar.matches(rule, edit), edit


def test_evidence_has_a_bound_that_follows_from_the_network() -> None:
    assert evidence_bytes_max(PARAMETERS) < 64 << 20
    with pytest.raises(Invalid, match="bytes"):
        decode_evidence(bytes(evidence_bytes_max(PARAMETERS) + 1), PARAMETERS)
