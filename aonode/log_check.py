"""Re-checks what a node has on disk: the log with every signature, and every receipt it signed.

`check_process` reads; `replay_process` runs the module again from slot 0 and compares. Both only
read the store. Every refusal is Invalid(STORAGE, MISMATCH, ...) and names process and slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aonode.crypto.verify import verify_ed25519, verify_item
from aonode.ports import Engine, ModuleSpec, Session, Store
from protocols import abi, keyspace
from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, address_of, b64url
from protocols.keyspace import Prefix
from protocols.machine.results import StoredResult, executed_slot
from protocols.machine.rows import slot_of_row
from protocols.network import Network
from protocols.outbox import Bounds, derive
from protocols.wire.assignment import Chain, Slot
from protocols.wire.item import Item, decode_item
from protocols.wire.outcome import outcome_hash
from protocols.wire.process import ProcessInfo, memory_bytes, process_info
from protocols.wire.proof import Leaf, Receipt, is_border


@dataclass(frozen=True, slots=True)
class Checked:
    """One process's log, as far as it is on disk."""

    process: ProcessId
    slots: int
    receipts: int
    """Results of this node that were found and fit."""
    head: bytes
    mmr_root: bytes | None
    """Of the last receipt; None without receipts."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What running a log again gave."""

    process: ProcessId
    slots: int
    head: bytes
    mmr_root: bytes
    leaves: tuple[bytes, ...]
    """Leaf hash of every slot."""
    state_root: bytes | None
    """At the last segment border; None before the first."""


def processes_of(db: Store) -> list[ProcessId]:
    """Every process that has a head row."""
    rows = db.scan(*keyspace.prefix_range(Prefix.HEAD))
    return [ProcessId(keyspace.id_of(key)) for key, _ in rows]


def check_process(db: Store, network: Network, process: ProcessId) -> Checked:
    """Check chain, both signatures of every slot, the rows that point at them, and receipts."""
    chain, info, format = Chain.genesis(process), None, None
    mmr, receipts = Mmr(), 0
    for slot in slots_of(db, network, process):
        where = _place(slot)
        if info is None:
            info = process_info(slot.message)
            format = _format(db, network, info)
        _check_slot(slot, info, where)
        chain = chain.next(slot)
        _check_rows(db, slot, where)
        receipt = _check_result(db, network, slot, chain, format)
        if receipt is not None:
            if receipts != slot.nonce:
                raise _wrong(Reason.STORAGE, where, f"results {receipts}.. are missing before it")
            mmr, receipts = mmr.append(receipt.leaf.hash()), receipts + 1
            if receipt.mmr_root != mmr.root():
                raise _wrong(
                    Reason.MISMATCH, where, "the receipt's MMR root is not that of its log"
                )
    row = db.get(keyspace.head_key(process))
    if row is None or Chain.decode(row) != chain:
        raise _wrong(
            Reason.STORAGE,
            f"process {b64url(process)}",
            f"the head row does not say what its {chain.nonce + 1} slots add up to",
        )
    return Checked(process, chain.nonce + 1, receipts, chain.head, mmr.root() if receipts else None)


def slots_of(db: Store, network: Network, process: ProcessId) -> Iterator[Slot]:
    """The slots on disk, decoded, in order. Raises Invalid for a row that holds none."""
    size_max = network.parameters.item_bytes_max
    for key, row in db.scan(*keyspace.process_range(Prefix.SLOT, process)):
        try:
            yield slot_of_row(row, item_bytes_max=size_max)
        except Invalid as error:
            where = f"slot {keyspace.nonce_of(key)} of process {b64url(process)}"
            raise _wrong(error.reason, where, error.detail) from None


def _check_slot(slot: Slot, info: ProcessInfo, where: str) -> None:
    try:
        verify_item(slot.assignment.item)
        verify_item(slot.message)
    except Invalid as error:
        raise _wrong(error.reason, where, error.detail) from None
    signer = address_of(slot.assignment.item.owner)
    if signer != info.scheduler:
        raise _wrong(
            Reason.WRONG_SENDER,
            where,
            f"assigned by {b64url(signer)}, not by the scheduler {b64url(info.scheduler)}",
        )


def _check_rows(db: Store, slot: Slot, where: str) -> None:
    """The by-id rows, without which a client would not find the slot."""
    for id in (slot.message.id, slot.assignment.id):
        row = db.get(keyspace.by_id_key(id, slot.process))
        if row is None or keyspace.nonce_of(row) != slot.nonce:
            raise _wrong(Reason.STORAGE, where, f"no row leads from {b64url(id)} to it")


