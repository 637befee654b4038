"""What must hold of a case, whatever was drawn."""

from __future__ import annotations

from protocols.court import Segment
from protocols.ids import ItemId, b64url
from protocols.ledger.entries import (
    AnchorEntry,
    Answering,
    Bond,
    Case,
    Commit,
    Demanded,
    Due,
    Fact,
    Fine,
    Held,
    Part,
    Pending,
)
from protocols.ledger.fold import apply
from protocols.ledger.state import State, genesis
from protocols.machine.ledger import run_key
from protocols.wire.item import Item
from tests.protocols.cases.agents import Violation
from tests.protocols.cases.court import Trial, item_signed, signed
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import SCHEDULER
from tests.protocols.cases.setting import HONEST
from tests.protocols.ledger.world import check_supply


def judge_stakes(trial: Trial) -> None:
    """Who is to lose its stake has lost all of it, and nobody else anything."""
    state = trial.state
    lost = {key for key, case in state.all(Case) if case.burnt_tick is not None}
    frozen = {key for key, _ in state.all(Case)}
    must = {unit.key.address for unit in trial.units if not unit.honest and unit.lied}
    if trial.setting.fork is not None:
        must.add(SCHEDULER.address)
    for key in HONEST:
        bond = state.get(Bond, key.address)
        if key.address in frozen or bond is None or bond.frozen:
            unit = trial.by_account.get(key.address)
            case = state.get(Case, key.address)
            raise Violation(f"honest {unit.kind if unit else '-'} unit frozen: {case}")
    fined = {key[:32] for key, _ in state.all(Fine)}
    for address in sorted(fined - must):
        raise Violation(f"{b64url(address)} was fined for nothing")
    for address in sorted(must - lost):
        unit = trial.by_account.get(address)
        raise Violation(f"{unit.kind if unit else 'fork'}: not convicted")
    for address in sorted(frozen - must):
        raise Violation(f"{b64url(address)} lost its stake for nothing")


def judge_end(trial: Trial) -> None:
    """Once every deadline is over nothing is left that waits for one."""
    for kind in (Commit, Part, Demanded, Fact, Pending, Due, Held, Answering):
        if next(trial.state.all(kind), None) is not None:
            raise Violation(f"a {kind.__name__} stays for ever")
    last: dict[bytes, int] = {}
    for tick, fact in trial.runs:
        if tick - last.get(fact, -(1 << 62)) < trial.setting.parameters.unbonding:
            raise Violation(f"fact {fact.hex()} was run again while the ledger knew it")
        last[fact] = tick
    for key, anchor in trial.state.all(AnchorEntry):
        right = trial.setting.main.own.roots[anchor.slot + 1] == anchor.mmr_root()
        if right and anchor.refuted:
            raise Violation(f"the true anchor {b64url(key)} is refuted")


class NotYet(Exception):
    """This node has not run the segment yet."""


class Node:
    """Another node: it folds the same log, in another rhythm."""

    def __init__(self, trial: Trial, draws: Draws) -> None:
        self._trial = trial
        self._draws = draws
        self._ready: dict[bytes, tuple[bytes, ...] | None] = {}
        self._remembers = draws.chance(2)
        """Whether facts stay with the node; else each is run again."""

    def signed(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return signed(key, message, signature)

    def item_signed(self, item: Item) -> bool:
        return item_signed(item)

    def part(self, id: ItemId) -> bytes:
        return self._trial.part(id)

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        key = run_key(segment)
        if key in self._ready:
            ready = self._ready[key]
            if not self._remembers:
                del self._ready[key]
            return ready
        setting = self._trial.setting
        self._ready[key] = setting.engine.run(segment, setting.parameters.root_every)
        raise NotYet

    def fold(self) -> State:
        """Slot by slot; between two, at times, it starts again from what it has on disk."""
        trial, restart = self._trial, self._draws.between(20, 60)
        state = genesis(trial.network)
        head = bytes(32)
        for item, after in zip(trial.items, trial.heads, strict=True):
            try:
                folded, _ = apply(state, head, item, trial.rules, self)
            except NotYet:
                folded, _ = apply(state, head, item, trial.rules, self)
            state, head = folded, after
            if self._draws.chance(restart):
                state = State.decode(state.encode())
                check_supply(state)
        return state


def judge_log(trial: Trial, draws: Draws) -> None:
    """The same log gives the same root on another node."""
    if Node(trial, draws).fold().root() != trial.state.root():
        raise Violation("another node has another root")
