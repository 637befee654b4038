"""Follows the ledger's final checkpoints over HTTP, and believes no node
(`protocols.ledger.light`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aonode.accept.ledger_client import LedgerClient
from aonode.crypto.verify import verify_ed25519
from protocols.errors import Invalid, Reason
from protocols.ids import b64url, unb64url
from protocols.ledger.entries import Entry, key_of
from protocols.ledger.light import STAKES_MAX, Trusted, advance
from protocols.ledger.state import check_entry
from protocols.ledger.trie import EntryProof
from protocols.limits import ITEM_TAGS_BYTES_MAX
from protocols.wire.item import decode_item
from protocols.wire.ledger_tx import VOTES_MAX, Checkpoint, transaction_of

E = TypeVar("E", bound=Entry)

CHECKPOINT_BYTES_MAX = ITEM_TAGS_BYTES_MAX + 128 * VOTES_MAX
PROOFS_MAX = 4 * STAKES_MAX

Wanted = tuple[type[Entry], bytes]
"""Kind and the rest of the key of an entry that is to be proved beside the stakes."""


@dataclass(frozen=True, slots=True)
class Final:
    """A checkpoint that is final, as far as trusted stake goes, and entries under it."""

    trusted: Trusted
    raw: bytes = b""
    """The checkpoint's transaction; empty where no node knows a later one than was trusted."""
    stakes: tuple[EntryProof, ...] = ()
    """Of the totals, stakes and session keys under it."""
    proofs: Mapping[bytes, EntryProof] = field(default_factory=dict)
    """By key, of what was asked for."""
    old: bool = False
    """The stakes it was verified by may have been withdrawn long ago."""

    def entry(self, kind: type[E], key: bytes) -> E | None:
        """The entry, or None where there is none. Raises Invalid if neither is proved."""
        whole = key_of(kind, key)
        if whole not in self.proofs:
            raise Invalid(
                Reason.MISMATCH, f"no node proves the {kind.__name__.lower()} {b64url(key)}"
            )
        return check_entry(self.trusted.root, self.proofs[whole], kind, key)


async def follow(client: LedgerClient, trusted: Trusted, wanted: Sequence[Wanted] = ()) -> Final:
    """The newest final checkpoint that any node shows, and proofs of `wanted` under it.

    Nodes that show nothing final, something false, or leave out what was wanted, are passed over.
    Raises Invalid where all do: with what was wrong with the newest.
    """
    query: list[tuple[str, Any]] = [("stakes", 1)]
    query += [("prove", f"{kind.__name__.lower()}/{b64url(key)}") for kind, key in wanted]
    answers = await client.ask_all("/ledger/checkpoint", query)
    best: Final | None = None
    wrong = Invalid(
        Reason.UNAVAILABLE,
        f"none of {len(client.urls)} nodes shows a final checkpoint; without one it is not known "
        "what is at stake",
    )
    unbonding = client.network.parameters.unbonding
    for _, answer in answers:
        try:
            final = read_final(answer, trusted, wanted, unbonding)
        except Invalid as error:
            wrong = error
            continue
        if best is None or final.trusted.tick > best.trusted.tick:
            best = final
    if best is None:
        raise wrong
    return best


def read_final(
    answer: Mapping[str, Any], trusted: Trusted, wanted: Iterable[Wanted], unbonding: int
) -> Final:
    """Check the JSON of `/ledger/checkpoint`. Raises Invalid."""
    raw = _octets(answer, "checkpoint")
    tx = transaction_of(decode_item(raw, size_max=CHECKPOINT_BYTES_MAX))
    if not isinstance(tx, Checkpoint):
        raise Invalid(Reason.MALFORMED, f"a {tx.ACTION} transaction is no checkpoint")
    rows = answer.get("proofs")
    if not isinstance(rows, list) or len(rows) > PROOFS_MAX:
        raise Invalid(Reason.MALFORMED, "a checkpoint's proofs are no list, or too many")
    proofs = [EntryProof.decode(_octets(row, "proof")) for row in rows]
    if (tx.tick, tx.slot, tx.root) == (trusted.tick, trusted.slot, trusted.root):
        new = trusted
    else:
        new = advance(trusted, tx, proofs, verify_ed25519)
    # The proof of an absent entry shows another one, so what is proved follows from the order.
    keys = [key_of(kind, key) for kind, key in wanted]
    rest = max(0, len(proofs) - len(keys))
    shown = dict(zip(keys, proofs[rest:], strict=False))
    final = Final(new, raw, tuple(proofs[:rest]), shown, trusted.is_old(tx.tick, unbonding))
    for kind, key in wanted:
        final.entry(kind, key)
    return final


def _octets(row: Any, name: str) -> bytes:
    text = row.get(name) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise Invalid(Reason.MALFORMED, f"the answer has no {name!r}; is this an aonode?")
    return unb64url(text)
