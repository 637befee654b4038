"""Faults and demands on whole nodes with a ledger, over real TCP, in one process: honest units are
asked everything and lose nothing, then each of them is made to have signed what it must not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from aonode.crypto.signers import Ed25519Signer, sign_item
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv
from aonode.net.libp2p_wire import Libp2pWire
from aonode.node import Node, Parts, build_node
from aonode.processes import token_wasm
from aonode.store.memory import MemoryStore
from protocols.faults import Fault
from protocols.ids import ItemId, ProcessId, b64url
from protocols.ledger.entries import Bond, Case, Demanded, Fine, Unhosted
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.ledger.state import State
from protocols.ledger.subjects import demand_id
from protocols.machine.scheduler_faults import bad_item, two_assignments
from protocols.network import Network, Unit, demo_parameters
from protocols.wire.assignment import Chain, Slot, assignment_of
from protocols.wire.demand import (
    ASSIGNMENT,
    LEAVES,
    PUSH,
    SCHEDULE,
    SLOT,
    ScheduleSubject,
    SlotSubject,
    StatementSlot,
)
from protocols.wire.evidence import (
    Evidence,
    commitment,
    encode_evidence,
    evidence_hash,
    statement_id,
)
from protocols.wire.item import Item, Tag
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import (
    CommitEvidence,
    Demand,
    EvidencePart,
    RevealEvidence,
    Transaction,
)
from protocols.wire.proof import Receipt

pytestmark = pytest.mark.slow

TOKEN = 10**9
STAKE = 2000 * TOKEN
PARAMETERS = replace(
    demo_parameters(), tick_ms=200, demand_window=15, challenge_window=15, unbonding=60
)
AO = (Tag("Data-Protocol", "ao"), Tag("Variant", "ao.TN.1"))
SU, MU, CU, CU2 = (Ed25519Signer(bytes([number]) * 32) for number in (1, 2, 3, 4))
ROLES = {SU: "scheduler", MU: "messenger", CU: "compute", CU2: "compute"}
USER = Ed25519Signer(bytes([9]) * 32)
"""Has coins, and brings everything to the ledger."""
POLL_S = 0.05
WAIT_S_MAX = 60.0


def signed(
    *tags: Tag, target: bytes | None = None, number: int = 0, by: Ed25519Signer = USER
) -> Item:
    anchor = b"%032d" % number
    return sign_item(by, target=target, anchor=anchor, tags=[*AO, *tags], data=b" ")


class World:
    """Four staked nodes and a token process."""

    def __init__(self) -> None:
        self.env = ProductionEnv()
        engine = WasmEngine(
            fuel_max=PARAMETERS.fuel_max,
            memory_max=PARAMETERS.memory_max,
            output_bytes_max=PARAMETERS.output_bytes_max,
            outbox_max=PARAMETERS.outbox_max,
        )
        draft = unsigned_ledger(SU.key, "test", bytes(32))
        self.engine = engine
        self.network = Network(
            name="test",
            ledger_scheduler=SU.address,
            ledger_item=draft.signed(SU.sign(draft.message())).raw,
            profile=engine.profile,
            parameters=PARAMETERS,
            units=tuple(Unit(key.key, (role,), ()) for key, role in ROLES.items()),
            balances=((USER.address, 100_000 * TOKEN),),
            stakes=tuple((key.address, STAKE) for key in ROLES),
        )
        assert self.network.ledger is not None
        self.ledger: ProcessId = self.network.ledger
        self.nodes: list[Node] = []
        self.sequence = 0

    async def start(self, nursery: trio.Nursery) -> None:
        bootstrap: tuple[str, ...] = ()
        for signer, role in ROLES.items():
            wire = Libp2pWire(
                seed=signer.seed,
                network=self.network.id,
                listen="/ip4/127.0.0.1/tcp/0",
                bootstrap=bootstrap,
                env=self.env,
            )
            parts = Parts(
                env=self.env,
                wire=wire,
                db=MemoryStore(),
                sign_once=MemoryStore(),
                signer=signer,
                engine=self.engine,
            )
            node = build_node(roles=(role,), network=self.network, parts=parts, sole_copy=True)
            await nursery.start(node.run)
            bootstrap = bootstrap or tuple(wire.addresses())
            self.nodes.append(node)
        await self.until(lambda node: state_of(node).totals().tick > 0, "a first checkpoint")

    async def until(self, holds: Callable[[Node], bool], what: str) -> None:
        """Wait until it holds on every node."""
        with trio.move_on_after(WAIT_S_MAX):
            for node in self.nodes:
                while not holds(node):
                    await trio.sleep(POLL_S)
            return
        raise AssertionError(f"not within {WAIT_S_MAX} s: {what}")

    # Transactions

    async def post(self, tx: Transaction) -> ItemId:
        """Have it in the ledger's log; its item's id."""
        item = transaction_item(self.ledger, tx, USER.key, USER.sign)
        ledger = self.nodes[0].ledger
        assert ledger is not None
        await ledger.post(item)
        _, slot = await self.nodes[0].replica.wait_slot(item.id, WAIT_S_MAX)
        await ledger.follow(slot, WAIT_S_MAX)
        (folded,) = ledger.recent(slot, 1)
        assert folded.notes[0].kind != "refused", folded.notes[0].detail
        return item.id

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    async def demand(self, kind: int, subject: bytes, id: bytes) -> bytes:
        await self.post(Demand(self.next_sequence(), kind, subject))
        return id

    async def answered(self, id: bytes) -> None:
        def holds(node: Node) -> bool:
            entry = state_of(node).get(Demanded, id)
            assert entry is not None, "it is kept until its deadline"
            return entry.answered

        await self.until(holds, "an answer")

    async def accuse(self, evidence: Evidence) -> None:
        blob, salt = encode_evidence(evidence), bytes(32)
        hash = commitment(salt, evidence_hash(blob), USER.address)
        commit = await self.post(CommitEvidence(self.next_sequence(), hash, len(blob)))
        part = await self.post(EvidencePart(commit, blob))
        await self.post(RevealEvidence(commit, salt, (part,)))

    # The token process

    async def spawned(self) -> list[Slot]:
        """A process that pays another, whose log has the notice; the first three slots."""
        messenger = self.nodes[1]
        assert messenger.messenger is not None
        module = sign_item(
            USER, target=None, anchor=bytes(32),
            tags=[*AO, Tag("Type", "Module"), Tag("Module-Format", "ao-cbor-1")],
            data=token_wasm(),
        )  # fmt: skip
        await messenger.replica.put_module(module)
        tags = (
            Tag("Type", "Process"),
            Tag("Module", b64url(module.id)),
            Tag("Scheduler", b64url(SU.address)),
            Tag("Supply", "1000"),
            Tag("Authority", b64url(MU.address)),
        )
        payer, payee = signed(*tags, number=1), signed(*tags, number=2)
        for process in (payer, payee):
            await messenger.messenger.submit(process)
        transfer = signed(
            Tag("Type", "Message"), Tag("Action", "Transfer"),
            Tag("Recipient", b64url(payee.id)), Tag("Quantity", "1"),
            target=payer.id, number=3,
        )  # fmt: skip
        await messenger.messenger.submit(transfer)
        await self.nodes[2].replica.wait_slot(transfer.id, WAIT_S_MAX)

        def paid(node: Node) -> bool:
            chain = node.replica.chain(ProcessId(payee.id))
            return chain is not None and chain.nonce >= 1

        await self.until(paid, "the notice in the other log")
        notice = self.nodes[0].replica.slot(ProcessId(payee.id), 1)
        slots = [self.nodes[0].replica.slot(ProcessId(payer.id), nonce) for nonce in range(2)]
        found = [slot for slot in (*slots, notice) if slot is not None]
        assert len(found) == 3
        return found


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    net = World()
    with trio.fail_after(4 * WAIT_S_MAX):
        async with trio.open_nursery() as nursery:
            await net.start(nursery)
            yield net
            nursery.cancel_scope.cancel()


def after(slots: list[Slot], item: Item, now: int = 1 << 42) -> Slot:
    """What the scheduler signs if it gives `item` the slot after these."""
    chain = Chain.genesis(slots[0].process)
    for slot in slots:
        chain = chain.next(slot)
    draft = chain.draft(SU.key, now, item.id)
    return Slot(assignment_of(draft.signed(SU.sign(draft.message()))), item)


def false_push(notice: Item) -> Item:
    """The messenger's notice with another amount."""
    tags = [Tag(tag.name, "999" if tag.name == "Quantity" else tag.value) for tag in notice.tags]
    return sign_item(MU, target=notice.target, anchor=notice.anchor, tags=tags, data=notice.data)


