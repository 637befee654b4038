"""Whom to ask for the slots that a replica lacks, and when.

A log is *wanted* while somebody claims more of it than we hold, or early slots of it wait.

    QUEUED --a place is free--> ASKING --progress--> QUEUED (the same peer first), or done
       ^                          '--no progress--> PAUSED --back-off over--> QUEUED (next peer)
       '--- a new want of a log that does not grow;  of one that does: SETTLING, until it stops

Asked in turn: peers that claim the slots (the latest first), the scheduler, all other peers.
After `ATTEMPTS_MAX` fruitless requests a want is dropped, until somebody claims again; so what
liars can keep us busy with is bounded, and so is everything here.
"""

from __future__ import annotations

from collections import deque

from protocols.ids import NodeKey, ProcessId
from protocols.limits import LOG_RANGE_SLOTS_MAX
from protocols.machine.effects import Effect, Send, SetTimer
from protocols.wire.streams import LOG_BYTES_MAX, LogRequest
from protocols.wire.topics import Protocol

FETCHES_MAX = 8
"""Logs asked for at the same time."""
WANTS_MAX = 4096
"""Logs wanted at the same time; claims about more are passed over, to be heard again later."""
CLAIMS_MAX = 16
"""Claims remembered per log."""
ATTEMPTS_MAX = 12
DEADLINE_MS = 10_000
GAP_WAIT_MS = 100
"""An early slot's predecessors are often just behind it."""
GROWING_WAIT_MS = 500
"""What a growing log lacks is on its way (batches close after at most 200 ms), or waits to be
verified; asked for, it would come twice. While the log grows, it is given as long again."""
BACKOFF_MS, BACKOFF_MS_MAX = 250, 30_000
BAN_MS = 60_000
"""How long a peer that lied is not asked."""
BANS_MAX = 1024

TIMER = "catch-up"
TAG = "log"


class _Want:
    """One wanted log."""

    __slots__ = ("asking", "attempts", "claims", "goal", "paused", "queued", "settling", "wait_ms")

    def __init__(self) -> None:
        self.goal = -1
        self.claims: dict[NodeKey, int] = {}
        self.attempts = 0
        self.asking: NodeKey | None = None
        self.queued = False
        self.paused = False
        self.settling: int | None = None
        """Where the log stood when the pause of a new want began."""
        self.wait_ms = 0


