"""What a compute unit states: leaves, receipts, state proofs; and when two statements contradict.

A leaf is a function of the log alone: every honest unit has the same one. A receipt states one
leaf and the mountain range (MMR) of all leaves up to it; a state proof states a range of slots
in one signature. Both bind the log's head, so a statement about a losing branch of a forked log
is void, not false.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from protocols import domains
from protocols.codec import Value, decode, digest, encode, signing_bytes
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId
from protocols.network import Parameters
from protocols.wire import shape
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

SIGNATURE_BYTES = 64
STATUS_MAX = 255
"""A signed status outside the table is a fault in itself, so it must be readable."""
FUEL_MAX = (1 << 63) - 1
LEAF_BYTES_MAX = 192
RECEIPT_BYTES_MAX = 640
BLOCK_ENDS_MAX = 32
"""Proof-block ends that one state proof may cross."""
PROOF_BYTES_MAX = TOPIC_BYTES_MAX[Topic.PROOFS]


def is_border(slot: int, every: int) -> bool:
    """Whether `slot` is the last of a segment or proof block of `every` slots."""
    return (slot + 1) % every == 0


def block_end_before(slot: int, proof_every: int) -> int | None:
    """The last proof-block end before `slot`; None in the first block."""
    end = slot // proof_every * proof_every - 1
    return None if end < 0 else end


@dataclass(frozen=True, slots=True)
class Leaf:
    """Slot `slot` of `process` ended like this."""

    process: ProcessId
    slot: int
    assignment_id: ItemId
    root: bytes | None
    """State root after the slot, iff it is a segment border."""
    outcome_hash: bytes
    fuel: int
    status: int
    """A `protocols.wire.outcome.Status` if the unit is honest."""

    def to_value(self) -> list[Value]:
        """`[process, slot, assignment id, root, outcome hash, fuel, status]`."""
        return [
            self.process,
            self.slot,
            self.assignment_id,
            self.root,
            self.outcome_hash,
            self.fuel,
            self.status,
        ]

    def hash(self) -> bytes:
        """What the MMR holds: H over the fields."""
        return digest(domains.LEAF, *self.to_value())

    def encode(self) -> bytes:
        """The preimage of `hash`."""
        return encode(self.to_value())

    @classmethod
    def decode(cls, blob: bytes) -> Leaf:
        """Inverse of `encode`. Raises Invalid."""
        fields = shape.record(decode(blob, size_max=LEAF_BYTES_MAX), "a leaf", 7)
        process, slot, assignment, root, outcome, fuel, status = fields
        return cls(
            ProcessId(shape.identifier(process, "leaf process")),
            shape.integer(slot, "leaf slot"),
            ItemId(shape.identifier(assignment, "leaf assignment")),
            _hash_or_none(root, "leaf state root"),
            shape.identifier(outcome, "leaf outcome hash"),
            shape.integer(fuel, "leaf fuel", most=FUEL_MAX),
            shape.integer(status, "leaf status", most=STATUS_MAX),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A compute unit's signed statement of one slot. Without `signature` it is a draft."""

    network: NetworkId
    process: ProcessId
    slot: int
    head: bytes
    """Head of the log after `slot`."""
    leaf: Leaf
    mmr_root: bytes
    """MMR root over leaves 0..slot."""
    block_root: bytes | None
    """MMR root at the last proof-block end before `slot`; None in the first block."""
    profile: bytes
    cu: NodeKey
    signature: bytes = b""

    def _body(self) -> list[Value]:
        return [
            self.process,
            self.slot,
            self.head,
            self.leaf.encode(),
            self.mmr_root,
            self.block_root,
            self.profile,
            self.cu,
        ]

    def signing_bytes(self) -> bytes:
        """What `cu` signs with Ed25519."""
        return signing_bytes(domains.SIGN_RECEIPT, self.network, self._body())

    def signed(self, signature: bytes) -> Receipt:
        """This receipt with its signature, taken on trust."""
        return replace(self, signature=signature)

    def encode(self) -> bytes:
        """Canonical CBOR of `[network, body..., signature]`."""
        assert len(self.signature) == SIGNATURE_BYTES, "a draft cannot travel"
        return encode([self.network, *self._body(), self.signature])

    @classmethod
    def decode(cls, blob: bytes) -> Receipt:
        """Inverse of `encode`. Raises Invalid; checks no signature."""
        fields = shape.record(decode(blob, size_max=RECEIPT_BYTES_MAX), "a receipt", 10)
        network, process, slot, head, leaf, mmr_root, block_root, profile, cu, signature = fields
        receipt = cls(
            NetworkId(shape.identifier(network, "receipt network")),
            ProcessId(shape.identifier(process, "receipt process")),
            shape.integer(slot, "receipt slot"),
            shape.identifier(head, "receipt head"),
            Leaf.decode(shape.octets(leaf, "receipt leaf", most=LEAF_BYTES_MAX)),
            shape.identifier(mmr_root, "receipt MMR root"),
            _hash_or_none(block_root, "receipt block root"),
            shape.identifier(profile, "receipt profile"),
            NodeKey(shape.identifier(cu, "receipt unit")),
            _signature(signature),
        )
        if receipt.leaf.process != receipt.process or receipt.leaf.slot != receipt.slot:
            raise Invalid(Reason.MALFORMED, "a receipt's leaf is of another process or slot")
        return receipt

    def check(self, parameters: Parameters) -> None:
        """Raise Invalid unless roots are present exactly where the network's borders are."""
        _check_root(self.leaf.root, self.slot, parameters)
        if (self.block_root is None) != (self.slot < parameters.proof_every):
            raise Invalid(
                Reason.MALFORMED, f"receipt of slot {self.slot} has a block root iff it must not"
            )