async def test_honest_units_answer_every_demand_and_lose_nothing() -> None:
    async with world() as net:
        zero, one, notice = await net.spawned()
        head, process = ItemHead.of(zero.message), zero.process
        compute = net.nodes[2].compute
        assert compute is not None
        raw = (await compute.result(process, 1, WAIT_S_MAX)).receipt
        assert Receipt.decode(raw).cu == CU.key
        receipt = statement_id(raw)
        last = one.assignment.item.raw
        message = signed(Tag("Type", "Message"), target=process, number=9)
        demands = (
            (LEAVES, raw, (receipt,)),
            (ASSIGNMENT, StatementSlot(raw, 1).encode(), (receipt, 1)),
            (PUSH, ItemHead.of(notice.message).encode(), (notice.message.id,)),
            (SLOT, SlotSubject(head, last, 1).encode(), (process, 1)),
            (SCHEDULE, ScheduleSubject(head, last, message.raw).encode(), (process, message.id)),
        )
        ids = [
            await net.demand(kind, subject, demand_id(kind, *fields))
            for kind, subject, fields in demands
        ]
        for id in ids:
            await net.answered(id)
        assert net.nodes[2].replica.find(message.id) == (process, 2), "nobody else had offered it"
        state = state_of(net.nodes[3])
        for key in ROLES:
            assert state.get(Bond, key.address) == Bond(STAKE, 0, False)
        assert not list(state.all(Case))
        assert not list(state.all(Unhosted))


