"""One simulated machine: its drive outlives power cuts, its node is built anew after each.

The node comes from `aonode.node.build_node`, as in production; only its ports differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from aonode.crypto.signers import Ed25519Signer
from aonode.node import HONEST, Adversary, Node, Parts, build_node
from aonode.ports import Engine
from protocols.ids import NodeKey
from protocols.network import Network
from simnet.disk import Drive
from simnet.env import SimEnv
from simnet.power import Power, PowerLost
from simnet.seed import Seed
from simnet.wire import Medium, SimWire

T = TypeVar("T")

DOWN_S = 2.0
"""How long a machine stays off after a power cut."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one machine is to be."""

    name: str
    roles: tuple[str, ...]
    signer: Ed25519Signer
    adversary: Callable[[Network, Ed25519Signer], Adversary] | None = None
    """What bends its node; made anew at every boot. None for an honest one."""


class Host:
    """A machine that boots, and boots again after every power cut."""

    def __init__(
        self, plan: Plan, *, seed: Seed, network: Network, medium: Medium, engine: Engine
    ) -> None:
        self.plan = plan
        self.drive = Drive(plan.name, medium.trace)
        self.boots = 0
        self.adversary = HONEST
        """What bends the running node."""
        self._seed = seed
        self._network = network
        self._medium = medium
        self._engine = engine
        self._power: Power | None = None
        self._live: tuple[Node, Power] | None = None
        self._up = trio.Event()

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def key(self) -> NodeKey:
        return self.plan.signer.key

    @property
    def node(self) -> Node | None:
        """The running node, if the machine is up."""
        return self._live[0] if self._live else None

    async def run(self) -> None:
        """Boot for ever."""
        while True:
            self.boots += 1
            power = self._power = Power(self.name, self.boots)
            self._medium.trace.record(self.name, "boot", self.boots)
            try:
                with power.while_on():
                    await self._incarnation(power)
            except* PowerLost:
                pass
            finally:
                self._live = None
                if self._up.is_set():  # else whoever waits for it waits on
                    self._up = trio.Event()
            assert not power.on, f"the node of {self.name} ended by itself"
            await trio.sleep(DOWN_S)

    async def _incarnation(self, power: Power) -> None:
        node = self._build(power)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            self._live = node, power
            self._up.set()

    def _build(self, power: Power) -> Node:
        name, signer = self.name, self.plan.signer
        if self.plan.adversary is not None:
            self.adversary = self.plan.adversary(self._network, signer)
        parts = Parts(
            env=SimEnv(f"{name}/{power.number}", self._seed),
            wire=SimWire(self._medium, signer.key, name, power),
            db=self.drive.open("db", power),
            sign_once=self.drive.open("sign-once", power),
            signer=signer,
            engine=self._engine if self._runs_code() else None,
        )
        return build_node(
            roles=self.plan.roles, network=self._network, parts=parts, adversary=self.adversary
        )

    def _runs_code(self) -> bool:
        """Whoever follows a ledger runs the segments that verdicts rest on."""
        return self._network.ledger is not None or "compute" in self.plan.roles

    def crash(self) -> None:
        """Cut the power now, if it is on."""
        if self._power is not None and self._power.on:
            self.drive.power_cut(self._power)

    async def call(self, act: Callable[[Node], Awaitable[T]]) -> T | None:
        """Have a client talk to the node, once it is up; None if it lost its power meanwhile."""
        while self._live is None:
            await self._up.wait()
        node, power = self._live
        answer: T | None = None
        try:
            with power.while_on():
                answer = await act(node)
        except* PowerLost:
            pass  # the call reached into the dead node's store in the moment of the cut
        return answer
