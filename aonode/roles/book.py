"""What this node has heard units state: reads of the store for the edge, peers and the watcher."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence

from aonode.api import HeardProof
from aonode.ports import Store, Wire
from protocols import keyspace
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.keyspace import Prefix
from protocols.machine.book import Book, Place, heard_of_row
from protocols.wire.proof_streams import PROOFS_ANSWER_MAX, ProofsAnswer, ProofsRequest
from protocols.wire.topics import Protocol


class BookRole:
    """Adapter of `protocols.machine.book`; `aonode.api.ProofsApi`."""

    def __init__(self, *, machine: Book, db: Store) -> None:
        self._machine = machine
        self._db = db

    def recover(self, forks: Sequence[tuple[ProcessId, ItemId, ItemId]] = ()) -> None:
        """Tell the machine what was heard before, and which forks the replica holds."""
        rows = self._db.scan(*keyspace.prefix_range(Prefix.HEARD))
        self._machine.recover(((_place(key), row) for key, row in rows), forks)

    def serve(self, wire: Wire) -> None:
        """Give peers what was heard."""
        wire.serve(Protocol.PROOFS, self._proofs)

    def heard(self, process: ProcessId, first: int, limit: int) -> list[HeardProof]:
        start, stop = keyspace.nonce_range(Prefix.HEARD, process, first, keyspace.NONCE_MAX)
        rows = self._db.scan(start, stop, limit=limit)
        return [_heard(row) for _, row in rows]

    def proofs(
        self, process: ProcessId | None, cu: NodeKey | None, from_slot: int, limit: int
    ) -> list[HeardProof]:
        """Proofs of any process or unit (None) that end at `from_slot` or later: first the newest
        of each unit over each process, then all others, newest first."""
        places = itertools.islice(self._machine.places(process, cu, from_slot), limit)
        rows = [self._db.get(keyspace.heard_key(*place)) for place in places]
        # A place may be new and its row not committed yet: then it is not heard yet either.
        return [_heard(row) for row in rows if row is not None]

    async def _proofs(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        asked = ProofsRequest.decode(body)
        found = self.proofs(asked.process, asked.cu, asked.from_slot, PROOFS_ANSWER_MAX)
        votes = self._machine.votes(asked.cu) if asked.votes and asked.cu is not None else []
        answer = ProofsAnswer(
            tuple(each.raw for each in found), tuple(vote.encode() for vote in votes)
        )
        for frame in answer.encode():
            yield frame


def _place(key: bytes) -> Place:
    return ProcessId(keyspace.id_of(key)), keyspace.nonce_of(key[:-32]), NodeKey(key[-32:])


def _heard(row: bytes) -> HeardProof:
    tick, raw = heard_of_row(row)
    return HeardProof(raw, tick)
