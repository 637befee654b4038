"""Every fixed bound, in one place, with its relations asserted when it is imported.

Bounds that two networks may choose differently are parameters of the network file instead
(`protocols.network`); bounds of one gossip topic or frame stand beside their names
(`protocols.wire.topics`). A bound is checked before anything of that size is allocated.
"""

from __future__ import annotations

# Canonical CBOR

CBOR_DEPTH_MAX = 8
"""Arrays inside arrays. The deepest wire type of this release nests five."""
CBOR_ITEMS_MAX = 1 << 16
"""Values of one document, arrays included, unless a wire type states its own bound."""
INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1
"""Integers fit in signed or in unsigned 64 bits, so that every language can hold them."""

# ANS-104 items

ITEM_BYTES_MIN = 80
"""Below this an item cannot hold its fixed fields (arbundles has the same bound)."""
ITEM_TAGS_MAX = 128
"""Tags of one item (ANS-104, section 2.2)."""
ITEM_TAGS_BYTES_MAX = ITEM_TAGS_MAX * (1024 + 3072 + 4) + 4
"""Encoded tags of one item: what the 1024-byte names and 3072-byte values of ANS-104 add up to.

The sum is bounded, not the single name or value, because deployed clients and schedulers accept
one long value among few tags."""
TARGET_BYTES = 32
ANCHOR_BYTES = 32

# Bundles

BUNDLE_ITEMS_MAX = 1024
"""Items of one bundle that a client hands in."""
BUNDLE_HEADER_BYTES = 32
"""Bundle header: the item count, 32 bytes little-endian."""
BUNDLE_ENTRY_BYTES = 64
"""Bundle header, per item: its size (32 bytes little-endian) and its id."""

# Gossip batches and streams

BATCH_ENTRIES_MAX = 4096
"""Entries of one gossip payload or one stream frame."""
LOG_RANGE_SLOTS_MAX = 4096
"""Slots one log request may ask for; the answerer may send fewer."""
HEADS_PROCESSES_MAX = 1024
"""Processes one heads request or answer may name."""
RESULT_RANGE_SLOTS_MAX = 256
"""Slots one result request may ask for."""
RESULT_WAIT_MS_MAX = 10_000
"""How long an answerer may be asked to wait for a result."""

# Units

UNIT_ADDRESSES_MAX = 8
"""Multiaddresses of one unit announcement."""
UNIT_URLS_MAX = 8
"""HTTP addresses of one unit announcement."""
UNIT_TEXT_BYTES_MAX = 256
"""One address or URL of a unit announcement."""

# Module output

JSON_DEPTH_MAX = 64
"""Nesting of a module's JSON output, counted on the bytes before any parser sees them.

Python 3.11 and 3.12 give up at different depths: no library limit may decide a result."""
JSON_VALUES_MAX = 1 << 17
"""Values (texts, numbers, literals, arrays, objects; not keys) of a module's output.

A full outbox of 256 messages with 128 tags each has about 100 000."""

# Proofs

PAGE_BYTES = 1 << 16
"""A WebAssembly page: one leaf of the state tree."""
MMR_LEAVES_MAX = 1 << 63
"""Slots of one log; its peaks fit in 64 hashes."""
MMR_PEAKS_MAX = 64
MERKLE_PATH_MAX = 64
"""Hashes of one Merkle path: as many as a tree of `MMR_LEAVES_MAX` leaves is high."""

assert ITEM_BYTES_MIN > 2 + TARGET_BYTES, "the fixed fields must fit the smallest item"
assert BATCH_ENTRIES_MAX * 8 <= CBOR_ITEMS_MAX, "a full batch must pass the scanner"
assert LOG_RANGE_SLOTS_MAX <= BATCH_ENTRIES_MAX, "a log answer must fit batches"
assert MMR_LEAVES_MAX < INTEGER_MAX, "a leaf count must be encodable"
