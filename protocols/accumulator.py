"""Merkle trees and Merkle mountain ranges.

A Merkle tree is binary; a node without a sibling is promoted to the next level. Leaves and nodes
are hashed in different domains (`<domain>/leaf`, `<domain>/node`), so a node cannot be shown as
a leaf. A mountain range (MMR) grows by one leaf in O(log n), and its root binds its leaf count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.codec import HASH_BYTES, Value, decode, digest, digest_raw, encode
from protocols.domains import MMR_BAG, MMR_NODE, MMR_ROOT
from protocols.errors import Invalid, Reason
from protocols.limits import MERKLE_PATH_MAX, MMR_LEAVES_MAX, MMR_PEAKS_MAX

_MMR_BYTES_MAX = 32 + MMR_PEAKS_MAX * (HASH_BYTES + 2)
_PROOF_BYTES_MAX = 64 + (MERKLE_PATH_MAX + MMR_PEAKS_MAX) * (HASH_BYTES + 2)


# Merkle trees


def merkle_leaf(domain: str, leaf: bytes | memoryview) -> bytes:
    """Hash of one leaf's bytes."""
    return digest_raw(f"{domain}/leaf", leaf)


def merkle_root(domain: str, leaves: Sequence[bytes]) -> bytes:
    """Root over the leaves' bytes; the root of no leaves is a constant of the domain."""
    return merkle_root_of_hashes(domain, [merkle_leaf(domain, leaf) for leaf in leaves])


def merkle_root_of_hashes(domain: str, hashes: Sequence[bytes]) -> bytes:
    """As `merkle_root`, from `merkle_leaf` hashes: for trees of which few leaves change."""
    if not hashes:
        return digest_raw(f"{domain}/empty", b"")
    level = hashes
    while len(level) > 1:
        level = merkle_level(domain, level)
    return level[0]


