"""A client that follows the ledger without its log: from stakes it trusts to newer ones.

It starts from the stakes of the network file, or from a checkpoint it has verified before. A
checkpoint counts if valid votes of at least two thirds of the *trusted* stake carry it. After a
slashing there may be no such votes any more; then more than a third of the trusted stake, which
cannot all lie, and two thirds of the stake under its own root are enough (the skipping rule of
Tendermint's light client, arXiv 2010.07031). Stakes and session keys under it are read by proofs of
entries, and are trusted from then on. Entries that a node leaves out only make votes weigh less:
their total is under the root, too.

Stake that has been withdrawn since answers for nothing: whoever trusts stakes that are older than
the unbonding time (`Trusted.is_old`) trusts keys that may have nothing to lose any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from protocols.codec import Value
from protocols.errors import Invalid, Reason
from protocols.ids import Address, NetworkId, NodeKey, address_of, b64url
from protocols.ledger.entries import Bond, Session, Totals, key_of
from protocols.ledger.state import check_entry, genesis
from protocols.ledger.trie import EntryProof
from protocols.network import Network
from protocols.wire import shape
from protocols.wire.ledger_tx import VOTES_MAX, Checkpoint
from protocols.wire.record import Record, listed, together
from protocols.wire.vote import Vote

STAKES_MAX = VOTES_MAX
TRUSTED_BYTES_MAX = 1 << 20

_rows = listed(together(shape.identifier, shape.integer), STAKES_MAX)
_links = listed(together(shape.identifier, shape.identifier), STAKES_MAX)

Signed = Callable[[bytes, bytes, bytes], bool]
"""Ed25519: (key, message, signature)."""


def _slot(value: Value, what: str) -> int:
    return shape.integer(value, what, least=-1)


@dataclass(frozen=True, slots=True)
class Trusted(Record):
    """A checkpoint and the stakes under it."""

    network: NetworkId
    tick: int
    """Number of the checkpoint; 0 for genesis."""
    slot: int
    """Ledger slot under it; -1 for genesis."""
    root: bytes
    """Root of the ledger after that slot."""
    bonded: int
    """All stake that is not frozen, known to us or not."""
    stakes: tuple[tuple[Address, int], ...]
    """Accounts with a stake that is not frozen, ascending."""
    sessions: tuple[tuple[Address, Address], ...]
    """(address of a session key, account), ascending."""

    READ = (shape.identifier, shape.integer, _slot, shape.identifier, shape.integer, _rows, _links)

    def account_of(self, key: NodeKey) -> Address:
        """The account that answers for what a key signs."""
        address = address_of(key)
        return dict(self.sessions).get(address, address)

    def stake(self, account: Address) -> int:
        """What is bonded, and neither frozen nor on its way out."""
        return dict(self.stakes).get(account, 0)

    def is_old(self, tick: int, unbonding: int) -> bool:
        """Whether at `tick` these stakes may have been withdrawn long ago."""
        return tick - self.tick > unbonding


def at_genesis(network: Network) -> Trusted:
    """What the network file itself says."""
    stakes = tuple(sorted((account, amount) for account, amount in network.stakes if amount))
    bonded = sum(amount for _, amount in stakes)
    return Trusted(network.id, 0, -1, genesis(network).root(), bonded, stakes, ())


def check_votes(trusted: Trusted, checkpoint: Checkpoint, signed: Signed) -> None:
    """Raise Invalid unless trusted stake alone makes `checkpoint` final, and it is a later one."""
    voters = _voters(trusted, checkpoint, signed)
    weight = _weight(voters, trusted)
    if not trusted.bonded or 3 * weight < 2 * trusted.bonded:
        raise _too_light(checkpoint, weight, trusted)


def _voters(trusted: Trusted, checkpoint: Checkpoint, signed: Signed) -> list[NodeKey]:
    """Keys with a valid vote. Raises Invalid for a checkpoint that is not later, and for a vote
    of trusted stake that is not signed; votes of strangers are left out unless they verify."""
    if checkpoint.tick <= trusted.tick or checkpoint.slot <= trusted.slot:
        raise Invalid(
            Reason.NOT_NEXT,
            f"checkpoint {checkpoint.tick} under slot {checkpoint.slot} is not after checkpoint "
            f"{trusted.tick} under slot {trusted.slot}, which is trusted already",
        )
    keys = [key for key, _ in checkpoint.votes]
    if any(one >= other for one, other in pairwise(keys)):
        raise Invalid(Reason.MALFORMED, "the keys of a checkpoint's votes do not ascend")
    voters = []
    vote = Vote(
        trusted.network,
        checkpoint.tick,
        checkpoint.slot,
        checkpoint.head,
        checkpoint.root,
        NodeKey(b""),
    )
    for key, signature in checkpoint.votes:
        if signed(key, replace(vote, key=key).signing_bytes(), signature):
            voters.append(key)
        elif trusted.stake(trusted.account_of(key)):
            raise Invalid(
                Reason.BAD_SIGNATURE,
                f"checkpoint {checkpoint.tick}: a vote is not signed by {b64url(key)}",
            )
    return voters


def _weight(voters: Iterable[NodeKey], stakes: Trusted) -> int:
    """Stake behind these keys, each account once."""
    accounts = dict.fromkeys(map(stakes.account_of, voters))
    return sum(map(stakes.stake, accounts))


def _too_light(checkpoint: Checkpoint, weight: int, trusted: Trusted) -> Invalid:
    return Invalid(
        Reason.INADMISSIBLE,
        f"checkpoint {checkpoint.tick}: votes of {weight} of the {trusted.bonded} base units "
        f"that were bonded at checkpoint {trusted.tick}, less than two thirds; right after a "
        "slashing the next checkpoint will do; else it is false, or the stakes have changed too "
        "much since: start from a newer checkpoint that you trust",
    )


def advance(
    trusted: Trusted, checkpoint: Checkpoint, proofs: Iterable[EntryProof], signed: Signed
) -> Trusted:
    """The stakes under a later checkpoint. `proofs` are of its totals, and of stakes and session
    keys in any order. Raises Invalid if the votes do not weigh enough or a proof is false."""
    voters = _voters(trusted, checkpoint, signed)
    totals: Totals | None = None
    stakes: dict[Address, int] = {}
    sessions: dict[Address, Address] = {}
    root = checkpoint.root
    for proof in proofs:
        kind, rest = proof.key[:1], Address(proof.key[1:])
        if kind == key_of(Totals):
            totals = check_entry(root, proof, Totals)
        elif kind == key_of(Bond):
            bond = check_entry(root, proof, Bond, rest)
            if bond is not None and bond.amount and not bond.frozen:
                stakes[rest] = bond.amount
        elif kind == key_of(Session):
            session = check_entry(root, proof, Session, rest)
            if session is not None:
                sessions[rest] = session.account
    if totals is None:
        raise Invalid(
            Reason.MALFORMED, f"no proof of the totals under checkpoint {checkpoint.tick}"
        )
    if totals.slot != checkpoint.slot or len(stakes) > STAKES_MAX or len(sessions) > STAKES_MAX:
        raise Invalid(
            Reason.MISMATCH,
            f"under checkpoint {checkpoint.tick} of slot {checkpoint.slot} stands a ledger of "
            f"slot {totals.slot} with {len(stakes)} stakes",
        )
    new = Trusted(
        trusted.network,
        checkpoint.tick,
        checkpoint.slot,
        root,
        totals.bonded,
        tuple(sorted(stakes.items())),
        tuple(sorted(sessions.items())),
    )
    weight = _weight(voters, trusted)
    by_old = trusted.bonded and 3 * weight >= 2 * trusted.bonded
    by_both = (
        3 * weight > trusted.bonded and new.bonded and 3 * _weight(voters, new) >= 2 * new.bonded
    )
    if not (by_old or by_both):
        raise _too_light(checkpoint, weight, trusted)
    return new
