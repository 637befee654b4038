"""Every node's ledger: it folds the ledger's log, votes if it has a stake, brings transactions.

Rule 1: the state after a slot is a function of the log alone. How slots were grouped, when they
        came and how often this node restarted leave no trace in it.
Rule 2: a fact of the log that is not known here is found out (`RunSegment`), and nothing is
        folded meanwhile. Where this node cannot find it out deterministically, it folds no
        verdict of its own: it stops at that slot, says so, and votes no more.
Rule 3: whoever hears of a state can rely on it: what it took to reach it is durable.

    Extended --> fold --Missing--> RunSegment --SegmentRun--> Persist(fact), fold again
                  |                               '--refused--> Alarm, stopped
                  '--> Notify(LedgerMoved), votes (`voting`), own transactions (`posting`)

From time to time the state under a final checkpoint is kept, and a restart folds on from there:
verdicts before it are never judged again.

This file does not know stores or engines; `Facts` are views and pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protocols import domains, keyspace
from protocols.codec import HASH_BYTES, digest, digest_raw
from protocols.court import Segment
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.ledger.draft import Draft, Note, NoteKind, Rules
from protocols.ledger.entries import PAST_SLOTS
from protocols.ledger.fold import apply
from protocols.ledger.state import State, genesis
from protocols.machine import posting, vote_recall, voting
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Event,
    Notify,
    Persist,
    Refusal,
    Reply,
    RunSegment,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import (
    Extended,
    FoldedSlot,
    LedgerMoved,
    PeersChanged,
    PostAsked,
    ProofsArrived,
    SegmentRun,
    UnitSeen,
    VoteArrived,
)
from protocols.machine.posting import Posting
from protocols.machine.recent import Recent
from protocols.machine.vote_recall import VoteRecall
from protocols.machine.voting import Standing, Voting
from protocols.network import Network
from protocols.wire.assignment import Chain, Slot
from protocols.wire.item import Item

FOLD_SLOTS_MAX = 16
"""Slots folded at one go; then other events have their turn."""
SNAPSHOT_SLOTS = 256
"""Between two states that are kept: as much is folded again after a restart, or more."""

NOTES_SLOTS_MAX = 4096
"""Slots whose notes are remembered, for people."""

FOLD_TIMER = ("fold",)


class Missing(Exception):
    """The fold needs a segment that this node has not run yet."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment.fact.hex())
        self.segment = segment


@dataclass(frozen=True, slots=True)
class Views:
    """What the ledger machine reads, and what it computes with; none of it changes anything."""

    slots: Callable[[int, int], Sequence[Slot]]
    """Durable slots first..last of the ledger's log."""
    part: Callable[[ItemId], bytes]
    """Data of an Evidence-Part transaction in that log."""
    signed: Callable[[bytes, bytes, bytes], bool]
    """Ed25519: (key, message, signature)."""
    item_signed: Callable[[Item], bool]


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """The last final checkpoint."""

    item: Item
    """The transaction that made it final."""
    slot: int
    head: bytes
    state: State
    """After `slot`: what the votes are for."""


class _Facts:
    """`protocols.ledger.draft.Facts` over the views and the segments that were run here."""

    def __init__(self, views: Views) -> None:
        self.signed = views.signed
        self.item_signed = views.item_signed
        self.part = views.part
        self.known: dict[bytes, tuple[bytes, ...]] = {}
        self.used: dict[bytes, int] = {}
        """Ledger slot whose fold asked for a fact."""
        self.without_state: dict[bytes, None] = {}
        """Segments of the slot being folded that came without the state before them."""
        self.slot = -1

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        key = run_key(segment)
        if key in self.without_state:
            return None
        leaves = self.known.get(key)
        if leaves is None:
            raise Missing(segment)
        self.used[key] = self.slot
        return leaves


def run_key(segment: Segment) -> bytes:
    """What the result of a run is kept under. The witness is part of it: a node that still has
    the leaves of a fact which the ledger has forgotten must say of evidence with a wrong state
    what a node says that never had them."""
    if segment.witness is None:
        return segment.fact
    return digest_raw(domains.SEGMENT_RUN, segment.fact + segment.witness.encode())


