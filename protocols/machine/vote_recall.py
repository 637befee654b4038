"""Before a staker votes: does anybody hold votes of it that its table has not? Part of `ledger`.

As `recall` for state proofs: a disk put back from a copy, or lost, would make a node vote a second
time for a tick. Its signature under a vote is its own word: a peer cannot make one up, only keep
one back.

    ASKING --all units of the network file have answered, or the window is over--> DECIDED

Peers that come later are asked as well: better late than not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocols.ids import NodeKey
from protocols.keyspace import NONCE_MAX
from protocols.machine.effects import Effect, Event, Send, SetTimer, Started, TimerFired
from protocols.machine.events import PeersChanged, ProofsArrived
from protocols.wire.proof_streams import ProofsRequest
from protocols.wire.topics import Protocol
from protocols.wire.vote import Vote

WINDOW_MS = 5_000
"""How long a starting staker waits for peers to ask."""
DEADLINE_MS = 4_000
"""For one answer."""
PEERS_MAX = 1024
"""Peers asked since the start."""
TIMER = ("vote-recall",)
TAG = ("vote-recall",)


class VoteRecall:
    """One start of one staker."""

    def __init__(self, key: NodeKey, units: Iterable[NodeKey]) -> None:
        """`units` are the keys in the network file."""
        self._key = key
        self._awaited = dict.fromkeys(unit for unit in units if unit != key)
        self._asked: dict[NodeKey, bool] = {}
        """Peers asked; True once they have answered."""
        self.decided = False

    def on(self, event: Event, now: int) -> tuple[list[Effect], list[Vote]]:
        """What to ask, and own votes that somebody holds."""
        effects: list[Effect] = []
        found: list[Vote] = []
        match event:
            case Started(peers=peers):
                effects = [SetTimer(TIMER, now + WINDOW_MS), *self._ask(peers)]
            case PeersChanged(peers=peers):
                effects = self._ask(peers)
            case TimerFired():
                self.decided = True
            case ProofsArrived():
                found = self._arrived(event)
        self.decided = self.decided or all(self._asked.get(unit) for unit in self._awaited)
        return effects, found

    def status(self) -> dict[str, Any]:
        return {"decided": self.decided, "answers": sum(self._asked.values())}

    def _ask(self, peers: tuple[NodeKey, ...]) -> list[Effect]:
        body = ProofsRequest(None, self._key, NONCE_MAX, True).encode()
        effects: list[Effect] = []
        for peer in peers:
            if peer == self._key or peer in self._asked or len(self._asked) >= PEERS_MAX:
                continue
            self._asked[peer] = False
            effects.append(Send(peer, Protocol.PROOFS, body, TAG, DEADLINE_MS))
        return effects

    def _arrived(self, event: ProofsArrived) -> list[Vote]:
        if event.peer not in self._asked:
            return []
        if event.proofs is None:
            # Not an answer. It is asked again if it connects again.
            del self._asked[event.peer]
            return []
        self._asked[event.peer] = True
        votes = (verified.value for verified in event.votes)
        return sorted((each for each in votes if each.key == self._key), key=lambda vote: vote.tick)
