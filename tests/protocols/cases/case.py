"""One case, from its seed to its judgement."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from protocols.codec import digest
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Case
from tests.protocols.cases import judges
from tests.protocols.cases.agents import Violation, Watcher, bystander
from tests.protocols.cases.court import Agent, Trial, finish, hold
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import Engine
from tests.protocols.cases.hostile import accuser
from tests.protocols.cases.setting import ACCUSERS, HONEST, LIARS, WATCHERS, Setting, make_setting
from tests.protocols.cases.units import (
    Offered,
    Unit,
    honest_unit,
    lying_unit,
    offered_anchor,
)

ORDERS = 2
"""In how many orders the same statements reach the same agents, in every other case."""


@dataclass(frozen=True)
class Result:
    """What a case came to."""

    seed: int
    slots: int
    root: bytes
    """Of the ledger after the first order."""
    verdicts: bytes
    """Hash over all verdicts, freezes and burns in it."""
    counts: Counter[str]


def run_case(seed: int, engine: Engine) -> Result:
    """Raises `Violation`."""
    draws = Draws("case", seed)
    setting = make_setting(draws.child("setting"), engine)
    anchors, units = _units(setting, draws)
    counts: Counter[str] = Counter()
    for unit in units:
        counts[f"{'honest' if unit.honest else 'liar'} {unit.kind}"] += 1
        counts["statements"] += len(unit.statements)
    for anchor in anchors:
        counts[f"{'true' if anchor.true else 'false'} anchor"] += 1
    counts["forks"] += setting.fork is not None
    trials = [
        _hold(setting, units, anchors, draws, number) for number in range(ORDERS if seed % 2 else 1)
    ]
    for trial in trials:
        judges.judge_stakes(trial)
        judges.judge_end(trial)
    lost = [sorted(key for key, _ in trial.state.all(Case)) for trial in trials]
    if any(each != lost[0] for each in lost):
        raise Violation("another order, another stake lost")
    first = trials[0]
    judges.judge_log(first, draws.child("node", 0))
    told = (NoteKind.VERDICT, NoteKind.FROZEN, NoteKind.BURNT)
    notes = [note for note in first.notes if note.kind in told]
    for note in notes:
        if note.kind is NoteKind.VERDICT:
            counts[note.detail.partition(":")[0]] += 1
    counts["ledger slots"] += sum(len(trial.items) for trial in trials)
    counts["runs"] += len(first.runs)
    verdicts = digest("case-verdicts", [f"{note.kind} {note.detail}" for note in notes])
    return Result(seed, len(setting.main.leaves), first.state.root(), verdicts, counts)


def _units(setting: Setting, draws: Draws) -> tuple[list[Offered], list[Unit]]:
    named = draws.child("unit")
    anchors: list[Offered] = []
    carriers = [Unit(key, "carrier", True) for key in HONEST[:2]]
    false = [Unit(key, "anchor", False) for key in LIARS[2:]]
    liars = [
        lying_unit(key, setting, named.child("liar", number))
        for number, key in enumerate(LIARS[: named.between(0, 2)])
    ]
    for pair, true in ((carriers, True), (false, False)):
        place = named.child("anchor", "true" if true else "false")
        offered = place.chance(3) and offered_anchor(setting, (pair[0], pair[1]), true, place)
        if offered:
            anchors.append(offered)
    if not any(not anchor.true for anchor in anchors):
        false = []
    honest = [
        honest_unit(key, setting, named.child("honest", number), anchors)
        for number, key in enumerate(HONEST[2 : named.between(3, 5)])
    ]
    return anchors, [*carriers, *honest, *liars, *false]


def _hold(
    setting: Setting, units: list[Unit], anchors: list[Offered], draws: Draws, number: int
) -> Trial:
    trial = Trial(setting, units)
    order = draws.child("order", number)
    agents: list[Agent] = [bystander(trial, draws.child("agent", "bystander"))]
    for name, key in enumerate(WATCHERS[: 1 + draws.child("watchers").below(2)]):
        own = draws.child("agent", "watcher", name)
        statements = order.child("arrival", name).shuffled(
            [
                statement
                for unit in units
                for statement in unit.statements
                if not unit.honest or own.chance(4)
            ]
        )
        agents.append(Watcher(trial, key, own, anchors).agent(statements))
    for name, key in enumerate(ACCUSERS[: draws.child("accusers").below(3)]):
        agents.append(accuser(trial, key, draws.child("agent", "accuser", name)))
    hold(trial, agents, anchors, order)
    finish(trial)
    return trial
