"""The ledger as a process: its slot 0, and the items that carry its transactions.

Its module is no Wasm but the fold of `protocols.ledger`, named by a hash of the fold's version.
The process item stands in the network file, signed by the scheduler that keeps its log, so every
node knows the ledger's id before the first slot.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.codec import digest
from protocols.domains import LEDGER_MODULE, LEDGER_TRANSACTION
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url
from protocols.network import LEDGER_TEXT_MAX, Network
from protocols.wire.item import Item, SignatureType, Tag, Unsigned, decode_item
from protocols.wire.ledger_tx import Transaction
from protocols.wire.process import process_info

VERSION = 1
"""Of the rules of the fold. Another version is another ledger."""
MODULE = ItemId(digest(LEDGER_MODULE, VERSION))


def unsigned_ledger(scheduler: NodeKey, name: str, anchor: bytes) -> Unsigned:
    """The process item of a new ledger, for its scheduler to sign. `anchor`: 32 random bytes."""
    own = b64url(address_of(scheduler))
    tags = {
        "Data-Protocol": "ao",
        "Variant": "ao.TN.1",
        "Type": "Process",
        "Name": f"{name} ledger",
        "Module": b64url(MODULE),
        "Scheduler": own,
    }
    return Unsigned(
        SignatureType.ED25519,
        scheduler,
        None,
        anchor,
        tuple(Tag(key, value) for key, value in tags.items()),
        b"",
    )


def ledger_process(network: Network) -> Item | None:
    """The ledger's process item; None for a network without a ledger. Raises Invalid(CONFIG) if
    it is none of a ledger, or of another scheduler. Its signature is checked by who admits it."""
    if not network.ledger_item:
        return None
    item = decode_item(network.ledger_item, size_max=LEDGER_TEXT_MAX)
    info = process_info(item)
    scheduler = network.ledger_scheduler
    if info.module != MODULE or {info.owner_address, info.scheduler} != {scheduler}:
        raise Invalid(
            Reason.CONFIG,
            f"the network file's ledger {b64url(item.id)} runs module {b64url(info.module)} of "
            f"{b64url(info.owner_address)}; a ledger of this release runs {b64url(MODULE)} and is "
            f"signed by ledger_scheduler {b64url(scheduler)}",
        )
    return item


def transaction_item(
    ledger: ProcessId, tx: Transaction, key: NodeKey, sign: Callable[[bytes], bytes]
) -> Item:
    """A node's own transaction. One transaction of one key always is one item: it can be made
    again after a crash, and has one slot."""
    data = tx.encode()
    tags = (
        Tag("Data-Protocol", "ao"),
        Tag("Variant", "ao.TN.1"),
        Tag("Type", "Message"),
        Tag("Action", tx.ACTION),
    )
    anchor = digest(LEDGER_TRANSACTION, ledger, tx.ACTION, data)
    unsigned = Unsigned(SignatureType.ED25519, key, ledger, anchor, tags, data)
    return unsigned.signed(sign(unsigned.message()))
