"""A staker's signature under a state of the ledger. Payload of the topic `votes`.

`tick` is the number of the checkpoint it is for. A staker signs one vote per tick, ever: two
different ones prove the fault. Votes of enough stake make a checkpoint final
(`protocols.ledger`), and final checkpoints are the clock of every deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.codec import Value, signing_bytes
from protocols.domains import SIGN_VOTE
from protocols.ids import NetworkId, NodeKey
from protocols.wire import shape
from protocols.wire.record import Record, ed25519

VOTE_BYTES_MAX = 320


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """`key` says: after ledger slot `slot` the log's head is `head` and the state's root `root`."""

    network: NetworkId
    tick: int
    slot: int
    head: bytes
    root: bytes
    key: NodeKey
    signature: bytes = b""

    READ = (
        shape.identifier,
        shape.integer,
        shape.integer,
        shape.identifier,
        shape.identifier,
        shape.identifier,
        ed25519,
    )

    def signing_bytes(self) -> bytes:
        """What `key` signs with Ed25519."""
        body: list[Value] = [self.tick, self.slot, self.head, self.root, self.key]
        return signing_bytes(SIGN_VOTE, self.network, body)

    def signed(self, signature: bytes) -> Vote:
        """This vote with its signature, taken on trust."""
        return replace(self, signature=signature)

    def against(self, other: Vote) -> bool:
        """True iff no honest staker can have signed both, with one key or with two."""
        return (self.network, self.tick) == (other.network, other.tick) and (
            self.slot,
            self.head,
            self.root,
        ) != (other.slot, other.head, other.root)
