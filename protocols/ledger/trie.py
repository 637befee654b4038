"""An immutable map with a Merkle root: a binary radix tree over the bits of its keys.

A branch stands where two keys below it first differ, so the shape follows from the keys alone:
one content, one root, whatever the order of the writes. A write makes new nodes along one path
and shares the rest, so an old version costs nothing to keep. No key may begin another one.

    leaf = H_ledger-entry(key, value)       branch = H_ledger-branch(bit, left, right)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocols.codec import decode, digest, encode
from protocols.domains import LEDGER_BRANCH, LEDGER_EMPTY, LEDGER_ENTRY
from protocols.errors import Invalid, Reason
from protocols.wire import shape

KEY_BYTES_MAX = 80
VALUE_BYTES_MAX = 1 << 16
PROOF_STEPS_MAX = 8 * KEY_BYTES_MAX
PROOF_BYTES_MAX = 64 + KEY_BYTES_MAX + VALUE_BYTES_MAX + PROOF_STEPS_MAX * 40


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    key: bytes
    value: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    bit: int
    """Number of the bit, from the key's first, on which `left` (0) and `right` (1) differ."""
    left: _Node
    right: _Node
    hash: bytes


_Node = _Leaf | _Branch


@dataclass(frozen=True, slots=True)
class EntryProof:
    """That an entry is in the map, or, by the entry a search for it ends at, that none is."""

    key: bytes
    value: bytes
    steps: tuple[tuple[int, bytes], ...]
    """(bit, hash of the other side) of the branches from the root down."""

    def encode(self) -> bytes:
        """Canonical CBOR of `[key, value, [[bit, hash], ...]]`."""
        return encode([self.key, self.value, [list(step) for step in self.steps]])

    @classmethod
    def decode(cls, blob: bytes) -> EntryProof:
        """Inverse of `encode`. Raises Invalid."""
        key, value, steps = shape.record(decode(blob, size_max=PROOF_BYTES_MAX), "entry proof", 3)
        read = []
        for step in shape.array(steps, "entry proof steps", most=PROOF_STEPS_MAX):
            bit, other = shape.record(step, "entry proof step", 2)
            read.append(
                (
                    shape.integer(bit, "entry proof bit", most=PROOF_STEPS_MAX),
                    shape.identifier(other, "entry proof hash"),
                )
            )
        return cls(
            shape.octets(key, "entry key", most=KEY_BYTES_MAX),
            shape.octets(value, "entry value", most=VALUE_BYTES_MAX),
            tuple(read),
        )

    def root(self) -> bytes:
        """The root that a map with this entry in this place has. Raises Invalid."""
        bits = [bit for bit, _ in self.steps]
        if bits != sorted(set(bits)):
            raise Invalid(Reason.MALFORMED, "branches of an entry proof do not go down")
        current = _leaf(self.key, self.value).hash
        for bit, other in reversed(self.steps):
            pair = (other, current) if _bit(self.key, bit) else (current, other)
            current = digest(LEDGER_BRANCH, bit, *pair)
        return current


