"""What the fuzzer starts from: bytes that some decoder accepts.

From the golden vectors, from the tests' sample log, and, for records that have no vector, from
the readers of their fields: the first candidate that each of them accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import zstandard

from aonode.http.shapes import Cursor
from aonode.net.libp2p_keys import id_of_key
from aonode.processes import token_wasm
from protocols.accumulator import mmr_of, mmr_prove
from protocols.codec import Value, encode
from protocols.errors import Invalid
from protocols.ids import NodeKey, ProcessId, b64url
from protocols.ledger.trie import EntryProof
from protocols.machine.case import Case, Kind
from protocols.wire.bundle import encode_bundle
from protocols.wire.proof_streams import LeavesRequest, ProofsAnswer, ProofsRequest
from protocols.wire.record import Record
from protocols.wire.tags import encode_tags
from tests.fuzz.decoders import SIZE_MAX, Decoder, heirs
from tests.protocols.wire.ledger_vectors import TRANSACTIONS
from tests.protocols.wire.sample import SCHEDULER, message_item, process_item, sample_log
from tests.protocols.wire.vectors import FOLDER

_NONE = "\0 none"
"""Stands for no value: no reader takes this text."""
_HEX = re.compile(r"([0-9a-f]{2}){2,}")
_SCALARS: tuple[Value, ...] = (
    0,
    1,
    2,
    None,
    True,
    "",
    "ao",
    b"",
    b"x",
    *(bytes(size) for size in (2, 8, 16, 32, 33, 48, 64, 65)),
    [],
)
HASHES = tuple(bytes([number]) * 32 for number in range(7))
TEXTS = (
    b64url(bytes(32)),
    Cursor(ordinate=7, sort="ASC").encode(),
    "/ip4/127.0.0.1/tcp/4001",
    f"/ip4/127.0.0.1/tcp/4001/p2p/{id_of_key(NodeKey(SCHEDULER.key))}",
    "query ($ids: [ID!]!) { transactions(ids: $ids) { edges { node { id tags { name } } } } }",
    '{ transaction(id: "x") { id } }',
    '{"query": "{ transaction(id: \\"x\\") { id } }", "variables": {"x": 1}}',
    '{"from": "alice", "tags": {"Action": "Add"}, "data": "x", "timestamp": 5}\n{}',
    '{"Tags": [{"name": "a", "value": "b"}], "Data": "x", "Owner": "o", "Timestamp": 5}',
)


def sample_of(kind: type[Record]) -> bytes | None:
    """Bytes that the record accepts; None if no candidate fits some field."""
    value = _value_of(kind)
    return None if value is None else encode(value)


def _value_of(kind: type[Record], inside: tuple[Value, ...] = ()) -> Value:
    """`inside`: values of records that may stand in this one."""
    values: list[Value] = []
    for read in kind.READ:
        found = next((each for each in (*_candidates(), *inside) if _accepts(read, each)), _NONE)
        if found is _NONE:
            return None if inside else _value_of(kind, _flat())
        values.append(found)
    return values


@cache
def _flat() -> tuple[Value, ...]:
    """Values of the records that hold no others."""
    plain = [_value_of(kind, (_NONE,)) for kind in heirs(Record)]
    return tuple(each for each in plain if each is not None)


@cache
def _candidates() -> tuple[Value, ...]:
    """Scalars, arrays of one or two of them, and arrays of those."""
    pairs = [[a, b] for a in _SCALARS for b in _SCALARS if not isinstance(a, list)]
    ones = [[each] for each in _SCALARS]
    return (*_SCALARS, *ones, *pairs, *([pair] for pair in pairs), *([one] for one in ones))


def _accepts(read: Any, value: Value) -> bool:
    try:
        read(value, "field")
    except Invalid:
        return False
    return True


@cache
def pool() -> tuple[bytes, ...]:
    """All samples, each once, in a fixed order."""
    return tuple(dict.fromkeys(each for each in _all() if 0 < len(each) <= SIZE_MAX))


def _all() -> Iterator[bytes]:
    for path in sorted(FOLDER.glob("*.json")):
        yield from _hex(json.loads(path.read_text("utf-8")))
    slots, chains = sample_log(2)
    items = [process_item(), *(slot.message for slot in slots)]
    items += [slot.assignment.item for slot in slots]
    items += [
        message_item(slots[0].process, ("Action", tx.ACTION), data=tx.encode())
        for tx in TRANSACTIONS
    ]
    yield from (item.raw for item in items)
    yield from (bytes(item.tags_raw) for item in items)
    yield from (encode_tags(item.tags[:count]) for item in items[:2] for count in (1, 2))
    yield from (mmr_of(HASHES[:count]).encode() for count in (0, 1, 7))
    yield mmr_prove(HASHES, 4).encode()
    yield EntryProof(b"key", b"value", ((3, HASHES[0]), (9, HASHES[1]))).encode()
    unit, process = NodeKey(HASHES[0]), ProcessId(HASHES[1])
    yield Case(HASHES[2], Kind.STATEMENT, b"statement", unit, process, 1, 7, 5).encode()
    receipts = json.loads((FOLDER / "proof.json").read_text("utf-8"))
    yield LeavesRequest(b"statement").encode()
    yield ProofsRequest(None, NodeKey(HASHES[0]), 7, True).encode()
    yield b"".join(ProofsAnswer((b"proof", b"proof"), (b"vote",)).encode())
    yield encode([0, 5, b"raw", bytes.fromhex(receipts["early"]["bytes"])])
    yield from (chain.encode() for chain in chains)
    yield encode_bundle([item.raw for item in items[:3]])
    yield from (tx.encode() for tx in TRANSACTIONS)
    yield zstandard.ZstdCompressor().compress(bytes(range(256)) * 4)
    yield from (text.encode() for text in TEXTS)
    yield token_wasm()


def _hex(value: Any) -> Iterator[bytes]:
    if isinstance(value, str) and _HEX.fullmatch(value):
        yield bytes.fromhex(value)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _hex(each)
    elif isinstance(value, list):
        for each in value:
            yield from _hex(each)


def accepted(decoder: Decoder, **chosen: Any) -> tuple[bytes, ...]:
    """The samples that a decoder accepts."""
    return tuple(each for each in pool() if _takes(decoder, each, chosen))


def _takes(decoder: Decoder, fed: bytes, chosen: dict[str, Any]) -> bool:
    try:
        decoder(fed, **chosen)
    except Invalid:
        return False
    return True
