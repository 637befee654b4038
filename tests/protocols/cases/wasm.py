"""The real engine in cases: logs of a token process, segments run as a node runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import trio

from aonode.engine.wasm import WasmEngine
from aonode.processes import token_wasm
from aonode.roles.programs import Program, evaluate
from aonode.roles.segments import Segments
from protocols.court import Segment
from protocols.ids import ItemId, ProcessId, b64url
from protocols.machine.results import leaf_of
from protocols.network import demo_parameters
from protocols.parameters import Parameters
from protocols.wire.evidence import Witness
from protocols.wire.item import Item
from protocols.wire.proof import Leaf
from tests.aonode.fakes import FakeNetwork, FakeReplica
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import SCHEDULER, USER, History, Line, forked
from tests.protocols.machine.world import item, message_item

LOGS = 8
SLOTS_MAX = 48
_AO = (("Data-Protocol", "ao"), ("Variant", "ao.TN.1"))


class Wasm:
    """A token process of the small binary interface."""

    def __init__(self) -> None:
        base = demo_parameters()
        self._engine = WasmEngine(
            fuel_max=base.fuel_max,
            memory_max=base.memory_max,
            output_bytes_max=base.output_bytes_max,
            outbox_max=base.outbox_max,
        )
        tags = (*_AO, ("Type", "Module"), ("Module-Format", "ao-cbor-1"))
        self._module = item(USER, tags, data=token_wasm(), anchor=1)
        self.module = ItemId(self._module.id)
        self._segments = cache(self._make_segments)
        self._log = cache(self._make_log)
        self._truth = cache(self._make_truth)

    def lines(self, draws: Draws) -> tuple[Line, Line | None]:
        return self._log(draws.below(LOGS))

    def truth(self, line: Line, every: int) -> History:
        return self._truth(line, every)

    def wrong(self, truth: History, at: int, every: int, draws: Draws) -> History:
        """Before slot `at` somebody was given seven more, in no message of the log."""
        story = self._story(truth.line, every, extra=at)
        leaves = [*truth.leaves[:at], *story.leaves[at:]]
        if leaves[at] == truth.leaves[at]:  # slot 0 has no state before it
            leaves[at] = replace(leaves[at], outcome_hash=draws.octets(32))
        return replace(story, leaves=tuple(leaves))

    def junk(self, draws: Draws) -> Witness:
        main, _ = self._log(draws.below(LOGS))
        return self.truth(main, 1).witness(draws.between(1, len(main.slots)))

    def run(self, segment: Segment, every: int) -> tuple[bytes, ...] | None:
        answer = trio.run(self._segments(every).segment, segment)
        assert not answer.refused, answer.refused
        return answer.leaves

    def _make_segments(self, every: int) -> Segments:
        parameters = _parameters(every)
        net = FakeNetwork(parameters=parameters)
        return Segments(
            env=net.env,
            engine=self._engine,
            parameters=parameters,
            replica=cast("Any", FakeReplica(net)),
            fetch_module=self._fetch,
        )

    async def _fetch(self, id: ItemId) -> Item:
        assert id == self.module, "there is one module"
        return self._module

    def _make_log(self, number: int) -> tuple[Line, Line | None]:
        draws = Draws("wasm log", number)
        tags = (
            *_AO, ("Type", "Process"), ("Module", b64url(self.module)),
            ("Scheduler", b64url(SCHEDULER.address)), ("Supply", "1000"),
        )  # fmt: skip
        process = item(USER, tags, anchor=number)
        items = [process]
        for slot in range(1, draws.between(1, draws.pick((4, SLOTS_MAX)))):
            fields = (
                ("Action", draws.pick(("Transfer", "Transfer", "Balance", "Nonsense"))),
                ("Recipient", f"r{draws.below(9)}"),
                ("Quantity", str(draws.pick((1, 7, 70_000)))),
            )
            items.append(message_item(USER, process.id, *fields, anchor=number << 32 | slot))
        return forked(items, draws)

    def _make_truth(self, line: Line, every: int) -> History:
        return self._story(line, every, extra=-1)

    def _story(self, line: Line, every: int, extra: int) -> History:
        """Evaluate the log; before slot `extra` a transfer is run that is not in it."""
        parameters, process = _parameters(every), line.slots[0].message
        program = Program.of(process, self._module, parameters)
        session = program.open(self._engine)
        leaves: list[Leaf] = []
        states: dict[int, Witness] = {}
        for slot in line.slots:
            if slot.nonce == extra and extra:
                fields = (("Action", "Transfer"), ("Recipient", "x"), ("Quantity", "7"))
                gift = message_item(USER, process.id, *fields, anchor=1 << 80)
                evaluate(session, program, [replace(slot, message=gift)], parameters)
            if slot.nonce % every == 0 and slot.nonce:
                states[slot.nonce] = session.witness(parameters.witness_bytes_max)
            done, refused = evaluate(session, program, [slot], parameters)
            assert not refused, refused
            leaves.append(leaf_of(ProcessId(process.id), done[0]))
        states[len(line.slots)] = session.witness(parameters.witness_bytes_max)
        session.close()
        return History(line, tuple(leaves), partial(_at, states))


def _at(states: dict[int, Witness], slot: int) -> Witness:
    return states[slot]


def _parameters(every: int) -> Parameters:
    return replace(demo_parameters(), root_every=every)


shared: Callable[[], Wasm] = cache(Wasm)
"""One engine for all cases of a process: compiling its module takes longer than a case."""
