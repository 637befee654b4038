"""What LevelStore adds to the common suite: the directory, the disk, the process around it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aonode.store.level import LevelStore
from protocols.errors import Invalid, Reason


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    store = LevelStore(tmp_path / "a" / "b")
    store.write([(b"k", b"v")], sync=True)
    store.close()
    assert LevelStore(tmp_path / "a" / "b").get(b"k") == b"v"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_one_directory_one_store(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    with pytest.raises(Invalid, match="is in use") as refusal:
        LevelStore(tmp_path)
    assert refusal.value.reason is Reason.STORAGE
    assert str(tmp_path) in refusal.value.detail
    store.close()
    LevelStore(tmp_path).close()


def _child(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    program = """
import sys, pathlib
from aonode.store.level import LevelStore
from protocols.errors import Invalid
try:
    LevelStore(pathlib.Path(sys.argv[1]))
except Invalid as refusal:
    print(refusal)
"""
    store = LevelStore(tmp_path)
    printed = _child(program, str(tmp_path))
    store.close()
    assert printed.startswith("storage: ")
    assert f"{tmp_path} is in use" in printed
    assert "stop the other node" in printed


@pytest.mark.slow
def test_a_full_disk_refuses_the_batch_and_keeps_the_rest(tmp_path: Path) -> None:
    # A limit on the size of a file stands in for a full disk: the same write() fails.
    program = """
import resource, sys, pathlib
from aonode.store.level import LevelStore
from protocols.errors import Invalid
store = LevelStore(pathlib.Path(sys.argv[1]))
store.write([(b"first", b"1")], sync=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, 256 << 10))
try:
    for number in range(1000):
        store.write([(b"%04d" % number, bytes(4 << 10))], sync=True)
except Invalid as refusal:
    print(number, refusal)
try:
    store.write([(b"later", b"")], sync=False)
except Invalid as refusal:
    print("again", refusal)
"""
    first, again = _child(program, str(tmp_path)).splitlines()
    count, text = first.split(" ", 1)
    assert text.startswith(f"storage: cannot write to {tmp_path}: ")
    assert "Check free space" in text
    assert again.startswith("again storage: cannot write")
    store = LevelStore(tmp_path)
    assert store.get(b"first") == b"1"
    assert store.get(b"%04d" % (int(count) - 1)) == bytes(4 << 10)
    assert store.get(b"later") is None


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(Invalid, match=r"cannot open .*file") as refusal:
            LevelStore(path)
        assert refusal.value.reason is Reason.STORAGE


def _log_of(path: Path) -> Path:
    (log,) = path.glob("*.log")
    return log


@pytest.mark.slow
def test_a_torn_tail_loses_whole_batches_only(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    store = LevelStore(whole)
    ends = [0]
    for number in range(4):
        rows = [(b"%d.%d" % (number, part), b"x" * 20) for part in range(3)]
        store.write(rows, sync=True)
        ends.append(_log_of(whole).stat().st_size)
    store.close()
    size = ends[-1]
    for cut in range(0, size + 1, 7):
        torn = tmp_path / f"torn{cut}"
        shutil.copytree(whole, torn)
        with _log_of(torn).open("r+b") as log:
            log.truncate(cut)
        store = LevelStore(torn)
        kept = sum(end <= cut for end in ends[1:])
        found = [key for key, _ in store.scan(b"", b"\xff")]
        assert found == [b"%d.%d" % (n, part) for n in range(kept) for part in range(3)]
        store.close()


def test_a_damaged_record_is_not_skipped_in_silence(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    for number in range(3):
        store.write([(b"%d" % number, b"x" * 50)], sync=True)
    store.close()
    with _log_of(tmp_path).open("r+b") as log:
        log.seek(20)
        log.write(b"\x00\xff")
    with pytest.raises(Invalid, match="is corrupt") as refusal:
        LevelStore(tmp_path)
    assert refusal.value.reason is Reason.STORAGE


def test_an_unfinished_scan_does_not_stop_the_close(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    store.write([(b"%d" % number, b"") for number in range(9)], sync=True)
    scan = store.scan(b"", b"\xff")
    next(scan)
    store.close()
    LevelStore(tmp_path).close()


@pytest.mark.slow
def test_an_unreadable_block_does_not_end_a_scan_in_silence(tmp_path: Path) -> None:
    store = LevelStore(tmp_path)
    values = {b"%04d" % number: random.Random(number).randbytes(4 << 10) for number in range(1200)}
    for row in values.items():
        store.write([row], sync=False)
    store.close()
    LevelStore(tmp_path).close()  # opening turns the log into a table file
    table = max(tmp_path.glob("*.ldb"), key=lambda path: path.stat().st_size)
    with table.open("r+b") as file:
        file.seek(table.stat().st_size // 2)
        file.write(bytes(64))
    store = LevelStore(tmp_path)
    for reverse in (False, True):
        with pytest.raises(Invalid, match="cannot read") as refusal:
            list(store.scan(b"", b"\xff", reverse=reverse))
        assert refusal.value.reason is Reason.STORAGE
    store.close()
