"""Two assignments of one slot: told to all, and fetched from whoever says that it has them.

    ForkFound (own replica) --> alarm on `alarms`, and the two are asked of this node itself
    ForkHeard (an alarm) -----> the two are asked of its sender
    both are here ------------> Notify(ForkSeen): verified, of one slot, by one scheduler

An alarm costs its sender nothing and the hearer two requests. So what is under way is bounded, by
sender and in all, and a sender whose alarms came to nothing is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId
from protocols.machine.effects import (
    Effect,
    Event,
    Notify,
    Publish,
    Send,
    SetTimer,
    TimerFired,
)
from protocols.machine.events import AssignmentArrived, ForkFound, ForkHeard, ForkSeen
from protocols.machine.recent import Recent
from protocols.wire.alarm import ForkAlarm
from protocols.wire.assignment import Assignment
from protocols.wire.streams import ItemRequest
from protocols.wire.topics import Protocol, Topic

ASKED_MAX = 64
"""Forks that are being fetched at once."""
ASKED_PER_PEER_MAX = 4
SEEN_MAX = 4096
"""Forks remembered, to look at each once."""
STRIKES_MAX = 3
"""Alarms of one sender that came to nothing, after which it is not asked again."""
SENDERS_MAX = 1024
"""Senders whose strikes are remembered."""
DEADLINE_MS = 10_000
RETRY_MS = 2_000
"""Before this node looks again for what its own log may not hold yet."""
RETRIES_MAX = 5

_TAG = "fork"
Pair = tuple[ItemId, ItemId]


class _Asked:
    """A fork that is being fetched."""

    def __init__(self, peer: NodeKey, process: ProcessId) -> None:
        self.peer = peer
        self.process = process
        self.retries = 0
        self.waiting = 2
        self.found: dict[ItemId, Assignment] = {}


class Forks:
    """All forks one node knows of. Part of `book`."""

    def __init__(self, key: NodeKey, network: NetworkId) -> None:
        self._key = key
        self._network = network
        self._known: list[tuple[ProcessId, ItemId, ItemId]] = []
        self._asked: dict[Pair, _Asked] = {}
        self._seen: Recent[Pair, bool] = Recent(SEEN_MAX)
        self._strikes: Recent[NodeKey, int] = Recent(SENDERS_MAX)

    def __len__(self) -> int:
        return len(self._seen)

    def recover(self, forks: Iterable[tuple[ProcessId, ItemId, ItemId]]) -> None:
        """Forks that are on disk: process and both assignments."""
        self._known = list(forks)[:ASKED_MAX]

    def begin(self) -> list[Effect]:
        """The ledger is known: look at what is on disk again."""
        asks = [self._ask(self._key, *known) for known in self._known]
        return [effect for effects in asks for effect in effects]

    def on(self, event: Event, now: int) -> list[Effect]:
        """Decide."""
        match event:
            case ForkFound(process=process, held=held, second=second):
                alarm = ForkAlarm(self._network, process, held, second)
                told = Publish(Topic.ALARMS, process, alarm.encode())
                return [told, *self._ask(self._key, process, held, second)]
            case ForkHeard(alarm=alarm, sender=sender):
                return self._ask(sender, alarm.process, alarm.one, alarm.other)
            case AssignmentArrived(tag=(tag, pair, wanted)) if tag == _TAG:
                return self._arrived(event, pair, wanted, now)
            case TimerFired(key=(tag, pair)) if tag == _TAG and pair in self._asked:
                return self._send(pair)
        return []

    def _ask(self, peer: NodeKey, process: ProcessId, one: ItemId, other: ItemId) -> list[Effect]:
        pair = (one, other) if one < other else (other, one)
        if one == other or self._seen.get(pair) or pair in self._asked:
            return []
        if (self._strikes.get(peer) or 0) >= STRIKES_MAX:
            return []
        own = sum(each.peer == peer for each in self._asked.values())
        if peer != self._key and (own >= ASKED_PER_PEER_MAX or len(self._asked) >= ASKED_MAX):
            return []
        self._asked[pair] = _Asked(peer, process)
        return self._send(pair)

    def _send(self, pair: Pair) -> list[Effect]:
        asked = self._asked[pair]
        asked.waiting = 2
        return [
            Send(asked.peer, Protocol.ITEM, ItemRequest(id).encode(), (_TAG, pair, id), DEADLINE_MS)
            for id in pair
        ]

    def _arrived(
        self, event: AssignmentArrived, pair: Pair, wanted: ItemId, now: int
    ) -> list[Effect]:
        asked = self._asked.get(pair)
        if asked is None or event.peer != asked.peer:
            return []
        asked.waiting -= 1
        if event.assignment is not None:
            asked.found[wanted] = event.assignment.value
        if asked.waiting:
            return []
        if len(asked.found) < 2 and asked.peer == self._key and asked.retries < RETRIES_MAX:
            asked.retries += 1
            return [SetTimer((_TAG, pair), now + RETRY_MS)]
        del self._asked[pair]
        one, other = (asked.found.get(id) for id in pair)
        if one is None or other is None or not _is_fork(one, other, asked.process):
            if asked.peer != self._key:
                self._strikes.put(asked.peer, (self._strikes.get(asked.peer) or 0) + 1)
            return []
        self._seen.put(pair, True)
        return [Notify(ForkSeen(one, other))]


def _is_fork(one: Assignment, other: Assignment, process: ProcessId) -> bool:
    """Two of one slot of this process by one scheduler."""
    places = {(each.process, each.epoch, each.nonce, each.item.owner) for each in (one, other)}
    return len(places) == 1 and one.process == process
