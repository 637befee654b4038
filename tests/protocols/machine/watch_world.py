"""Watchers around one toy process and one ledger: every effect is answered, nothing is faked but
the engine, and any of them may lose its memory at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.ledger.entries import Bond, Case
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.machine.audit import Own, OwnLeaves
from protocols.machine.effects import (
    Audit,
    Effect,
    Event,
    Notify,
    Persist,
    RunSegment,
    Send,
    SetTimer,
    TimerFired,
)
from protocols.machine.events import (
    Audited,
    Evaluated,
    FoldedSlot,
    LeavesArrived,
    LedgerMoved,
    PeersChanged,
    PostAsked,
    ProofsArrived,
    SegmentRun,
    StatementArrived,
    VoteArrived,
)
from protocols.machine.watch import Views
from protocols.machine.watching import Watching
from protocols.network import Network
from protocols.trust import Verified
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.item import Item
from protocols.wire.ledger_tx import Transaction
from protocols.wire.proof import Leaf, Receipt, Statement, StateProof
from protocols.wire.proof_streams import LeavesRequest, ProofsRequest
from protocols.wire.topics import Protocol
from protocols.wire.vote import Vote
from tests.protocols.ledger.world import PARAMETERS, RICH, STAKERS, TOKEN, Ledger, network
from tests.protocols.machine.world import MODULE, Key
from tests.protocols.toy import SCHEDULER as LOG_KEEPER
from tests.protocols.toy import Branch, branches, receipts, state_proof, toy_run

SCHEDULER = Key.of("ledger scheduler")
TRUTH, FORKED = branches()
PROCESS = ProcessId(TRUTH.process.id)


def world_network() -> Network:
    unsigned = unsigned_ledger(SCHEDULER.public, "test", bytes(32))
    item = unsigned.signed(SCHEDULER.sign(unsigned.message()))
    return network(
        ledger_scheduler=SCHEDULER.address,
        ledger_item=item.raw,
        slashable_modules=(ItemId(MODULE),),
        stakes=(
            *((key.address, 2000 * TOKEN) for key in STAKERS),
            (LOG_KEEPER.address, 100 * TOKEN),
        ),
        balances=(
            (RICH.address, 100_000 * TOKEN),
            *((key.address, 500 * TOKEN) for key in STAKERS[1:]),
        ),
    )


class Node:
    """One watcher and its disk."""

    def __init__(
        self, world: World, key: Key, *, evaluates: bool, branch: Branch, audit_share: int
    ) -> None:
        self.world = world
        self.key = key
        self.evaluates = evaluates
        self.branch = branch
        self.audit_share = audit_share
        self.upto = len(branch.slots)
        self.rows: dict[bytes, bytes] = {}
        self.audits: list[Audit] = []
        self.posted: list[Item] = []
        self.heard: list[bytes] = []
        self.start()

    def start(self) -> None:
        """From the disk alone."""
        self.machine = Watching(
            network=self.world.network,
            key=self.key.public,
            sign=self.key.sign,
            views=self._views(),
            audit_share=self.audit_share,
        )
        self.machine.recover((key[1:], row) for key, row in sorted(self.rows.items()))

    def _views(self) -> Views:
        world = self.world
        return Views(
            own=self._own,
            slots=cast("Any", self._slots),
            placed=world.placed,
            proofs=self._proofs,
            newest=lambda: [raw for raw in self.heard if raw[:1] != b"\x8a"],
            signed=world.signed,
            item_signed=world.item_signed,
            find=lambda id, process: None,
            processes=lambda: [PROCESS],
            result=lambda process, slot: None,
            lot=lambda: 0,
        )

    def _own(self, process: ProcessId) -> OwnLeaves | None:
        if not self.evaluates or process != PROCESS:
            return None
        own = Own(self.branch.own().head_genesis)
        for leaf, head in list(zip(self.branch.leaves, self.branch.heads, strict=True))[
            : self.upto
        ]:
            own.append(leaf, head)
        return own

    def _slots(self, process: ProcessId, first: int, last: int) -> Sequence[Any]:
        if process == self.world.network.ledger:
            items = self.world.items[first : last + 1]
            return [SimpleNamespace(message=each) for each in items]
        return self.branch.slots[first : last + 1] if process == PROCESS else []

    def _proofs(self, process: ProcessId, cu: NodeKey, first: int) -> Sequence[bytes]:
        found = [raw for raw in self.heard if raw[:1] != b"\x8a"]
        return [
            raw
            for raw in found
            if (proof := StateProof.decode(raw)).cu == cu and proof.last >= first
        ]

    def on(self, event: Event) -> None:
        if isinstance(event, StatementArrived):
            self.heard.append(event.raw)
        for effect in self.machine.on(event, self.world.now()):
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Persist(key=key, value=None):
                self.rows.pop(key, None)
            case Persist(key=key, value=bytes(value)):
                self.rows[key] = value
            case Notify(event=PostAsked(item=item)):
                self.posted.append(item)
                world.post(item)
            case Audit():
                self.audits.append(effect)
                world.later(self, self._audited(effect))
            case SetTimer(key=key, at_ms=at_ms):
                world.timers[self, key] = at_ms
            case RunSegment(segment=segment):
                world.later(self, SegmentRun(segment.fact, toy_run(segment)))
            case Send(protocol=Protocol.LEAVES):
                raw = LeavesRequest.decode(effect.body).statement
                leaves = world.leaves.get((effect.peer, statement_id(raw)))
                answer = LeavesArrived(statement_id(raw), effect.peer, (), leaves, effect.tag)
                world.later(self, answer)
            case Send(protocol=Protocol.PROOFS):
                asked = ProofsRequest.decode(effect.body)
                told = tuple(
                    Verified(proof)
                    for proof in world.given.get(effect.peer, ())
                    if proof.last >= asked.from_slot
                )
                world.later(self, ProofsArrived(effect.peer, told, (), effect.tag))
            case _:
                raise AssertionError(f"{effect} is none of a watcher")

    def _audited(self, effect: Audit) -> Audited:
        start = effect.witness_at
        witness = None if start is None else self.branch.witness(start)
        return Audited(effect.process, self.branch.leaves[: effect.last + 1], start, witness)

    def stages(self) -> list[str]:
        return [case.stage.value for case in self.machine.cases()]


class World(Ledger):
    """The ledger, and who watches."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._waiting: deque[tuple[Node, Event]] = deque()
        self._posts: dict[ItemId, Item] = {}
        self.timers: dict[tuple[Node, tuple[Any, ...]], int] = {}
        self._now = 1_000_000
        self.leaves: dict[tuple[NodeKey, bytes], tuple[bytes, ...]] = {}
        """Leaf hashes a unit gives for its statement."""
        self.given: dict[NodeKey, list[StateProof]] = {}
        """Proofs a unit gives."""
        self.crash: Callable[[Node, Event], bool] = lambda node, event: False
        """Whether a node loses its memory before it hears this."""
        super().__init__(world_network(), toy_run)

    def node(self, key: Key, **changes: Any) -> Node:
        options = {"evaluates": True, "branch": TRUTH, "audit_share": 0, **changes}
        node = Node(self, key, **options)
        self.nodes.append(node)
        node.on(PeersChanged(tuple(sorted(each.public for each in STAKERS if each is not key))))
        node.on(LedgerMoved(self.state, self.head, ()))
        return node

    def now(self) -> int:
        self._now += 1
        return self._now

    def placed(self, id: ItemId) -> int | None:
        return next((at for at, each in enumerate(self.items) if each.id == id), None)

    def post(self, item: Item) -> None:
        if self.placed(item.id) is None:
            self._posts[item.id] = item

    def later(self, node: Node, event: Event) -> None:
        self._waiting.append((node, event))

    def say(self, event: Event, *nodes: Node) -> None:
        for node in nodes or self.nodes:
            self.later(node, event)
        self.settle()

    def fold(self, item: Item) -> None:
        notes = super().slot(item)
        slot = FoldedSlot(len(self.items) - 1, item, notes)
        for node in self.nodes:
            self.later(node, LedgerMoved(self.state, self.head, (slot,)))

    def settle(self) -> None:
        """Until nobody has anything to do."""
        while self._waiting or self._posts or self._ring():
            while self._waiting:
                node, event = self._waiting.popleft()
                if self.crash(node, event):
                    node.start()
                    self._waiting = deque(
                        each
                        for each in self._waiting
                        if each[0] is not node or isinstance(each[1], LedgerMoved)
                    )
                    node.on(LedgerMoved(self.state, self.head, ()))
                else:
                    node.on(event)
            if self._posts:
                self.fold(self._posts.pop(next(iter(self._posts))))

    def _ring(self) -> bool:
        """Nobody has anything to do: the next timer runs out, if one is set."""
        if not self.timers:
            return False
        node, key = first = min(self.timers, key=lambda each: self.timers[each])
        self._now = max(self._now, self.timers.pop(first))
        self.later(node, TimerFired(key))
        return True

    def pass_time(self, ticks: int = 1, signers: Sequence[Key] = STAKERS[1:]) -> None:
        """Final checkpoints, one tick after another."""
        for _ in range(ticks):
            tx = self.checkpoint(1, signers)
            self._now += self.network.parameters.tick_ms
            self.fold(self._item(RICH, tx))
            self.settle()

    def _item(self, key: Key, tx: Transaction) -> Item:
        assert self.network.ledger is not None
        return transaction_item(self.network.ledger, tx, key.public, key.sign)

    def send(self, key: Key, tx: Transaction) -> None:
        """Somebody's own transaction."""
        self.fold(self._item(key, tx))
        self.settle()

    # Statements

    def sealed(self, statement: Statement, key: Key) -> bytes:
        """The statement as one of this network, signed by `key`."""
        draft = replace(statement, network=self.network.id, cu=key.public, signature=b"")
        return draft.signed(key.sign(draft.signing_bytes())).encode()

    def proof(
        self, key: Key, leaves: Sequence[Leaf], first: int, last: int, **changes: Any
    ) -> bytes:
        """A unit's state proof, if these are its leaves; it gives their hashes to who asks."""
        made = receipts(leaves, TRUTH.heads, key)
        proof = replace(state_proof(made, first, last, key), **changes)
        raw = self.sealed(proof, key)
        hashes = tuple(leaf.hash() for leaf in leaves[first : last + 1])
        self.leaves[key.public, statement_id(raw)] = hashes
        return raw

    def receipt(self, key: Key, leaves: Sequence[Leaf], slot: int, **changes: Any) -> bytes:
        made = receipts(leaves, TRUTH.heads, key)[slot]
        return self.sealed(replace(made, **changes), key)

    def hear(self, raw: bytes, *nodes: Node) -> None:
        self.say(StatementArrived(raw, Verified(statement_of(raw))), *nodes)

    def vote(self, vote: Vote) -> None:
        self.say(VoteArrived(Verified(vote)))

    def evaluated(self, node: Node, upto: int) -> None:
        node.upto = upto
        self.say(Evaluated(PROCESS, upto - 1), node)

    # What became of it

    def frozen(self) -> list[Key]:
        return [key for key in (*STAKERS, LOG_KEEPER) if self._bond(key).frozen]

    def burnt(self) -> list[Key]:
        return [key for key in STAKERS if (case := self.case(key)) and case.burnt_tick is not None]

    def case(self, key: Key) -> Case | None:
        return self.state.get(Case, key.address)

    def _bond(self, key: Key) -> Bond:
        return self.state.get(Bond, key.address) or Bond(0, 0, False)


__all__ = ["FORKED", "LOG_KEEPER", "PARAMETERS", "PROCESS", "TRUTH", "Node", "Receipt", "World"]
