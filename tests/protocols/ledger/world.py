"""A ledger in a test: keys with coins and stakes, and transactions in slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols.codec import digest
from protocols.court import Segment
from protocols.domains import HEAD
from protocols.errors import Invalid
from protocols.ids import Address, ItemId
from protocols.ledger.draft import Note, NoteKind, Rules
from protocols.ledger.entries import KINDS, Account, key_of
from protocols.ledger.fold import apply
from protocols.ledger.state import HELD, State, genesis, read_entry
from protocols.network import Network, sim_parameters
from protocols.parameters import Parameters
from protocols.wire.item import Item
from protocols.wire.ledger_tx import Checkpoint, EvidencePart, Transaction, read_data
from protocols.wire.vote import Vote
from tests.protocols.machine.world import Key, item

TOKEN = 10**9
STAKERS = [Key.of(f"staker {number}") for number in range(4)]
RICH = Key.of("rich")
POOR = Key.of("poor")
LEDGER = b"L" * 32
PROFILE = b"p" * 32

PARAMETERS: Parameters = replace(
    sim_parameters(), root_every=4, proof_every=8, challenge_window=6, demand_window=5, unbonding=12
)


def network(parameters: Parameters = PARAMETERS, **changes: object) -> Network:
    base = Network(
        name="test",
        ledger_scheduler=Address(bytes(32)),
        profile=PROFILE,
        parameters=parameters,
        balances=((RICH.address, 100_000 * TOKEN),),
        stakes=tuple((key.address, 2000 * TOKEN) for key in STAKERS),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class Ledger:
    """A ledger's log and its state, one slot after another; supply is checked at each."""

    def __init__(
        self,
        of: Network | None = None,
        run: Callable[[Segment], tuple[bytes, ...] | None] | None = None,
    ) -> None:
        self.network = of or network()
        self.rules = Rules.of(self.network)
        self.state = genesis(self.network)
        self.head = bytes(32)
        self.items: list[Item] = []
        self.sequence = 0
        self._run = run
        self.slot(item(RICH, [("Type", "Process")], anchor=0))

    # What `Facts` asks

    def signed(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return verify_ed25519(key, message, signature)

    def item_signed(self, item: Item) -> bool:
        try:
            verify_item(item)
        except Invalid:
            return False
        return True

    def part(self, id: ItemId) -> bytes:
        found = next(each for each in self.items if each.id == id)
        return EvidencePart.of_value(read_data(found)).data

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        assert self._run is not None, "no segment should have been run"
        return self._run(segment)

    # Slots

    def slot(self, item: Item) -> tuple[Note, ...]:
        """Fold one more slot."""
        before = self.state
        self.state, notes = apply(before, self.head, item, self.rules, self)
        self.head = digest(HEAD, self.head, item.id)
        self.items.append(item)
        check_supply(self.state)
        return notes

    def do(self, key: Key, tx: Transaction) -> tuple[Note, ...]:
        """Fold a transaction that must be carried out."""
        notes = self.slot(transaction(key, tx, len(self.items)))
        assert notes[0].kind is not NoteKind.REFUSED, notes[0].detail
        return notes

    def refuse(self, key: Key, tx: Transaction, why: str = "") -> None:
        """Fold a transaction that must change nothing."""
        before = dict(self.state.trie.items())
        (note,) = self.slot(transaction(key, tx, len(self.items)))
        assert note.kind is NoteKind.REFUSED
        assert why in note.detail, note.detail
        after = dict(self.state.trie.items())
        changed = {key for key in before | after if before.get(key) != after.get(key)}
        assert {key[0] for key in changed} <= {0, 12}, "only slot number and history may change"

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence

    def tick(self, ticks: int = 1, signers: Sequence[Key] = STAKERS) -> tuple[Note, ...]:
        """A final checkpoint under the last slot, `ticks` later."""
        return self.do(POOR, self.checkpoint(ticks, signers))

    def checkpoint(self, ticks: int = 1, signers: Sequence[Key] = STAKERS) -> Checkpoint:
        totals = self.state.totals()
        vote = Vote(
            self.network.id,
            totals.tick + ticks,
            totals.slot,
            self.head,
            self.state.root(),
            signers[0].public,
        )
        votes = []
        for key in sorted(signers, key=lambda key: key.public):
            own = replace(vote, key=key.public)
            votes.append((key.public, key.sign(own.signing_bytes())))
        return Checkpoint(vote.tick, vote.slot, vote.head, vote.root, tuple(votes))

    def balance(self, key: Key) -> int:
        account = self.state.get(Account, key.address)
        return account.balance if account else 0


def transaction(key: Key, tx: Transaction, anchor: int | None = None) -> Item:
    tags = [("Data-Protocol", "ao"), ("Type", "Message"), ("Action", tx.ACTION)]
    return item(key, tags, target=LEDGER, data=tx.encode(), anchor=anchor)


def check_supply(state: State) -> None:
    """I7, and that the totals are what the entries add up to."""
    totals = state.totals()
    held = 0
    for kind in HELD:
        held += sum(_coins(kind.KIND, value) for _, value in state.trie.items(key_of(kind)))
    assert held == totals.genesis + totals.minted - totals.burnt


@lru_cache(maxsize=1 << 16)
def _coins(kind: int, value: bytes) -> int:
    """Coins in an entry: most stand as they are from one slot to the next."""
    return HELD[KINDS[kind]](read_entry(KINDS[kind], value))