def _check_result(
    db: Store, network: Network, slot: Slot, chain: Chain, format: str | None
) -> Receipt | None:
    row = db.get(keyspace.result_key(slot.process, slot.nonce))
    if row is None:
        return None
    where = _place(slot)
    bounds = Bounds(network.parameters.output_bytes_max, network.parameters.outbox_max)
    try:
        stored = StoredResult.decode(row, output_bytes_max=bounds.output_bytes_max)
    except Invalid as error:
        raise _wrong(error.reason, where, error.detail) from None
    receipt = stored.receipt
    leaf = receipt.leaf
    if not verify_ed25519(receipt.cu, receipt.signing_bytes(), receipt.signature):
        raise _wrong(Reason.BAD_SIGNATURE, where, "the receipt's signature does not verify")
    if format is None:
        raise _wrong(Reason.UNKNOWN_MODULE, where, "it has a result, but its module is not here")
    derived = derive(format, stored.status, stored.raw, bounds)
    facts = (
        ("network", receipt.network, network.id),
        ("log head", receipt.head, chain.head),
        ("assignment", leaf.assignment_id, slot.assignment.id),
        ("status", leaf.status, int(derived.status)),
        ("fuel", leaf.fuel, stored.fuel),
        ("outcome", leaf.outcome_hash, outcome_hash(stored.raw, derived.outbox.root())),
        ("leaf row", leaf.hash(), db.get(keyspace.leaf_key(slot.process, slot.nonce))),
    )
    for name, signed, found in facts:
        if signed != found:
            raise _wrong(Reason.MISMATCH, where, f"the receipt's {name} is not the one on disk")
    return receipt


def replay_process(db: Store, network: Network, engine: Engine, process: ProcessId) -> Replayed:
    """Evaluate the log on disk again. Blocks for as long as that takes: call it off the loop.

    Raises Invalid(MISMATCH) naming the first slot whose leaf is not the one this node signed.
    """
    session: Session | None = None
    chain, mmr = Chain.genesis(process), Mmr()
    leaves: list[bytes] = []
    root: bytes | None = None
    parameters = network.parameters
    bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
    try:
        for slot in slots_of(db, network, process):
            if session is None:
                info = process_info(slot.message)
                module = _module(db, network, info)
                format = module.first("Module-Format") or ""
                env = abi.env_for(format, info, module)
                spec = ModuleSpec(module.id, module.data, format)
                limit = memory_bytes(info, module, parameters)
                session = engine.open(process, spec, env, limit)
            chain = chain.next(slot)
            result = session.run_slot(abi.call_for(format, slot, info))
            border = is_border(slot.nonce, parameters.root_every)
            root = session.state_root() if border else root
            done = executed_slot(
                slot,
                format,
                result.status,
                result.raw,
                fuel=result.fuel,
                root=root if border else None,
                bounds=bounds,
            )
            leaf = Leaf(
                process,
                slot.nonce,
                slot.assignment.id,
                done.root,
                outcome_hash(done.raw, done.outbox_root),
                done.fuel,
                done.status,
            ).hash()
            signed = db.get(keyspace.leaf_key(process, slot.nonce))
            if signed is not None and signed != leaf:
                raise _wrong(
                    Reason.MISMATCH,
                    _place(slot),
                    "running it again gives another leaf than this node signed",
                )
            leaves.append(leaf)
            mmr = mmr.append(leaf)
    finally:
        if session is not None:
            session.close()
    return Replayed(process, len(leaves), chain.head, mmr.root(), tuple(leaves), root)


def _format(db: Store, network: Network, info: ProcessInfo) -> str | None:
    """The process's Module-Format, if its module is here: only evaluating nodes need it."""
    try:
        return _module(db, network, info).first("Module-Format") or ""
    except Invalid:
        return None


def _module(db: Store, network: Network, info: ProcessInfo) -> Item:
    raw = db.get(keyspace.module_key(info.module))
    if raw is None:
        raise Invalid(
            Reason.UNKNOWN_MODULE,
            f"module {b64url(info.module)} of process {b64url(info.id)} is not in this data "
            "directory; copy it from a node that has evaluated the process",
        )
    parameters = network.parameters
    item = decode_item(raw, size_max=parameters.module_bytes_max + parameters.item_bytes_max)
    verify_item(item)
    if item.id != ItemId(info.module):
        raise Invalid(Reason.STORAGE, f"the row of module {b64url(info.module)} holds another item")
    return item


def _place(slot: Slot) -> str:
    return f"slot {slot.nonce} of process {b64url(slot.process)}"


def _wrong(reason: Reason, where: str, what: str) -> Invalid:
    return Invalid(reason, f"{where}: {what}")
