"""Before a scheduler signs: does anybody hold more of its logs than it does?

A disk put back from a copy, or lost, would make a scheduler sign slots twice. So at every start
it asks the peers it reaches within the window for the heads of its own logs.

    ASKING --window over, nobody still asked, table clean or enough answers--> DECIDED
    a head above ours (at any time before DECIDED) --> that log is held until it is caught up,
    or until whoever claimed it turns out to have nothing that we signed

While ASKING every log is held; afterwards only those still catching up. `sole_copy` is the
operator's word that nobody else holds these logs: DECIDED at once.

This file signs nothing and trusts no claim: what it fetches is taken over by the slot log, which
checks that it is signed by this scheduler and follows on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId, address_of, b64url
from protocols.limits import LOG_RANGE_SLOTS_MAX
from protocols.machine.effects import (
    Alarm,
    Answered,
    Effect,
    Event,
    Send,
    SetTimer,
    Started,
    TimerFired,
)
from protocols.machine.events import LogArrived, PeersChanged
from protocols.wire.assignment import Chain
from protocols.wire.streams import LOG_BYTES_MAX, Head, Heads, HeadsRequest, LogRequest
from protocols.wire.topics import Protocol

WINDOW_MS = 5_000
"""How long a starting scheduler waits for peers to ask."""
HEADS_DEADLINE_MS = 4_000
LOG_DEADLINE_MS = 10_000
RETRY_MS = 1_000
"""After a request that failed: before the same log, or the same peer, is tried again."""
PEERS_MAX = 256
"""Peers asked at one start."""
FETCHES_MAX = 8
"""Logs caught up at the same time."""
CLAIMS_MAX = 1 << 16
"""Logs that may be held at once; claims beyond are dropped, those of known logs never."""
FAILURES_MAX = 5
"""Fruitless requests in a row after which all claims of a peer are dropped."""

_WINDOW, _RETRY, _HEADS, _LOG = (("restore", name) for name in ("window", "retry", "heads", "log"))


class Restore:
    """One start of one scheduler. Part of `slot_log`."""

    def __init__(
        self,
        *,
        key: NodeKey,
        quorum: int,
        sole_copy: bool,
        chain: Callable[[ProcessId], Chain | None],
    ) -> None:
        """`chain` is a view of the slot log: where an own log stands now."""
        self._key = key
        self._address = address_of(key)
        self._quorum = quorum
        self._chain = chain
        self.decided = sole_copy
        self._clean = False
        self._window_over = False
        self._peers: tuple[NodeKey, ...] = ()
        self._asked: dict[NodeKey, bool] = {}
        """Peers asked; True once they have answered."""
        self._claims: dict[ProcessId, dict[NodeKey, int]] = {}
        """Logs of which a peer says it holds more than we do, up to which nonce."""
        self._fetching: dict[ProcessId, tuple[NodeKey, int]] = {}
        """Who is asked for a log now, and where our log stood then."""
        self._failures: dict[NodeKey, int] = {}
        self._paused: dict[ProcessId, int] = {}

    def recover(self, *, clean: bool) -> None:
        """`clean`: the sign-once table holds something and is as this node left it."""
        self._clean = clean

    def holds(self, process: ProcessId) -> bool:
        """Whether nothing may be signed for this log yet."""
        return not self.decided or process in self._claims

    def status(self) -> dict[str, Any]:
        return {
            "decided": self.decided,
            "answers": sum(self._asked.values()),
            "answers_needed": 0 if self._clean else self._quorum,
            "logs_behind": len(self._claims),
        }

    def on(self, event: Event, now: int) -> list[Effect]:
        if isinstance(event, Started | PeersChanged):
            self._peers = event.peers
        if isinstance(event, Answered) and event.tag == _HEADS:
            return self._heads_arrived(event, now)
        if self.decided:
            retry = isinstance(event, TimerFired) and event.key == _RETRY
            return self._fetch(now) if retry else []
        match event:
            case Started():
                return [SetTimer(_WINDOW, now + WINDOW_MS), *self._ask()]
            case PeersChanged():
                return self._ask()
            case TimerFired(key=key) if key == _WINDOW:
                self._window_over = True
                self._decide()
            case TimerFired(key=key) if key == _RETRY:
                return [*self._ask(), *self._fetch(now)]
        return []

    # Asking

    def _ask(self) -> list[Effect]:
        body = HeadsRequest(self._address).encode()
        effects: list[Effect] = []
        for peer in self._peers:
            if peer != self._key and peer not in self._asked and len(self._asked) < PEERS_MAX:
                self._asked[peer] = False
                effects.append(Send(peer, Protocol.HEADS, body, _HEADS, HEADS_DEADLINE_MS))
        return effects

    def _heads_arrived(self, event: Answered, now: int) -> list[Effect]:
        if self.decided or event.peer not in self._asked:
            return []
        try:
            if event.frames is None:
                raise Invalid(Reason.TIMEOUT, "no answer")
            heads = [head for frame in event.frames for head in Heads.decode(frame).heads]
        except Invalid:
            # Not an answer: ask again later, unless the peer has gone by then.
            del self._asked[event.peer]
            self._decide()
            return [SetTimer(_RETRY, now + RETRY_MS)]
        self._asked[event.peer] = True
        effects = [alarm for head in heads for alarm in self._claim(event.peer, head)]
        self._decide()
        return effects + self._fetch(now)

    def _claim(self, peer: NodeKey, head: Head) -> list[Effect]:
        chain = self._chain(head.process)
        if chain is not None and head.nonce == chain.nonce and head.head != chain.head:
            return [
                Alarm(
                    Reason.FORK,
                    head.process,
                    f"peer {b64url(peer)} holds slot {head.nonce} of {b64url(head.process)} under "
                    "another head than this scheduler signed; if its log is true, a copy of this "
                    "key signs elsewhere: stop one of them",
                )
            ]
        if chain is not None and head.nonce <= chain.nonce:
            return []
        if chain is not None or head.process in self._claims or len(self._claims) < CLAIMS_MAX:
            self._claims.setdefault(head.process, {})[peer] = head.nonce
        return []

    def _decide(self) -> None:
        answers = sum(self._asked.values())
        enough = self._clean or answers >= self._quorum
        if self._window_over and enough and answers == len(self._asked):
            self.decided = True

    # Catching up

    def _fetch(self, now: int) -> list[Effect]:
        """Ask for the logs that are behind, as many at once as allowed."""
        effects: list[Effect] = []
        for process, claims in self._claims.items():
            if len(self._fetching) >= FETCHES_MAX:
                break
            if process in self._fetching or self._paused.get(process, 0) > now:
                continue
            chain = self._chain(process)
            nonce = -1 if chain is None else chain.nonce
            peer = min(claims, key=lambda each: (self._failures.get(each, 0), -claims[each], each))
            last = min(claims[peer], nonce + LOG_RANGE_SLOTS_MAX)
            body = LogRequest(process, nonce + 1, last, LOG_BYTES_MAX).encode()
            self._fetching[process] = (peer, nonce)
            effects.append(Send(peer, Protocol.LOG, body, _LOG, LOG_DEADLINE_MS))
        return effects

    def arrived(self, event: LogArrived, now: int) -> list[Effect]:
        """The slot log has taken over what it could of `event`; see what is still missing."""
        process, peer = event.process, event.peer
        fetching = self._fetching.get(process)
        if fetching is None or fetching[0] != peer:
            return []
        del self._fetching[process]
        chain = self._chain(process)
        nonce = -1 if chain is None else chain.nonce
        effects: list[Effect] = []
        if nonce > fetching[1]:
            self._failures.pop(peer, None)
        else:
            self._failures[peer] = self._failures.get(peer, 0) + 1
            self._paused[process] = now + RETRY_MS
            effects.append(SetTimer(_RETRY, now + RETRY_MS))
        if event.wrong or self._failures.get(peer, 0) >= FAILURES_MAX:
            effects.append(self._withdraw(process, peer, event.wrong))
        self._settle(process, nonce)
        return effects + self._fetch(now)

    def _settle(self, process: ProcessId, nonce: int) -> None:
        """Drop the claims that our log has reached."""
        claims = self._claims.get(process, {})
        for peer in [each for each, claimed in claims.items() if claimed <= nonce]:
            del claims[peer]
        if not claims:
            self._claims.pop(process, None)
            self._paused.pop(process, None)

    def _withdraw(self, process: ProcessId, peer: NodeKey, wrong: str) -> Alarm:
        """Believe a peer no longer."""
        for each in [each for each, claims in self._claims.items() if peer in claims]:
            del self._claims[each][peer]
            if not self._claims[each]:
                del self._claims[each]
                self._paused.pop(each, None)
        self._failures.pop(peer, None)
        why = wrong or f"it sent none of them in {FAILURES_MAX} requests"
        return Alarm(
            Reason.MISMATCH if wrong else Reason.UNAVAILABLE,
            process,
            f"peer {b64url(peer)} claims slots of this scheduler's log {b64url(process)} that it "
            f"does not have: {why}",
        )
