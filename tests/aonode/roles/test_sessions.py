"""Sessions that are set aside go on as if they had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from aonode.crypto.signers import sign_item
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv
from aonode.processes import token_wasm
from aonode.roles import sessions as sessions_module
from aonode.roles.sessions import Sessions
from protocols import abi
from protocols.ids import ItemId, ProcessId
from protocols.machine.events import Executed
from protocols.network import demo_parameters
from protocols.wire.item import Item, Tag
from protocols.wire.process import process_info
from tests.aonode.fakes import FakeNetwork, message_item, process_item, signer

if TYPE_CHECKING:
    from protocols.machine.effects import Event

PARAMETERS = demo_parameters()
CLIENT = signer(9)
PROCESSES, SLOTS, RUN = 5, 9, 3


class World:
    """Token processes with a few transfers each."""

    def __init__(self) -> None:
        self.net = FakeNetwork(parameters=PARAMETERS)
        kind = (("Type", "Module"), ("Module-Format", "ao-cbor-1"), ("Data-Protocol", "ao"))
        self.module = sign_item(
            CLIENT,
            tags=tuple(Tag(name, value) for name, value in kind),
            data=token_wasm(),
            anchor=bytes(32),
        )
        self.processes = []
        for number in range(PROCESSES):
            item = process_item(self.net, CLIENT, self.module.id, Supply=str(1000 + number))
            process = ProcessId(self.net.schedule(item).message.id)
            self.processes.append(process)
            for slot in range(1, SLOTS):
                fields: dict[str, Any] = {
                    "Action": "Transfer",
                    "Recipient": f"r{slot % 3}",
                    "Quantity": "7" if slot % 4 else "70000",
                }
                self.net.schedule(message_item(self.net, CLIENT, process, **fields))
        self.engine = WasmEngine(
            fuel_max=PARAMETERS.fuel_max,
            memory_max=PARAMETERS.memory_max,
            output_bytes_max=PARAMETERS.output_bytes_max,
            outbox_max=PARAMETERS.outbox_max,
        )

    async def fetch(self, id: ItemId) -> Item:
        assert id == self.module.id
        return self.module

    def sessions(self, awake_max: int) -> Sessions:
        return Sessions(
            env=ProductionEnv(),
            engine=self.engine,
            parameters=PARAMETERS,
            fetch_module=self.fetch,
            awake_max=awake_max,
        )

    async def all(self, sessions: Sessions, awake_max: int) -> list[Event]:
        """The processes' logs in turns of a few slots."""
        answers = []
        for first in range(0, SLOTS, RUN):
            for process in self.processes:
                slots = self.net.logs[process][first : first + RUN]
                answers.append(await sessions.run(process, slots))
                assert sessions.awake <= awake_max
        return answers


async def test_nobody_can_tell_that_a_session_was_set_aside() -> None:
    world = World()
    roomy, tight = world.sessions(PROCESSES), world.sessions(2)
    wanted = await world.all(roomy, PROCESSES)
    assert all(isinstance(answer, Executed) for answer in wanted)
    assert await world.all(tight, 2) == wanted
    for process in world.processes:
        slot = world.net.logs[process][1]
        call = abi.call_for("ao-cbor-1", slot, process_info(world.net.logs[process][0].message))
        assert await tight.dry_run(process, call) == await roomy.dry_run(process, call)
        assert await tight.memory(process) == await roomy.memory(process)
        assert tight.awake <= 2
    # A process that begins anew does so wherever its state was.
    first = world.processes[0]
    log = world.net.logs[first]
    assert await tight.run(first, log) == await roomy.run(first, log)
    tight.close()
    roomy.close()


async def test_processes_that_run_at_the_same_time_share_the_room() -> None:
    world = World()
    roomy, tight = world.sessions(PROCESSES), world.sessions(2)
    wanted = dict(zip(world.processes, await world.all(roomy, PROCESSES), strict=False))
    found: dict[ProcessId, Event] = {}

    async def one(process: ProcessId) -> None:
        log = world.net.logs[process]
        found[process] = await tight.run(process, log[:RUN])
        for first in range(RUN, SLOTS, RUN):
            await tight.run(process, log[first : first + RUN])
            assert tight.awake <= 2

    async with trio.open_nursery() as nursery:
        for process in world.processes:
            nursery.start_soon(one, process)
    assert found == wanted
    for process in world.processes:
        assert await tight.memory(process) == await roomy.memory(process)
    tight.close()
    roomy.close()
    assert tight.awake == roomy.awake == 0


async def test_a_state_too_large_to_set_aside_stays_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "WITNESS_BYTES_MAX", 1)
    world = World()
    sessions = world.sessions(2)
    for process in world.processes:
        assert isinstance(await sessions.run(process, world.net.logs[process]), Executed)
    assert sessions.awake == PROCESSES
    sessions.close()
