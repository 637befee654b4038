"""Requests of a node to itself.

Machines address units by their keys, and one node may have several roles: what it asks of itself
is answered by its own handler, without a socket. libp2p would try to dial its own address.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from aonode.env import TaskStatus
from aonode.ports import Door, StreamHandler, Wire
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol, Topic


class OwnStreams:
    """A `Wire` around another one."""

    def __init__(self, wire: Wire, key: NodeKey) -> None:
        self._wire = wire
        self._key = key
        self._handlers: dict[Protocol, StreamHandler] = {}

    def subscribe(self, topic: Topic, door: Door) -> None:
        self._wire.subscribe(topic, door)

    def serve(self, protocol: Protocol, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler
        self._wire.serve(protocol, handler)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        await self._wire.run(task_status=task_status)

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        await self._wire.publish(topic, payload, shard=shard)

    async def request(
        self, peer: NodeKey, protocol: Protocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        if peer != self._key:
            return await self._wire.request(peer, protocol, body, frames_max=frames_max)
        handler = self._handlers.get(protocol)
        if handler is None:
            raise Invalid(
                Reason.UNAVAILABLE, f"this node does not serve {protocol.value}; check its roles"
            )
        frames: list[bytes] = []
        answer = handler(peer, body)
        try:
            async for frame in answer:
                frames.append(frame)
                if len(frames) > frames_max:
                    raise Invalid(Reason.OVERSIZE, f"an answer of more than {frames_max} frames")
        finally:
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()
        return tuple(frames)

    def peers(self) -> tuple[NodeKey, ...]:
        return self._wire.peers()

    def addresses(self) -> tuple[str, ...]:
        return self._wire.addresses()

    def connect(self, peer: NodeKey, addresses: Sequence[str]) -> None:
        self._wire.connect(peer, addresses)
