"""Ledger machines in a small world: one log, links with delays, power cuts, one virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from aonode.crypto.verify import verify_ed25519
from aonode.roles.ledger import item_signed
from protocols import keyspace
from protocols.court import Segment
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.keyspace import Prefix
from protocols.ledger.process import transaction_item, unsigned_ledger
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Event,
    Notify,
    Publish,
    RunSegment,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import (
    Extended,
    LedgerMoved,
    PeersChanged,
    PostAsked,
    ProofsArrived,
    SegmentRun,
    VoteArrived,
)
from protocols.machine.ledger import Ledger, Views
from protocols.network import Network, Unit, sim_parameters
from protocols.parameters import Parameters
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot
from protocols.wire.batch import InlineItem
from protocols.wire.item import Item, decode_item
from protocols.wire.ledger_tx import EvidencePart, Transaction, read_data
from protocols.wire.proof_streams import ProofsRequest
from protocols.wire.streams import MessageAnswer, MessageFate, MessageRequest
from protocols.wire.topics import Protocol, Topic
from protocols.wire.vote import VOTE_BYTES_MAX, Vote
from tests.protocols.machine.world import MODULE, Disk, Key, next_slot
from tests.protocols.toy import PROFILE

TOKEN = 10**9
SCHEDULER = Key.of("ledger scheduler")
RICH = Key.of("rich")
START_MS = 1_000_000
PARAMETERS: Parameters = replace(sim_parameters(), tick_ms=1000, root_every=4, proof_every=8)


def ledger_network(
    stakers: Sequence[Key], parameters: Parameters = PARAMETERS, **changes: object
) -> Network:
    """A network whose ledger `SCHEDULER` keeps."""
    draft = unsigned_ledger(SCHEDULER.public, "test", bytes(32))
    base = Network(
        name="test",
        ledger_scheduler=SCHEDULER.address,
        profile=PROFILE,
        parameters=parameters,
        units=(
            Unit(SCHEDULER.public, ("scheduler",), ()),
            *(Unit(key.public, ("compute",), ()) for key in stakers),
        ),
        slashable_modules=(ItemId(MODULE),),
        balances=((RICH.address, 100_000 * TOKEN),),
        stakes=tuple((key.address, 2000 * TOKEN) for key in stakers),
        ledger_item=draft.signed(SCHEDULER.sign(draft.message())).raw,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


Run = Callable[[Segment], tuple[bytes, ...] | None]


@dataclass
class World:
    """The log and the links."""

    network: Network
    random: random.Random = field(default_factory=lambda: random.Random(1))
    delay_ms: tuple[int, int] = (5, 40)
    loss: float = 0.0
    run: Run | None = None
    """What running a segment gives."""
    lag_ms: int = 0
    """Events wait up to this long for a machine, and are one group then."""

    def __post_init__(self) -> None:
        self.now = START_MS
        self.log: list[Slot] = []
        self.chain = Chain.genesis(self.id)
        self.nodes: list[LedgerNode] = []
        self.votes: dict[tuple[NodeKey, int], set[bytes]] = {}
        """All that ever left a node, by key and tick."""
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.schedule(decode_item(self.network.ledger_item, size_max=1 << 16))

    @property
    def id(self) -> ProcessId:
        assert self.network.ledger is not None
        return self.network.ledger

    def at(self, at_ms: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._numbers), act))

    def later(self, act: Callable[[], None]) -> None:
        """After one trip over a link."""
        self.at(self.now + self.random.randint(*self.delay_ms), act)

    def until(self, at_ms: int) -> None:
        """Let everything happen up to then."""
        while self._heap and self._heap[0][0] <= at_ms:
            at, _, act = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            act()
        self.now = at_ms

    def run_for(self, ms: int) -> None:
        self.until(self.now + ms)

    def settle(self) -> None:
        """Until all who are up, and can, have folded the whole log."""
        for _ in range(2000):
            if all(
                node.machine.slot == len(self.log) - 1
                for node in self.nodes
                if node.up and not node.refuses
            ):
                return
            self.run_for(2)
        raise AssertionError(f"they do not catch up: {[each.machine.slot for each in self.nodes]}")

    # The scheduler

    def schedule(self, item: Item) -> int:
        """The slot of an item: the one it has, or the next."""
        for slot in self.log:
            if slot.message.id == item.id:
                return slot.nonce
        slot = next_slot(SCHEDULER, self.chain, item, self.now)
        self.chain = self.chain.next(slot)
        self.log.append(slot)
        for node in self.nodes:
            self.later(lambda node=node: node.learn(slot.nonce))  # type: ignore[misc]
        return slot.nonce

    def do(self, key: Key, tx: Transaction) -> int:
        """A transaction of a client."""
        return self.schedule(transaction_item(self.id, tx, key.public, key.sign))

    def ask_scheduler(self, node: LedgerNode, sent: Send) -> None:
        assert sent.peer == SCHEDULER.public
        assert sent.protocol is Protocol.MESSAGE
        fates = []
        for ref in MessageRequest.decode(sent.body):
            if isinstance(ref, InlineItem):
                item = decode_item(ref.raw, size_max=1 << 21)
            else:
                raw = node.disk.tables[Table.ITEMS][keyspace.post_key(ref.id)]
                item = decode_item(raw, size_max=1 << 21)
            fates.append(MessageFate(item.id, self.schedule(item), None))
        frames = (MessageAnswer(tuple(fates)).encode(),)
        life = node.life
        self.later(lambda: node.post_in(life, Answered(sent.tag, sent.peer, frames)))

    def ask_peer(self, node: LedgerNode, life: int, sent: Send) -> None:
        """What a peer remembers of the asker's votes; nothing from one that is down."""
        asked = ProofsRequest.decode(sent.body)
        assert asked.votes
        assert asked.cu == node.key.public
        peer = next((each for each in self.nodes if each.key.public == sent.peer), None)
        if peer is None:
            answer = ProofsArrived(sent.peer, (), (), sent.tag)
        elif not peer.up:
            answer = ProofsArrived(sent.peer, None, (), sent.tag)
        else:
            votes = peer.machine.voting.votes_of(node.key.public)
            answer = ProofsArrived(sent.peer, (), tuple(Verified(vote) for vote in votes), sent.tag)
        self.later(lambda: node.post_in(life, answer))

    def connect(self) -> None:
        """Tell everybody who is up."""
        for node in self.nodes:
            peers = [each.key.public for each in self.nodes if each.up and each is not node]
            peers.append(SCHEDULER.public)
            self.later(lambda node=node, peers=tuple(peers): node.post(PeersChanged(peers)))  # type: ignore[misc]

    # Gossip

    def gossip(self, sender: LedgerNode, raw: bytes) -> None:
        vote = Vote.decode(raw, size_max=VOTE_BYTES_MAX)
        assert verify_ed25519(vote.key, vote.signing_bytes(), vote.signature)
        self.votes.setdefault((vote.key, vote.tick), set()).add(raw)
        for node in self.nodes:
            if node is not sender and self.random.random() >= self.loss:
                self.later(lambda node=node: node.post(VoteArrived(Verified(vote))))  # type: ignore[misc]

    def node(self, key: Key) -> LedgerNode:
        """One more node, started."""
        node = LedgerNode(self, key)
        self.nodes.append(node)
        node.start()
        self.connect()
        return node

    def check(self) -> None:
        """Nobody contradicts itself, and all who stand at one slot have one root."""
        for (_, tick), raws in self.votes.items():
            assert len(raws) == 1, f"two votes of one key for tick {tick}"
        roots: dict[int, bytes] = {}
        for node in self.nodes:
            for slot, root in node.roots.items():
                assert roots.setdefault(slot, root) == root, f"two roots after slot {slot}"


