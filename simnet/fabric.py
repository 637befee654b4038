"""Links between simulated nodes: who reaches whom, after how long.

One task and one heap of packets move everything (a task per packet is five times slower). A
packet is a callable that its receiver left behind. Each pair of nodes has a fixed distance drawn
from the seed; each packet adds jitter, the time its bytes take, and may be lost.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from aonode.env import TaskStatus
from protocols.ids import NodeKey
from simnet.seed import Seed

PACKETS_MAX = 1 << 20
"""Packets in flight. More means that something sends without end."""


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What links are like. Times in seconds, one way."""

    delay_s_min: float = 0.005
    delay_s_max: float = 0.120
    """A pair's distance is drawn once between these."""
    jitter_s_max: float = 0.010
    loss: float = 0.0
    """Share of gossip packets lost. A stream is never holed: a loss costs it `resend_s`."""
    resend_s: float = 0.200
    bytes_per_s: float = 12_500_000.0
    """100 Mbit/s up."""


class Fabric:
    """All links of one run. Nodes are numbered in the order they are added."""

    def __init__(self, seed: Seed, model: LinkModel | None = None) -> None:
        self._seed = seed.fork("fabric")
        self._model = model or LinkModel()
        self._nodes: dict[NodeKey, int] = {}
        self._down: dict[NodeKey, None] = {}
        self._groups: dict[NodeKey, int] = {}
        self._links: dict[tuple[int, int], tuple[float, random.Random]] = {}
        self._uplink_free: dict[NodeKey, float] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sent = 0
        self._wake = trio.Event()

    def add(self, node: NodeKey) -> int:
        """Make a node known; returns its number. Harmless twice."""
        return self._nodes.setdefault(node, len(self._nodes))

    def nodes(self) -> tuple[NodeKey, ...]:
        """All nodes, in the order they were added."""
        return tuple(self._nodes)

    def set_down(self, node: NodeKey, down: bool) -> None:
        """Take a node off the net, or bring it back."""
        if down:
            self._down[node] = None
        else:
            self._down.pop(node, None)

    def partition(self, *groups: Sequence[NodeKey]) -> None:
        """Only nodes of one group reach each other. Nodes named in none form one more group."""
        self._groups = {node: number for number, group in enumerate(groups, 1) for node in group}

    def heal(self) -> None:
        """End the partition."""
        self._groups = {}

    def reaches(self, source: NodeKey, target: NodeKey) -> bool:
        """Whether a packet sent now would arrive, loss aside."""
        if source in self._down or target in self._down or target not in self._nodes:
            return False
        return self._groups.get(source, 0) == self._groups.get(target, 0)

    def send(
        self,
        source: NodeKey,
        target: NodeKey,
        size_bytes: int,
        deliver: Callable[[], None],
        *,
        not_before_s: float | None = None,
    ) -> float:
        """Put one packet on the link; returns when it arrives (virtual seconds).

        With `not_before_s` it is part of a stream: it keeps its order and is never lost, late
        instead. Whether the two reach each other is asked now and again at the arrival.
        """
        distance_s, stream = self._link(source, target)
        model = self._model
        now = trio.current_time()
        sent = max(now, self._uplink_free.get(source, 0.0)) + size_bytes / model.bytes_per_s
        self._uplink_free[source] = sent
        at = sent + distance_s + stream.random() * model.jitter_s_max
        lost = stream.random() < model.loss
        if not_before_s is not None:
            at = max(at + (model.resend_s if lost else 0.0), not_before_s)
        elif lost:
            return at
        if self.reaches(source, target):
            self._push(at, lambda: deliver() if self.reaches(source, target) else None)
        return at

    def distance_s(self, source: NodeKey, target: NodeKey) -> float:
        """The pair's fixed one-way delay."""
        return self._link(source, target)[0]

    def _link(self, source: NodeKey, target: NodeKey) -> tuple[float, random.Random]:
        ends = self._nodes[source], self._nodes[target]
        link = self._links.get(ends)
        if link is None:
            model = self._model
            low, high = sorted(ends)
            span_s = model.delay_s_max - model.delay_s_min
            distance_s = model.delay_s_min + span_s * self._seed.unit("distance", low, high)
            link = self._links[ends] = distance_s, self._seed.stream("packets", *ends)
        return link

    def _push(self, at: float, deliver: Callable[[], None]) -> None:
        assert len(self._heap) < PACKETS_MAX, f"more than {PACKETS_MAX} packets are in flight"
        self._sent += 1
        heapq.heappush(self._heap, (at, self._sent, deliver))
        if self._heap[0][1] == self._sent:
            self._wake.set()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver packets until cancelled."""
        task_status.started()
        while True:
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
            self._wake = trio.Event()
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf):
                await self._wake.wait()
