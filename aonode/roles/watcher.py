"""The watcher on a node: what its machine reads, and what others may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

from aonode.crypto.verify import verify_ed25519
from aonode.env import Env
from aonode.net import verification
from aonode.ports import Store
from aonode.roles.book import BookRole
from aonode.roles.compute import ComputeRole
from aonode.roles.ledger import item_signed
from aonode.roles.release import Translate
from aonode.roles.replica import ReplicaRole
from aonode.roles.runner import Runner
from protocols import keyspace
from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.audit import OwnLeaves
from protocols.machine.effects import Answered, Event, Send
from protocols.machine.events import ReceiptsArrived, StatementArrived
from protocols.machine.results import result_parts
from protocols.machine.watch import Views
from protocols.machine.watching import Watching
from protocols.network import Network
from protocols.parameters import SHARE_WHOLE
from protocols.trust import Verified
from protocols.wire.assignment import Assignment, Chain, Slot
from protocols.wire.evidence import statement_id
from protocols.wire.proof import Leaf, Receipt, StateProof

NEWEST_MAX = 4096
"""Newest proofs heard again after a start."""
RECEIPTS_MAX = 4096
"""Own receipts kept in memory."""
PROOFS_MAX = 1024
"""Heard proofs looked at for what a statement continues."""
EMPTY_ROOT = Mmr().root()
T = TypeVar("T")


class _Rows(Sequence[T], Generic[T]):
    """Something read from disk by slot, where it is looked at."""

    def __init__(self, count: int, read: Callable[[int, int], list[T]]) -> None:
        """`read` gives the values first..last."""
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, int):
            if not 0 <= at < self._count:
                raise IndexError(at)
            return self._read(at, at)[0]
        first, stop, _ = at.indices(self._count)
        return self._read(first, stop - 1) if first < stop else []


ReadReceipt = Callable[[ProcessId, int], Receipt]


class StoredLeaves:
    """`protocols.machine.audit.OwnLeaves` over the rows of this node's compute unit."""

    def __init__(self, db: Store, process: ProcessId, count: int, receipt: ReadReceipt) -> None:
        """`receipt` reads the one of an evaluated slot."""
        self._db = db
        self._process = process
        self._receipt = receipt
        self.leaves: Sequence[Leaf] = _Rows(count, self._leaves)
        self.hashes: Sequence[bytes] = _Rows(count, self._hashes)
        self.heads: Sequence[bytes] = _Rows(count, self._heads)
        self.roots: Sequence[bytes] = _Rows(count + 1, self._roots)

    def head_before(self, slot: int) -> bytes:
        return self.heads[slot - 1] if slot else Chain.genesis(self._process).head

    def _receipts(self, first: int, last: int) -> list[Receipt]:
        return [self._receipt(self._process, slot) for slot in range(first, last + 1)]

    def _leaves(self, first: int, last: int) -> list[Leaf]:
        return [receipt.leaf for receipt in self._receipts(first, last)]

    def _hashes(self, first: int, last: int) -> list[bytes]:
        start, stop = keyspace.nonce_range(Prefix.LEAF, self._process, first, last)
        rows = [row for _, row in self._db.scan(start, stop)]
        assert len(rows) == last - first + 1, "what is evaluated has its rows"
        return rows

    def _heads(self, first: int, last: int) -> list[bytes]:
        return [receipt.head for receipt in self._receipts(first, last)]

    def _roots(self, first: int, last: int) -> list[bytes]:
        roots = [] if first else [EMPTY_ROOT]
        if last:
            roots += [each.mmr_root for each in self._receipts(max(first, 1) - 1, last - 1)]
        return roots


def receipt_reader(db: Store, output_bytes_max: int) -> ReadReceipt:
    """Reads receipts of evaluated slots from their rows, which never change; the newest stay in
    memory, since every unit's statements are compared with the same ones."""

    @lru_cache(maxsize=RECEIPTS_MAX)
    def read(process: ProcessId, slot: int) -> Receipt:
        row = db.get(keyspace.result_key(process, slot))
        assert row is not None, "what is evaluated has its row"
        return Receipt.decode(result_parts(row, output_bytes_max=output_bytes_max)[3])

    return read


