"""A ledger behind a fake node: a test's own fold, and a watcher that remembers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio

from aonode.api import HeardProof
from aonode.crypto.signers import Ed25519Signer
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ProcessId, b64url
from protocols.ledger.entries import Demanded
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.ledger.state import State
from protocols.machine.events import FoldedSlot
from protocols.network import Network
from protocols.parameters import Parameters, demo_parameters
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.item import Item
from protocols.wire.ledger_tx import Checkpoint, Transaction
from protocols.wire.proof import Statement
from tests.aonode.fakes import FakeNetwork, signer
from tests.protocols.ledger.world import TOKEN, Ledger
from tests.protocols.machine.world import Key

STAKE = 2000 * TOKEN
RICH = 100_000 * TOKEN


def with_ledger(world: FakeNetwork, parameters: Parameters | None = None) -> Network:
    """Give the world's network a ledger with the compute units as stakers, client 7 as rich."""
    draft = unsigned_ledger(world.scheduler.key, "fake", bytes(32))
    item = draft.signed(world.scheduler.sign(draft.message()))
    world.network = replace(
        world.network,
        parameters=parameters or demo_parameters(),
        ledger_item=item.raw,
        balances=((signer(7).address, RICH),),
        stakes=tuple((each.address, STAKE) for each in world.computes),
    )
    world.schedule(item)
    return world.network


def key_of(one: Ed25519Signer) -> Key:
    return Key(one.key, one.seed + one.key)


def open_demand(accused: Address, *, deadline: int) -> Demanded:
    """Somebody demands something, for no bond."""
    return Demanded(
        demander=Address(bytes(32)),
        accused=accused,
        kind=0,
        subject=b"",
        bond=0,
        deadline=deadline,
        answered=False,
        slot=0,
    )


class FakeLedger:
    """Folds the world's ledger log whenever it is asked; final as far as its own votes go."""

    def __init__(self, world: FakeNetwork) -> None:
        self._world = world
        network = world.network
        assert network.ledger is not None
        self.process = network.ledger
        self.fold = Ledger(network)
        self.fold.head = world.head(self.process, 0)
        self.folded: list[FoldedSlot] = []
        self._final: tuple[Item, State] | None = None

    def catch_up(self) -> None:
        """Fold what is new in the log. Slot 0 has been."""
        for slot in self._world.logs[self.process][1 + len(self.folded) :]:
            notes = self.fold.slot(slot.message)
            self.fold.head = self._world.head(self.process, slot.nonce)
            self.folded.append(FoldedSlot(slot.nonce, slot.message, notes))

    def do(self, by: Ed25519Signer, tx: Transaction) -> None:
        """Schedule and fold one transaction."""
        self._world.schedule(transaction_item(self.process, tx, by.key, by.sign))
        self.catch_up()

    def tick(self, ticks: int = 1) -> None:
        """A checkpoint by all compute units, which becomes final."""
        self.catch_up()
        state = self.fold.state
        tx: Checkpoint = self.fold.checkpoint(
            ticks, [key_of(each) for each in self._world.computes]
        )
        self.do(self._world.scheduler, tx)
        assert self.fold.state.totals().tick == tx.tick, self.folded[-1].notes
        self._final = self.folded[-1].item, state

    # LedgerApi

    def state(self) -> State:
        self.catch_up()
        return self.fold.state

    def head(self) -> bytes:
        self.catch_up()
        return self.fold.head

    def final(self) -> tuple[Item, State] | None:
        return self._final

    def recent(self, first: int, limit: int) -> list[FoldedSlot]:
        self.catch_up()
        return [row for row in self.folded if row.nonce >= first][:limit]

    async def follow(self, slot: int, timeout_s: float) -> None:
        await trio.lowlevel.checkpoint()
        self.catch_up()
        if self.fold.state.totals().slot < slot:
            raise Invalid(Reason.TIMEOUT, f"ledger slot {slot} is not folded here yet")

    async def post(self, item: Item) -> None:
        await trio.lowlevel.checkpoint()
        self._world.schedule(item)


class FakeWatcher:
    """Remembers who was accused."""

    def __init__(self, world: FakeNetwork) -> None:
        self._world = world
        self.accused: dict[bytes, Statement] = {}

    def cases(self) -> list[dict[str, Any]]:
        return [{"statement": b64url(id), "status": "open"} for id in self.accused]

    def show(self, statement: bytes) -> dict[str, Any] | None:
        found = self.accused.get(statement)
        return None if found is None else {"statement": b64url(statement), "unit": b64url(found.cu)}

    async def accuse(self, raw: bytes) -> None:
        await trio.lowlevel.checkpoint()
        statement = statement_of(raw)
        if statement.network != self._world.network.id:
            raise Invalid(Reason.WRONG_NETWORK, f"of network {b64url(statement.network)}")
        self.accused[statement_id(raw)] = statement


class FakeProofs:
    """What a test says was heard."""

    def __init__(self) -> None:
        self.rows: list[tuple[ProcessId, int, HeardProof]] = []

    def heard(self, process: ProcessId, first: int, limit: int) -> list[HeardProof]:
        rows = sorted(
            (last, row.raw, row.tick)
            for of, last, row in self.rows
            if of == process and last >= first
        )
        return [HeardProof(raw, tick) for _, raw, tick in rows][:limit]