def lookup(root: bytes, key: bytes, proof: EntryProof) -> bytes | None:
    """What the map with this root has under `key`: its value, or None for nothing.

    Raises Invalid(MISMATCH) if `proof` shows neither. A map without entries has no proof of it.
    """
    if proof.root() != root:
        raise Invalid(Reason.MISMATCH, "an entry proof leads to another root")
    if proof.key == key:
        return proof.value
    # Were `key` there, a branch would stand where it first differs from the entry shown, and
    # every branch above that sends both the same way.
    if _first_difference(proof.key, key) in {bit for bit, _ in proof.steps}:
        raise Invalid(Reason.MISMATCH, "an entry proof shows another part of the map")
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """The map. Two are equal in content iff their roots are."""

    _top: _Node | None = None

    def root(self) -> bytes:
        """32 bytes that bind every entry."""
        return digest(LEDGER_EMPTY) if self._top is None else self._top.hash

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        if self._top is None:
            return None
        leaf = self._nearest(key)[0]
        return leaf.value if leaf.key == key else None

    def put(self, key: bytes, value: bytes) -> Trie:
        """The map with `value` under `key`."""
        assert len(key) <= KEY_BYTES_MAX, f"a key of {len(key)} bytes"
        assert len(value) <= VALUE_BYTES_MAX, f"a value of {len(value)} bytes"
        new: _Node = _leaf(key, value)
        if self._top is None:
            return Trie(new)
        nearest, path = self._nearest(key)
        if nearest.key == key:
            if nearest.value == value:
                return self
            return Trie(_rebuilt(path, key, new))
        bit = _first_difference(nearest.key, key)
        above = [branch for branch in path if branch.bit < bit]
        below = self._top if not above else _side(above[-1], key)
        pair = (below, new) if _bit(key, bit) else (new, below)
        return Trie(_rebuilt(above, key, _branch(bit, *pair)))

    def delete(self, key: bytes) -> Trie:
        """The map without `key`, which must be there."""
        assert self._top is not None, "an empty map has nothing to delete"
        nearest, path = self._nearest(key)
        assert nearest.key == key, f"no entry {key.hex()} to delete"
        if not path:
            return Trie()
        parent = path.pop()
        return Trie(_rebuilt(path, key, parent.left if _bit(key, parent.bit) else parent.right))

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries whose key begins with `prefix`, in the order of their keys."""
        top = self._top
        while isinstance(top, _Branch) and top.bit < 8 * len(prefix):
            top = _side(top, prefix)
        waiting = [] if top is None else [top]
        while waiting:
            node = waiting.pop()
            if isinstance(node, _Branch):
                waiting += (node.right, node.left)
            elif node.key.startswith(prefix):
                yield node.key, node.value
            else:
                return  # the prefix is not there: the whole subtree shares what differs

    def prove(self, key: bytes) -> EntryProof:
        """Proof of the entry under `key`, or of there being none, for `lookup`."""
        assert self._top is not None, "an empty map proves nothing"
        leaf, path = self._nearest(key)
        steps = tuple(
            (branch.bit, (branch.left if _bit(key, branch.bit) else branch.right).hash)
            for branch in path
        )
        return EntryProof(leaf.key, leaf.value, steps)

    def _nearest(self, key: bytes) -> tuple[_Leaf, list[_Branch]]:
        """The leaf that a search for `key` ends at, and the branches on the way."""
        node = self._top
        path = []
        while isinstance(node, _Branch):
            path.append(node)
            node = _side(node, key)
        assert node is not None
        return node, path


def _leaf(key: bytes, value: bytes) -> _Leaf:
    return _Leaf(key, value, digest(LEDGER_ENTRY, key, value))


def _branch(bit: int, left: _Node, right: _Node) -> _Branch:
    return _Branch(bit, left, right, digest(LEDGER_BRANCH, bit, left.hash, right.hash))


def _side(branch: _Branch, key: bytes) -> _Node:
    return branch.right if _bit(key, branch.bit) else branch.left


def _rebuilt(path: list[_Branch], key: bytes, node: _Node) -> _Node:
    """The top of the tree with `node` at the end of `path`."""
    for branch in reversed(path):
        if _bit(key, branch.bit):
            node = _branch(branch.bit, branch.left, node)
        else:
            node = _branch(branch.bit, node, branch.right)
    return node


def _bit(key: bytes, number: int) -> int:
    """Bit `number` of `key`; zero beyond its end."""
    at = number >> 3
    return key[at] >> (7 - (number & 7)) & 1 if at < len(key) else 0


def _first_difference(a: bytes, b: bytes) -> int:
    """Number of the first bit in which two keys differ."""
    for at, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return 8 * at + 8 - (one ^ other).bit_length()
    raise AssertionError(f"key {a.hex()} begins key {b.hex()}, or the other way round")
