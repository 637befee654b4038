"""Evidence and demands against honest units: everything right, and then something wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from protocols.accumulator import MmrProof, mmr_prove
from protocols.court import first_leaf
from protocols.ids import NetworkId
from protocols.machine.audit import last_slot, segment_start
from protocols.wire.demand import ASSIGNMENT, LEAVES, PREVIOUS, StatementSlot
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
from protocols.wire.ledger_tx import Demand, Reply
from protocols.wire.proof import Statement, StateProof
from tests.protocols.cases.agents import post
from tests.protocols.cases.court import Agent, Trial
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import History
from tests.protocols.cases.setting import Setting, peaks_of, resigned
from tests.protocols.cases.units import Unit
from tests.protocols.machine.world import Key, item
from tests.protocols.toy import toy_frame


def accuser(trial: Trial, key: Key, draws: Draws) -> Agent:
    """Bring all manner of things forward against honest units."""
    honest = [unit for unit in trial.units if unit.honest and unit.statements]
    for _ in range(draws.between(1, 3)):
        unit = draws.pick(honest) if honest else None
        if unit is None:
            return
        statement = draws.pick(unit.statements)
        history = unit.story(statement)
        assert history is not None, "a unit knows what it stands on"
        if draws.chance(4):
            kind, subject = draws.pick((LEAVES, PREVIOUS, ASSIGNMENT)), statement.encode()
            if kind == ASSIGNMENT:
                slot = draws.between(0, last_slot(statement))
                subject = StatementSlot(subject, slot).encode()
            yield key, Demand(trial.next_sequence(), kind, subject)
            yield key, Reply(draws.octets(32), draws.octets(40))
            continue
        evidence = hostile(trial.setting, unit, statement, history, draws)
        blob = encode_evidence(evidence)
        if draws.chance(4):
            flipped = bytearray(blob)
            flipped[draws.below(len(blob))] ^= 1 << draws.below(8)
            blob = bytes(flipped)
        yield from post(trial, key, blob, draws, mishaps=True)


def hostile(
    setting: Setting, unit: Unit, statement: Statement, history: History, draws: Draws
) -> Evidence:
    """Evidence of some kind against an honest statement."""
    raw, last = statement.encode(), last_slot(statement)
    leaves = history.own.hashes[: last + 1]
    kind = draws.below(10)
    if kind == 0:
        other = draws.pick(unit.statements)
        return Contradiction(raw, other.encode(), draws.chance(8))
    if kind == 1:
        index = draws.below(last + 1)
        leaf = draws.pick(history.leaves)
        return BadLeaf(raw, index, leaf.encode(), mmr_prove(leaves, index).encode())
    if kind == 2 and isinstance(statement, StateProof):
        shown = [leaf.encode() for leaf in history.leaves[statement.first : last + 1]]
        shown[draws.below(len(shown))] = draws.pick(history.leaves).encode()
        return WrongSum(raw, peaks_of(history, statement.first), tuple(shown))
    if kind == 3:
        return BadStart(raw)
    if kind == 4:
        return against_scheduler(setting, unit, draws)
    if kind == 5 and isinstance(statement, StateProof):
        # As the unit would have said it in another network, by somebody else's key.
        changes: dict[str, Any] = draws.pick(
            (
                {"network": NetworkId(b"o" * 32)},
                {"fuel": statement.fuel + 1},
                {"profile": b"o" * 32},
            )
        )
        foreign = resigned(statement, Key.of("stranger"), **changes)
        return Contradiction(raw, replace(foreign, cu=statement.cu).encode(), False)
    return fraud(setting, statement, history, draws)


def against_scheduler(setting: Setting, unit: Unit, draws: Draws) -> Evidence:
    """Evidence that a slot was given twice, or wrongly; true only of a log that was forked."""
    process, slots = ItemHead.of(setting.main.process), setting.main.line.slots
    main = [slot.assignment.item.raw for slot in slots]
    forged = item(unit.key, [("Data-Protocol", "ao")], anchor=draws.below(1 << 60))
    one, place = draws.pick(main), draws.below(len(main))
    head, before = ItemHead.of(slots[place].message), main[place - 1]
    every: tuple[Evidence, ...] = (
        TwoAssignments(one, draws.pick((*main, forged.raw)), process),
        TwoAssignments(main[place], main[place], process),
        BadAssignment(process, main[place], before, None),
        BadAssignment(process, main[place], None, head),
        BadAssignment(process, one, None, ItemHead.of(forged)),
        BadAssignment(ItemHead.of(forged), main[0], None, None),
        BadAssignment(process, one, draws.pick(main), None),
    )
    return draws.pick(every)


def fraud(setting: Setting, statement: Statement, history: History, draws: Draws) -> FraudProof:
    """A fraud proof in order but for one thing, or for nothing at all."""
    first, last = first_leaf(statement, setting.parameters), last_slot(statement)
    index = draws.between(first, last)
    start = segment_start(index, setting.parameters)
    end = min(start + setting.parameters.root_every - 1, last)
    leaves, log = history.own.hashes[: last + 1], history.log
    good = FraudProof(
        statement.encode(),
        log.process,
        start,
        history.own.head_before(start),
        b"".join(log.ids[start : last + 1]),
        history.leaves[start - 1].encode() if start else None,
        mmr_prove(leaves, start - 1).encode() if start else None,
        index,
        leaves[index],
        mmr_prove(leaves, index).encode(),
        tuple(log.slot(slot) for slot in range(start, end + 1)),
        _witness(history, start, setting, draws) if start else None,
    )
    return replace(good, **draws.pick(_changes(good, setting, history, draws)))


def _witness(history: History, start: int, setting: Setting, draws: Draws) -> Witness:
    """The state before the segment; another one where nobody has it."""
    try:
        return history.witness(start)
    except LookupError:
        return setting.engine.junk(draws)


def _changes(
    good: FraudProof, setting: Setting, history: History, draws: Draws
) -> list[dict[str, Any]]:
    start, junk = good.first, draws.octets(32)
    slots, at = list(good.slots), draws.below(len(good.slots))
    assignment, message = slots[at]
    tampered = message[:-1] + bytes([message[-1] ^ 1])
    stranger = item(Key.of("stranger"), [("Data-Protocol", "ao")], data=b"forged", anchor=1).raw
    forged = replace(history.leaves[max(start - 1, 0)], root=junk, outcome_hash=junk).encode()
    path = good.before_path or good.path or b""
    peaks = MmrProof.decode(path)
    foreign = replace(peaks, path=tuple(junk for _ in peaks.path)).encode()
    other = setting.fork or setting.main
    ends = slice(start, start + len(slots))
    return [
        {},
        {"witness": setting.engine.junk(draws)},
        {"witness": None},
        {"witness": bomb(draws)},
        {"before": forged, "witness": setting.engine.junk(draws)},
        {"before": None, "before_path": None, "witness": None},
        {"before_path": foreign},
        {"path": foreign},
        {"first": start + 1},
        {"first": 0, "before": None, "before_path": None, "witness": None},
        {"index": good.index + 1},
        {"leaf": junk},
        {"leaf": None, "path": None},
        {"head_before": junk},
        {"ids": good.ids[:-32] + junk},
        {"ids": good.ids + junk},
        {"slots": good.slots[:-1]},
        {"slots": (), "witness": None},
        {"slots": (*good.slots, good.slots[-1])},
        {"slots": good.slots[::-1]},
        {"slots": tuple(other.log.slot(slot.nonce) for slot in other.line.slots[ends])},
        {"slots": (*slots[:at], (assignment, tampered), *slots[at + 1 :])},
        {"slots": (*slots[:at], (assignment, stranger), *slots[at + 1 :])},
        {"slots": (*slots[:at], (stranger, message), *slots[at + 1 :])},
        {"process": stranger},
        {"accused": good.accused[:-1] + bytes([good.accused[-1] ^ 1])},
        {"before_path": good.path, "before": history.leaves[good.index].encode()},
        {"ids": b"".join(other.log.ids[start : start + len(good.ids) // 32])},
    ]


def bomb(draws: Draws) -> Witness:
    """A witness that would give more than it says, or more than anybody can hold."""
    state, huge = draws.octets(32), (1 << 27) - 1
    frame = toy_frame(state, 1 << 16)
    return draws.pick(
        (
            Witness(1 << 15, ((0, 1 << 15),), (), toy_frame(state, 1 << 17)),
            Witness(1, ((0, 1),), (), toy_frame(state, huge & 0xFFFFF)),
            Witness(1, ((0, 1),), (), frame + frame),
            Witness(1, ((0, 1),), (), frame[:4] + b"\x00\xff" + frame[6:]),
            Witness(1, ((0, 1), (0, 1)), (), frame),
            Witness(1 << 16, ((0, 1),), (), frame),
            Witness(1, (), (), b""),
        )
    )
