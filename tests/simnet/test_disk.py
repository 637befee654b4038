"""What survives a power cut, and what a faulty drive does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Invalid, Reason
from simnet.disk import Drive, SimDisk
from simnet.power import Power, PowerLost
from simnet.trace import Trace

END = b"\xff" * 8


def _drive() -> Drive:
    return Drive("node", Trace(now_s=lambda: 0.0))


def _keys(disk: SimDisk) -> list[bytes]:
    return [key for key, _ in disk.scan(b"", END)]


def test_synced_rows_survive_and_unsynced_ones_do_not() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    disk.write([(b"a", b"1")], sync=False)
    disk.write([(b"b", b"1")], sync=True)
    disk.write([(b"c", b"1"), (b"a", None)], sync=False)
    assert _keys(disk) == [b"b", b"c"]
    drive.power_cut(power)
    assert _keys(drive.open("log", Power("node", 2))) == [b"a", b"b"]


def test_closing_loses_nothing_and_syncs_nothing() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    disk.write([(b"a", b"1")], sync=False)
    disk.close()
    disk = drive.open("log", power)
    assert _keys(disk) == [b"a"]
    drive.power_cut(power)
    assert _keys(drive.open("log", Power("node", 2))) == []


def test_a_prefix_of_the_tail_may_survive_and_its_last_batch_may_tear() -> None:
    batches = [[(b"%d%d" % (batch, row), b"") for row in range(3)] for batch in range(3)]
    for keep, torn_rows, left in ((0, 0, 0), (2, 0, 6), (1, 2, 5), (3, 2, 9), (9, 0, 9)):
        drive, power = _drive(), Power("node", 1)
        disk = drive.open("log", power)
        for batch in batches:
            disk.write(batch, sync=False)
        drive.power_cut(power, keep=keep, torn_rows=torn_rows)
        expected = [key for batch in batches for key, _ in batch][:left]
        assert _keys(drive.open("log", Power("node", 2))) == expected


def test_the_dead_incarnation_is_fenced() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    drive.power_cut(power)
    with pytest.raises(PowerLost, match="node, incarnation 1"):
        disk.write([(b"late", b"")], sync=True)
    with pytest.raises(PowerLost):
        disk.get(b"late")
    with pytest.raises(PowerLost):
        disk.scan(b"", END)
    after = drive.open("log", Power("node", 2))
    disk.close()
    assert _keys(after) == []
    with pytest.raises(Invalid):
        drive.open("log", Power("node", 2))


def test_one_holder_per_volume() -> None:
    drive, power = _drive(), Power("node", 1)
    drive.open("log", power)
    drive.open("sign-once", power)
    with pytest.raises(Invalid, match="in use") as refusal:
        drive.open("log", power)
    assert refusal.value.reason is Reason.STORAGE


@pytest.mark.parametrize("durable", [False, True])
def test_a_cut_in_a_sync(durable: bool) -> None:
    drive, power = _drive(), Power("node", 1)
    log, once = drive.open("log", power), drive.open("sign-once", power)
    drive.cut_at_sync(2, durable=durable)
    once.write([(b"a", b"")], sync=True)
    once.write([(b"b", b"")], sync=False)
    with pytest.raises(PowerLost):
        log.write([(b"c", b"")], sync=True)
    assert not power.on
    second = Power("node", 2)
    assert _keys(drive.open("log", second)) == ([b"c"] if durable else [])
    assert _keys(drive.open("sign-once", second)) == [b"a"]
    assert drive.syncs == 2


def test_a_dropped_sync_is_found_out_only_by_a_power_cut() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    drive.drop_sync(2)
    for key in (b"a", b"b"):
        disk.write([(key, b"")], sync=True)
    assert _keys(disk) == [b"a", b"b"]
    drive.power_cut(power)
    assert _keys(drive.open("log", Power("node", 2))) == [b"a"]


def test_a_later_sync_carries_what_a_dropped_one_left() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    drive.drop_sync(1)
    for key in (b"a", b"b"):
        disk.write([(key, b"")], sync=True)
    drive.power_cut(power)
    assert _keys(drive.open("log", Power("node", 2))) == [b"a", b"b"]


def test_every_write_and_sync_is_traced() -> None:
    def run(value: bytes, sync: bool, drop: bool) -> str:
        trace = Trace(now_s=lambda: 0.0)
        drive = Drive("node", trace)
        if drop:
            drive.drop_sync(1)
        drive.open("log", Power("node", 1)).write([(b"k", value)], sync=sync)
        return trace.hex()

    hashes = [run(b"1", True, False), run(b"0", True, False), run(b"1", False, False)]
    hashes.append(run(b"1", True, True))
    assert len({*hashes}) == 4


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=2), st.none() | st.just(b"v"))),
    st.lists(st.booleans(), min_size=1),
    st.integers(0, 5),
)
def test_what_is_left_is_a_prefix_that_holds_every_sync(
    rows: list[tuple[bytes, bytes | None]], syncs: list[bool], keep: int
) -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    states: list[dict[bytes, bytes]] = [{}]
    synced = 0
    for number, (key, value) in enumerate(rows):
        sync = syncs[number % len(syncs)]
        disk.write([(key, value)], sync=sync)
        state = dict(states[-1])
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
        states.append(state)
        if sync:
            synced = number + 1
    drive.power_cut(power, keep=keep)
    left = dict(drive.open("log", Power("node", 2)).scan(b"", END))
    assert left == states[min(synced + keep, len(rows))]


def test_a_volume_can_be_put_back_from_a_copy_or_wiped() -> None:
    drive, power = _drive(), Power("node", 1)
    disk = drive.open("log", power)
    disk.write([(b"a", b"1")], sync=True)
    copy = drive.copy_of("log")
    disk.write([(b"b", b"1")], sync=True)
    with pytest.raises(AssertionError, match="in use"):
        drive.put_back("log", copy)
    for rows, keys in ((copy, [b"a"]), (drive.copy_of("no such volume"), [])):
        drive.power_cut(power)
        drive.put_back("log", rows)
        power = Power("node", 2)
        assert _keys(drive.open("log", power)) == keys
