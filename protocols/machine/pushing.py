"""Outcomes for a messenger: asks compute units for receipts until a quorum agrees.

For each log there is a row of compute units, in an order that the process id shifts. As many as
the quorum needs are asked, plus one for every one of them that fails, plus more where they do not
agree. At most one request per (log, unit) is under way, for a range of slots; one unit is asked
for the outcome bytes too, the others for receipts only.

    follow(slot) --> RESULT requests --ReceiptsArrived--> votes --quorum--> (slot, its outbox)

Part of `delivery`, which knows what to do with an outbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.errors import Reason
from protocols.ids import ItemId, NodeKey, ProcessId, b64url
from protocols.machine.effects import Alarm, Effect, Send, SetTimer
from protocols.machine.events import ReceiptsArrived
from protocols.machine.quorum import Outcome
from protocols.outbox import Bounds, Outbox
from protocols.wire.proof import Leaf
from protocols.wire.streams import ResultRequest
from protocols.wire.topics import Protocol

REQUESTS_MAX = 64
"""Requests under way, all logs together."""
RANGE_SLOTS_MAX = 128
"""Slots of one request."""
RANGE_GAP_MAX = 8
"""Other messengers' slots that a range may include in a row."""
LOOKED_AT_MAX = 1024
"""Slots of one log looked at to make one request."""
WAIT_MS = 2_000
"""How long a unit may wait for the last slot of a range to be evaluated."""
DEADLINE_MS = WAIT_MS + 4_000
BACKOFF_MS, BACKOFF_MS_MAX = 200, 10_000
HELD_BYTES_MAX = 64 << 20
"""Outcomes held while their quorum is missing; beyond, they are asked for again later."""
HELD_PAUSE_MS = 1_000
COMPUTES_MAX = 1024

TIMER = "push"
TAG = "results"


class _Source:
    """One compute unit, as a source for one log."""

    __slots__ = ("asking", "failures", "until")

    def __init__(self) -> None:
        self.asking = False
        self.failures = 0
        self.until = 0


