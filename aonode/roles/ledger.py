"""The ledger on a node: what its machine reads, and what others may ask of it."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from aonode.crypto.verify import verify_ed25519, verify_item
from aonode.ports import Store
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from aonode.roles.waiters import Waiters
from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.ledger.draft import Note
from protocols.ledger.state import State
from protocols.machine.effects import Event
from protocols.machine.events import FoldedSlot, LedgerMoved, PostAsked
from protocols.machine.ledger import Checkpointed, Ledger, Views
from protocols.network import Parameters
from protocols.wire.assignment import Slot
from protocols.wire.item import Item, decode_item
from protocols.wire.ledger_tx import EvidencePart, read_data
from protocols.wire.vote import Vote

RECENT_SLOTS_MAX = 1024
"""Slots one question may ask for."""
_MOVED = "moved"


class LedgerViews:
    """`protocols.machine.ledger.Views` over the local log replica."""

    def __init__(self, ledger: ProcessId, replica: ReplicaRole) -> None:
        self._ledger = ledger
        self._replica = replica

    def views(self) -> Views:
        """What the machine is given."""
        return Views(self.slots, self.part, verify_ed25519, item_signed)

    def slots(self, first: int, last: int) -> Sequence[Slot]:
        """Durable slots of the ledger's log."""
        return self._replica.slots(self._ledger, first, last, last - first + 1)

    def part(self, id: ItemId) -> bytes:
        """Data of an Evidence-Part transaction."""
        found = self._replica.find(id, self._ledger)
        slot = None if found is None else self._replica.slot(*found)
        assert slot is not None, f"part {b64url(id)} of the ledger's state is not in its log"
        return EvidencePart.of_value(read_data(slot.message)).data


def item_signed(item: Item) -> bool:
    """Whether an item's owner signed it."""
    try:
        verify_item(item)
    except Invalid:
        return False
    return True


class LedgerRole:
    """Adapter of `protocols.machine.ledger`; `aonode.api.LedgerApi`."""

    def __init__(
        self,
        *,
        machine: Ledger,
        db: Store,
        sign_once: Store,
        replica: ReplicaRole,
        parameters: Parameters,
    ) -> None:
        self._machine = machine
        self._db = db
        self._sign_once = sign_once
        self._replica = replica
        self._parameters = parameters
        self._waiters = Waiters()
        self._state, self._head = machine.state, machine.head
        self._final: Checkpointed | None = None
        self._slot = -1
        self.runner: Runner | None = None

    def recover(self) -> None:
        """Tell the machine what is durable."""
        chain = self._replica.chain(self._machine.id)
        snapshots = list(
            self._db.scan(*keyspace.prefix_range(Prefix.LEDGER), limit=1, reverse=True)
        )
        self._machine.recover(
            tip=-1 if chain is None else chain.nonce,
            snapshot=next(((keyspace.nonce_of(key), row) for key, row in snapshots), None),
            facts=[
                (keyspace.id_of(key), row)
                for key, row in self._db.scan(*keyspace.prefix_range(Prefix.FACT))
            ],
            votes=[row for _, row in self._sign_once.scan(*keyspace.prefix_range(Prefix.VOTE))],
            posts=[
                decode_item(row, size_max=self._parameters.item_bytes_max)
                for _, row in self._db.scan(*keyspace.prefix_range(Prefix.POST))
            ],
        )
        self._state, self._head = self._machine.state, self._machine.head

    def moved(self, event: Event) -> None:
        """The ledger was folded further, durably."""
        assert isinstance(event, LedgerMoved)
        self._state, self._head = event.state, event.head
        self._final = self._machine.final
        last, self._slot = self._slot, event.state.totals().slot
        for slot in range(last + 1, self._slot + 1):
            self._waiters.tell(slot, None)
        self._waiters.tell(_MOVED, None)

    def is_staked(self, key: NodeKey) -> bool:
        """Whether a key's vote has any weight."""
        return self._machine.weight(key) > 0

    @property
    def stopped(self) -> str:
        """Why the ledger is folded no further here; empty while it is."""
        return self._machine.stopped

    def votes_of(self, key: NodeKey) -> list[Vote]:
        """What this node remembers of a staker's votes; of itself, all that it has kept."""
        return self._machine.voting.votes_of(key)

    def notes(self, slot: int) -> tuple[Note, ...] | None:
        """What the fold made of a slot; None if it was folded long ago, or not yet."""
        return self._machine.notes(slot) if slot <= self._slot else None

    # LedgerApi

    def state(self) -> State:
        return self._state

    def head(self) -> bytes:
        return self._head

    def final(self) -> tuple[Item, State] | None:
        final = self._final
        return None if final is None else (final.item, final.state)

    def recent(self, first: int, limit: int) -> list[FoldedSlot]:
        last = min(self._slot, first + min(limit, RECENT_SLOTS_MAX) - 1)
        told: list[FoldedSlot] = []
        for nonce in range(max(first, 0), last + 1):
            notes, slot = self.notes(nonce), self._replica.slot(self._machine.id, nonce)
            if notes is not None and slot is not None:
                told.append(FoldedSlot(nonce, slot.message, notes))
        return told

    async def follow(self, slot: int, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            if self._slot < slot:
                with self._waiters.wait(slot) as told:
                    await told()
        if self._slot < slot:
            raise Invalid(
                Reason.TIMEOUT,
                f"ledger slot {slot} is not folded here after {timeout_s:g} s, but "
                f"{self._slot}; try again",
            )

    async def reach(self, tick: int, timeout_s: float) -> None:
        """Returns once checkpoint `tick` is final here; raises Invalid(TIMEOUT)."""
        with trio.move_on_after(timeout_s):
            while self._state.totals().tick < tick:
                with self._waiters.wait(_MOVED) as told:
                    await told()
        reached = self._state.totals().tick
        if reached < tick:
            raise Invalid(
                Reason.TIMEOUT,
                f"checkpoint {tick} is not final here after {timeout_s:g} s, but {reached}; "
                "try again",
            )

    async def post(self, item: Item) -> None:
        assert self.runner is not None, "a role is run by its node"
        await self.runner.ask(lambda ticket: PostAsked(item, ticket))


__all__ = ["LedgerRole", "LedgerViews", "item_signed"]
