"""Whom a replica asks next where its logs stand: one peer a round, schedulers every other time.

Part of `replica`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from protocols.ids import NodeKey, ProcessId
from protocols.machine.effects import Effect, Send, SetTimer
from protocols.wire.streams import HeadsRequest
from protocols.wire.topics import Protocol

EVERY_MS = 3_000
DEADLINE_MS = 5_000
NAMED_MAX = 1024
"""Logs named in one question. With more, every other turn names the next so many."""

TIMER = TAG = ("heads",)


class Rounds:
    """Counts the rounds, so that everybody is asked in turn."""

    def __init__(self, key: NodeKey, is_scheduler: Callable[[NodeKey], bool]) -> None:
        self._key = key
        self._is_scheduler = is_scheduler
        self._round = 0

    def next(
        self,
        peers: Sequence[NodeKey],
        logs: Iterable[ProcessId],
        count: int,
        *,
        all: bool,
        now: int,
    ) -> list[Effect]:
        """The next question, and the timer of the one after.

        `logs` are the `count` logs to ask about; `all`: besides, whatever logs the peer has.
        """
        self._round += 1
        effects: list[Effect] = [SetTimer(TIMER, now + EVERY_MS)]
        turn, odd = divmod(self._round, 2)
        others = [peer for peer in peers if peer != self._key]
        schedulers = [peer for peer in others if self._is_scheduler(peer)] if odd else []
        candidates = schedulers or others
        if candidates:
            named: tuple[ProcessId, ...] = ()
            if not all or (count > NAMED_MAX and not turn % 2):
                followed = sorted(logs)
                start = turn // 2 * NAMED_MAX % max(1, len(followed))
                named = tuple(followed[start : start + NAMED_MAX])
            body = HeadsRequest(None, named).encode()
            peer = candidates[turn % len(candidates)]
            effects.append(Send(peer, Protocol.HEADS, body, TAG, DEADLINE_MS))
        return effects
