"""What the parts of a watcher share: the ledger as it stands here, views, own transactions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

from protocols import keyspace
from protocols.codec import digest
from protocols.court import Court, Segment
from protocols.domains import HEAD
from protocols.ids import Address, ItemId, NodeKey, ProcessId, address_of
from protocols.ledger.draft import Draft, Rules
from protocols.ledger.entries import Account, Fine
from protocols.ledger.entries import Case as LedgerCase
from protocols.ledger.process import transaction_item
from protocols.ledger.state import State
from protocols.machine.audit import Log, Own, OwnLeaves
from protocols.machine.case import WHY_BYTES_MAX, Case, Stage
from protocols.machine.effects import Audit, Effect, Notify, Persist, Table
from protocols.machine.events import Audited, PostAsked
from protocols.network import Network
from protocols.wire import evidence
from protocols.wire.assignment import Chain, Slot
from protocols.wire.item import Item
from protocols.wire.ledger_tx import Transaction

AUDITS_MAX = 16
"""Audits asked for and not answered; each replays a process."""
AUDITED_MAX = 4
"""Processes whose leaves are kept from an audit, where nothing else has them."""


@dataclass(frozen=True, slots=True)
class Views:
    """What the machine reads, and what it computes with; none of it changes anything."""

    own: Callable[[ProcessId], OwnLeaves | None]
    """What this node's compute unit has evaluated; None if it does not evaluate the process."""
    slots: Callable[[ProcessId, int, int], Sequence[Slot]]
    """Durable slots first..last of a log, as far as it goes."""
    placed: Callable[[ItemId], int | None]
    """The slot of an item in the ledger's log."""
    proofs: Callable[[ProcessId, NodeKey, int], Sequence[bytes]]
    """State proofs of a unit over a process that end at a slot or later, heard here or own."""
    newest: Callable[[], Sequence[bytes]]
    """The newest heard state proof of each unit over each process; a bounded number."""
    signed: Callable[[bytes, bytes, bytes], bool]
    """Ed25519: (key, message, signature)."""
    item_signed: Callable[[Item], bool]
    find: Callable[[ItemId, ProcessId], int | None]
    """The slot of an item in a log."""
    processes: Callable[[], Sequence[ProcessId]]
    """All logs that this node follows."""
    result: Callable[[ProcessId, int], tuple[bytes, bytes] | None]
    """Output and encoded receipt of a slot that this node's compute unit has evaluated."""
    lot: Callable[[], int]
    """An unpredictable number below 10 000."""


@lru_cache(maxsize=8)
def evidence_hash(blob: bytes) -> bytes:
    """Of an encoded evidence: megabytes, which are asked for whenever the ledger moves."""
    return evidence.evidence_hash(blob)


class _NoFacts:
    """`protocols.ledger.draft.Facts` for judging: nothing is folded here."""

    def __init__(self, views: Views) -> None:
        self.signed = views.signed
        self.item_signed = views.item_signed

    def part(self, id: ItemId) -> bytes:
        raise AssertionError("a watcher folds nothing")

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        raise AssertionError("a watcher folds nothing")


class _Ids(Sequence[bytes]):
    """Assignment ids of a log by slot."""

    def __init__(self, views: Views, process: ProcessId) -> None:
        self._views = views
        self._process = process

    def __len__(self) -> int:
        raise AssertionError("nobody asks how long a log is")

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        first, stop = (at, at + 1) if isinstance(at, int) else (at.start or 0, at.stop)
        slots = self._views.slots(self._process, first, stop - 1)
        assert len(slots) == stop - first, "own leaves reach as far as the log does"
        ids: list[bytes] = [slot.assignment.id for slot in slots]
        return ids[0] if isinstance(at, int) else ids


