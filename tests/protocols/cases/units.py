"""Compute units: honest ones in every predicament, and liars of every kind.

A unit's draws come from `unit/<name>`. What it gives out is fixed before the ledger begins, so a
case has the same statements in whatever order they arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocols.accumulator import mmr_prove
from protocols.court import first_leaf, roots_of
from protocols.ledger.anchors import anchor_id
from protocols.machine.audit import last_slot
from protocols.machine.sealing import OpenProof, Sealer
from protocols.wire.demand import (
    ASSIGNMENT,
    KEPT_BYTES_MAX,
    LEAVES,
    Answer,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    StatementSlot,
)
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import OfferAnchor
from protocols.wire.proof import Statement, StateProof, block_end_before, is_border
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import History
from tests.protocols.cases.setting import OTHER_PROFILE, Setting, peaks_of
from tests.protocols.machine.world import Key


@dataclass
class Unit:
    """A compute unit: what it has signed, and what it gives when asked."""

    key: Key
    """Of its stake."""
    kind: str
    honest: bool
    statements: list[Statement] = field(default_factory=list)
    stories: dict[bytes, History] = field(default_factory=dict)
    """By statement id, the leaves behind it."""
    serves: str = "leaves"
    """To peers: its leaves, "garbage" or "nothing"."""
    replies: bool = True
    """Whether it answers demands."""
    anchor: bytes | None = None
    """Id of the anchor it started from."""
    hidden: list[StateProof] = field(default_factory=list)
    """Proofs that it shows only if they are demanded."""
    votes_twice: bool = False

    @property
    def lied(self) -> bool:
        """Whether it has signed anything wrong."""
        return not self.honest and (self.votes_twice or bool(self.statements))

    def says(self, statement: Statement, history: History) -> None:
        """Give out a statement that stands on these leaves."""
        self.statements.append(statement)
        self.stories[statement_id(statement.encode())] = history

    def hides(self, proof: StateProof, history: History) -> None:
        """Keep a proof for a demand."""
        self.hidden.append(proof)
        self.stories[statement_id(proof.encode())] = history

    def story(self, statement: Statement) -> History | None:
        """The leaves behind a statement of its own."""
        return self.stories.get(statement_id(statement.encode()))

    def answer(self, setting: Setting, kind: int, subject: bytes) -> Answer | None:
        """What it replies to a demand, if it has anything to say."""
        raw, slot = subject, -1
        if kind == ASSIGNMENT:
            asked = StatementSlot.decode(subject, size_max=KEPT_BYTES_MAX)
            raw, slot = asked.statement, asked.slot
        statement = statement_of(raw)
        history = self.story(statement)
        if history is None:
            return None
        first, last = first_leaf(statement, setting.parameters), last_slot(statement)
        if kind == LEAVES:
            leaves = b"".join(history.own.hashes[first : last + 1])
            return LeavesAnswer(peaks_of(history, first), leaves)
        if kind == ASSIGNMENT:
            return AssignmentAnswer(
                ItemHead.of(history.process),
                history.own.head_before(first),
                b"".join(history.log.ids[first : last + 1]),
                history.log.slot(slot)[0],
            )
        root = roots_of(statement, setting.parameters).get(first)
        for proof in (*self.statements, *self.hidden):
            if not isinstance(proof, StateProof) or proof.cu != statement.cu:
                continue
            ends = {proof.last: proof.mmr_root}
            if not isinstance(statement, StateProof):
                ends |= dict(proof.block_roots)
            if ends.get(first - 1) == root:
                return PreviousAnswer(proof.encode())
        return None if self.anchor is None else PreviousAnswer(self.anchor)


@dataclass(frozen=True)
class Offered:
    """An anchor that is offered before everything else."""

    id: bytes
    tx: OfferAnchor
    history: History
    slot: int
    true: bool


# Honest units


def honest_unit(key: Key, setting: Setting, draws: Draws, anchors: list[Offered]) -> Unit:
    """An honest unit in one of the predicaments that must not cost it anything."""
    unit = Unit(key, draws.pick(("plain", "plain", "lost", "forked", "anchored", "profile")), True)
    start, history, lowest = OpenProof.at_genesis(setting.main.leaves[0].process), setting.main, 0
    if unit.kind == "anchored" and anchors:
        anchor = draws.pick(anchors)
        history, lowest = anchor.history, anchor.slot + 1
        head, root = history.heads[anchor.slot], history.own.roots[lowest]
        start = OpenProof.at_anchor(start.process, anchor.slot, head, root, anchor.id)
        unit.anchor = anchor.id
    if unit.kind == "forked" and setting.fork is not None:
        # It followed the losing branch, and begins again with the other.
        _seal(unit, setting, setting.fork, start, draws.child("fork"))
    _seal(unit, setting, history, start, draws.child("first"))
    if unit.kind == "lost":
        # Its sign-once table is gone: the same once more, with other interim borders.
        _seal(unit, setting, history, start, draws.child("again"))
    sealed = [last_slot(each) for each in unit.statements if unit.story(each) is history]
    for _ in range(draws.between(0, 3) if lowest < len(history.leaves) else 0):
        slot = draws.between(lowest, len(history.leaves) - 1)
        end = block_end_before(slot, setting.parameters.proof_every)
        if end is None or end <= max(sealed, default=lowest - 1):
            unit.says(setting.receipt(history, slot, key), history)
    if unit.kind == "profile" and draws.chance(2):
        wrong = setting.main.with_leaves(
            [replace(leaf, fuel=leaf.fuel + 1) for leaf in setting.main.leaves]
        )
        slot = draws.below(len(wrong.leaves))
        unit.says(setting.receipt(wrong, slot, key, profile=OTHER_PROFILE), wrong)
    return unit


def _seal(unit: Unit, setting: Setting, history: History, open: OpenProof, draws: Draws) -> None:
    """The chain of proofs up to some slot, with interim ones, as `Sealer` makes it."""
    key, parameters = unit.key, setting.parameters
    network = setting.network
    sealer = Sealer(network.id, network.profile, key.public, key.sign)
    last = draws.between(open.first, len(history.leaves)) - 1
    catching_up = draws.chance(4)
    rarely = draws.between(2, 40)
    for slot in range(open.first, last + 1):
        open = open.add(setting.draft_receipt(history, slot, key), parameters)
        if open.is_due(parameters, catching_up=catching_up) or draws.chance(rarely):
            proof = sealer.seal(open, draws.below(9))
            unit.says(proof, history)
            open = OpenProof.after(proof)
    if not open.is_empty():
        unit.says(sealer.seal(open, 0), history)


# Liars

LEAF_LIES = (
    "state", "undone", "fuel", "status", "refused", "assignment", "slot", "process", "root",
    "garbage", "copied",
)  # fmt: skip
"""Leaves that are wrong, and everything else fitting them."""
STATEMENT_LIES = (
    "state_root", "sum", "before", "block_root", "receipt", "receipt_block", "receipt_mmr",
    "later", "start", "withheld", "two_faces", "votes", "invented", "head_before",
)  # fmt: skip
"""Statements that do not fit their leaves, or not each other."""


def lying_leaves(kind: str, setting: Setting, at: int, draws: Draws) -> History:
    """Leaves that are right before slot `at` and wrong there."""
    truth = setting.main
    if kind == "state":  # goes on from a wrong state
        return setting.engine.wrong(truth, at, setting.parameters.root_every, draws)
    leaves = list(truth.leaves)
    old, junk = leaves[at], draws.octets(32)
    changes: dict[str, object] = {"outcome_hash": junk}  # undone: right again after it
    match kind:
        case "fuel":
            changes = {"fuel": old.fuel + draws.between(1, 9)}
        case "status":
            changes = {"status": (old.status + draws.between(1, 5)) % 6}
        case "refused":
            changes = {"status": draws.between(6, 255)}
        case "assignment":
            changes = {"assignment_id": junk}
        case "slot":
            changes = {"slot": old.slot + 1}
        case "process":
            changes = {"process": junk}
        case "root":
            changes = {"root": None if old.root else junk}
        case "copied":
            changes = {"outcome_hash": leaves[at - 1].outcome_hash if at else junk}
    leaves[at] = replace(old, **changes)  # type: ignore[arg-type]
    if kind == "garbage":
        leaves[at:] = [replace(leaf, outcome_hash=draws.octets(32)) for leaf in leaves[at:]]
    if leaves[at] == old:  # a copied outcome may be the right one
        leaves[at] = replace(old, fuel=old.fuel + 1)
    return truth.with_leaves(leaves)


def lying_unit(key: Key, setting: Setting, draws: Draws) -> Unit:
    """A unit whose statements are wrong in one way."""
    kind = draws.pick((*LEAF_LIES, *STATEMENT_LIES))
    serves = draws.pick(("leaves", "leaves", "garbage", "nothing"))
    unit = Unit(key, kind, False, serves=serves, replies=draws.chance(2))
    if kind == "withheld":
        unit.serves, unit.replies = "nothing", False
    at = draws.below(len(setting.main.leaves))
    if kind in LEAF_LIES:
        history = lying_leaves(kind, setting, at, draws)
        _state_leaf(unit, setting, history, at, draws)
    else:
        _state_lie(unit, setting, at, draws)
    if draws.chance(2):  # and an honest word among the lies
        honest = setting.receipt(setting.main, draws.below(len(setting.main.leaves)), key)
        unit.says(honest, setting.main)
    unit.statements = draws.shuffled(unit.statements)
    return unit


def _state_leaf(unit: Unit, setting: Setting, history: History, at: int, draws: Draws) -> None:
    """Give out a statement that answers for leaf `at`."""
    every, end = setting.parameters.proof_every, len(history.leaves) - 1
    if draws.chance(2):
        last = min(at + draws.below(2 * every), end)
        unit.says(
            setting.proof(history, min(at, setting.first_of(last, draws)), last, unit.key), history
        )
        return
    last = min(at // every * every + every - 1, end)
    unit.says(setting.receipt(history, draws.between(at, last), unit.key), history)


def _state_lie(unit: Unit, setting: Setting, at: int, draws: Draws) -> None:
    key, truth, parameters = unit.key, setting.main, setting.parameters
    junk = draws.octets(32)
    first = setting.first_of(at, draws)
    match unit.kind:
        case "state_root" if is_border(at, parameters.root_every):
            statement: Statement = setting.proof(truth, first, at, key, state_root=junk)
        case "before":
            statement = setting.proof(truth, first, at, key, mmr_before=junk)
        case "block_root":
            good = setting.proof(truth, first, at, key)
            wrong = list(good.block_roots)
            if wrong:
                place = draws.below(len(wrong))
                wrong[place] = (wrong[place][0], junk)
            changes = {"block_roots": tuple(wrong)} if wrong else {"mmr_root": junk}
            statement = setting.proof(truth, first, at, key, **changes)
        case "receipt":
            leaf = replace(truth.leaves[at], outcome_hash=junk)
            statement = setting.receipt(truth, at, key, leaf=leaf)
        case "receipt_block" if at >= parameters.proof_every:
            statement = setting.receipt(truth, at, key, block_root=junk)
        case "receipt_mmr" | "withheld":
            statement = setting.receipt(truth, at, key, mmr_root=junk)
        case "later":
            _state_later(unit, setting, draws)
            return
        case "invented":
            statement = setting.proof(truth, first, at, key, head=junk)
        case "head_before":
            statement = setting.proof(truth, first, at, key, head_before=junk)
        case "start":
            statement = setting.proof(truth, first, at, key, start=junk)
        case "two_faces":
            unit.says(setting.proof(truth, first, at, key), truth)
            lie = lying_leaves("undone", setting, at, draws)
            statement = setting.receipt(lie, at, key)
            unit.says(statement, lie)
            return
        case "votes":
            unit.votes_twice = True
            return
        case _:
            good = setting.proof(truth, first, at, key)
            statement = setting.proof(truth, first, at, key, fuel=good.fuel + 1 + draws.below(9))
    unit.says(statement, truth)


def _state_later(unit: Unit, setting: Setting, draws: Draws) -> None:
    """A statement that continues a range with a lie in it, which only a demand brings out."""
    length = len(setting.main.leaves)
    if length == 1:
        history = lying_leaves("undone", setting, 0, draws)
        unit.says(setting.proof(history, 0, 0, unit.key), history)
        return
    first = draws.between(1, length - 1)
    lowest = setting.first_of(first - 1, draws)
    history = lying_leaves("undone", setting, draws.between(lowest, first - 1), draws)
    last = min(length - 1, first + draws.below(setting.parameters.proof_every))
    unit.says(setting.proof(history, first, last, unit.key), history)
    unit.hides(setting.proof(history, lowest, first - 1, unit.key), history)


# Anchors


def offered_anchor(
    setting: Setting, carriers: tuple[Unit, Unit], true: bool, draws: Draws
) -> Offered | None:
    """An anchor at some block end, carried by two units who say so too."""
    every = setting.parameters.proof_every
    blocks = len(setting.main.leaves) // every
    if not blocks:
        return None
    slot = draws.between(1, blocks) * every - 1
    history, first = setting.main, setting.first_of(slot, draws)
    if not true:
        at = draws.between(first, slot)
        history = setting.engine.wrong(setting.main, at, setting.parameters.root_every, draws)
    proofs = [setting.proof(history, first, slot, unit.key) for unit in carriers]
    for unit, proof in zip(carriers, proofs, strict=True):
        unit.says(proof, history)
        begin = first
        while begin:
            earlier = setting.proof(
                history, setting.first_of(begin - 1, draws), begin - 1, unit.key
            )
            unit.hides(earlier, history)
            begin = earlier.first
    leaf = history.leaves[slot]
    tx = OfferAnchor(
        history.heads[slot],
        leaf.encode(),
        mmr_prove(history.own.hashes[: slot + 1], slot).path,
        peaks_of(history, slot + 1),
        tuple(proof.encode() for proof in proofs),
    )
    return Offered(anchor_id(tx, leaf), tx, history, slot, true)