class LedgerNode:
    """One machine with a disk; its runner in miniature."""

    def __init__(self, world: World, key: Key) -> None:
        self.world = world
        self.key = key
        self.disk = Disk()
        self.tip = -1
        """The durable log replica, which is not what is tested here."""
        self.up = False
        self.life = 0
        self.machine: Ledger
        self.roots: dict[int, bytes] = {}
        self.moves: list[LedgerMoved] = []
        self.asked: list[bytes] = []
        self.alarms: list[Alarm] = []
        self.refuses = ""
        self.cut_in: int | None = None
        """Groups until the power goes: after the commit, before anything leaves."""
        self._timers: dict[object, int] = {}
        self._inbox: list[Event] = []

    def start(self) -> None:
        self.life += 1
        self.up = True
        self._timers, self._inbox = {}, []
        world, disk = self.world, self.disk
        views = Views(self._slots, self._part, verify_ed25519, item_signed)
        self.machine = Ledger(
            network=world.network, key=self.key.public, sign=self.key.sign, views=views
        )
        rows = disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.LEDGER))
        assert len(rows) <= 1, "the older snapshot goes with the newer"
        posts = disk.scan(Table.ITEMS, *keyspace.prefix_range(Prefix.POST))
        facts = disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.FACT))
        votes = disk.scan(Table.SIGN_ONCE, *keyspace.prefix_range(Prefix.VOTE))
        self.machine.recover(
            tip=self.tip,
            snapshot=(keyspace.nonce_of(rows[0][0]), rows[0][1]) if rows else None,
            facts=[(keyspace.id_of(key), row) for key, row in facts],
            votes=[row for _, row in votes],
            posts=[decode_item(row, size_max=1 << 21) for _, row in posts],
        )
        self.post(Started())
        if self.tip < len(world.log) - 1:
            self.learn(len(world.log) - 1)

    def restart(self) -> None:
        """After a crash, or in its stead."""
        self.up = False
        self.start()
        self.world.connect()

    def crash(self) -> None:
        self.up = False

    def learn(self, nonce: int) -> None:
        """The log replica has grown; also while the machine is down it stays."""
        if not self.up or nonce <= self.tip:
            return
        slots = tuple(self.world.log[self.tip + 1 : nonce + 1])
        self.tip = nonce
        self.post(Extended(slots[0].process, slots, tuple(bytes(32) for _ in slots)))

    def ask(self, item: Item) -> None:
        self.post(PostAsked(item))

    def post_in(self, life: int, event: Event) -> None:
        if self.life == life:
            self.post(event)

    def post(self, event: Event) -> None:
        if not self.world.lag_ms:
            self.group([event])
            return
        self._inbox.append(event)
        if len(self._inbox) == 1:
            life, world = self.life, self.world
            world.at(world.now + world.random.randint(0, world.lag_ms), lambda: self._drain(life))

    def _drain(self, life: int) -> None:
        if self.life == life:
            events, self._inbox = self._inbox, []
            self.group(events)

    def group(self, events: Sequence[Event]) -> None:
        if not self.up:
            return
        effects = [effect for event in events for effect in self.machine.on(event, self.world.now)]
        self.disk.write(effects)
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in = None
                self.crash()
                return
        for effect in effects:
            self._release(effect)

    def _release(self, effect: Effect) -> None:
        world, life = self.world, self.life
        match effect:
            case SetTimer(key=key, at_ms=at):
                self._timers[key] = at
                world.at(at, lambda: self._fire(life, key, at))
            case Publish(topic=topic, entry=entry):
                assert topic is Topic.VOTES
                world.gossip(self, entry)
            case Send(protocol=Protocol.MESSAGE):
                world.later(lambda: world.ask_scheduler(self, effect))
            case Send(protocol=Protocol.PROOFS):
                world.later(lambda: world.ask_peer(self, life, effect))
            case RunSegment(segment=segment):
                self.asked.append(segment.fact)
                world.later(lambda: self._answer(life, segment))
            case Notify(event=LedgerMoved() as moved):
                self.moves.append(moved)
                slot = moved.state.totals().slot
                assert self.roots.setdefault(slot, moved.state.root()) == moved.state.root()
            case Alarm():
                self.alarms.append(effect)

    def _fire(self, life: int, key: tuple[object, ...], at: int) -> None:
        if self.life == life and self._timers.get(key) == at:
            del self._timers[key]
            self.post(TimerFired(key))

    def _answer(self, life: int, segment: Segment) -> None:
        assert self.world.run is not None, "no segment should be asked for"
        leaves = None if self.refuses else self.world.run(segment)
        self.post_in(life, SegmentRun(segment.fact, leaves, self.refuses))

    def _slots(self, first: int, last: int) -> list[Slot]:
        assert last <= self.tip
        return self.world.log[first : last + 1]

    def _part(self, id: ItemId) -> bytes:
        found = next(slot for slot in self.world.log if slot.message.id == id)
        return EvidencePart.of_value(read_data(found.message)).data

    @property
    def tick(self) -> int:
        return self.machine.state.totals().tick
