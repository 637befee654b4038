"""Transactions of the ledger: messages to its process with an `Action` tag and CBOR as data.

The data is the canonical array of the transaction's fields (ledger_tx.cddl). What moves stake or
coins by the sender's will begins with `sequence`, which must be above the last one of the
account, with gaps as it likes (a clock will do): so nobody can replay it. All others change
nothing when they come again. The sender is the item's owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from protocols.codec import Value, decode, signing_bytes
from protocols.domains import SIGN_DELEGATION
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, NodeKey
from protocols.limits import MERKLE_PATH_MAX, MMR_PEAKS_MAX
from protocols.wire import shape
from protocols.wire.demand import ANSWERS, SUBJECT_BYTES_MAX
from protocols.wire.item import Item
from protocols.wire.proof import LEAF_BYTES_MAX, PROOF_BYTES_MAX
from protocols.wire.record import Record, base_units, ed25519, listed, octets, together
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

VOTES_MAX = 4096
"""Votes of one checkpoint."""
PART_BYTES_MAX = 1 << 20
PARTS_MAX = 512
"""Parts of one evidence or one answer."""

_hash = shape.identifier
_number = shape.integer


class Transaction(Record):
    """Base of all. `ACTION` is the value of the item's Action tag."""

    __slots__ = ()
    ACTION: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Transfer(Transaction):
    """Give `amount` to `recipient`."""

    sequence: int
    recipient: Address
    amount: int

    ACTION = "Transfer"
    READ = (_number, _hash, base_units)


@dataclass(frozen=True, slots=True)
class Stake(Transaction):
    """Put `amount` of the balance at stake."""

    sequence: int
    amount: int

    ACTION = "Stake"
    READ = (_number, base_units)


@dataclass(frozen=True, slots=True)
class Unbond(Transaction):
    """Take `amount` out of the stake; it can be slashed and not be moved for `unbonding` ticks."""

    sequence: int
    amount: int

    ACTION = "Unbond"
    READ = (_number, base_units)


@dataclass(frozen=True, slots=True)
class Withdraw(Transaction):
    """Move what has been unbonding long enough to the balance."""

    ACTION = "Withdraw"
    READ = ()


@dataclass(frozen=True, slots=True)
class Faucet(Transaction):
    """Fill the balance up to the network's `faucet_amount`."""

    ACTION = "Faucet"
    READ = ()


@dataclass(frozen=True, slots=True)
class Delegate(Transaction):
    """What `key` signs from now on, the sender's stake answers for. For ever, so that old
    statements stay punishable. `signature` is the key's consent."""

    key: NodeKey
    signature: bytes

    ACTION = "Delegate"
    READ = (_hash, ed25519)


def delegation_bytes(network: NetworkId, account: Address) -> bytes:
    """What a session key signs to consent to a delegation."""
    return signing_bytes(SIGN_DELEGATION, network, [account])


@dataclass(frozen=True, slots=True)
class Register(Transaction):
    """Show a staked unit to everybody. `unit` is an encoded `UnitAnnouncement`."""

    unit: bytes

    ACTION = "Register"
    READ = (octets(TOPIC_BYTES_MAX[Topic.UNITS]),)


@dataclass(frozen=True, slots=True)
class OfferAnchor(Transaction):
    """A state from which compute units may start: that of the leaf at the end of a proof block,
    carried by state proofs of two stakers that end there."""

    head: bytes
    leaf: bytes
    """Preimage of the last leaf: its process, slot and state root are the anchor's."""
    path: tuple[bytes, ...]
    """Siblings of that leaf in the range over leaves 0..slot, up to its peak."""
    peaks: tuple[bytes, ...]
    """Of that range."""
    proofs: tuple[bytes, ...]

    ACTION = "Anchor"
    READ = (
        _hash,
        octets(LEAF_BYTES_MAX),
        listed(_hash, MERKLE_PATH_MAX),
        listed(_hash, MMR_PEAKS_MAX),
        listed(octets(PROOF_BYTES_MAX), 2, 2),
    )


@dataclass(frozen=True, slots=True)
class Checkpoint(Transaction):
    """Votes for one state of the ledger. Final with two thirds of the bonded stake."""

    tick: int
    slot: int
    head: bytes
    root: bytes
    votes: tuple[tuple[NodeKey, bytes], ...]
    """(key, signature), keys ascending."""

    ACTION = "Checkpoint"
    READ = (_number, _number, _hash, _hash, listed(together(_hash, ed25519), VOTES_MAX, 1))


@dataclass(frozen=True, slots=True)
class CommitEvidence(Transaction):
    """Announce evidence without showing it: H(salt, evidence hash, sender), and pay its bond."""

    sequence: int
    hash: bytes
    size: int
    """Bytes of the evidence."""

    ACTION = "Evidence-Commit"
    READ = (_number, _hash, base_units)


@dataclass(frozen=True, slots=True)
class EvidencePart(Transaction):
    """Some of the bytes of committed evidence, by its committer, or of an answer to a demand, by
    the accused or any staker. In any order."""

    commit: ItemId
    """Id of the committing item, or of the demand."""
    data: bytes

    ACTION = "Evidence-Part"
    READ = (_hash, octets(PART_BYTES_MAX, 1))


@dataclass(frozen=True, slots=True)
class RevealEvidence(Transaction):
    """Put the parts together, in this order, and have them judged."""

    commit: ItemId
    salt: bytes
    parts: tuple[ItemId, ...]
    """Ids of the items that carried them."""

    ACTION = "Evidence-Reveal"
    READ = (_hash, _hash, listed(_hash, PARTS_MAX, 1))


@dataclass(frozen=True, slots=True)
class Demand(Transaction):
    """Ask a staker publicly for what stands behind what it signed, against a bond."""

    sequence: int
    kind: int
    """One of `protocols.wire.demand`: what is asked for."""
    subject: bytes
    """Encoded as that kind says; for LEAVES and PREVIOUS a receipt or state proof."""

    ACTION = "Demand"
    READ = (
        _number,
        lambda value, what: shape.integer(value, what, most=len(ANSWERS) - 1),
        octets(SUBJECT_BYTES_MAX),
    )


@dataclass(frozen=True, slots=True)
class Reply(Transaction):
    """The answer to a demand, by anyone; here, or put together from parts sent before."""

    demand: bytes
    answer: bytes
    """Encoded as `protocols.wire.demand` says; empty if it came in parts."""
    parts: tuple[ItemId, ...] = ()
    """Ids of the items that carried it, in order."""

    ACTION = "Reply"
    READ = (_hash, octets(PART_BYTES_MAX), listed(_hash, PARTS_MAX))


ACTIONS: dict[str, type[Transaction]] = {
    kind.ACTION: kind
    for kind in (
        Transfer,
        Stake,
        Unbond,
        Withdraw,
        Faucet,
        Delegate,
        Register,
        OfferAnchor,
        Checkpoint,
        CommitEvidence,
        EvidencePart,
        RevealEvidence,
        Demand,
        Reply,
    )
}


def transaction_of(item: Item) -> Transaction:
    """Read the transaction that a message to the ledger carries. Raises Invalid."""
    action = item.first("Action")
    kind = ACTIONS.get(action or "")
    if kind is None:
        raise Invalid(
            Reason.INADMISSIBLE, f"Action {str(action)[:64]!r} is none of {', '.join(ACTIONS)}"
        )
    return kind.of_value(read_data(item))


def read_data(item: Item) -> Value:
    """The CBOR value an item's data is. Raises Invalid."""
    return decode(item.data, size_max=len(item.raw))
