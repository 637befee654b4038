"""What a process runs, and running some of its slots: the same for live sessions and evidence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aonode.ports import Engine, ModuleSpec, Session
from protocols import abi
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId
from protocols.machine.events import ExecutedSlot
from protocols.machine.results import executed_slot
from protocols.network import Parameters
from protocols.outbox import Bounds
from protocols.wire.assignment import Slot
from protocols.wire.evidence import Witness
from protocols.wire.item import Item
from protocols.wire.process import ProcessInfo, memory_bytes, process_info
from protocols.wire.proof import is_border

FetchModule = Callable[[ItemId], Awaitable[Item]]
"""Finds a verified Module item, here or at a peer; waits for it if it has to."""


@dataclass(frozen=True, slots=True)
class Program:
    """All that the engine has to know of a process."""

    info: ProcessInfo
    spec: ModuleSpec
    env: bytes
    memory_max: int

    @classmethod
    def of(cls, process: Item, module: Item, parameters: Parameters) -> Program:
        """By the process's item and its module's. Raises Invalid for bad tags."""
        info = process_info(process)
        spec = ModuleSpec(module.id, module.data, module.first("Module-Format") or "")
        env = abi.env_for(spec.format, info, module)
        return cls(info, spec, env, memory_bytes(info, module, parameters))

    def open(self, engine: Engine) -> Session:
        """At genesis. Raises as `Engine.open`; blocks."""
        return engine.open(self.info.id, self.spec, self.env, self.memory_max)

    def restore(self, engine: Engine, witness: Witness) -> Session | None:
        """In a state that may be the process's. As `Engine.restore`; blocks."""
        return engine.restore(self.info.id, self.spec, self.env, self.memory_max, witness)


def evaluate(
    session: Session, program: Program, slots: Iterable[Slot], parameters: Parameters
) -> tuple[list[ExecutedSlot], str]:
    """Run consecutive slots: what they gave, and why the engine refused the one after them; empty
    if it refused none. Blocks."""
    bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
    format = program.spec.format
    done: list[ExecutedSlot] = []
    for slot in slots:
        call = abi.call_for(format, slot, program.info)
        try:
            result = session.run_slot(call)
        except Invalid as error:
            if error.reason is not Reason.REFUSED:
                raise
            return done, str(error)
        root = session.state_root() if is_border(slot.nonce, parameters.root_every) else None
        done.append(
            executed_slot(
                slot,
                format,
                result.status,
                result.raw,
                fuel=result.fuel,
                root=root,
                bounds=bounds,
            )
        )
    return done, ""
