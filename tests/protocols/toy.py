"""A process whose engine is a hash, with honest units, liars, and the court that judges them.

State is one page that begins with 32 bytes; running a slot hashes them with the assignment and
the message. Everything around it (log, signatures, MMRs, witnesses in zstd) is real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import zstandard

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols.codec import digest
from protocols.court import Anchor, Court, Judgement, Segment
from protocols.errors import Invalid
from protocols.ids import ItemId, NetworkId, ProcessId, address_of
from protocols.limits import PAGE_BYTES
from protocols.machine.audit import Log, Own
from protocols.machine.sealing import OpenProof, Sealer
from protocols.network import sim_parameters
from protocols.verdict import verdict
from protocols.wire.assignment import Chain, Slot
from protocols.wire.evidence import Evidence, Witness, encode_evidence
from protocols.wire.item import Item
from protocols.wire.outcome import Status
from protocols.wire.proof import Leaf, Receipt, StateProof, block_end_before, is_border
from tests.protocols.machine.world import MODULE, Key, log, message_item, next_slot, process_item

PARAMETERS = replace(sim_parameters(), root_every=4, proof_every=8)
NETWORK = NetworkId(b"n" * 32)
PROFILE = b"p" * 32
SCHEDULER, USER, LIAR = Key.of("scheduler"), Key.of("user"), Key.of("liar")
SLOTS = 30
FORK = 17
"""First slot in which the two branches of the log differ."""


def toy_root(state: bytes) -> bytes:
    return digest("toy-root", state)


def toy_genesis(process: bytes) -> bytes:
    return digest("toy-genesis", process)


def toy_step(state: bytes, slot: Slot) -> tuple[bytes, bytes, int]:
    """State after, outcome hash, fuel."""
    after = digest("toy-state", state, slot.assignment.id, slot.message.data)
    return after, digest("toy-outcome", after), after[0]


def toy_leaves(
    state: bytes, slots: Sequence[Slot], every: int = PARAMETERS.root_every
) -> tuple[list[Leaf], list[bytes]]:
    """Leaves and states after each slot, as any honest unit has them; `every`: slots of a
    segment."""
    leaves, states = [], []
    for slot in slots:
        state, outcome, fuel = toy_step(state, slot)
        root = toy_root(state) if is_border(slot.nonce, every) else None
        leaves.append(
            Leaf(slot.process, slot.nonce, slot.assignment.id, root, outcome, fuel, Status.OK)
        )
        states.append(state)
    return leaves, states


@cache
def toy_witness(state: bytes) -> Witness:
    return Witness(1, ((0, 1),), (), toy_frame(state, PAGE_BYTES))


def toy_frame(state: bytes, size: int) -> bytes:
    """A zstd frame of `state` and zeros up to `size`, made by hand, so that it is the same with
    every release of the compressor: one raw block, and one that repeats a byte."""
    raw, zeros = len(state) << 3, size - len(state) << 3 | 0b011
    return b"".join(
        (
            b"\x28\xb5\x2f\xfd\xa0",
            size.to_bytes(4, "little"),
            raw.to_bytes(3, "little") + state,
            zeros.to_bytes(3, "little") + b"\0",
        )
    )


def toy_run(segment: Segment, every: int = PARAMETERS.root_every) -> tuple[bytes, ...] | None:
    """The injected engine."""
    if not segment.slots:
        return None  # they are left out only where the ledger knows the fact
    if segment.root_before is None:
        state = toy_genesis(segment.process.id)
    else:
        witness = segment.witness
        if witness is None or witness.pages != 1 or not witness.runs or witness.globals:
            return None
        try:
            page = zstandard.ZstdDecompressor().decompress(
                witness.frame, max_output_size=witness.content_bytes()
            )
        except zstandard.ZstdError:
            return None
        state = page[:32]
        if any(page[32:]) or toy_root(state) != segment.root_before:
            return None
    return tuple(leaf.hash() for leaf in toy_leaves(state, segment.slots, every)[0])


@dataclass(frozen=True)
class Branch:
    """One branch of the process's log, and what is true about it."""

    slots: tuple[Slot, ...]
    leaves: tuple[Leaf, ...]
    states: tuple[bytes, ...]
    heads: tuple[bytes, ...]

    @property
    def process(self) -> Item:
        return self.slots[0].message

    def log(self) -> Log:
        def slot(number: int) -> tuple[bytes, bytes]:
            found = self.slots[number]
            return found.assignment.item.raw, found.message.raw

        ids = [each.assignment.id for each in self.slots]
        return Log(self.process.raw, ids, slot)

    def own(self) -> Own:
        """What an honest watcher has."""
        own = Own(Chain.genesis(ProcessId(self.process.id)).head)
        for leaf, head in zip(self.leaves, self.heads, strict=True):
            own.append(leaf, head)
        return own

    def witness(self, slot: int) -> Witness:
        return toy_witness(self.states[slot - 1])


