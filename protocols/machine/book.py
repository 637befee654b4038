"""The book of what units have stated: state proofs and votes this node has heard, to look up and to
hand on.

Rule 1: what is kept is bounded, by unit and process and in all. When it is full, the unit with
        most rows loses its oldest: nobody can push out what others have stated.
Rule 2: a statement of somebody with nothing at stake is neither kept nor passed on to the watcher.
Rule 3: the first proof of a unit over a process that ends at a slot is kept; another one that ends
        there is passed on to the watcher all the same, which compares it with the first.

    StatementArrived --> row (the proof, and the last final checkpoint when it was first heard),
                         Notify(StatementArrived)
    LedgerMoved -------> what was heard while the ledger was behind here is dated now: a date that
                         is too early would make clients trust too early
    ProofSealed -------> row: own proofs are in the book like any other
    VoteArrived -------> kept in memory
    LedgerMoved -------> rows of units with nothing at stake any more go

It also gathers what proves that a scheduler has given one slot twice (`forks`).

This file does not know stores: the adapter reads the rows back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocols import keyspace
from protocols.codec import decode, encode
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId, address_of
from protocols.ledger.entries import Bond, Session, Unbonding
from protocols.ledger.state import State
from protocols.machine.effects import Effect, Event, Notify, Persist, Table
from protocols.machine.events import LedgerMoved, ProofSealed, StatementArrived, VoteArrived
from protocols.machine.forks import Forks
from protocols.wire.evidence import statement_id
from protocols.wire.proof import PROOF_BYTES_MAX, StateProof
from protocols.wire.vote import Vote

PROOFS_PER_PROCESS_MAX = 1024
"""Newest proofs of one unit over one process."""
PROOFS_MAX = 1 << 16
"""Proofs in all."""
VOTES_PER_STAKER_MAX = 64
UNDATED = (1 << 63) - 1
"""Stands for the checkpoint of a proof that was heard while the ledger was behind here: later than
any, so that nobody counts from it."""
UNDATED_MAX = 4096
"""Proofs that wait for their date; more are not kept meanwhile."""
STAKERS_MAX = 4096
"""Keys whose votes are kept."""
_ROW_BYTES_MAX = PROOF_BYTES_MAX + 32

Place = tuple[ProcessId, int, NodeKey]
"""Process, last slot, unit: where a proof stands in the book."""


def heard_row(tick: int, raw: bytes) -> bytes:
    """A row: the last final checkpoint when the proof was first heard, and the encoded proof."""
    return encode([tick, raw])


def heard_of_row(row: bytes) -> tuple[int, bytes]:
    """Inverse of `heard_row`. Raises Invalid(STORAGE) for a row that no book wrote."""
    match decode(row, size_max=_ROW_BYTES_MAX):
        case [int(tick), bytes(raw)] if tick >= 0:
            return tick, raw
    raise Invalid(Reason.STORAGE, f"a row of {len(row)} bytes does not hold a heard proof")


def has_stake(state: State, key: NodeKey) -> bool:
    """Whether anything can be taken for what this key signs."""
    address = address_of(key)
    session = state.get(Session, address)
    account = address if session is None else session.account
    bond = state.get(Bond, account)
    if bond is not None and bond.amount:
        return True
    return any(True for _ in state.all(Unbonding, account))


class _Unit:
    """What one unit has stated."""

    def __init__(self) -> None:
        self.processes: dict[ProcessId, dict[int, bytes]] = {}
        """Statement ids by last slot."""
        self.order: OrderedDict[tuple[ProcessId, int], None] = OrderedDict()
        """Oldest first."""

    def put(self, process: ProcessId, last: int, id: bytes) -> None:
        self.processes.setdefault(process, {})[last] = id
        self.order[process, last] = None

    def drop(self, process: ProcessId, last: int) -> None:
        del self.order[process, last]
        del self.processes[process][last]
        if not self.processes[process]:
            del self.processes[process]


class Book:
    """What one node has heard of all units."""

    def __init__(
        self,
        *,
        key: NodeKey,
        network: NetworkId,
        ledger_tip: Callable[[], int],
        proofs_per_process_max: int = PROOFS_PER_PROCESS_MAX,
        proofs_max: int = PROOFS_MAX,
    ) -> None:
        """`ledger_tip` is a view: the last slot of the ledger's log that is here, -1 for none."""
        self._ledger_tip = ledger_tip
        self._undated: dict[Place, bytes] = {}
        self._per_process_max = proofs_per_process_max
        self._max = proofs_max
        self._units: dict[NodeKey, _Unit] = {}
        self._votes: OrderedDict[NodeKey, OrderedDict[int, Vote]] = OrderedDict()
        self._count = 0
        self._state: State | None = None
        self._tick = 0
        self._forks = Forks(key, network)

    def recover(
        self,
        rows: Iterable[tuple[Place, bytes]],
        forks: Iterable[tuple[ProcessId, ItemId, ItemId]] = (),
    ) -> None:
        """Take up the durable rows, in any order, and the forks that the replica has seen: process
        and both assignments. Raises Invalid(STORAGE, MALFORMED)."""
        self._forks.recover(forks)
        heard = [(heard_of_row(row)[0], place, row) for place, row in rows]
        for tick, place, row in sorted(heard):
            process, last, cu = place
            raw = heard_of_row(row)[1]
            self._unit(cu).put(process, last, statement_id(raw))
            self._count += 1
            if tick == UNDATED:
                self._undated[place] = raw

    def on(self, event: Event, now: int) -> list[Effect]:
        match event:
            case StatementArrived(raw=raw, statement=statement):
                proof = statement.value
                if isinstance(proof, StateProof) and self.is_staked(proof.cu):
                    return [*self._keep(proof, raw), Notify(event)]
            case ProofSealed(proof=proof):
                return self._keep(proof, proof.encode())
            case VoteArrived(vote=vote):
                self._keep_vote(vote.value)
            case LedgerMoved(state=state, slots=slots):
                is_first, self._state = self._state is None, state
                self._tick = state.totals().tick
                effects = self._forks.begin() if is_first else []
                if slots or is_first:
                    effects += self._drop_unstaked()
                return effects + self._date()
        return self._forks.on(event, now)

    def status(self) -> dict[str, Any]:
        return {
            "proofs": self._count,
            "units": len(self._units),
            "voters": len(self._votes),
            "forks": len(self._forks),
        }

    # Views of the adapter

    def is_staked(self, key: NodeKey) -> bool:
        """Whether what this key states is kept; true while the ledger is not known yet."""
        return self._state is None or has_stake(self._state, key)

    def holds(self, proof: StateProof, raw: bytes) -> bool:
        """Whether this very proof is in the book."""
        unit = self._units.get(proof.cu)
        held = unit.processes.get(proof.process, {}) if unit else {}
        id = held.get(proof.last)
        return id is not None and id == statement_id(raw)

    def places(
        self, process: ProcessId | None, cu: NodeKey | None, from_slot: int
    ) -> Iterator[Place]:
        """Proofs that end at `from_slot` or later: first the newest of each unit over each
        process, then all others, newest first."""
        units = sorted(self._units) if cu is None else [cu] if cu in self._units else []
        lines = [
            (each, unit, [last for last in sorted(lasts, reverse=True) if last >= from_slot])
            for unit in units
            for each, lasts in self._units[unit].processes.items()
            if process in (None, each)
        ]
        for each, unit, lasts in lines:
            yield from ((each, last, unit) for last in lasts[:1])
        for each, unit, lasts in lines:
            yield from ((each, last, unit) for last in lasts[1:])

    def votes(self, key: NodeKey) -> list[Vote]:
        """Newest votes heard of a key, newest first."""
        return list(reversed(self._votes.get(key, {}).values()))

    # Keeping

    def _unit(self, cu: NodeKey) -> _Unit:
        unit = self._units.get(cu)
        if unit is None:
            unit = self._units[cu] = _Unit()
        return unit

    def _keep(self, proof: StateProof, raw: bytes) -> list[Effect]:
        unit = self._unit(proof.cu)
        held = unit.processes.get(proof.process, {})
        is_behind = self._is_behind()
        if proof.last in held or (is_behind and len(self._undated) >= UNDATED_MAX):
            return []
        effects: list[Effect] = []
        if len(held) >= self._per_process_max:
            oldest = min(held)
            if oldest > proof.last:
                return []
            effects.append(self._drop(proof.process, oldest, proof.cu))
        unit.put(proof.process, proof.last, statement_id(raw))
        self._count += 1
        place = (proof.process, proof.last, proof.cu)
        if is_behind:
            self._undated[place] = raw
        effects.append(_row(place, UNDATED if is_behind else self._tick, raw))
        if self._count > self._max:
            largest = max(self._units, key=lambda each: (len(self._units[each].order), each))
            process, last = next(iter(self._units[largest].order))
            effects.append(self._drop(process, last, largest))
        return effects

    def _is_behind(self) -> bool:
        """Whether the clock shows an earlier checkpoint than the log that is here."""
        return self._state is None or self._state.totals().slot < self._ledger_tip()

    def _date(self) -> list[Effect]:
        if not self._undated or self._is_behind():
            return []
        rows = [_row(place, self._tick, raw) for place, raw in self._undated.items()]
        self._undated.clear()
        return [*rows]

    def _drop(self, process: ProcessId, last: int, cu: NodeKey) -> Persist:
        self._units[cu].drop(process, last)
        self._undated.pop((process, last, cu), None)
        self._count -= 1
        return Persist(Table.LOG, keyspace.heard_key(process, last, cu), None)

    def _drop_unstaked(self) -> list[Effect]:
        effects: list[Effect] = []
        for cu in [each for each in self._units if not self.is_staked(each)]:
            for process, last in list(self._units[cu].order):
                effects.append(self._drop(process, last, cu))
            del self._units[cu]
        for key in [each for each in self._votes if not self.is_staked(each)]:
            del self._votes[key]
        return effects

    def _keep_vote(self, vote: Vote) -> None:
        if not self.is_staked(vote.key):
            return
        votes = self._votes.setdefault(vote.key, OrderedDict())
        votes.setdefault(vote.tick, vote)
        if len(votes) > VOTES_PER_STAKER_MAX:
            del votes[min(votes)]
        if len(self._votes) > STAKERS_MAX:
            self._votes.popitem(last=False)


def _row(place: Place, tick: int, raw: bytes) -> Persist:
    return Persist(Table.LOG, keyspace.heard_key(*place), heard_row(tick, raw))