class WatcherViews:
    """`protocols.machine.watch.Views` over the stores of a node."""

    def __init__(
        self,
        *,
        env: Env,
        key: NodeKey,
        network: Network,
        db: Store,
        sign_once: Store,
        replica: ReplicaRole,
        book: BookRole,
        compute: ComputeRole | None,
    ) -> None:
        self._env = env
        self._key = key
        self._network = network
        self._db = db
        self._sign_once = sign_once
        self._replica = replica
        self._book = book
        self._compute = compute
        self._receipt = receipt_reader(db, network.parameters.output_bytes_max)

    def views(self) -> Views:
        """What the machine is given."""
        return Views(
            own=self.own,
            slots=self.slots,
            placed=self.placed,
            proofs=self.proofs,
            newest=self.newest,
            signed=verify_ed25519,
            item_signed=item_signed,
            find=self.find,
            processes=self._replica.processes,
            result=self.result,
            lot=self.lot,
        )

    def own(self, process: ProcessId) -> OwnLeaves | None:
        if self._compute is None or process == self._network.ledger:
            return None
        count = self._compute.last(process) + 1
        return StoredLeaves(self._db, process, count, self._receipt)

    def slots(self, process: ProcessId, first: int, last: int) -> Sequence[Slot]:
        return self._replica.slots(process, first, last, last - first + 1)

    def find(self, id: ItemId, process: ProcessId) -> int | None:
        found = self._replica.find(id, process)
        return None if found is None else found[1]

    def placed(self, id: ItemId) -> int | None:
        assert self._network.ledger is not None, "only a node with a ledger watches"
        return self.find(id, self._network.ledger)

    def proofs(self, process: ProcessId, cu: NodeKey, first: int) -> Sequence[bytes]:
        heard = [each.raw for each in self._book.heard(process, first, PROOFS_MAX)]
        if cu == self._key:
            start, stop = keyspace.nonce_range(Prefix.PROOF, process, first, keyspace.NONCE_MAX)
            heard += [row for _, row in self._sign_once.scan(start, stop, limit=PROOFS_MAX)]
        return [raw for raw in heard if StateProof.decode(raw).cu == cu]

    def newest(self) -> Sequence[bytes]:
        found: dict[tuple[ProcessId, NodeKey], bytes] = {}
        # The newest of each come first; where they end is where one comes again.
        for heard in self._book.proofs(None, None, 0, NEWEST_MAX):
            proof = StateProof.decode(heard.raw)
            if found.setdefault((proof.process, proof.cu), heard.raw) is not heard.raw:
                break
        return list(found.values())

    def result(self, process: ProcessId, slot: int) -> tuple[bytes, bytes] | None:
        if self._compute is None:
            return None
        found = self._compute.results(process, slot, slot, 1)
        return (found[0].raw, found[0].receipt) if found else None

    def lot(self) -> int:
        drawn = int.from_bytes(self._env.entropy("audit", 8), "big")
        return drawn % SHARE_WHOLE


class WatcherRole:
    """Adapter of `protocols.machine.watching`; `aonode.api.WatcherApi`."""

    def __init__(self, *, machine: Watching, db: Store, network: Network) -> None:
        self._machine = machine
        self._db = db
        self._network = network
        self.runner: Runner | None = None

    def recover(self, misplaced: Sequence[Assignment] = ()) -> None:
        """Tell the machine what it was about; `misplaced` as `Watching.recover` takes it."""
        rows = self._db.scan(*keyspace.prefix_range(Prefix.CHALLENGE))
        self._machine.recover(((keyspace.id_of(key), row) for key, row in rows), misplaced)

    def overhear(self, translate: Translate) -> Translate:
        """Also look at the receipts that this node's messenger is given."""

        async def translated(sent: Send, answered: Answered) -> Event:
            event = await translate(sent, answered)
            assert self.runner is not None, "a role is run by its node"
            if isinstance(event, ReceiptsArrived):
                for receipt, _ in event.entries or ():
                    raw = receipt.value.encode()
                    self.runner.post(StatementArrived(raw, Verified(receipt.value)))
            return event

        return translated

    # WatcherApi

    def cases(self) -> list[dict[str, Any]]:
        return [case.summary() for case in self._machine.cases()]

    def show(self, statement: bytes) -> dict[str, Any] | None:
        case = self._machine.case(statement)
        if case is None:
            return None
        return {**case.summary(), "accused": b64url(case.accused)}

    async def accuse(self, raw: bytes) -> None:
        assert self.runner is not None, "a role is run by its node"
        verified = verification.check_statement(raw, self._network.id, self._network.parameters)
        if not self._machine.can_lose(verified.value.cu):
            raise Invalid(
                Reason.INADMISSIBLE,
                f"statement {b64url(statement_id(raw))} is of {b64url(verified.value.cu)}, who has "
                "nothing at stake: whatever it signs costs it nothing",
            )
        await self.runner.send(StatementArrived(raw, verified))