def branch(slots: Sequence[Slot]) -> Branch:
    leaves, states = toy_leaves(toy_genesis(slots[0].process), slots)
    chain, heads = Chain.genesis(slots[0].process), []
    for slot in slots:
        chain = chain.next(slot)
        heads.append(chain.head)
    return Branch(tuple(slots), tuple(leaves), tuple(states), tuple(heads))


@cache
def branches() -> tuple[Branch, Branch]:
    """The log, and one that its scheduler forked from it."""
    process = process_item(USER, SCHEDULER, anchor=1)
    items = [process]
    for number in range(1, SLOTS):
        items.append(message_item(USER, process.id, data=b"%d" % number, anchor=number))
    slots = log(SCHEDULER, items)
    chain = Chain.genesis(ProcessId(process.id))
    for slot in slots[:FORK]:
        chain = chain.next(slot)
    other = slots[:FORK]
    for number in range(FORK, SLOTS):
        item = message_item(USER, process.id, data=b"other", anchor=1000 + number)
        other.append(next_slot(SCHEDULER, chain, item, 5_000))
        chain = chain.next(other[-1])
    return branch(slots), branch(other)


# Statements


def receipts(leaves: Sequence[Leaf], heads: Sequence[bytes], key: Key) -> list[Receipt]:
    """A unit's receipts of slots 0 on, if these are its leaves."""
    own = Own(b"")
    made = []
    for leaf, head in zip(leaves, heads, strict=True):
        own.append(leaf, head)
        slot = len(own.leaves) - 1
        end = block_end_before(slot, PARAMETERS.proof_every)
        block_root = None if end is None else own.roots[end + 1]
        draft = Receipt(
            NETWORK, leaves[0].process, slot, head, leaf, own.roots[-1], block_root, PROFILE,
            key.public,
        )  # fmt: skip
        made.append(draft.signed(key.sign(draft.signing_bytes())))
    return made


def state_proof(
    made: Sequence[Receipt], first: int, last: int, key: Key, before: StateProof | None = None
) -> StateProof:
    """The unit's proof of slots first..last, of which these are its receipts from 0 on."""
    open = OpenProof.at_genesis(made[0].process)
    if first:
        open = replace(
            open,
            first=first,
            last=first - 1,
            head_before=made[first - 1].head,
            mmr_before=made[first - 1].mmr_root,
        )
    for receipt in made[first : last + 1]:
        open = open.add(receipt, PARAMETERS)
    return Sealer(NETWORK, PROFILE, key.public, key.sign).seal(open, 7)


def resigned(statement: StateProof, key: Key, **changes: object) -> StateProof:
    """The statement with other fields, signed again."""
    draft = replace(statement, signature=b"", **changes)  # type: ignore[arg-type]
    return draft.signed(key.sign(draft.signing_bytes()))


# Judging


@cache
def _item_signed(item: Item) -> bool:
    try:
        verify_item(item)
    except Invalid:
        return False
    return True


def court(
    anchors: dict[bytes, Anchor] | None = None,
    modules: tuple[ItemId, ...] = (ItemId(MODULE),),
) -> Court:
    return Court(
        NETWORK,
        PARAMETERS,
        PROFILE,
        modules,
        cache(verify_ed25519),
        _item_signed,
        (anchors or {}).get,
        address_of,
        lambda key: None,
    )


COURT = court()


def judge(
    evidence: Evidence,
    at: Court = COURT,
    run: Callable[[Segment], tuple[bytes, ...] | None] = toy_run,
) -> Judgement:
    return verdict(encode_evidence(evidence), run, at)