@dataclass(frozen=True, slots=True)
class StateProof:
    """A compute unit's signed statement of slots first..last. Without `signature` a draft."""

    network: NetworkId
    process: ProcessId
    first: int
    last: int
    head_before: bytes
    """Head after slot first - 1."""
    head: bytes
    """Head after slot `last`."""
    mmr_before: bytes
    """MMR root over leaves 0..first - 1."""
    mmr_root: bytes
    """MMR root over leaves 0..last."""
    block_roots: tuple[tuple[int, bytes], ...]
    """(slot, MMR root) of the proof-block ends in first..last - 1."""
    state_root: bytes | None
    """State root after `last`, iff it is a segment border: equal to its leaf's."""
    fuel: int
    """Sum over the slots."""
    profile: bytes
    tick: int
    """Latest final checkpoint the unit knew."""
    sequence: int
    start: bytes | None
    """Id of the anchor the unit's chain of proofs starts from; None for genesis."""
    cu: NodeKey
    signature: bytes = field(default=b"")

    def _body(self) -> list[Value]:
        return [
            self.process,
            self.first,
            self.last,
            self.head_before,
            self.head,
            self.mmr_before,
            self.mmr_root,
            [[slot, root] for slot, root in self.block_roots],
            self.state_root,
            self.fuel,
            self.profile,
            self.tick,
            self.sequence,
            self.start,
            self.cu,
        ]

    def signing_bytes(self) -> bytes:
        """What `cu` signs with Ed25519."""
        return signing_bytes(domains.SIGN_STATE_PROOF, self.network, self._body())

    def signed(self, signature: bytes) -> StateProof:
        """This proof with its signature, taken on trust."""
        return replace(self, signature=signature)

    def encode(self) -> bytes:
        """Canonical CBOR of `[network, body..., signature]`."""
        assert len(self.signature) == SIGNATURE_BYTES, "a draft cannot travel"
        return encode([self.network, *self._body(), self.signature])

    @classmethod
    def decode(cls, blob: bytes) -> StateProof:
        """Inverse of `encode`. Raises Invalid; checks no signature."""
        fields = shape.record(decode(blob, size_max=PROOF_BYTES_MAX), "a state proof", 17)
        network, process, first, last, head_before, head, mmr_before, mmr_root = fields[:8]
        blocks, state_root, fuel, profile, tick, sequence, start, cu, signature = fields[8:]
        last_slot = shape.integer(last, "proof end")
        return cls(
            NetworkId(shape.identifier(network, "proof network")),
            ProcessId(shape.identifier(process, "proof process")),
            shape.integer(first, "proof start", most=last_slot),
            last_slot,
            shape.identifier(head_before, "proof head before"),
            shape.identifier(head, "proof head"),
            shape.identifier(mmr_before, "proof MMR root before"),
            shape.identifier(mmr_root, "proof MMR root"),
            _block_roots(blocks),
            _hash_or_none(state_root, "proof state root"),
            shape.integer(fuel, "proof fuel", most=FUEL_MAX),
            shape.identifier(profile, "proof profile"),
            shape.integer(tick, "proof tick"),
            shape.integer(sequence, "proof sequence"),
            _hash_or_none(start, "proof start id"),
            NodeKey(shape.identifier(cu, "proof unit")),
            _signature(signature),
        )

    def check(self, parameters: Parameters) -> None:
        """Raise Invalid unless roots are present exactly where the network's borders are."""
        _check_root(self.state_root, self.last, parameters)
        every = parameters.proof_every
        ends = range(self.first // every * every + every - 1, self.last, every)
        if len(ends) > BLOCK_ENDS_MAX:
            raise Invalid(
                Reason.OVERSIZE, f"a state proof over {len(ends)} blocks, at most {BLOCK_ENDS_MAX}"
            )
        if tuple(slot for slot, _ in self.block_roots) != tuple(ends):
            raise Invalid(
                Reason.MALFORMED,
                f"a state proof of slots {self.first}..{self.last} does not give the MMR roots "
                f"at the block ends {list(ends)}",
            )


Statement: TypeAlias = Receipt | StateProof


def contradicts(a: Statement, b: Statement) -> bool:
    """True iff no honest unit can have signed both. Their signatures are checked elsewhere.

    A head binds the whole log before it. So two statements of one unit about one process under
    one profile speak of the same slots up to the last slot for which both name the same head;
    up to there, leaves, MMR roots and state roots must agree. Sequence, tick and start id never
    matter: an honest unit may state one thing twice.
    """
    if _subject(a) != _subject(b):
        return False
    heads_a, heads_b = _heads(a), _heads(b)
    shared = [slot for slot, head in heads_a.items() if heads_b.get(slot) == head]
    if not shared:
        return False
    border = max(shared)
    facts_b = _facts(b)
    return any(
        slot <= border and (kind, slot) in facts_b and facts_b[kind, slot] != value
        for (kind, slot), value in _facts(a).items()
    )


def _subject(statement: Statement) -> tuple[bytes, ...]:
    return statement.network, statement.process, statement.profile, statement.cu


def _heads(statement: Statement) -> dict[int, bytes]:
    """The log heads a statement names, by slot."""
    if isinstance(statement, Receipt):
        return {statement.slot: statement.head}
    return {statement.first - 1: statement.head_before, statement.last: statement.head}


def _facts(statement: Statement) -> dict[tuple[str, int], bytes | None]:
    """What a statement says that is a function of the log up to a slot, by kind and slot."""
    if isinstance(statement, Receipt):
        return {
            ("leaf", statement.slot): statement.leaf.hash(),
            ("mmr", statement.slot): statement.mmr_root,
            ("state", statement.slot): statement.leaf.root,
        }
    facts: dict[tuple[str, int], bytes | None] = {
        ("mmr", slot): root for slot, root in statement.block_roots
    }
    facts["mmr", statement.first - 1] = statement.mmr_before
    facts["mmr", statement.last] = statement.mmr_root
    facts["state", statement.last] = statement.state_root
    return facts


def _check_root(root: bytes | None, slot: int, parameters: Parameters) -> None:
    if (root is not None) != is_border(slot, parameters.root_every):
        raise Invalid(
            Reason.MALFORMED,
            f"slot {slot} has a state root iff it is the last of {parameters.root_every} slots",
        )


def _block_roots(value: Value) -> tuple[tuple[int, bytes], ...]:
    roots = []
    for pair in shape.array(value, "proof block roots", most=BLOCK_ENDS_MAX):
        slot, root = shape.record(pair, "a block root", 2)
        roots.append((shape.integer(slot, "block end"), shape.identifier(root, "block root")))
    return tuple(roots)


def _hash_or_none(value: Value, what: str) -> bytes | None:
    return None if value is None else shape.identifier(value, what)


def _signature(value: Value) -> bytes:
    return shape.octets(value, "signature", least=SIGNATURE_BYTES, most=SIGNATURE_BYTES)
