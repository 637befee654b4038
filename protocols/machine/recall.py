"""Before a compute unit signs: does anybody hold state proofs of it that its table has not?

A disk put back from a copy, or lost, would make a unit sign again what it has signed. That does no
harm while it computes the same; a unit whose engine or disk has changed as well would contradict
itself. So at every start it asks the peers it reaches within the window for its own proofs. Its
signature under them is its own word: a peer cannot make one up, only keep one back.

    ASKING --window over, nobody still asked--> DECIDED

This file signs nothing. What it finds goes to `proving`, which holds the process until it has been
evaluated that far again. Nobody to ask, as at a first start: the window is waited out.
"""

from __future__ import annotations

from typing import Any

from protocols.ids import NodeKey
from protocols.machine.effects import Effect, Event, Send, SetTimer, Started, TimerFired
from protocols.machine.events import PeersChanged, ProofsArrived
from protocols.wire.proof import StateProof
from protocols.wire.proof_streams import ProofsRequest
from protocols.wire.topics import Protocol

WINDOW_MS = 5_000
"""How long a starting unit waits for peers to ask."""
DEADLINE_MS = 4_000
"""For one answer."""
PEERS_MAX = 16
"""Peers asked at one start; one honest one that has heard of this unit is enough."""
TIMER = ("recall",)
TAG = ("recall",)


class Recall:
    """One start of one compute unit. Part of `evaluation`."""

    def __init__(self, key: NodeKey, *, decided: bool) -> None:
        """`decided`: there is nobody to ask, and nothing to wait for."""
        self._key = key
        self.decided = decided
        self.found: dict[tuple[bytes, int, bytes], StateProof] = {}
        """Own proofs that peers hold, by process, last slot and head."""
        self._asked: dict[NodeKey, bool] = {}
        """Peers asked; True once they have answered."""
        self._window_over = False

    def on(self, event: Event, now: int) -> list[Effect]:
        """Ask, and gather what comes until it is decided."""
        if self.decided:
            return []
        match event:
            case Started(peers=peers):
                return [SetTimer(TIMER, now + WINDOW_MS), *self._ask(peers)]
            case PeersChanged(peers=peers):
                return self._ask(peers)
            case TimerFired(key=key) if key == TIMER:
                self._window_over = True
            case ProofsArrived(tag=tag) if tag == TAG:
                self._arrived(event)
        self.decided = self._window_over and all(self._asked.values())
        return []

    def status(self) -> dict[str, Any]:
        return {"decided": self.decided, "answers": sum(self._asked.values())}

    def _ask(self, peers: tuple[NodeKey, ...]) -> list[Effect]:
        body = ProofsRequest(None, self._key, 0, False).encode()
        effects: list[Effect] = []
        for peer in peers:
            if peer == self._key or peer in self._asked or len(self._asked) >= PEERS_MAX:
                continue
            self._asked[peer] = False
            effects.append(Send(peer, Protocol.PROOFS, body, TAG, DEADLINE_MS))
        return effects

    def _arrived(self, event: ProofsArrived) -> None:
        if event.peer not in self._asked:
            return
        if event.proofs is None:
            # Not an answer. It is asked again if it connects again within the window.
            del self._asked[event.peer]
            return
        self._asked[event.peer] = True
        for verified in event.proofs:
            proof = verified.value
            if proof.cu == self._key:
                self.found.setdefault((proof.process, proof.last, proof.head), proof)
