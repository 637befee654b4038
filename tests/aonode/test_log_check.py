"""The checks of what is on disk: every single change of a row is found, and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aonode.log_check import check_process, processes_of, replay_process
from aonode.ports import ModuleSpec, SlotResult
from aonode.store.memory import MemoryStore
from protocols import codec, keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId
from protocols.machine.effects import Persist
from protocols.machine.results import StoredResult
from protocols.machine.rows import head_row, log_rows, slot_row
from protocols.wire.evidence import Witness
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt
from tests.aonode.fakes import (
    PROFILE,
    FakeCompute,
    FakeNetwork,
    evaluate_fields,
    message_item,
    signer,
    spawned,
)

SLOTS = 20


class FakeSession:
    """The fakes' program behind `aonode.ports.Session`."""

    def __init__(self, bend: int | None) -> None:
        self._slot, self._bend = -1, bend

    def run_slot(self, call: bytes) -> SlotResult:
        fields = codec.decode(call, size_max=1 << 20)
        assert isinstance(fields, list)
        _, process, _, slot, _, _, _, _, tags, data = fields
        self._slot = slot
        action = dict(map(tuple, tags)).get("Action")
        result = evaluate_fields(ProcessId(process), slot, action, data)
        if slot == self._bend:
            return SlotResult(result.status, result.raw, result.fuel + 1)
        return result

    def dry_run(self, call: bytes) -> SlotResult:
        return self.run_slot(call)

    def state_root(self) -> bytes:
        return codec.digest("fake-state", self._slot)

    def memory(self) -> bytes:
        return b""

    def witness(self, bytes_max: int) -> Witness:
        raise AssertionError("checking a log takes no witness")

    def close(self) -> None:
        pass


class FakeEngine:
    def __init__(self, bend: int | None = None) -> None:
        self._bend = bend

    @property
    def profile(self) -> bytes:
        return PROFILE

    def validate(self, module: ModuleSpec) -> None:
        pass

    def open(
        self, process: ProcessId, module: ModuleSpec, env: bytes, memory_max: int
    ) -> FakeSession:
        return FakeSession(self._bend)

    def restore(
        self,
        process: ProcessId,
        module: ModuleSpec,
        env: bytes,
        memory_max: int,
        witness: Witness,
    ) -> None:
        raise AssertionError("checking a log restores nothing")


class Disk:
    """A store as a compute unit leaves it, and a way to damage one row."""

    def __init__(self, *, results: bool = True) -> None:
        self.world = FakeNetwork()
        self.process = spawned(self.world, SLOTS - 3)
        for action in ("boom", "trap"):
            self.world.schedule(message_item(self.world, signer(7), self.process, Action=action))
        self.store = MemoryStore()
        rows: list[Persist] = []
        for slot, chain in zip(
            self.world.logs[self.process], self.world.chains[self.process][1:], strict=True
        ):
            rows += log_rows(slot, chain)
        rows.append(head_row(self.world.chains[self.process][-1]))
        self.write(*((row.key, row.value) for row in rows))
        for module in self.world.modules.values():
            self.write((keyspace.module_key(module.id), module.raw))
        if results:
            self._results()

    def _results(self) -> None:
        compute = FakeCompute(self.world, self.world.computes[0])
        for row in compute.results(self.process, 0, SLOTS, SLOTS):
            receipt = Receipt.decode(row.receipt)
            stored = StoredResult(Status(row.status), row.fuel, row.raw, receipt)
            self.write(
                (keyspace.result_key(self.process, row.nonce), stored.encode()),
                (keyspace.leaf_key(self.process, row.nonce), receipt.leaf.hash()),
            )

    def write(self, *rows: tuple[bytes, bytes | None]) -> None:
        self.store.write(rows, sync=True)

    def check(self) -> None:
        check_process(self.store, self.world.network, self.process)


def test_whole_log_is_found_good() -> None:
    disk = Disk()
    assert processes_of(disk.store) == [disk.process]
    checked = check_process(disk.store, disk.world.network, disk.process)
    assert (checked.slots, checked.receipts) == (SLOTS, SLOTS)
    assert checked.head == disk.world.chains[disk.process][-1].head


def test_replica_without_results_is_good_too() -> None:
    disk = Disk(results=False)
    checked = check_process(disk.store, disk.world.network, disk.process)
    assert (checked.slots, checked.receipts, checked.mmr_root) == (SLOTS, 0, None)