class Ledger:
    """The ledger as this node has folded it."""

    def __init__(
        self, *, network: Network, key: NodeKey, sign: Callable[[bytes], bytes], views: Views
    ) -> None:
        """`sign` is the node's Ed25519 signature, a pure function."""
        assert network.ledger is not None, "a network without a ledger has no such machine"
        self.id: ProcessId = network.ledger
        self._network = network
        self._views = views
        self._rules = Rules.of(network)
        self._facts = _Facts(views)
        self._state = genesis(network)
        self._head = Chain.genesis(self.id).head
        self._slot = -1
        self._past: dict[int, tuple[bytes, State]] = {}
        self._final: Checkpointed | None = None
        self._snapshot = -1
        self._tip = -1
        self._told_from: int | None = None
        """First slot that is told slot by slot; None until the first notice."""
        self._waiting: Segment | None = None
        self._stopped = ""
        self._refused = 0
        self._notes: Recent[int, tuple[Note, ...]] = Recent(NOTES_SLOTS_MAX)
        self._keys: dict[Address, NodeKey] = {unit.address: unit.key for unit in network.units}
        self._keys[address_of(key)] = key
        self._recall = VoteRecall(key, [unit.key for unit in network.units])
        self.posting = Posting(
            self.id,
            inline_bytes_max=network.parameters.inline_bytes_max,
            scheduler=lambda: self._keys.get(network.ledger_scheduler),
        )
        self.voting = Voting(
            network=network.id,
            ledger=self.id,
            tick_ms=network.parameters.tick_ms,
            key=key,
            sign=sign,
            post=self.posting.post,
            forget=self.posting.forget,
        )

    def recover(
        self,
        *,
        tip: int,
        snapshot: tuple[int, bytes] | None = None,
        facts: Iterable[tuple[bytes, bytes]] = (),
        votes: Iterable[bytes] = (),
        posts: Iterable[Item] = (),
    ) -> None:
        """Take up what is durable: the log up to slot `tip`, the newest LEDGER row as (slot,
        value), the FACT rows as (fact, value), the VOTE rows and the posted items. Raises
        Invalid for rows that no ledger machine wrote."""
        self._tip = tip
        if snapshot is not None:
            slot, value = snapshot
            state = State.decode(value[HASH_BYTES:])
            if state.totals().slot != slot:
                raise Invalid(Reason.STORAGE, f"ledger row {slot} is the state of another slot")
            self._snapshot = self._slot = slot
            self._state, self._head = state, value[:HASH_BYTES]
            self._past[slot] = (self._head, state)
        for fact, value in facts:
            if len(value) % HASH_BYTES:
                raise Invalid(Reason.STORAGE, f"fact row {fact.hex()} holds no leaf hashes")
            starts = range(0, len(value), HASH_BYTES)
            self._facts.known[fact] = tuple(value[at : at + HASH_BYTES] for at in starts)
        self.voting.recover(votes)
        self.posting.recover(posts)

    def on(self, event: Event, now: int) -> list[Effect]:
        match event:
            case Extended(process=self.id):
                self._tip = max(self._tip, event.slots[-1].nonce)
                return self._advance(now)
            case VoteArrived(vote=vote):
                return self.voting.heard(vote.value, now) + self.voting.step(now)
            case SegmentRun():
                return self._segment_run(event, now)
            case PostAsked():
                return self._post(event, now)
            case TimerFired(key=key) if key == FOLD_TIMER:
                return self._advance(now)
            case TimerFired(key=voting.TIMER):
                return self.voting.step(now)
            case TimerFired(key=posting.TIMER):
                return self.posting.due(now)
            case Answered(tag=(posting.TAG, _)):
                return self.posting.answered(event, self._slot)
            case PeersChanged():
                self.voting.say_again(now)
                return self._recalled(event, now)
            case ProofsArrived(tag=vote_recall.TAG) | TimerFired(key=vote_recall.TIMER):
                return self._recalled(event, now)
            case UnitSeen(unit=unit):
                self._unit_seen(unit.value.key)
            case Started():
                self.voting.start(self._standing(), now)
                return self._advance(now) + self._recalled(event, now) + self.posting.due(now)
        return []

    def status(self) -> dict[str, Any]:
        totals = self._state.totals()
        waiting = self._waiting
        return {
            "slot": self._slot,
            "tip": self._tip,
            "tick": totals.tick,
            "final": totals.final,
            "bonded": totals.bonded,
            "root": b64url(self._state.root()),
            "head": b64url(self._head),
            "waiting_for": None if waiting is None else waiting.fact.hex(),
            "refused": self._refused,
            "stopped": self._stopped,
            "votes": {**self.voting.status(), "recall": self._recall.status()},
            "posts": self.posting.status(),
        }

    # What is known; for the adapter

    @property
    def state(self) -> State:
        """After the newest folded slot."""
        return self._state

    @property
    def head(self) -> bytes:
        """Of the log there."""
        return self._head

    @property
    def slot(self) -> int:
        """The newest folded slot; -1 before slot 0."""
        return self._slot

    @property
    def final(self) -> Checkpointed | None:
        """The last final checkpoint; None before the first, or until it was folded again."""
        return self._final

    @property
    def stopped(self) -> str:
        """Why nothing more is folded here; empty while it is."""
        return self._stopped

    def weight(self, key: NodeKey) -> int:
        """Base units that stand behind what a key votes for."""
        draft = self._draft()
        return draft.voting(draft.account_of(key))

    def notes(self, slot: int) -> tuple[Note, ...] | None:
        """What the fold made of a slot; None if it was folded long ago, or not yet."""
        return self._notes.get(slot)

    # Folding

    def _advance(self, now: int) -> list[Effect]:
        """Fold what there is, tell of it, and vote."""
        effects: list[Effect] = []
        folded = self._fold(effects)
        if self._told_from is None and (self._slot >= self._tip or not self._can_fold()):
            self._told_from = self._slot + 1
            effects.append(Notify(LedgerMoved(self._state, self._head, ())))
        elif self._told_from is not None and folded:
            effects.append(Notify(LedgerMoved(self._state, self._head, tuple(folded))))
        if folded:
            effects += self.voting.moved(self._standing(), now)
        effects += self.voting.step(now)
        if self._can_fold():
            effects.append(SetTimer(FOLD_TIMER, now))
        return effects

    def _can_fold(self) -> bool:
        return self._slot < self._tip and self._waiting is None and not self._stopped

    def _standing(self) -> Standing:
        return Standing(self._draft(), self._past, self._can_fold())

    def _draft(self) -> Draft:
        return Draft(self._state, self._rules, self._facts)

    def _fold(self, effects: list[Effect]) -> list[FoldedSlot]:
        """The next slots, until one needs what is not known here."""
        folded: list[FoldedSlot] = []
        if not self._can_fold():
            return folded
        first = self._slot + 1
        for slot in self._views.slots(first, min(self._tip, first + FOLD_SLOTS_MAX - 1)):
            assert slot.nonce == self._slot + 1, f"slot {slot.nonce} after slot {self._slot}"
            self._facts.slot = slot.nonce
            before = self._state.totals().final
            try:
                state, notes = apply(
                    self._state, self._head, slot.message, self._rules, self._facts
                )
            except Missing as missing:
                self._waiting = missing.segment
                effects.append(RunSegment(missing.segment))
                break
            self._facts.without_state.clear()
            self._state, self._slot = state, slot.nonce
            self._head = digest(domains.HEAD, self._head, slot.assignment.id)
            self._past[slot.nonce] = (self._head, state)
            self._past.pop(slot.nonce - PAST_SLOTS, None)
            self._refused += any(note.kind is NoteKind.REFUSED for note in notes)
            self._notes.put(slot.nonce, notes)
            folded.append(FoldedSlot(slot.nonce, slot.message, notes))
            effects += self.posting.forget(slot.message.id)
            if state.totals().final != before:
                effects += self._finalised(slot.message, state.totals().final)
        return folded

    def _finalised(self, item: Item, final: int) -> list[Effect]:
        """A checkpoint has become final: what is before it will not be asked for again."""
        under = self._past.get(final)
        for slot in [each for each in self._past if each < final]:
            del self._past[slot]
        if under is None:
            return []  # folding began later than that, with a snapshot
        head, state = under
        self._final = Checkpointed(item, final, head, state)
        if final - self._snapshot < SNAPSHOT_SLOTS:
            return []
        effects: list[Effect] = [
            Persist(Table.LOG, keyspace.ledger_key(final), head + state.encode())
        ]
        if self._snapshot >= 0:
            effects.append(Persist(Table.LOG, keyspace.ledger_key(self._snapshot), None))
        self._snapshot = final
        for fact in [each for each, slot in self._facts.used.items() if slot <= final]:
            del self._facts.known[fact], self._facts.used[fact]
            effects.append(Persist(Table.LOG, keyspace.fact_key(fact), None))
        return effects

    # Segments

    def _segment_run(self, event: SegmentRun, now: int) -> list[Effect]:
        waiting = self._waiting
        if waiting is None or waiting.fact != event.fact:
            return []
        if event.refused:
            return self._stop(
                f"slot {self._slot + 1} needs a segment that this node cannot run: {event.refused}"
            )
        self._waiting, key = None, run_key(waiting)
        effects: list[Effect] = []
        if event.leaves is None:
            self._facts.without_state[key] = None
        else:
            self._facts.known[key] = event.leaves
            self._facts.used[key] = self._slot + 1
            value = b"".join(event.leaves)
            effects.append(Persist(Table.LOG, keyspace.fact_key(key), value))
        return effects + self._advance(now)

    def _stop(self, why: str) -> list[Effect]:
        """No verdict of this node's own: whoever can run the segment goes on."""
        self._stopped = self.voting.stopped = why
        detail = f"the ledger is followed no further: {why}"
        return [Alarm(Reason.REFUSED, self.id, detail)]

    # Own votes, transactions, and whom we know

    def _recalled(self, event: Event, now: int) -> list[Effect]:
        """Ask peers for own votes, and take over what the table has lost."""
        effects, found = self._recall.on(event, now)
        for vote in found:
            effects += self.voting.restore(vote, now)
        self.voting.recalling = not self._recall.decided
        return effects + self.voting.step(now)

    def _post(self, event: PostAsked, now: int) -> list[Effect]:
        try:
            effects = self.posting.post(event.item, now)
        except Invalid as error:
            if event.ticket is not None:
                return [Reply(event.ticket, Refusal(error.reason, error.detail))]
            return [Alarm(error.reason, self.id, error.detail)]
        return effects + ([] if event.ticket is None else [Reply(event.ticket, event.item.id)])

    def _unit_seen(self, key: NodeKey) -> None:
        address = address_of(key)
        if address == self._network.ledger_scheduler:
            self._keys[address] = key


__all__ = ["Checkpointed", "Ledger", "Missing", "Views"]
