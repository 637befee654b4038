"""Segments and audits: what live sessions give, from genesis or from a witness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from aonode.crypto.signers import sign_item
from aonode.engine.wasm import WasmEngine
from aonode.processes import token_wasm
from aonode.roles import segments as segments_module
from aonode.roles.segments import Segments
from aonode.roles.sessions import Sessions
from protocols.court import Segment
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId
from protocols.machine.effects import Audit
from protocols.machine.events import Executed
from protocols.machine.results import leaf_of
from protocols.network import demo_parameters
from protocols.wire.item import Item, Tag
from protocols.wire.proof import Leaf
from tests.aonode.engine.guests import small
from tests.aonode.fakes import FakeNetwork, FakeReplica, message_item, process_item, signer

if TYPE_CHECKING:
    from aonode.ports import Session

PARAMETERS = replace(demo_parameters(), root_every=4, proof_every=8)
SLOTS = 22
CLIENT = signer(9)
ENGINE = WasmEngine(
    fuel_max=PARAMETERS.fuel_max,
    memory_max=PARAMETERS.memory_max,
    output_bytes_max=PARAMETERS.output_bytes_max,
    outbox_max=PARAMETERS.outbox_max,
)
BROKEN = small("", declarations='(func (export "_initialize") unreachable)')
"""Its constructors trap."""


class World:
    """A token process with some transfers, and what a live session makes of them."""

    def __init__(self, wasm: bytes = b"", engine: Any = ENGINE, **tags: Any) -> None:
        self.net = FakeNetwork(parameters=PARAMETERS)
        kind = (("Type", "Module"), ("Module-Format", "ao-cbor-1"), ("Data-Protocol", "ao"))
        self.module = sign_item(
            CLIENT,
            tags=tuple(Tag(name, value) for name, value in kind),
            data=wasm or token_wasm(),
            anchor=bytes(32),
        )
        process = process_item(self.net, CLIENT, self.module.id, Supply="1000", **tags)
        self.process = ProcessId(self.net.schedule(process).message.id)
        for number in range(1, SLOTS):
            quantity = "7" if number % 5 else "70000"
            fields: dict[str, Any] = {
                "Action": "Transfer",
                "Recipient": f"r{number}",
                "Quantity": quantity,
            }
            self.net.schedule(message_item(self.net, CLIENT, self.process, **fields))
        self.log = self.net.logs[self.process]
        self.segments = Segments(
            env=self.net.env,
            engine=engine,
            parameters=PARAMETERS,
            replica=cast("Any", FakeReplica(self.net)),
            fetch_module=self.fetch,
        )

    async def fetch(self, id: ItemId) -> Item:
        assert id == self.module.id
        return self.module

    async def live(self) -> list[Leaf]:
        """Leaves of the whole log, as a compute unit evaluates it."""
        sessions = Sessions(
            env=self.net.env, engine=ENGINE, parameters=PARAMETERS, fetch_module=self.fetch
        )
        answer = await sessions.run(self.process, self.log)
        sessions.close()
        assert isinstance(answer, Executed)
        return [leaf_of(self.process, each) for each in answer.results]

    def segment(self, first: int, last: int, **changes: Any) -> Segment:
        base = Segment(
            b"fact",
            self.log[0].message,
            self.module.id,
            tuple(self.log[first : last + 1]),
            None,
            None,
        )
        return replace(base, **changes)


async def test_an_audit_gives_the_leaves_of_the_live_session() -> None:
    world = World()
    live = await world.live()
    found = await world.segments.audited(Audit(world.process, SLOTS - 1))
    assert list(found.leaves) == live
    assert (found.refused, found.witness) == ("", None)
    shorter = await world.segments.audited(Audit(world.process, 9))
    assert list(shorter.leaves) == live[:10]


async def test_an_audit_ends_where_the_log_ends() -> None:
    world = World()
    found = await world.segments.audited(Audit(world.process, 10 * SLOTS))
    assert (len(found.leaves), found.refused) == (SLOTS, "")
    unknown = await world.segments.audited(Audit(ProcessId(bytes(32)), 3))
    assert (unknown.leaves, unknown.refused) == ((), "")


@pytest.mark.parametrize("first", [4, 8, 12, 16, 20])
async def test_a_segment_runs_from_its_witness(first: int) -> None:
    world = World()
    live = await world.live()
    audited = await world.segments.audited(Audit(world.process, first - 1, first))
    assert audited.witness is not None
    root = live[first - 1].root
    last = min(first + 3, SLOTS - 1)
    segment = world.segment(first, last, root_before=root, witness=audited.witness)
    ran = await world.segments.segment(segment)
    assert ran.leaves == tuple(leaf.hash() for leaf in live[first : last + 1])
    assert (ran.fact, ran.refused) == (b"fact", "")


async def test_the_first_segment_runs_from_genesis() -> None:
    world = World()
    live = await world.live()
    ran = await world.segments.segment(world.segment(0, 3))
    assert ran.leaves == tuple(leaf.hash() for leaf in live[:4])


async def test_what_is_not_the_state_gives_no_leaves() -> None:
    world = World()
    live = await world.live()
    audited = await world.segments.audited(Audit(world.process, 8, 8))
    witness, root = audited.witness, live[7].root
    assert witness is not None
    for changes in (
        {"root_before": live[3].root, "witness": witness},
        {"root_before": root, "witness": None},
        {"root_before": root, "witness": replace(witness, pages=witness.pages + 1)},
        {"root_before": root, "witness": replace(witness, frame=witness.frame[:-1])},
        {"root_before": root, "witness": replace(witness, pages=1 << 16)},
        {"root_before": root, "witness": replace(witness, globals=())},
    ):
        ran = await world.segments.segment(world.segment(8, 11, **changes))
        assert (ran.leaves, ran.refused) == (None, "")


async def test_a_process_that_cannot_be_opened_gives_no_leaves_anywhere() -> None:
    for world in (World(BROKEN), World(b"", ENGINE, **{"Memory-Limit": "1-b"})):
        ran = await world.segments.segment(world.segment(0, 3))
        assert (ran.leaves, ran.refused) == (None, "")
        audited = await world.segments.audited(Audit(world.process, 5))
        assert audited.leaves == ()
        assert audited.refused


class _Exhausted:
    """A session that this machine lets run three slots and no more."""

    def __init__(self, session: Session) -> None:
        self._session, self._left = session, 3

    def run_slot(self, call: bytes) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Invalid(Reason.REFUSED, "no native stack")
        return self._session.run_slot(call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _Small:
    """An engine on a machine with little to give."""

    def __init__(self) -> None:
        self.closed = 0

    def open(self, *args: Any) -> Any:
        return _Exhausted(ENGINE.open(*args))


async def test_what_this_machine_cannot_do_is_told_apart() -> None:
    world = World(engine=_Small())
    ran = await world.segments.segment(world.segment(0, 3))
    assert ran.leaves is None
    assert "no native stack" in ran.refused
    audited = await world.segments.audited(Audit(world.process, 9))
    assert len(audited.leaves) == 3
    assert "no native stack" in audited.refused


async def test_an_audit_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "AUDIT_SLOTS_MAX", 10)
    world = World()
    audited = await world.segments.audited(Audit(world.process, 10))
    assert audited.leaves == ()
    assert "longer than 10 slots" in audited.refused
