"""Arweave's deep hash: SHA-384 over a tree of byte strings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

DeepPart: TypeAlias = "bytes | memoryview | Sequence[DeepPart]"


def deep_hash(part: DeepPart) -> bytes:
    """48 bytes: of a byte string, or of a list of parts in order."""
    if isinstance(part, (bytes, memoryview)):
        return blob_hash(len(part), sha384(part))
    acc = sha384(b"list%d" % len(part))
    for child in part:
        acc = sha384(acc + deep_hash(child))
    return acc


def blob_hash(size: int, hash: bytes) -> bytes:
    """`deep_hash` of a byte string of which only the size and the SHA-384 are known."""
    return sha384(sha384(b"blob%d" % size) + hash)


def sha384(data: bytes | memoryview) -> bytes:
    """SHA-384, 48 bytes."""
    return hashlib.sha384(data).digest()