class _Log:
    """The slots of one log that wait for their outcomes."""

    __slots__ = ("disputed", "extra", "queued", "slots", "sources")

    def __init__(self) -> None:
        self.slots: dict[int, Outcome] = {}
        self.sources: dict[NodeKey, _Source] = {}
        self.extra = 0
        """Units asked beyond the quorum, because those asked do not agree."""
        self.disputed = False
        self.queued = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A slot whose outcome a quorum agrees on."""

    process: ProcessId
    nonce: int
    item: ItemId
    root: ItemId
    outbox: Outbox


class Pushing:
    """All slots that this messenger must push for."""

    def __init__(self, *, quorum: int, bounds: Bounds, computes: Sequence[NodeKey]) -> None:
        self._quorum = max(1, quorum)
        self._bounds = bounds
        self._fixed = tuple(sorted(computes))
        self._computes = self._fixed
        self._logs: dict[ProcessId, _Log] = {}
        self._queue: deque[ProcessId] = deque()
        self._asking = 0
        self._held_bytes = 0
        self.count = 0
        """Slots that wait."""

    def add_compute(self, key: NodeKey) -> None:
        """A compute unit has announced itself. It counts while the network file names too few."""
        known = len(self._computes)
        if len(self._fixed) < self._quorum and key not in self._computes and known < COMPUTES_MAX:
            self._computes = tuple(sorted((*self._computes, key)))
            for process, log in self._logs.items():
                self._enqueue(process, log)

    def follow(self, process: ProcessId, nonce: int, slot: Outcome) -> bool:
        """Wait for the outcome of a slot; False if it is waited for already."""
        log = self._logs.setdefault(process, _Log())
        if nonce in log.slots:
            return False
        log.slots[nonce] = slot
        self.count += 1
        self._enqueue(process, log)
        return True

    def resume(self, process: ProcessId) -> None:
        """A pause of one of the log's units is over."""
        log = self._logs.get(process)
        if log is not None:
            self._enqueue(process, log)

    def requests(self, now: int) -> list[Effect]:
        """Ask for what is missing, as much at once as allowed, log by log."""
        effects: list[Effect] = []
        while self._queue and self._asking < REQUESTS_MAX:
            process = self._queue.popleft()
            log = self._logs.get(process)
            if log is None or not log.queued:
                continue
            log.queued = False
            effects += self._requests_of(process, log, now)
        return effects

    def _enqueue(self, process: ProcessId, log: _Log) -> None:
        if not log.queued:
            log.queued = True
            self._queue.append(process)

    def _requests_of(self, process: ProcessId, log: _Log, now: int) -> Iterator[Effect]:
        units = self._units(process, log)
        bytes_from = self._bytes_from(log, units)
        wake: int | None = None
        for cu in units:
            source = log.sources.setdefault(cu, _Source())
            if source.asking:
                continue
            if source.until > now:
                wake = source.until if wake is None else min(wake, source.until)
                continue
            asked = self._range(log, cu, raw=cu == bytes_from)
            if asked is None:
                continue
            if self._asking >= REQUESTS_MAX:
                self._enqueue(process, log)
                break
            first, last = asked
            source.asking = True
            self._asking += 1
            with_raw = cu == bytes_from
            body = ResultRequest(process, first, last, WAIT_MS, with_raw).encode()
            tag = (TAG, process, first, last, with_raw)
            yield Send(cu, Protocol.RESULT, body, tag, DEADLINE_MS)
        if wake is not None:
            yield SetTimer((TIMER, process), wake)

    def _units(self, process: ProcessId, log: _Log) -> list[NodeKey]:
        """The units to ask: enough healthy ones, and the others on the way to them."""
        computes = self._computes
        start = process[0] % len(computes) if computes else 0
        needed = self._quorum + log.extra
        units: list[NodeKey] = []
        for cu in (*computes[start:], *computes[:start]):
            if not needed:
                break
            units.append(cu)
            source = log.sources.get(cu)
            needed -= source is None or not source.failures
        return units

    def _bytes_from(self, log: _Log, units: Sequence[NodeKey]) -> NodeKey | None:
        """Who is asked for outcome bytes: of those that a quorum agrees with, the healthiest."""
        agreeing: list[NodeKey] = []
        for slot in log.slots.values():
            hash = slot.agreed(self._quorum)
            if hash is not None:
                agreeing = [cu for cu in units if slot.votes.get(cu) == hash]
                break
        return min(
            agreeing or units,
            key=lambda cu: log.sources[cu].failures if cu in log.sources else 0,
            default=None,
        )

    def _range(self, log: _Log, cu: NodeKey, *, raw: bool) -> tuple[int, int] | None:
        """The first run of slots about which an answer of `cu` would help."""
        wanted: list[int] = []
        for _, (nonce, slot) in zip(range(LOOKED_AT_MAX), log.slots.items(), strict=False):
            if slot.wants(cu, self._quorum, raw=raw):
                wanted.append(nonce)
                if len(wanted) >= RANGE_SLOTS_MAX:
                    break
        if not wanted:
            return None
        wanted.sort()
        first = last = wanted[0]
        for nonce in wanted:
            if nonce - last > RANGE_GAP_MAX or nonce - first >= RANGE_SLOTS_MAX:
                break
            last = nonce
        return first, last

    # Answers

    def arrived(self, event: ReceiptsArrived, now: int) -> tuple[list[Opened], list[Effect]]:
        """Count the votes of an answer; the slots that a quorum now agrees on, in order."""
        _, process, first, last, with_raw = event.tag
        self._asking -= 1
        log = self._logs.get(process)
        if log is None:
            return [], []
        source = log.sources.setdefault(event.cu, _Source())
        source.asking = False
        opened: list[Opened] = []
        useful = bool(event.entries)
        for verified, raw in event.entries or ():
            receipt = verified.value
            slot = log.slots.get(receipt.slot) if first <= receipt.slot <= last else None
            if slot is None:
                continue
            if not self._count(slot, event.cu, receipt.leaf, raw if with_raw else None, with_raw):
                useful = False
                break
            if (done := self._opened(process, log, receipt.slot, slot)) is not None:
                opened.append(done)
        if useful:
            source.failures = 0
        else:
            source.failures += 1
            source.until = now + min(BACKOFF_MS << min(source.failures, 16), BACKOFF_MS_MAX)
        if self._held_bytes >= HELD_BYTES_MAX:
            source.until = max(source.until, now + HELD_PAUSE_MS)
        effects = self._look_further(process, log)
        self._close(process, log)
        return opened, effects

    def _count(
        self, slot: Outcome, cu: NodeKey, leaf: Leaf, raw: bytes | None, with_raw: bool
    ) -> bool:
        """Take one receipt; False if it, or the outcome bytes asked for with it, are no good."""
        if self._held_bytes >= HELD_BYTES_MAX:
            return slot.vote(cu, leaf, None, self._bounds)
        before = slot.held_bytes
        good = slot.vote(cu, leaf, raw, self._bounds)
        self._held_bytes += slot.held_bytes - before
        return good and (not with_raw or leaf.hash() in slot.outboxes)

    def _opened(self, process: ProcessId, log: _Log, nonce: int, slot: Outcome) -> Opened | None:
        hash = slot.agreed(self._quorum)
        outbox = None if hash is None else slot.outboxes.get(hash)
        if outbox is None:
            return None
        del log.slots[nonce]
        self.count -= 1
        self._held_bytes -= slot.held_bytes
        return Opened(process, nonce, slot.item, slot.root, outbox)

    def _look_further(self, process: ProcessId, log: _Log) -> list[Effect]:
        """Units that disagree about the first slot: ask one more, until all are asked."""
        for nonce, slot in log.slots.items():
            votes = len(slot.votes)
            if votes < self._quorum + log.extra or slot.agreed(self._quorum) is not None:
                break
            log.extra = min(votes - self._quorum + 1, len(self._computes))
            if votes < len(self._computes) or log.disputed:
                break
            log.disputed = True
            detail = (
                f"{votes} compute units were asked for slot {nonce} of {b64url(process)} and no "
                f"{self._quorum} agree; its outbox is not pushed"
            )
            return [Alarm(Reason.MISMATCH, process, detail)]
        return []

    def _close(self, process: ProcessId, log: _Log) -> None:
        """Forget a log without waiting slots, unless an answer is still due; else go on."""
        if log.slots:
            self._enqueue(process, log)
        elif not any(source.asking for source in log.sources.values()):
            del self._logs[process]