class Watch:
    """One node's view of the ledger, and its hand on it."""

    def __init__(
        self, *, network: Network, key: NodeKey, sign: Callable[[bytes], bytes], views: Views
    ) -> None:
        """`sign` is the node's Ed25519 signature, a pure function."""
        assert network.ledger is not None, "nobody watches without a ledger"
        self.ledger: ProcessId = network.ledger
        self.network = network
        self.parameters = network.parameters
        self.rules = Rules.of(network)
        self.key = key
        self.address = address_of(key)
        self.sign = sign
        self.views = views
        self.peers: tuple[NodeKey, ...] = ()
        self.forked: set[ProcessId] = set()
        """Logs of which a slot was given twice, as this node knows."""
        self.accused: frozenset[Address] = frozenset()
        """Accounts against which evidence is on its way: nothing more has to be demanded."""
        self._state: State | None = None
        self._audited: OrderedDict[ProcessId, Own] = OrderedDict()
        self._audits: dict[Audit, None] = {}
        self._flight: ItemId | None = None
        """Own transaction with a sequence that is not in the log yet: the next one waits, so that
        none is refused because a later one overtook it."""
        self._sequence = -1

    # The ledger

    @property
    def state(self) -> State:
        assert self._state is not None, "nothing is done before the ledger is known"
        return self._state

    @property
    def is_ready(self) -> bool:
        """Whether the ledger is known."""
        return self._state is not None

    @property
    def tick(self) -> int:
        return self.state.totals().tick

    def moved(self, state: State) -> None:
        """The ledger was folded further."""
        self._state = state
        if self._flight is not None and self.has_landed(self._flight):
            self._flight = None

    def draft(self) -> Draft:
        """For reading; nothing is ever written to it."""
        return Draft(self.state, self.rules, _NoFacts(self.views))

    def court(self) -> Court:
        """What a verdict would depend on now."""
        return self.draft().court()

    def account_of(self, key: NodeKey) -> Address:
        """Whose stake answers for a key."""
        return self.draft().account_of(key)

    def at_stake(self, account: Address) -> int:
        """What an account can still lose; nothing once it is frozen."""
        draft = self.draft()
        return 0 if draft.bond(account).frozen else draft.at_stake(account)

    def case_of(self, account: Address) -> LedgerCase | None:
        """Why a stake is frozen, if it is."""
        return self.state.get(LedgerCase, account)

    def punishment(self, account: Address, blob: bytes) -> LedgerCase | Fine | None:
        """What was taken from an account: for this evidence, else all that it had."""
        hash = evidence_hash(blob) if blob else None
        for _, fine in self.state.all(Fine, account):
            if fine.evidence == hash:
                return fine
        return self.case_of(account)

    def has_landed(self, id: ItemId) -> bool:
        """Whether an item has a slot of the ledger that is folded here."""
        slot = self.views.placed(id)
        return slot is not None and slot <= self.state.totals().slot

    # Own leaves

    def own(self, process: ProcessId, last: int) -> OwnLeaves | None:
        """Own leaves, if they reach slot `last`."""
        for own in (self.views.own(process), self._audited.get(process)):
            if own is not None and len(own.leaves) > last:
                return own
        return None

    def evaluates(self, process: ProcessId) -> bool:
        """Whether own leaves come without an audit."""
        return self.views.own(process) is not None

    def audit(self, process: ProcessId, last: int, witness_at: int | None = None) -> list[Effect]:
        """Have a process run afresh, unless that is under way, or too much is."""
        effect = Audit(process, last, witness_at)
        if effect in self._audits or len(self._audits) >= AUDITS_MAX:
            return []
        self._audits[effect] = None
        return [effect]

    def is_auditing(self, process: ProcessId, witness_at: int) -> bool:
        """Whether the state before a slot is being made."""
        return any((a.process, a.witness_at) == (process, witness_at) for a in self._audits)

    def audited(self, event: Audited) -> None:
        """An audit has ended."""
        for effect in [each for each in self._audits if each.process == event.process]:
            if effect.witness_at == event.witness_at:
                del self._audits[effect]
        if event.witness_at is not None or self.evaluates(event.process):
            return
        own = Own(Chain.genesis(event.process).head)
        head = own.head_genesis
        for leaf in event.leaves:
            head = digest(HEAD, head, leaf.assignment_id)
            own.append(leaf, head)
        self._audited[event.process] = own
        self._audited.move_to_end(event.process)
        if len(self._audited) > AUDITED_MAX:
            self._audited.popitem(last=False)

    def log(self, process: ProcessId) -> Log | None:
        """A log as evidence needs it, read where it is looked at; None if it is not here."""
        genesis = self.views.slots(process, 0, 0)
        if not genesis:
            return None

        def raw(number: int) -> tuple[bytes, bytes]:
            (slot,) = self.views.slots(process, number, number)
            return slot.assignment.item.raw, slot.message.raw

        return Log(genesis[0].message.raw, _Ids(self.views, process), raw)

    # Cases

    def move(self, case: Case, stage: Stage, why: str, now: int) -> list[Effect]:
        """The case has come this far; durable before anything else is done about it."""
        why = why.encode("utf-8", "replace")[:WHY_BYTES_MAX].decode("utf-8", "ignore")
        case.stage, case.why, case.changed_ms, case.waiting = stage, why, now, False
        return [Persist(Table.ITEMS, keyspace.challenge_key(case.id), case.encode())]

    def hold(self, case: Case, why: str, now: int) -> list[Effect]:
        """The case waits, and why; said once."""
        return [] if case.why == why else self.move(case, case.stage, why, now)

    # Own transactions

    def balance(self) -> int:
        account = self.state.get(Account, self.address)
        return 0 if account is None else account.balance

    def is_free(self) -> bool:
        """Whether a transaction with a sequence may be sent now."""
        return self._flight is None

    def sequence(self, now: int) -> int:
        """Above all that this account has used."""
        account = self.state.get(Account, self.address)
        used = -1 if account is None else account.sequence
        self._sequence = max(now, self._sequence + 1, used + 1)
        return self._sequence

    def item(self, tx: Transaction) -> Item:
        """The one item of an own transaction."""
        return transaction_item(self.ledger, tx, self.key, self.sign)

    def post(self, tx: Transaction, *, sequenced: bool = False) -> list[Effect]:
        """Bring it into the log, unless it is there; `sequenced` ones one after another."""
        item = self.item(tx)
        if self.views.placed(item.id) is not None:
            return []
        if sequenced:
            self._flight = item.id
        return [Notify(PostAsked(item))]
