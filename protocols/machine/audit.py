"""A watcher's judgement of other units' statements, and the evidence it makes.

    own leaves reach the statement's last slot --> `check`: compare roots, nothing is run
    two units differ, own leaves do not reach  --> `differ`: which slots to run
    the differing range is known               --> get the leaf hashes (or demand them),
                                                   `first_wrong`, `accuse`

Nothing here says that anybody is guilty: that is `protocols.verdict`, on the ledger. A watcher
runs it on its own evidence first, since evidence that fails costs its bond.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocols.accumulator import Mmr, mmr_of, mmr_prove
from protocols.court import first_leaf, roots_of
from protocols.parameters import Parameters
from protocols.wire.evidence import BadLeaf, FraudProof, Witness, WrongSum, statement_of
from protocols.wire.proof import Leaf, Receipt, Statement


class Suspicion(enum.StrEnum):
    """What comparing a statement with the own leaves gives."""

    NONE = "none"
    """It is right."""
    UNKNOWN = "unknown"
    """The own leaves do not reach its last slot."""
    OTHER_LOG = "other_log"
    """It is about another branch of the log."""
    EARLIER = "earlier"
    """It continues a range that is wrong already: what came before is to be demanded."""
    LEAF = "leaf"
    """A leaf in `slots` is wrong: get their hashes, then `accuse`."""
    STATE_ROOT = "state_root"
    """Its leaves are right, but not its state root: `bad_state_root`."""
    SUM = "sum"
    """Its leaves are right, but not the fuel it adds up: `wrong_sum`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspicion, and for `LEAF` the slots among which the first wrong leaf is."""

    suspicion: Suspicion
    slots: range = range(0)


class OwnLeaves(Protocol):
    """What this node has evaluated of one process, from slot 0 on; in memory, or read from disk
    where it is looked at."""

    @property
    def leaves(self) -> Sequence[Leaf]: ...

    @property
    def hashes(self) -> Sequence[bytes]:
        """Of the leaves."""

    @property
    def heads(self) -> Sequence[bytes]:
        """Log head after each slot."""

    @property
    def roots(self) -> Sequence[bytes]:
        """MMR root by number of leaves."""

    def head_before(self, slot: int) -> bytes:
        """Log head before a slot."""


@dataclass(slots=True)
class Own:
    """`OwnLeaves` in memory."""

    head_genesis: bytes
    leaves: list[Leaf] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    """Log head after each slot."""
    roots: list[bytes] = field(default_factory=lambda: [Mmr().root()])
    """MMR root by number of leaves."""
    _mmr: Mmr = field(default_factory=Mmr)

    def append(self, leaf: Leaf, head: bytes) -> None:
        """The next slot."""
        self.leaves.append(leaf)
        self.hashes.append(leaf.hash())
        self.heads.append(head)
        self._mmr = self._mmr.append(self.hashes[-1])
        self.roots.append(self._mmr.root())

    def head_before(self, slot: int) -> bytes:
        """Log head before a slot."""
        return self.heads[slot - 1] if slot else self.head_genesis


def last_slot(statement: Statement) -> int:
    """The slot a statement ends with."""
    return statement.slot if isinstance(statement, Receipt) else statement.last


def check(statement: Statement, own: OwnLeaves, parameters: Parameters) -> Finding:
    """Compare a statement (`Statement.check` has passed) with the own leaves."""
    last, first = last_slot(statement), first_leaf(statement, parameters)
    if len(own.leaves) <= last:
        return Finding(Suspicion.UNKNOWN)
    if own.heads[last] != statement.head:
        return Finding(Suspicion.OTHER_LOG)
    agreed = first
    for count, root in sorted(roots_of(statement, parameters).items()):
        if root == own.roots[count]:
            agreed = count
        elif count <= first:
            return Finding(Suspicion.EARLIER)
        else:
            return Finding(Suspicion.LEAF, range(agreed, count))
    if isinstance(statement, Receipt):
        wrong = statement.leaf.hash() != own.hashes[last]
        return Finding(Suspicion.LEAF, range(last, last + 1)) if wrong else Finding(Suspicion.NONE)
    if statement.state_root != own.leaves[last].root:
        return Finding(Suspicion.STATE_ROOT)
    if statement.fuel != sum(leaf.fuel for leaf in own.leaves[first : last + 1]):
        return Finding(Suspicion.SUM)
    return Finding(Suspicion.NONE)


def differ(a: Statement, b: Statement, parameters: Parameters) -> range | None:
    """Slots among which two units' statements of one log must differ, so that running them shows
    who is wrong. None if they agree wherever they can be compared."""
    if (a.network, a.process, a.profile) != (b.network, b.process, b.profile):
        return None
    if last_slot(a) != last_slot(b) or a.head != b.head:
        return None
    roots_b = roots_of(b, parameters)
    agreed = 0
    for count, root in sorted(roots_of(a, parameters).items()):
        if count not in roots_b:
            continue
        if root != roots_b[count]:
            return range(agreed, count)
        agreed = count
    return None


def segment_start(slot: int, parameters: Parameters) -> int:
    """First slot of the segment that holds `slot`: its state must be kept or made to accuse."""
    return slot // parameters.root_every * parameters.root_every


def first_wrong(theirs: Sequence[bytes], first: int, own: OwnLeaves) -> int | None:
    """The first slot whose leaf differs, when `theirs` are leaf hashes from slot `first` on."""
    for slot, leaf in enumerate(theirs, first):
        if leaf != own.hashes[slot]:
            return slot
    return None


@dataclass(frozen=True, slots=True)
class Log:
    """The log of the accused process, as far as evidence needs it."""

    process: bytes
    """The process item."""
    ids: Sequence[bytes]
    """Assignment ids by slot."""
    slot: Callable[[int], tuple[bytes, bytes]]
    """(assignment, item) of a slot."""


def accuse(
    accused: bytes,
    theirs: Sequence[bytes],
    own: OwnLeaves,
    *,
    log: Log,
    parameters: Parameters,
    witness: Callable[[int], Witness | None],
) -> FraudProof | None:
    """The fraud proof against an encoded statement, None if its leaves are the own ones.

    `theirs` are its leaf hashes, from the first it answers for to its last. What came before
    must agree (`check` does not say EARLIER). `witness` gives the state before a slot, or None
    where the ledger knows what the segment gives. The result accuses the first wrong leaf: all
    before it is the own, so the state before its segment is.
    """
    statement = statement_of(accused)
    first, last = first_leaf(statement, parameters), last_slot(statement)
    assert len(theirs) == last - first + 1, "a leaf hash for each slot of the statement"
    index = first_wrong(theirs, first, own)
    if index is None and not isinstance(statement, Receipt):
        return None
    own_word = isinstance(statement, Receipt) and statement.leaf.hash() != own.hashes[last]
    if index is None:
        if not own_word:
            return None
        index = last
    in_receipt = own_word and index == last
    leaves = [*own.hashes[:first], *theirs]
    start = segment_start(index, parameters)
    end = min(start + parameters.root_every - 1, last)
    return FraudProof(
        accused=accused,
        process=log.process,
        first=start,
        head_before=own.head_before(start),
        ids=b"".join(log.ids[start : last + 1]),
        before=own.leaves[start - 1].encode() if start else None,
        before_path=mmr_prove(leaves, start - 1).encode() if start else None,
        index=index,
        leaf=None if in_receipt else leaves[index],
        path=None if in_receipt else mmr_prove(leaves, index).encode(),
        slots=tuple(log.slot(slot) for slot in range(start, end + 1)),
        witness=witness(start) if start else None,
    )


def bad_state_root(accused: bytes, own: OwnLeaves) -> BadLeaf:
    """Evidence for STATE_ROOT: its own last leaf says another root."""
    last = last_slot(statement_of(accused))
    path = mmr_prove(own.hashes[: last + 1], last).encode()
    return BadLeaf(accused, last, own.leaves[last].encode(), path)


def wrong_sum(accused: bytes, own: OwnLeaves, parameters: Parameters) -> WrongSum:
    """Evidence for SUM: its leaves, whose fuel adds up to something else."""
    statement = statement_of(accused)
    first, last = first_leaf(statement, parameters), last_slot(statement)
    leaves = tuple(leaf.encode() for leaf in own.leaves[first : last + 1])
    return WrongSum(accused, mmr_of(own.hashes[:first]).peaks, leaves)
