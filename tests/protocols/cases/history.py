"""What somebody says happened in each slot of a process, and the engines that say what did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Protocol

from protocols.court import Segment
from protocols.ids import ItemId, ProcessId
from protocols.machine.audit import Log, Own
from protocols.wire.assignment import Chain, Slot
from protocols.wire.evidence import Witness
from protocols.wire.item import Item
from protocols.wire.proof import Leaf
from tests.protocols.cases.draws import Draws
from tests.protocols.machine.world import MODULE, Key, message_item, next_slot, process_item
from tests.protocols.toy import toy_genesis, toy_leaves, toy_run, toy_witness

SCHEDULER, USER = Key.of("scheduler"), Key.of("user")
LOGS = 64
"""Logs that cases choose from; signing a new one for every case would take longer than judging."""
SLOTS_MAX = 200


@dataclass(frozen=True, eq=False)
class Line:
    """One branch of a log."""

    slots: tuple[Slot, ...]
    heads: tuple[bytes, ...]
    """After each slot."""

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> Line:
        chain, heads = Chain.genesis(slots[0].process), []
        for slot in slots:
            chain = chain.next(slot)
            heads.append(chain.head)
        return cls(tuple(slots), tuple(heads))


@dataclass(frozen=True)
class History:
    """A line, and a leaf for each of its slots, true or not."""

    line: Line
    leaves: tuple[Leaf, ...]
    witness: Callable[[int], Witness] = field(repr=False)
    """The state before a slot, where the leaves are true of some state."""

    @property
    def process(self) -> Item:
        return self.line.slots[0].message

    @property
    def heads(self) -> tuple[bytes, ...]:
        return self.line.heads

    @cached_property
    def own(self) -> Own:
        """What an honest watcher who has these leaves has."""
        own = Own(Chain.genesis(ProcessId(self.process.id)).head)
        for leaf, head in zip(self.leaves, self.heads, strict=True):
            own.append(leaf, head)
        return own

    @cached_property
    def log(self) -> Log:
        def slot(number: int) -> tuple[bytes, bytes]:
            found = self.line.slots[number]
            return found.assignment.item.raw, found.message.raw

        return Log(self.process.raw, [each.assignment.id for each in self.line.slots], slot)

    def with_leaves(self, leaves: Sequence[Leaf]) -> History:
        """Another story of the same slots."""
        return replace(self, leaves=tuple(leaves))


class Engine(Protocol):
    """What gives the leaves of slots, in segments of `every`."""

    module: ItemId

    def lines(self, draws: Draws) -> tuple[Line, Line | None]:
        """A log, and the branch that its scheduler signed besides, if it did."""
        ...

    def truth(self, line: Line, every: int) -> History:
        """What any honest unit says."""
        ...

    def wrong(self, truth: History, at: int, every: int, draws: Draws) -> History:
        """What follows from a wrong state before slot `at`."""
        ...

    def junk(self, draws: Draws) -> Witness:
        """A state that is not the one asked for."""
        ...

    def run(self, segment: Segment, every: int) -> tuple[bytes, ...] | None:
        """Run evidence: `protocols.court.RunSegment`."""
        ...


class Toy:
    """A state of 32 bytes, hashed with each slot."""

    module = ItemId(MODULE)

    def lines(self, draws: Draws) -> tuple[Line, Line | None]:
        return _log(draws.below(LOGS))

    def __init__(self) -> None:
        self._truth = cache(self._make_truth)

    def truth(self, line: Line, every: int) -> History:
        return self._truth(line, every)

    def _make_truth(self, line: Line, every: int) -> History:
        return self._story(line, toy_genesis(line.slots[0].process), 0, (), every)

    def wrong(self, truth: History, at: int, every: int, draws: Draws) -> History:
        return self._story(truth.line, draws.octets(32), at, truth.leaves[:at], every)

    def junk(self, draws: Draws) -> Witness:
        return toy_witness(draws.octets(32))

    def run(self, segment: Segment, every: int) -> tuple[bytes, ...] | None:
        return toy_run(segment, every)

    def _story(
        self, line: Line, state: bytes, at: int, before: tuple[Leaf, ...], every: int
    ) -> History:
        leaves, states = toy_leaves(state, line.slots[at:], every)
        by_slot = [state, *states]

        def witness(slot: int) -> Witness:
            return toy_witness(by_slot[slot - at])

        return History(line, (*before, *leaves), witness)


@cache
def _log(number: int) -> tuple[Line, Line | None]:
    draws = Draws("log", number)
    length = draws.between(1, draws.pick((4, 40, SLOTS_MAX)))
    process = process_item(USER, SCHEDULER, anchor=number)
    items = [process]
    for slot in range(1, length):
        anchor = number << 32 | slot
        items.append(message_item(USER, process.id, data=draws.octets(16), anchor=anchor))
    return forked(items, draws)


def forked(items: Sequence[Item], draws: Draws) -> tuple[Line, Line | None]:
    """The log of a process and its messages, and once in two another branch of some slots."""
    fork = draws.between(1, len(items)) if draws.chance(2) else len(items)
    chain = branch = Chain.genesis(ProcessId(items[0].id))
    main: list[Slot] = []
    other: list[Slot] = []
    for number, each in enumerate(items):
        if number >= fork:  # the same messages, later
            branch = chain if number == fork else branch.next(other[-1])
            other.append(next_slot(SCHEDULER, branch, each, 5_000))
        main.append(next_slot(SCHEDULER, chain, each, 1_000))
        chain = chain.next(main[-1])
    return Line.of(main), Line.of([*main[:fork], *other]) if other else None
