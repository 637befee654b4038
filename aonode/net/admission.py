"""The door of a node: bytes -> Claimed -> Verified, or a verdict.

At the gossip door only stateless checks run: shape, size, and that the signed origin is the
scheduler it speaks for. What passes waits in a bounded queue; signatures are checked off the
event loop, run by run, in order of arrival; then the machines hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from aonode.env import Env
from aonode.net import verification
from aonode.net.verification import RawSlot
from aonode.ops.metrics import Metrics
from aonode.ports import Verdict, Wire
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, b64url
from protocols.machine.effects import Answered, Event, Refusal, Send
from protocols.machine.events import (
    AssignmentArrived,
    Conflicting,
    LogArrived,
    ReceiptsArrived,
    SlotsArrived,
    UnitSeen,
    VoteArrived,
)
from protocols.network import Network
from protocols.trust import Claimed, Verified
from protocols.wire import batch, streams
from protocols.wire.batch import InlineItem, ItemRef, SlotRef
from protocols.wire.item import Item
from protocols.wire.topics import Protocol

T = TypeVar("T")

QUEUE_PAYLOADS_MAX = 256
"""Gossip payloads of one topic waiting for verification (64 MiB of slots at the very most)."""
FETCHES_MAX = 8
"""Payloads whose large items are being fetched at once."""
FETCH_SECONDS = 10.0

_SILENCE = frozenset({Reason.TIMEOUT, Reason.UNAVAILABLE})
"""What a peer that did not answer in time is not blamed for."""

_OWNER = slice(66, 98)
"""Where an Ed25519 (type 2) item holds its owner: after the type and the signature."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Who hears of what has been verified. None where this node has no such role."""

    slots: Callable[[Event], object]
    units: Callable[[UnitSeen], object]
    offers: Callable[[Verified[Item], NodeKey], object] | None = None
    votes: Callable[[VoteArrived], bool] | None = None
    """False for a vote that does not count here."""