def test_replay_gives_the_signed_leaves() -> None:
    disk = Disk()
    checked = check_process(disk.store, disk.world.network, disk.process)
    replayed = replay_process(disk.store, disk.world.network, FakeEngine(), disk.process)
    assert (replayed.slots, replayed.head) == (SLOTS, checked.head)
    assert replayed.mmr_root == checked.mmr_root
    bare = Disk(results=False)
    again = replay_process(bare.store, bare.world.network, FakeEngine(), bare.process)
    assert len(again.leaves) == SLOTS


def test_replay_names_the_slot_that_differs() -> None:
    disk = Disk()
    with pytest.raises(Invalid, match=r"slot 5 of process .* another leaf") as found:
        replay_process(disk.store, disk.world.network, FakeEngine(bend=5), disk.process)
    assert found.value.reason == Reason.MISMATCH


def test_replay_needs_the_module() -> None:
    disk = Disk()
    for id in disk.world.modules:
        disk.write((keyspace.module_key(id), None))
    with pytest.raises(Invalid, match="is not in this data directory"):
        replay_process(disk.store, disk.world.network, FakeEngine(), disk.process)


def _remove(key: Callable[[Disk], bytes]) -> Callable[[Disk], None]:
    return lambda disk: disk.write((key(disk), None))


def _flip(key: Callable[[Disk], bytes], place: int) -> Callable[[Disk], None]:
    def damage(disk: Disk) -> None:
        row = bytearray(disk.store.get(key(disk)) or b"")
        row[place] ^= 1
        disk.write((key(disk), bytes(row)))

    return damage


def _swap_slots(disk: Disk) -> None:
    for at, other in ((4, 5), (5, 4)):
        slot = disk.world.logs[disk.process][other]
        disk.write((keyspace.slot_key(disk.process, at), slot_row(slot)))


def _shorten(disk: Disk) -> None:
    last = SLOTS - 1
    for key in (keyspace.slot_key, keyspace.result_key, keyspace.leaf_key):
        disk.write((key(disk.process, last), None))


def slot(nonce: int) -> Callable[[Disk], bytes]:
    return lambda disk: keyspace.slot_key(disk.process, nonce)


def result(nonce: int) -> Callable[[Disk], bytes]:
    return lambda disk: keyspace.result_key(disk.process, nonce)


def leaf(nonce: int) -> Callable[[Disk], bytes]:
    return lambda disk: keyspace.leaf_key(disk.process, nonce)


def by_id(nonce: int) -> Callable[[Disk], bytes]:
    return lambda disk: keyspace.by_id_key(
        disk.world.logs[disk.process][nonce].message.id, disk.process
    )


def head(disk: Disk) -> bytes:
    return keyspace.head_key(disk.process)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_remove(slot(6)), "slot 7"),
        (_flip(slot(6), 20), "slot 6"),
        (_flip(slot(6), -1), "slot 6"),
        (_swap_slots, "slot 5"),
        (_remove(by_id(6)), "slot 6"),
        (_remove(result(6)), "slot 7"),
        (_flip(result(6), -1), "slot 6"),
        (_flip(result(6), 8), "slot 6"),
        (_remove(leaf(6)), "slot 6"),
        (_flip(leaf(6), 0), "slot 6"),
        (_remove(head), "head row"),
        (_flip(head, -1), "head row"),
        (_shorten, "head row"),
    ],
)
def test_every_damage_is_found_and_named(damage: Callable[[Disk], None], named: str) -> None:
    disk = Disk()
    disk.check()
    damage(disk)
    with pytest.raises(Invalid) as found:
        disk.check()
    assert named in found.value.detail


def test_a_slot_by_another_scheduler_is_found() -> None:
    disk = Disk()
    other = FakeNetwork(scheduler=signer(8), env=disk.world.env)
    other.modules = disk.world.modules
    mine = disk.world.logs[disk.process]
    process = ProcessId(other.schedule(mine[0].message).message.id)
    disk.write((keyspace.slot_key(process, 0), slot_row(other.logs[process][0])))
    with pytest.raises(Invalid, match=r"slot 0 .* not by the scheduler") as found:
        disk.check()
    assert found.value.reason == Reason.WRONG_SENDER
