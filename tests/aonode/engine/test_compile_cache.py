"""The compile cache: used, checked, private."""

from __future__ import annotations

from pathlib import Path

import pytest

from aonode.engine.profile import profile_id
from protocols.errors import Invalid, Reason
from protocols.wire.outcome import Status
from tests.aonode.engine.guests import COUNTER, make_engine, open_small


def files(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern))


def test_second_engine_uses_the_first_ones_code(tmp_path: Path) -> None:
    cache = tmp_path / "code"
    open_small(COUNTER, make_engine(cache)).run_slot(b"x")
    (compiled,) = files(cache, "*.cwasm")
    before = compiled.stat().st_mtime_ns
    assert open_small(COUNTER, make_engine(cache)).run_slot(b"x").status == Status.OK
    assert files(cache, "*.cwasm") == [compiled]
    assert compiled.stat().st_mtime_ns == before
    assert files(cache, ".*") == []


@pytest.mark.parametrize("damage", ["*.cwasm", "*.sum"])
def test_damage_means_compiling_again(tmp_path: Path, damage: str) -> None:
    make_engine(tmp_path / "c")
    session = open_small(COUNTER, make_engine(tmp_path / "c"))
    session.close()
    (path,) = files(tmp_path / "c", damage)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()
    path.write_bytes(raw)
    assert open_small(COUNTER, make_engine(tmp_path / "c")).run_slot(b"x").status == Status.OK
    assert path.read_bytes() != raw


def test_truncated_code_is_compiled_again(tmp_path: Path) -> None:
    open_small(COUNTER, make_engine(tmp_path / "c")).close()
    (path,) = files(tmp_path / "c", "*.cwasm")
    path.unlink()
    path.write_bytes(b"\x7fELF")
    assert open_small(COUNTER, make_engine(tmp_path / "c")).run_slot(b"x").status == Status.OK


def test_other_limits_other_profile_other_code(tmp_path: Path) -> None:
    for fuel_max in (10**6, 10**7):
        open_small(COUNTER, make_engine(tmp_path / "c", fuel_max=fuel_max)).close()
    assert len(files(tmp_path / "c", "*.cwasm")) == 2


def test_a_directory_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(Invalid, match="chmod 700") as caught:
        make_engine(shared)
    assert caught.value.reason is Reason.STORAGE


def test_profile_holds_every_limit_and_is_stable() -> None:
    limits = {"fuel_max": 1, "memory_max": 2, "output_bytes_max": 3, "outbox_max": 4}
    base = profile_id(**limits, shims=("a", "b"))
    assert len(base) == 32
    assert base == profile_id(**limits, shims=("a", "b"))
    others = [profile_id(**(limits | {name: 9}), shims=("a", "b")) for name in limits]
    others.append(profile_id(**limits, shims=("a", "c")))
    assert len({base, *others}) == 6
    assert make_engine().profile == make_engine().profile