class Admission:
    """All gossip of one node, and the answers to its machines' requests."""

    def __init__(
        self,
        *,
        env: Env,
        wire: Wire,
        network: Network,
        metrics: Metrics,
        held: verification.Held,
        arrivals: Arrivals,
    ) -> None:
        self._env = env
        self._wire = wire
        self._network = network
        self._metrics = metrics
        self._held = held
        self._arrivals = arrivals
        self._item_bytes_max = network.parameters.item_bytes_max
        self._slots_in, self._slots_out = trio.open_memory_channel[Claimed[list[SlotRef]]](
            QUEUE_PAYLOADS_MAX
        )
        self._items_in, self._items_out = trio.open_memory_channel[Claimed[list[ItemRef]]](
            QUEUE_PAYLOADS_MAX
        )
        self._fetching = trio.CapacityLimiter(FETCHES_MAX)

    # Doors: synchronous, stateless

    def slots_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A slot batch: every assignment must be owned by the gossip sender."""
        refs = batch.unpack_slots(payload)
        for ref in refs:
            raw = ref.assignment_raw
            if raw[:2] != b"\x02\x00" or raw[_OWNER] != sender:
                raise Invalid(
                    Reason.WRONG_SENDER, f"{b64url(sender)} gossiped another scheduler's slot"
                )
        return self._take(self._slots_in, Claimed(refs, sender))

    def messages_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A message batch from any messenger; its items carry their own signatures."""
        return self._take(self._items_in, Claimed(batch.unpack_messages(payload), sender))

    def units_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A unit announcement by the unit itself. One signature: checked on the spot."""
        unit = verification.check_unit(payload, self._network.id)
        if unit.value.key != sender:
            raise Invalid(
                Reason.WRONG_SENDER, f"{b64url(sender)} announced unit {b64url(unit.value.key)}"
            )
        if unit.value.expiry_ms < self._env.now_ms():
            return Verdict.IGNORE
        self._arrivals.units(UnitSeen(unit))
        return Verdict.ACCEPT

    def votes_door(self, sender: NodeKey, payload: bytes) -> Verdict:
        """A staker's vote, by itself. One signature: checked on the spot."""
        assert self._arrivals.votes is not None, "votes are heard on a network with a ledger"
        vote = verification.check_vote(payload, self._network.id)
        if vote.value.key != sender:
            raise Invalid(
                Reason.WRONG_SENDER, f"{b64url(sender)} gossiped a vote of {b64url(vote.value.key)}"
            )
        return Verdict.ACCEPT if self._arrivals.votes(VoteArrived(vote)) else Verdict.IGNORE

    def _take(self, queue: trio.MemorySendChannel[T], claimed: T) -> Verdict:
        try:
            queue.send_nowait(claimed)
        except trio.WouldBlock:
            self._metrics.dropped.labels(queue="admission").inc()
            return Verdict.IGNORE
        return Verdict.ACCEPT

    # Verification: off the event loop

    async def run(self) -> None:
        """Verify what the doors took in, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._verify_slots, nursery)
            if self._arrivals.offers is not None:
                nursery.start_soon(self._verify_items, nursery)

    async def _verify_slots(self, nursery: trio.Nursery) -> None:
        async for claimed in self._slots_out:
            if any(not isinstance(ref.item, InlineItem) for ref in claimed.value):
                nursery.start_soon(self._fetch_slots, claimed)
            else:
                await self._admit_slots(_inline_slots(claimed.value), claimed.sender)

    async def _fetch_slots(self, claimed: Claimed[list[SlotRef]]) -> None:
        async with self._fetching:
            try:
                raws = await self._raw_slots(claimed.value, claimed.sender)
            except Invalid as error:
                self.refuse(error)
                return
        await self._admit_slots(raws, claimed.sender)

    async def _admit_slots(self, raws: Sequence[RawSlot], sender: NodeKey) -> None:
        checked = await self._env.offload(
            lambda: verification.check_slots(raws, self._item_bytes_max, self._held)
        )
        for error in checked.refused:
            self.refuse(error)
        for slot, held in checked.conflicting:
            self._arrivals.slots(Conflicting(slot, held))
        if checked.new:
            self._arrivals.slots(SlotsArrived(checked.new, sender))

    async def _verify_items(self, nursery: trio.Nursery) -> None:
        async for claimed in self._items_out:
            if all(isinstance(ref, InlineItem) for ref in claimed.value):
                await self._admit_items(claimed)
            else:
                nursery.start_soon(self._fetch_items, claimed)

    async def _fetch_items(self, claimed: Claimed[list[ItemRef]]) -> None:
        async with self._fetching:
            await self._admit_items(claimed)

    async def _admit_items(self, claimed: Claimed[list[ItemRef]]) -> None:
        assert self._arrivals.offers is not None, "only a scheduler takes message batches"
        for item in await self.items(claimed):
            self._arrivals.offers(item, claimed.sender)

    async def items(self, claimed: Claimed[list[ItemRef]]) -> list[Verified[Item]]:
        """Fetch and verify the items of a batch; bad ones are counted and left out."""
        raws: list[bytes] = []
        for ref in claimed.value:
            try:
                raws.append(await self._raw_item(ref, claimed.sender))
            except Invalid as error:
                self.refuse(error)
        good, refused = await self._env.offload(
            lambda: verification.check_items(raws, self._item_bytes_max)
        )
        for refusal in refused:
            self.refuse(refusal)
        return good

    async def item_of(self, peer: NodeKey, id: ItemId) -> Verified[Item]:
        """Fetch and verify the item of this id; raises Invalid."""
        raw = await self.fetch(peer, Protocol.ITEM, id, self._item_bytes_max)
        verified = await self.item(raw)
        if verified.value.id != id:
            raise Invalid(
                Reason.MISMATCH, f"peer {b64url(peer)} gave another item for {b64url(id)}"
            )
        return verified

    async def item(self, raw: bytes) -> Verified[Item]:
        """Verify one item of a client; raises Invalid."""
        return await self._env.offload(lambda: verification.check_item(raw, self._item_bytes_max))

    # Answers to requests

    async def log_arrived(self, sent: Send, answered: Answered) -> LogArrived:
        """Verify the frames of a LOG answer."""
        process = streams.LogRequest.decode(sent.body).process
        if answered.frames is None:
            return LogArrived(process, None, answered.peer, answered.tag)
        try:
            refs = [ref for frame in answered.frames for ref in streams.decode_log(frame)]
            raws = await self._raw_slots(refs, answered.peer)
            slots = await self._env.offload(
                lambda: verification.check_log(raws, self._item_bytes_max)
            )
        except Invalid as error:
            self.refuse(error)
            wrong = "" if error.reason in _SILENCE else str(error)
            return LogArrived(process, None, answered.peer, answered.tag, wrong)
        return LogArrived(process, slots, answered.peer, answered.tag)

    async def receipts_arrived(self, sent: Send, answered: Answered) -> ReceiptsArrived:
        """Verify the frames of a RESULT answer."""
        process = streams.ResultRequest.decode(sent.body).process
        frames = answered.frames
        if frames is None:
            return ReceiptsArrived(process, answered.peer, None, answered.tag)
        output_bytes_max = self._network.parameters.output_bytes_max
        try:
            entries = await self._env.offload(
                lambda: verification.check_receipts(
                    streams.decode_results(frames, outcome_bytes_max=output_bytes_max),
                    process,
                    answered.peer,
                    self._network.id,
                )
            )
        except Invalid as error:
            self.refuse(error)
            return ReceiptsArrived(process, answered.peer, None, answered.tag)
        return ReceiptsArrived(process, answered.peer, entries, answered.tag)

    async def assignment_arrived(self, sent: Send, answered: Answered) -> AssignmentArrived:
        """Verify the frame of an ASSIGN answer."""
        try:
            answer = streams.decode_assign_answer(answered.frames)
            raw = answer.assignment_raw
            if raw is None:
                assert answer.refusal is not None, "an answer is one or the other"
                raise answer.refusal
            assignment = await self._env.offload(lambda: verification.check_assignment(raw))
        except Invalid as error:
            self.refuse(error)
            refusal = Refusal(error.reason, error.detail)
            return AssignmentArrived(None, refusal, answered.peer, answered.tag)
        return AssignmentArrived(assignment, None, answered.peer, answered.tag)

    def refuse(self, error: Invalid) -> None:
        """Count a refused input under its reason."""
        self._metrics.invalid.labels(reason=error.reason.value).inc()

    async def _raw_slots(self, refs: Sequence[SlotRef], peer: NodeKey) -> list[RawSlot]:
        return [RawSlot(ref.assignment_raw, await self._raw_item(ref.item, peer)) for ref in refs]

    async def _raw_item(self, ref: ItemRef, peer: NodeKey) -> bytes:
        if isinstance(ref, InlineItem):
            return ref.raw
        if ref.size > self._item_bytes_max:
            raise Invalid(
                Reason.OVERSIZE,
                f"item {b64url(ref.id)} of {ref.size} bytes, at most {self._item_bytes_max}",
            )
        return await self.fetch(peer, Protocol.ITEM, ref.id, ref.size)

    async def fetch(self, peer: NodeKey, protocol: Protocol, id: ItemId, size_max: int) -> bytes:
        """Bytes of an item or module from one peer, unverified; raises Invalid."""
        try:
            with trio.fail_after(FETCH_SECONDS):
                frames = await self._wire.request(
                    peer,
                    protocol,
                    streams.ItemRequest(id).encode(),
                    frames_max=streams.frames_of(size_max),
                )
        except trio.TooSlowError:
            raise Invalid(
                Reason.TIMEOUT, f"no {b64url(id)} from {b64url(peer)} in {FETCH_SECONDS:g} s"
            ) from None
        raw = streams.join(frames, size_max=size_max)
        if raw is None:
            raise Invalid(Reason.UNKNOWN_ITEM, f"peer {b64url(peer)} has no item {b64url(id)}")
        return raw


def _inline_slots(refs: Sequence[SlotRef]) -> list[RawSlot]:
    return [
        RawSlot(ref.assignment_raw, ref.item.raw)
        for ref in refs
        if isinstance(ref.item, InlineItem)
    ]
