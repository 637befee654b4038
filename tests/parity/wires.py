"""The wires that one suite runs on: `wires(kind, count)` opens so many, not yet running."""

from __future__ import annotations

import trio

from aonode.env import ProductionEnv, TaskStatus
from aonode.net.libp2p_wire import Libp2pWire
from aonode.ports import Wire
from protocols.ids import NetworkId, NodeKey
from simnet.fabric import Fabric, LinkModel
from simnet.power import Power
from simnet.seed import Seed
from simnet.trace import Trace
from simnet.wire import Medium, SimWire

KINDS = ("simulated", "libp2p")
NETWORK = NetworkId(b"parity" + bytes(26))


class Wires:
    """Wires of one kind; `start` runs them and connects each with every other."""

    def __init__(self, kind: str, count: int) -> None:
        self.keys: list[NodeKey] = []
        self.wires: list[Wire] = []
        self._fabric: Fabric | None = None
        if kind == "simulated":
            self._simulated(count)
        else:
            self._libp2p(count)

    def _simulated(self, count: int) -> None:
        seed = Seed.root(1)
        self._fabric = Fabric(seed, LinkModel(delay_s_max=0.02))
        medium = Medium(self._fabric, Trace())
        for number in range(count):
            key = NodeKey(seed.bytes(32, "key", number))
            self.keys.append(key)
            self.wires.append(SimWire(medium, key, f"node-{number}", Power(f"node-{number}", 1)))

    def _libp2p(self, count: int) -> None:
        for number in range(count):
            wire = Libp2pWire(
                seed=bytes([number + 1]) * 32,
                network=NETWORK,
                listen="/ip4/127.0.0.1/tcp/0",
                bootstrap=(),
                env=ProductionEnv(),
            )
            self.keys.append(wire.key)
            self.wires.append(wire)

    async def start(self, nursery: trio.Nursery) -> None:
        """Run all wires in `nursery` until every pair is connected."""
        if self._fabric is not None:
            await nursery.start(self._fabric.run)
        for wire in self.wires:
            await nursery.start(_run, wire)
        for number, wire in enumerate(self.wires):
            for other in range(number):
                wire.connect(self.keys[other], self.wires[other].addresses())
        others = len(self.wires) - 1
        while any(len(wire.peers()) < others for wire in self.wires):
            await trio.sleep(0.01)


async def _run(wire: Wire, *, task_status: TaskStatus[None]) -> None:
    await wire.run(task_status=task_status)
