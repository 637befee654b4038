"""A small world for tests of the simulator itself: nodes that gossip, ask and write."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from aonode.ports import Verdict
from protocols.errors import Invalid
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol, Topic
from simnet import determinism
from simnet.disk import Drive
from simnet.env import SimEnv
from simnet.fabric import Fabric, LinkModel
from simnet.power import Power
from simnet.seed import Seed
from simnet.trace import Trace
from simnet.wire import Medium, SimWire


def chatter(
    number: int, *, nodes: int = 6, flip: int | None = None, drop: int | None = None
) -> str:
    """Trace hash of a lossy world of talkers; optionally with one planted fault."""
    seed = Seed.root(number)
    trace = Trace()

    async def main() -> None:
        medium = Medium(Fabric(seed, LinkModel(loss=0.2)), trace)
        if flip is not None:
            medium.flip_byte(flip)
        async with trio.open_nursery() as nursery:
            await nursery.start(medium.fabric.run)
            talkers = [_Talker(medium, seed, index) for index in range(nodes)]
            if drop is not None:
                talkers[0].drive.drop_sync(drop)
            for talker in talkers:
                await nursery.start(talker.wire.run)
            async with trio.open_nursery() as talking:
                for talker in talkers:
                    talking.start_soon(talker.talk)
            nursery.cancel_scope.cancel()

    determinism.run(main, seed)
    return trace.hex()


class _Talker:
    def __init__(self, medium: Medium, seed: Seed, index: int) -> None:
        name = f"node-{index}"
        power = Power(name, 1)
        self.env = SimEnv(name, seed)
        self.drive = Drive(name, medium.trace)
        self.disk = self.drive.open("log", power)
        self.wire = SimWire(medium, NodeKey(seed.bytes(32, "key", index)), name, power)
        self.wire.subscribe(Topic.SLOTS, self.door)
        self.wire.serve(Protocol.ITEM, self.answer)

    def door(self, origin: NodeKey, payload: bytes) -> Verdict:
        self.disk.write([(payload, origin)], sync=payload[0] % 2 == 0)
        return Verdict.ACCEPT if payload[1] % 4 else Verdict.IGNORE

    async def answer(self, peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        for key, value in self.disk.scan(b"", body, limit=3):
            await self.env.offload(lambda: None, cost=lambda _: 1_000_000)
            yield key + value

    async def talk(self) -> None:
        for _ in range(8):
            await self.wire.publish(Topic.SLOTS, self.env.entropy("payload", 16))
            await trio.sleep(self.env.entropy("pause", 1)[0] / 1000)
            peers = self.wire.peers()
            peer = peers[self.env.entropy("peer", 1)[0] % len(peers)]
            try:
                await self.wire.request(peer, Protocol.ITEM, b"\xff" * 4, frames_max=4)
            except Invalid:
                continue