async def test_guilty_units_lose_what_the_table_says_on_every_node() -> None:
    async with world() as net:
        zero, one, notice = await net.spawned()
        head, process = ItemHead.of(zero.message), zero.process

        # S4: the scheduler has assigned an item that it must refuse.
        refusable = signed(Tag("Type", "Message"), Tag("Data+link", "x"), target=process)
        bad = after([zero, one], refusable)
        evidence = bad_item(zero.message, bad, PARAMETERS)
        assert evidence is not None
        await net.accuse(evidence)
        await net.until(lambda node: fined(node, Fault.BAD_ASSIGNMENT, 50), "S4")

        # S2 and F7: a slot that is nowhere, an item that is no outbox entry.
        hidden = after([zero, one], signed(Tag("Type", "Message"), target=process, number=7))
        subject = SlotSubject(head, hidden.assignment.item.raw, 2).encode()
        await net.demand(SLOT, subject, b"")
        pushed = ItemHead.of(false_push(notice.message)).encode()
        await net.demand(PUSH, pushed, b"")
        await net.until(lambda node: fined(node, Fault.UNPUBLISHED, 20), "S2")
        await net.until(lambda node: burnt(node, MU, Fault.FALSE_PUSH), "F7")
        # S1: the hidden slot and the bad one are one slot.
        twice = two_assignments(zero.message, bad.assignment, hidden.assignment)
        assert twice is not None
        await net.accuse(twice)
        await net.until(lambda node: burnt(node, SU, Fault.TWO_ASSIGNMENTS), "S1")

        def selected(node: Node) -> bool:
            mark = state_of(node).get(Unhosted, process)
            return mark is not None and mark.assignment == bad.assignment.id

        await net.until(selected, "the branch that holds")
        for key in (CU, CU2):
            for node in net.nodes:
                assert state_of(node).get(Bond, key.address) == Bond(STAKE, 0, False)


def state_of(node: Node) -> State:
    """The ledger as this node has folded it."""
    assert node.ledger is not None
    return node.ledger.state()


def fined(node: Node, fault: Fault, percent: int) -> bool:
    """Whether the scheduler has paid this share, of what it had before all unburnt shares."""
    found = [
        record
        for _, record in state_of(node).all(Fine, SU.address)
        if record.reason.startswith(fault) and record.burnt_tick is not None
    ]
    whole = STAKE if fault is Fault.BAD_ASSIGNMENT else STAKE // 2
    return [record.amount for record in found] == [whole * percent // 100]


def burnt(node: Node, key: Ed25519Signer, fault: Fault) -> bool:
    case = state_of(node).get(Case, key.address)
    return case is not None and case.reason.startswith(fault) and case.burnt_tick is not None