class CatchUp:
    """Part of `replica`: it tells where logs stand, and passes on the effects."""

    def __init__(self, key: NodeKey) -> None:
        self._key = key
        self._peers: tuple[NodeKey, ...] = ()
        self._wants: dict[ProcessId, _Want] = {}
        self._queue: deque[ProcessId] = deque()
        self._asking = 0
        self._bans: dict[NodeKey, int] = {}

    @property
    def wanted(self) -> int:
        """Logs that are behind."""
        return len(self._wants)

    def set_peers(self, peers: tuple[NodeKey, ...]) -> None:
        """The connected peers."""
        self._peers = peers

    def claim(
        self,
        process: ProcessId,
        nonce: int,
        peer: NodeKey,
        now: int,
        *,
        stands: int,
        wait_ms: int,
    ) -> list[Effect]:
        """`peer` holds (or has just sent) slot `nonce`, which is above our log; that stands at
        `stands`. What is missing may come by itself in `wait_ms`; it is asked for after that."""
        if self.banned(peer, now):
            return []
        want = self._wants.get(process)
        if want is None:
            if len(self._wants) >= WANTS_MAX:
                return []
            want = self._wants[process] = _Want()
            if wait_ms:
                want.wait_ms = wait_ms
                self._note(want, nonce, peer)
                return self._settle(process, want, stands, now)
        self._note(want, nonce, peer)
        if not want.paused and want.asking is None:
            self._enqueue(process, want)
        return []

    def _settle(self, process: ProcessId, want: _Want, stands: int, now: int) -> list[Effect]:
        want.settling = stands
        return self._pause(process, want, now + want.wait_ms)

    def _note(self, want: _Want, nonce: int, peer: NodeKey) -> None:
        want.goal = max(want.goal, nonce)
        if peer != self._key:
            claimed = want.claims.pop(peer, -1)
            if len(want.claims) >= CLAIMS_MAX:
                del want.claims[next(iter(want.claims))]
            want.claims[peer] = max(claimed, nonce)

    def _pause(self, process: ProcessId, want: _Want, until: int) -> list[Effect]:
        want.paused = True
        return [SetTimer((TIMER, process), until)]

    def _enqueue(self, process: ProcessId, want: _Want) -> None:
        if not want.queued:
            want.queued = True
            self._queue.append(process)

    def resume(self, process: ProcessId, stands: int, now: int) -> list[Effect]:
        """The pause of a log is over; it stands at `stands`."""
        want = self._wants.get(process)
        if want is None or not want.paused:
            return []
        if want.settling is not None and stands > want.settling:
            return self._settle(process, want, stands, now)
        want.settling = None
        want.paused = False
        self._enqueue(process, want)
        return []

    def reached(self, process: ProcessId, nonce: int) -> None:
        """Our log stands at `nonce`: the want may be met."""
        want = self._wants.get(process)
        if want is not None and want.goal <= nonce and want.asking is None:
            del self._wants[process]

    def next_request(self, now: int) -> tuple[ProcessId, int] | None:
        """A log to ask for now, and the last slot wanted of it."""
        while self._queue and self._asking < FETCHES_MAX:
            process = self._queue.popleft()
            want = self._wants.get(process)
            if want is not None and want.queued:
                want.queued = False
                if want.asking is None:
                    return process, want.goal
        return None

    def ask(
        self, process: ProcessId, first: int, last: int, scheduler: NodeKey | None, now: int
    ) -> list[Effect]:
        """Ask the next peer in turn for slots first..last; without any peer, later."""
        want = self._wants[process]
        candidates = self._candidates(want, first, scheduler, now)
        if not candidates:
            return self._fail(process, want, now)
        want.asking = candidates[want.attempts % len(candidates)]
        self._asking += 1
        last = min(last, first + LOG_RANGE_SLOTS_MAX - 1)
        return [log_request(want.asking, process, first, last)]

    def _candidates(
        self, want: _Want, first: int, scheduler: NodeKey | None, now: int
    ) -> list[NodeKey]:
        claimants = [peer for peer, nonce in want.claims.items() if nonce >= first]
        claimants.reverse()
        others = [] if scheduler is None else [scheduler]
        ordered = dict.fromkeys([*claimants, *others, *self._peers])
        return [peer for peer in ordered if peer != self._key and not self.banned(peer, now)]

    def answered(
        self, process: ProcessId, peer: NodeKey, nonce: int, now: int, *, progress: bool
    ) -> list[Effect]:
        """The request to `peer` is over; our log stands at `nonce`."""
        want = self._wants.get(process)
        if want is None or want.asking != peer:
            return []
        want.asking = None
        self._asking -= 1
        if want.goal <= nonce:
            del self._wants[process]
        elif progress:
            want.attempts = 0
            self._note(want, want.goal, peer)
            self._enqueue(process, want)
        else:
            return self._fail(process, want, now)
        return []

    def _fail(self, process: ProcessId, want: _Want, now: int) -> list[Effect]:
        want.attempts += 1
        if want.attempts >= ATTEMPTS_MAX:
            del self._wants[process]
            return []
        wait = min(BACKOFF_MS << (want.attempts - 1), BACKOFF_MS_MAX)
        return self._pause(process, want, now + wait)

    def is_wanted(self, process: ProcessId) -> bool:
        return process in self._wants

    def ban(self, peer: NodeKey, now: int) -> None:
        """A peer lied: do not ask it, nor believe its claims, for a while."""
        for want in self._wants.values():
            want.claims.pop(peer, None)
        self._bans.pop(peer, None)
        if len(self._bans) >= BANS_MAX:
            del self._bans[next(iter(self._bans))]
        self._bans[peer] = now + BAN_MS

    def banned(self, peer: NodeKey, now: int) -> bool:
        return self._bans.get(peer, 0) > now

    def bans(self) -> int:
        """Peers under a ban, or recently so."""
        return len(self._bans)


def log_request(
    peer: NodeKey, process: ProcessId, first: int, last: int, *, name: str = TAG
) -> Send:
    """Ask for slots first..last; the tag says by whom, and what was asked."""
    body = LogRequest(process, first, last, LOG_BYTES_MAX).encode()
    return Send(peer, Protocol.LOG, body, (name, first, last), DEADLINE_MS)
