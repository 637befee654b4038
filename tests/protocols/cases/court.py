"""A ledger on which everybody acts, in an order that is drawn."""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import TypeAlias

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols.court import Segment
from protocols.errors import Invalid
from protocols.ids import Address, ItemId, NodeKey, address_of
from protocols.ledger.draft import Note, NoteKind
from protocols.ledger.entries import Demanded
from protocols.wire.demand import Answer
from protocols.wire.item import Item
from protocols.wire.ledger_tx import EvidencePart, Reply, Transaction
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.setting import CLOCK, HONEST, Setting
from tests.protocols.cases.units import Offered, Unit
from tests.protocols.ledger.world import Ledger, transaction
from tests.protocols.machine.world import Key

Step: TypeAlias = tuple[Key, Transaction] | Item | None
"""A transaction, an item once more, or nothing until the clock has moved."""
Done: TypeAlias = tuple[ItemId, tuple[Note, ...]]
"""The item it became, and what came of it."""
Agent: TypeAlias = Generator[Step, Done, None]
TICKS_AT_ONCE = 6


@lru_cache(maxsize=1 << 16)
def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519, remembered: all nodes of a case share this process."""
    return verify_ed25519(key, message, signature)


@lru_cache(maxsize=1 << 16)
def item_signed(item: Item) -> bool:
    """As `signed`, for items."""
    try:
        verify_item(item)
    except Invalid:
        return False
    return True


class Trial(Ledger):
    """A ledger with units, whose demands are answered in time; every slot is recorded."""

    def __init__(self, setting: Setting, units: list[Unit]) -> None:
        self.setting = setting
        self.units = units
        self.by_account: dict[Address, Unit] = {unit.key.address: unit for unit in units}
        self.runs: list[tuple[int, bytes]] = []
        """(tick, fact) of each segment that the engine gave the leaves of."""
        self.notes: list[Note] = []
        self.answers: dict[bytes, Answer] = {}
        """By demand, what answered it."""
        self.heads: list[bytes] = []
        """Of the ledger's log, after each slot."""
        self._tried: set[tuple[bytes, int]] = set()
        self._parts: dict[ItemId, bytes] = {}
        super().__init__(setting.network, self._engine)

    def _engine(self, segment: Segment) -> tuple[bytes, ...] | None:
        leaves = self.setting.engine.run(segment, self.setting.parameters.root_every)
        if leaves is not None:
            self.runs.append((self.state.totals().tick, segment.fact))
        return leaves

    def signed(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return signed(key, message, signature)

    def item_signed(self, item: Item) -> bool:
        return item_signed(item)

    def part(self, id: ItemId) -> bytes:
        return self._parts[id]

    def unit_of(self, key: NodeKey) -> Unit:
        """Whose key it is."""
        return self.by_account[address_of(key)]

    def account_of(self, key: bytes) -> Address:
        """The account behind a key."""
        return address_of(key)

    def slot(self, item: Item) -> tuple[Note, ...]:
        notes = super().slot(item)
        self.heads.append(self.head)
        return notes

    def act(self, step: tuple[Key, Transaction] | Item) -> Done:
        """One more ledger slot."""
        item = step if isinstance(step, Item) else transaction(*step, len(self.items))
        if not isinstance(step, Item) and isinstance(step[1], EvidencePart):
            self._parts[ItemId(item.id)] = step[1].data
        notes = self.slot(item)
        self.notes += notes
        return ItemId(item.id), notes

    def pass_time(self, ticks: int) -> None:
        """Answer what is asked of honest units, then move the clock."""
        self.answer(honest_only=False)
        _, notes = self.act((CLOCK, self.checkpoint(ticks, HONEST)))
        assert notes[0].kind is NoteKind.FINAL, notes[0].detail

    def answer(self, *, honest_only: bool) -> None:
        """Have the units reply to the open demands, each once."""
        for id, demand in list(self.state.all(Demanded)):
            unit = self.by_account.get(demand.accused)
            if demand.answered or (id, demand.deadline) in self._tried or unit is None:
                continue
            if not unit.replies or (honest_only and not unit.honest):
                continue
            self._tried.add((id, demand.deadline))
            answer = unit.answer(self.setting, demand.kind, demand.subject)
            if answer is None:
                continue
            _, notes = self.act((unit.key, Reply(id, answer.encode())))
            if notes[0].kind is not NoteKind.REFUSED:
                self.answers[id] = answer


def hold(trial: Trial, agents: list[Agent], anchors: list[Offered], order: Draws) -> None:
    """Let all agents act, one slot at a time, until none has anything left to do."""
    for anchor in anchors:
        trial.act((CLOCK, anchor.tx))
    trial.pass_time(1)
    results: list[Done | None] = [None] * len(agents)
    waiting: set[int] = set()
    left = list(range(len(agents)))
    while left:
        ready = [number for number in left if number not in waiting]
        if not ready or order.chance(20):
            trial.pass_time(order.between(1, TICKS_AT_ONCE))
            waiting.clear()
            continue
        number = order.pick(ready)
        try:
            done = results[number]
            step = next(agents[number]) if done is None else agents[number].send(done)
        except StopIteration:
            left.remove(number)
            continue
        if step is None:
            results[number] = None
            waiting.add(number)
        else:
            results[number] = trial.act(step)
        if order.chance(6):
            trial.answer(honest_only=True)


def finish(trial: Trial) -> None:
    """Move the clock until every deadline is over."""
    parameters = trial.setting.parameters
    trial.pass_time(1)
    for ticks in (parameters.challenge_window, parameters.unbonding, parameters.unbonding + 1):
        trial.pass_time(ticks)
