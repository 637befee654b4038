"""The compute unit's machine: one log gives one set of receipts, however it is cut and crashed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from nacl.signing import VerifyKey

from protocols import domains, keyspace
from protocols.accumulator import Mmr, mmr_of
from protocols.codec import digest
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, ProcessId, b64url
from protocols.keyspace import Prefix
from protocols.machine.effects import Alarm, Effect, Execute, Notify, Persist, Started, Table
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import Evaluated, Executed, ExecutionRefused, Extended
from protocols.machine.results import StoredResult, executed_slot
from protocols.machine.standing import RUN_FUEL, RUN_SLOTS_MAX
from protocols.outbox import derive
from protocols.wire.assignment import Chain, Slot
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import Leaf, Receipt, contradicts
from tests.protocols.machine.toy_engine import BOUNDS, FORMAT, RAWS, ToyEngine
from tests.protocols.machine.world import (
    PARAMETERS,
    Disk,
    Key,
    log,
    message_item,
    next_slot,
    process_item,
)

CU, SCHEDULER, USER = Key.of("compute"), Key.of("scheduler"), Key.of("user")
NETWORK = NetworkId(b"n" * 32)
PROFILE = b"p" * 32
SMALL = replace(PARAMETERS, root_every=2, proof_every=4)
NAMES = ("first", "second")


def machine(profile: bytes = PROFILE) -> Evaluation:
    return Evaluation(
        network=NETWORK, parameters=SMALL, profile=profile, key=CU.public, sign=CU.sign
    )


def sample(messages: int) -> list[Slot]:
    process = process_item(USER, SCHEDULER, anchor=1)
    items = [message_item(USER, process.id, anchor=10 + number) for number in range(messages)]
    return log(SCHEDULER, [process, *items])


def extended(slots: Sequence[Slot]) -> Extended:
    """The machine chains heads itself."""
    return Extended(slots[0].process, tuple(slots), tuple(b"" for _ in slots))


def expected(slots: Sequence[Slot]) -> list[StoredResult]:
    """The specification, written out: every result of a log."""
    engine, mmr, block = ToyEngine(SMALL.root_every), Mmr(), None
    chain = Chain.genesis(slots[0].process)
    out = []
    for slot, run in zip(slots, engine.run(slots), strict=True):
        chain = chain.next(slot)
        derived = derive(FORMAT, Status(run.status), run.raw, BOUNDS)
        raw = run.raw if derived.status in {Status.OK, Status.ERROR} else b""
        assert raw == run.raw
        leaf = Leaf(
            slot.process,
            slot.nonce,
            slot.assignment.id,
            run.root,
            outcome_hash(raw, derived.outbox.root()),
            run.fuel,
            int(derived.status),
        )
        mmr = mmr.append(leaf.hash())
        receipt = Receipt(
            NETWORK,
            slot.process,
            slot.nonce,
            chain.head,
            leaf,
            mmr.root(),
            block,
            PROFILE,
            CU.public,
        )
        receipt = receipt.signed(CU.sign(receipt.signing_bytes()))
        out.append(StoredResult(derived.status, run.fuel, raw, receipt))
        if (slot.nonce + 1) % SMALL.proof_every == 0:
            block = mmr.root()
    return out


def rows(disk: Disk, table: Table, prefix: Prefix, process: ProcessId) -> list[bytes]:
    found = disk.scan(table, *keyspace.process_range(prefix, process))
    return [value for _, value in found]


def results(disk: Disk, process: ProcessId) -> list[StoredResult]:
    return [
        StoredResult.decode(row, output_bytes_max=SMALL.output_bytes_max)
        for row in rows(disk, Table.LOG, Prefix.RESULT, process)
    ]


def of(kind: type[Any], effects: Iterable[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def recovered(disk: Disk, slots: Sequence[Slot], profile: bytes = PROFILE) -> Evaluation:
    """As the adapter does it after a restart."""
    unit = machine(profile)
    process = slots[0].process
    unit.recover(
        process,
        tip=slots[-1].nonce,
        leaves=rows(disk, Table.LOG, Prefix.LEAF, process),
        receipts=rows(disk, Table.SIGN_ONCE, Prefix.RECEIPT, process),
    )
    return unit


def drive(
    unit: Evaluation, slots: Sequence[Slot], engine: ToyEngine, effects: Sequence[Effect]
) -> list[Effect]:
    """Run every Execute among `effects` and what follows; all effects there were."""
    out = list(effects)
    for effect in out:
        if isinstance(effect, Execute):
            ran = engine.run(slots[effect.first : effect.last + 1])
            out += unit.on(Executed(effect.process, ran), 0)
    return out


def evaluated(slots: Sequence[Slot]) -> Disk:
    """The disk of a unit that has evaluated the whole log."""
    unit, disk = machine(), Disk()
    disk.write(drive(unit, slots, ToyEngine(SMALL.root_every), unit.on(extended(slots), 0)))
    return disk


def test_a_log_gives_the_specified_results() -> None:
    slots = sample(9)
    disk = evaluated(slots)
    assert results(disk, slots[0].process) == expected(slots)
    leaves = rows(disk, Table.LOG, Prefix.LEAF, slots[0].process)
    mmrs = disk.scan(Table.LOG, *keyspace.process_range(Prefix.MMR, slots[0].process))
    assert [(keyspace.nonce_of(key), Mmr.decode(row)) for key, row in mmrs] == [
        (end, mmr_of(leaves[: end + 1])) for end in (3, 7)
    ]
    for result in results(disk, slots[0].process):
        receipt = result.receipt
        receipt.check(SMALL)
        VerifyKey(CU.public).verify(receipt.signing_bytes(), receipt.signature)


@pytest.mark.parametrize("raw", RAWS)
@pytest.mark.parametrize("status", Status)
def test_what_an_engine_answers_is_read_before_it_is_signed(status: Status, raw: bytes) -> None:
    (slot,) = sample(0)
    derived = derive(FORMAT, status, raw, BOUNDS)
    run = executed_slot(slot, FORMAT, int(status), raw, fuel=5, root=None, bounds=BOUNDS)
    assert run.status == derived.status
    assert run.raw == (raw if derived.status in {Status.OK, Status.ERROR} else b"")
    assert run.outbox_root == derived.outbox.root()
    assert (run.slot, run.assignment, run.fuel, run.root) == (0, slot.assignment.id, 5, None)


def test_the_sample_has_every_status() -> None:
    assert {result.status for result in expected(sample(60))} == set(Status)


def test_one_run_at_a_time_and_then_the_next() -> None:
    slots = sample(4)
    unit, engine = machine(), ToyEngine(2)
    process = slots[0].process
    assert unit.on(extended(slots[:1]), 0) == [Execute(process, 0, 0)]
    assert unit.on(extended(slots[1:3]), 0) == []
    ran = tuple(replace(result, fuel=1) for result in engine.run(slots[:1]))
    effects = unit.on(Executed(process, ran), 0)
    assert of(Notify, effects) == [Notify(Evaluated(process, 0))]
    assert effects[-1] == Execute(process, 1, 2)
    effects = unit.on(Executed(process, engine.run(slots[1:2])), 0)
    assert effects[-1] == Execute(process, 2, 2), "the rest of a run is asked for again"
    assert unit.on(extended(slots[3:]), 0) == []
    assert unit.on(extended(slots[1:2]), 0) == [], "slots told twice change nothing"
    assert unit.last(process) == 1


@pytest.mark.parametrize(
    ("fuel", "length"),
    [(0, RUN_SLOTS_MAX), (RUN_FUEL // 10, 10), (RUN_FUEL, 1), (5 * RUN_FUEL, 1)],
)
def test_costly_slots_run_in_short_runs(fuel: int, length: int) -> None:
    slots = sample(1)
    process = slots[0].process
    unit = machine()
    unit.on(extended(slots), 0)
    unit.on(Extended(process, (replace_nonce(slots[1], 500),), (b"",)), 0)
    run = ToyEngine(2).run(slots[:1])[0]
    effects = unit.on(Executed(process, (replace(run, fuel=fuel),)), 0)
    assert effects[-1] == Execute(process, 1, length)


def replace_nonce(slot: Slot, nonce: int) -> Slot:
    return replace(slot, assignment=replace(slot.assignment, nonce=nonce))


def test_a_refused_slot_ends_the_process_until_a_restart() -> None:
    slots = sample(5)
    process = slots[0].process
    unit, engine, disk = machine(), ToyEngine(2), Disk()
    unit.on(extended(slots), 0)
    disk.write(unit.on(Executed(process, engine.run(slots[:1])), 0))
    effects = unit.on(ExecutionRefused(process, 1, "stack"), 0)
    assert effects == [Alarm(Reason.REFUSED, process, "slot 1: stack")]
    assert "stack" in unit.stopped(process)
    assert unit.on(Executed(process, engine.run(slots[1:2])), 0) == []
    assert unit.on(extended(slots[5:]), 0) == []
    assert unit.on(ExecutionRefused(process, 1, "again"), 0) == []
    assert unit.status()["stopped"] == {b64url(process): unit.stopped(process)}

    unit = recovered(disk, slots)
    disk.write(drive(unit, slots, ToyEngine(2), unit.on(Started(), 0)))
    assert results(disk, process) == expected(slots)


def test_another_engine_stops_at_the_first_leaf_that_differs() -> None:
    slots = sample(8)
    process = slots[0].process
    disk = evaluated(slots[:7])
    unit = recovered(disk, slots)
    effects = drive(unit, slots, ToyEngine(2, flaw=5), unit.on(Started(), 0))
    assert of(Persist, effects) == []
    (alarm,) = of(Alarm, effects)
    assert alarm.reason is Reason.MISMATCH
    assert alarm.detail.startswith("slot 5: ")
    assert unit.last(process) == 4
    assert unit.on(extended(slots[7:]), 0) == []


def test_a_signed_receipt_without_result_is_used_or_defended() -> None:
    """Power failed between the sign-once table and the log."""
    slots = sample(6)
    process = slots[0].process
    full, disk = evaluated(slots), evaluated(slots[:5])
    disk.tables[Table.SIGN_ONCE] = dict(full.tables[Table.SIGN_ONCE])

    unit = recovered(disk, slots)
    effects = drive(unit, slots, ToyEngine(2), unit.on(Started(), 0))
    assert {effect.table for effect in of(Persist, effects)} == {Table.LOG}
    disk.write(effects)
    assert results(disk, process) == expected(slots)
    assert unit.status()["slots_signed"] == 0

    disk = evaluated(slots[:5])
    disk.tables[Table.SIGN_ONCE] = dict(full.tables[Table.SIGN_ONCE])
    unit = recovered(disk, slots)
    effects = drive(unit, slots, ToyEngine(2, flaw=5), unit.on(Started(), 0))
    assert of(Persist, effects) == []
    assert [alarm.reason for alarm in of(Alarm, effects)] == [Reason.MISMATCH]


def test_receipts_of_another_profile_bind_nobody() -> None:
    slots = sample(3)
    disk = evaluated(slots)
    disk.tables[Table.LOG].clear()
    unit = recovered(disk, slots, profile=b"q" * 32)
    effects = drive(unit, slots, ToyEngine(2, flaw=0), unit.on(Started(), 0))
    assert of(Alarm, effects) == []
    assert unit.status()["slots_signed"] == 4


def test_rows_of_somebody_else_are_refused() -> None:
    slots = sample(1)
    disk = evaluated(slots)
    process = slots[0].process
    receipt = rows(disk, Table.SIGN_ONCE, Prefix.RECEIPT, process)[0]
    for leaves, receipts, target in (
        ([b"short"], [], process),
        ([], [receipt], ProcessId(b"x" * 32)),
        ([], [receipt[:-1]], process),
    ):
        with pytest.raises(Invalid):
            machine().recover(target, tip=1, leaves=leaves, receipts=receipts)
    with pytest.raises(Invalid):
        StoredResult.decode(b"\x84\x06\x00\x40\x40", output_bytes_max=64)


def test_a_fork_gives_receipts_that_do_not_contradict() -> None:
    """A unit may sign both branches of a forked log: a head binds each statement to its branch."""
    slots = sample(3)
    process = slots[0].process
    chain = Chain.genesis(process)
    for slot in slots[:3]:
        chain = chain.next(slot)
    other = [*slots[:3], next_slot(SCHEDULER, chain, message_item(USER, process, anchor=99), 5)]
    ours, theirs = expected(slots)[3].receipt, expected(other)[3].receipt
    assert ours.leaf != theirs.leaf
    assert not contradicts(ours, theirs)


class Restarts(RuleBasedStateMachine):
    """Two logs, one unit, any grouping of runs, a crash between any two writes."""

    @initialize()
    def start(self) -> None:
        self.disk = Disk()
        self.logs: dict[ProcessId, list[Slot]] = {}
        self.chains: dict[ProcessId, Chain] = {}
        for number in range(len(NAMES)):
            item = process_item(USER, SCHEDULER, anchor=number)
            process = ProcessId(item.id)
            chain = Chain.genesis(process)
            slot = next_slot(SCHEDULER, chain, item, 0)
            self.logs[process] = [slot]
            self.chains[process] = chain.next(slot)
        self.anchors = 100
        self.receipts: list[Receipt] = []
        self.restart()

    def restart(self) -> None:
        """Nothing is left but the disk."""
        self.unit = machine()
        self.engines = {process: ToyEngine(SMALL.root_every) for process in self.logs}
        self.runs: dict[ProcessId, Execute] = {}
        self.refused: set[ProcessId] = set()
        for process, slots in self.logs.items():
            self.unit.recover(
                process,
                tip=slots[-1].nonce,
                leaves=rows(self.disk, Table.LOG, Prefix.LEAF, process),
                receipts=rows(self.disk, Table.SIGN_ONCE, Prefix.RECEIPT, process),
            )
        self.release(self.unit.on(Started(), 0))

    def release(self, effects: Sequence[Effect], tables: int = len(Table)) -> None:
        """Commit the first `tables` tables; if those are all, let the other effects out."""
        for table in list(Table)[:tables]:
            group = [effect for effect in of(Persist, effects) if effect.table is table]
            if table is Table.SIGN_ONCE:
                for row in group:
                    assert row.key not in self.disk.tables[table], "signed twice"
                    self.receipts.append(Receipt.decode(row.value))
            self.disk.write(group)
        if tables < len(Table):
            self.restart()
            return
        for effect in effects:
            match effect:
                case Execute(process=process):
                    assert process not in self.runs, "two runs of one process"
                    self.runs[process] = effect
                case Alarm(process=process):
                    assert process in self.refused, effect
                case Notify(event=Evaluated(process=process, last=last)):
                    assert len(results(self.disk, process)) > last

    def pick(self, index: int) -> ProcessId:
        return list(self.logs)[index % len(self.logs)]

    @rule(index=st.integers(0, 1), count=st.integers(1, 6))
    def extend(self, index: int, count: int) -> None:
        process = self.pick(index)
        added = []
        for _ in range(count):
            self.anchors += 1
            message = message_item(USER, process, anchor=self.anchors)
            added.append(next_slot(SCHEDULER, self.chains[process], message, 0))
            self.chains[process] = self.chains[process].next(added[-1])
        self.logs[process] += added
        self.release(self.unit.on(extended(added), 0))

    @precondition(lambda self: self.runs)
    @rule(index=st.integers(0, 1), take=st.integers(1, 8), tables=st.integers(0, 6))
    def execute(self, index: int, take: int, tables: int) -> None:
        """Run a part of a run; fewer than three tables is a crash inside the commit."""
        process = list(self.runs)[index % len(self.runs)]
        run = self.runs.pop(process)
        last = min(run.last, run.first + take - 1)
        ran = self.engines[process].run(self.logs[process][run.first : last + 1])
        self.release(self.unit.on(Executed(process, ran), 0), min(tables, len(Table)))

    @precondition(lambda self: self.runs)
    @rule(index=st.integers(0, 1))
    def refuse(self, index: int) -> None:
        process = list(self.runs)[index % len(self.runs)]
        run = self.runs.pop(process)
        self.refused.add(process)
        self.release(self.unit.on(ExecutionRefused(process, run.first, "native stack"), 0))
        assert self.unit.stopped(process)

    @rule()
    def crash(self) -> None:
        self.restart()

    @invariant()
    def rows_are_a_prefix_of_the_specification(self) -> None:
        for process, slots in self.logs.items():
            stored = results(self.disk, process)
            assert stored == expected(slots)[: len(stored)]
            leaves = rows(self.disk, Table.LOG, Prefix.LEAF, process)
            assert leaves == [result.receipt.leaf.hash() for result in stored]
            signed = rows(self.disk, Table.SIGN_ONCE, Prefix.RECEIPT, process)
            assert len(signed) >= len(stored), "a result without a durable receipt"

    def teardown(self) -> None:
        """Left alone, the unit ends where the specification does, and never contradicted itself."""
        if not hasattr(self, "disk"):
            return
        self.restart()
        while self.runs:
            process, run = self.runs.popitem()
            ran = self.engines[process].run(self.logs[process][run.first : run.last + 1])
            self.release(self.unit.on(Executed(process, ran), 0))
        for process, slots in self.logs.items():
            assert results(self.disk, process) == expected(slots)
        for earlier in self.receipts:
            for later in self.receipts:
                assert not contradicts(earlier, later)


TestRestarts = pytest.mark.slow(Restarts.TestCase)
TestRestarts.settings = settings(max_examples=40, stateful_step_count=25)


def test_heads_are_the_chains() -> None:
    slots = sample(2)
    head = Chain.genesis(slots[0].process).head
    for slot, result in zip(slots, expected(slots), strict=True):
        head = digest(domains.HEAD, head, slot.assignment.id)
        assert result.receipt.head == head