def merkle_node(domain: str, left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return digest_raw(f"{domain}/node", left + right)


def merkle_level(domain: str, level: Sequence[bytes]) -> list[bytes]:
    """The level above `level`: pairs hashed, an odd last hash promoted."""
    node = f"{domain}/node"
    above = [digest_raw(node, level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above


def merkle_path(domain: str, leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Sibling hashes from leaf `index` up to the root; promoted levels add none."""
    assert 0 <= index < len(leaves), f"no leaf {index} among {len(leaves)}"
    path = []
    level = [merkle_leaf(domain, leaf) for leaf in leaves]
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = merkle_level(domain, level)
        index >>= 1
    return tuple(path)


def merkle_verify(
    domain: str, root: bytes, leaf: bytes, *, index: int, count: int, path: Sequence[bytes]
) -> bool:
    """True iff `path` leads from `leaf`, leaf `index` of `count`, to `root`.

    `count` must come from a source the caller trusts as much as the root.
    """
    if not 0 <= index < count:
        return False
    node = f"{domain}/node"
    current = merkle_leaf(domain, leaf)
    rest = list(reversed(path))
    while count > 1:
        if index ^ 1 < count:
            if not rest:
                return False
            sibling = rest.pop()
            pair = sibling + current if index & 1 else current + sibling
            current = digest_raw(node, pair)
        index >>= 1
        count = (count + 1) >> 1
    return not rest and current == root


# Mountain ranges


@dataclass(frozen=True, slots=True)
class Mmr:
    """A mountain range over 32-byte leaf hashes, which are hashed in a domain of their own.

    `peaks` are the roots of its perfect trees, highest first: one per set bit of `count`.
    """

    count: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Mmr:
        """The range with one more leaf."""
        assert len(leaf) == HASH_BYTES, f"a leaf hash has {HASH_BYTES} bytes, not {len(leaf)}"
        peaks = self.peaks
        height = self.count
        while height & 1:
            leaf = digest_raw(MMR_NODE, peaks[-1] + leaf)
            peaks = peaks[:-1]
            height >>= 1
        return Mmr(self.count + 1, (*peaks, leaf))

    def extend(self, leaves: Sequence[bytes]) -> Mmr:
        """The range with all of `leaves` appended in order."""
        mmr = self
        for leaf in leaves:
            mmr = mmr.append(leaf)
        return mmr

    def root(self) -> bytes:
        """H(count, peaks bagged right to left)."""
        if not self.peaks:
            return digest(MMR_ROOT, 0, None)
        bag = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            bag = digest_raw(MMR_BAG, peak + bag)
        return digest(MMR_ROOT, self.count, bag)

    def to_value(self) -> list[Value]:
        """As part of a larger wire value: [count, [peak, ...]]."""
        return [self.count, list(self.peaks)]

    def encode(self) -> bytes:
        """Canonical CBOR of `to_value`."""
        return encode(self.to_value())

    @classmethod
    def of_value(cls, value: Value) -> Mmr:
        """Inverse of `to_value`. Raises Invalid."""
        match value:
            case [int(count), list(peaks)] if (
                0 <= count <= MMR_LEAVES_MAX
                and not isinstance(count, bool)
                and len(peaks) == count.bit_count()
            ):
                return cls(count, _hashes(peaks, "MMR peak"))
        raise Invalid(Reason.MALFORMED, "an MMR is [count, peaks], one peak per set bit of count")

    @classmethod
    def decode(cls, blob: bytes) -> Mmr:
        """Inverse of `encode`. Raises Invalid."""
        return cls.of_value(decode(blob, size_max=_MMR_BYTES_MAX, items_max=MMR_PEAKS_MAX + 3))


@dataclass(frozen=True, slots=True)
class MmrProof:
    """That a leaf is number `index` of the range whose root is known."""

    index: int
    count: int
    path: tuple[bytes, ...]
    """Siblings from the leaf up to its peak."""
    peaks: tuple[bytes, ...]

    def to_value(self) -> list[Value]:
        """As part of a larger wire value: [index, count, path, peaks]."""
        return [self.index, self.count, list(self.path), list(self.peaks)]

    def encode(self) -> bytes:
        """Canonical CBOR of `to_value`."""
        return encode(self.to_value())

    @classmethod
    def of_value(cls, value: Value) -> MmrProof:
        """Inverse of `to_value`. Raises Invalid."""
        match value:
            case [int(index), int(count), list(path), list(peaks)] if (
                not isinstance(index, bool)
                and not isinstance(count, bool)
                and 0 <= index < count <= MMR_LEAVES_MAX
                and len(peaks) == count.bit_count()
                and len(path) <= MERKLE_PATH_MAX
            ):
                return cls(
                    index, count, _hashes(path, "MMR path entry"), _hashes(peaks, "MMR peak")
                )
        raise Invalid(Reason.MALFORMED, "an MMR proof is [index, count, path, peaks]")

    @classmethod
    def decode(cls, blob: bytes) -> MmrProof:
        """Inverse of `encode`. Raises Invalid."""
        return cls.of_value(decode(blob, size_max=_PROOF_BYTES_MAX, items_max=256))


def mmr_of(leaves: Sequence[bytes]) -> Mmr:
    """The range over all of `leaves`."""
    return Mmr().extend(leaves)


def mmr_prove(leaves: Sequence[bytes], index: int) -> MmrProof:
    """Proof that `leaves[index]` stands there in the range over `leaves`."""
    assert 0 <= index < len(leaves), f"no leaf {index} among {len(leaves)}"
    start, height, _ = _mountain(index, len(leaves))
    level = list(leaves[start : start + (1 << height)])
    path = []
    position = index - start
    while len(level) > 1:
        path.append(level[position ^ 1])
        level = [digest_raw(MMR_NODE, level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        position >>= 1
    return MmrProof(index, len(leaves), tuple(path), mmr_of(leaves).peaks)


def mmr_verify(root: bytes, leaf: bytes, proof: MmrProof) -> bool:
    """True iff `proof` shows that `leaf` is leaf `proof.index` of the range with `root`."""
    if not 0 <= proof.index < proof.count or len(proof.peaks) != proof.count.bit_count():
        return False
    start, height, number = _mountain(proof.index, proof.count)
    if len(proof.path) != height:
        return False
    position = proof.index - start
    for sibling in proof.path:
        leaf = digest_raw(MMR_NODE, sibling + leaf if position & 1 else leaf + sibling)
        position >>= 1
    return leaf == proof.peaks[number] and Mmr(proof.count, proof.peaks).root() == root


def _mountain(index: int, count: int) -> tuple[int, int, int]:
    """First leaf, height and number (from the left) of the perfect tree that holds `index`."""
    start = number = 0
    for height in range(count.bit_length() - 1, -1, -1):
        if count >> height & 1:
            if index < start + (1 << height):
                return start, height, number
            start += 1 << height
            number += 1
    raise AssertionError(f"no leaf {index} among {count}")


def _hashes(values: Sequence[Value], what: str) -> tuple[bytes, ...]:
    """`values` as 32-byte hashes. Raises Invalid naming `what`."""
    out = []
    for value in values:
        if not isinstance(value, bytes) or len(value) != HASH_BYTES:
            raise Invalid(Reason.MALFORMED, f"{what} is not {HASH_BYTES} bytes")
        out.append(value)
    return tuple(out)
