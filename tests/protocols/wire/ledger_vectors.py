"""Golden transactions and evidence: each field set, none of them meant to convict anybody."""

from __future__ import annotations

from typing import Any

from protocols.ids import Address, ItemId, NetworkId, NodeKey, ProcessId
from protocols.wire.demand import (
    LEAVES,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    PushAnswer,
    PushKept,
    ScheduleAnswer,
    ScheduleKept,
    ScheduleSubject,
    SlotAnswer,
    SlotKept,
    SlotSubject,
    StatementSlot,
)
from protocols.wire.evidence import (
    BadAssignment,
    BadLeaf,
    BadStart,
    Contradiction,
    Evidence,
    FraudProof,
    TwoAssignments,
    Witness,
    WrongSum,
    encode_evidence,
)
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import (
    Checkpoint,
    CommitEvidence,
    Delegate,
    Demand,
    EvidencePart,
    Faucet,
    OfferAnchor,
    Register,
    Reply,
    RevealEvidence,
    Stake,
    Transaction,
    Transfer,
    Unbond,
    Withdraw,
)
from protocols.wire.record import Record
from protocols.wire.vote import Vote

SIGNATURE = bytes(range(64))


def hash_of(number: int) -> bytes:
    return bytes([number]) * 32


HEAD = ItemHead(b"head", 9, bytes(range(48)))
TRANSACTIONS: tuple[Transaction, ...] = (
    Transfer(1_700_000_000_000, Address(hash_of(1)), 1),
    Stake(2, (1 << 63) - 1),
    Unbond(3, 5),
    Withdraw(),
    Faucet(),
    Delegate(NodeKey(hash_of(2)), SIGNATURE),
    Register(b"unit"),
    OfferAnchor(hash_of(3), b"leaf", (hash_of(4),), (hash_of(5), hash_of(6)), (b"one", b"two")),
    Checkpoint(7, 8, hash_of(7), hash_of(8), ((NodeKey(hash_of(9)), SIGNATURE),)),
    CommitEvidence(4, hash_of(10), 99),
    EvidencePart(ItemId(hash_of(11)), b"part"),
    RevealEvidence(ItemId(hash_of(11)), hash_of(12), (ItemId(hash_of(13)),)),
    Demand(5, LEAVES, b"statement"),
    Reply(hash_of(14), b"answer", (ItemId(hash_of(15)), ItemId(hash_of(16)))),
)
VOTE = Vote(NetworkId(hash_of(18)), 7, 8, hash_of(7), hash_of(8), NodeKey(hash_of(9)), SIGNATURE)
EVIDENCE: tuple[Evidence, ...] = (
    FraudProof(
        accused=b"statement",
        process=b"process",
        first=8,
        head_before=hash_of(1),
        ids=hash_of(2) + hash_of(3),
        before=b"leaf",
        before_path=b"path",
        index=9,
        leaf=hash_of(4),
        path=b"path",
        slots=((b"assignment", b"item"), (b"assignment", b"item")),
        witness=Witness(3, ((0, 1), (2, 1)), ((0, 0x7F, b"\1\2\3\4"),), b"frame"),
    ),
    Contradiction(b"one", b"other", True),
    TwoAssignments(b"one", b"other", HEAD),
    BadLeaf(b"statement", 9, b"leaf", None),
    WrongSum(b"statement", (hash_of(5),), (b"leaf", b"leaf")),
    BadStart(b"statement"),
    BadAssignment(HEAD, b"assignment", b"before", HEAD),
)
DEMANDS: tuple[Record, ...] = (
    StatementSlot(b"statement", 9),
    SlotSubject(HEAD, b"assignment", 9),
    ScheduleSubject(HEAD, b"assignment", b"item"),
    PushKept(
        NodeKey(hash_of(1)), ProcessId(hash_of(2)), 3, 4, ItemId(hash_of(5)), bytes(range(48))
    ),
    SlotKept(ProcessId(hash_of(1)), Address(hash_of(2)), 3),
    ScheduleKept(
        ProcessId(hash_of(1)),
        Address(hash_of(2)),
        ItemId(hash_of(3)),
        (ProcessId(hash_of(4)), 5, 6, Address(hash_of(7))),
    ),
    LeavesAnswer((hash_of(1),), hash_of(2) + hash_of(3)),
    PreviousAnswer(b"proof"),
    AssignmentAnswer(HEAD, hash_of(1), hash_of(2) + hash_of(3), b"assignment"),
    PushAnswer(HEAD, b"receipt", hash_of(1), b"raw", SIGNATURE),
    SlotAnswer(b"assignment", b"item"),
    ScheduleAnswer(b"assignment", HEAD, HEAD),
)
"""Subjects, what the ledger keeps of them, and answers."""


def ledger_tx_vectors() -> Any:
    records: list[tuple[str, Record]] = [(tx.ACTION, tx) for tx in TRANSACTIONS]
    return {name: record.encode().hex() for name, record in [*records, ("vote", VOTE)]}


def evidence_vectors() -> Any:
    return [encode_evidence(evidence).hex() for evidence in EVIDENCE]


def demand_vectors() -> Any:
    return {type(record).__name__: record.encode().hex() for record in DEMANDS}
