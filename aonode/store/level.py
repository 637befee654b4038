"""A Store on LevelDB (plyvel). The only file that imports plyvel.

LevelDB writes one batch as one checksummed log record, so a batch is on disk whole or not at
all, and a batch with `sync` carries every earlier one with it. After a failed write LevelDB
refuses all later ones until it is opened again; the node ends and says why.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import plyvel

from protocols.errors import Invalid, Reason

CACHE_BYTES_MAX = 16 << 20
"""Uncompressed blocks kept in memory per store."""
WRITE_BUFFER_BYTES_MAX = 4 << 20
"""Rows held in memory before a table file is written; LevelDB keeps at most two such buffers."""
FILES_OPEN_MAX = 256
"""Table files held open per store: a node opens two stores and must leave room for sockets."""
BLOOM_BITS = 10
"""About 1 % of look-ups for an absent key read a block (LevelDB manual, "Filters")."""


class LevelStore:
    """Implements `aonode.ports.Store` in one directory, owned by one process at a time.

    Opening raises Invalid(STORAGE) where the directory is in use, unreadable, not writable or
    corrupt; so does a read or write that fails later. Safe for threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            _make_directory(path)
            # Without paranoid_checks a damaged log record is skipped in silence at opening, and
            # a sign-once table that forgets a row signs twice. A torn tail still opens.
            self._db = plyvel.DB(
                str(path),
                create_if_missing=True,
                paranoid_checks=True,
                lru_cache_size=CACHE_BYTES_MAX,
                write_buffer_size=WRITE_BUFFER_BYTES_MAX,
                max_open_files=FILES_OPEN_MAX,
                bloom_filter_bits=BLOOM_BITS,
            )
        except (OSError, plyvel.Error) as error:
            raise _open_failed(path, error) from error

    @property
    def path(self) -> Path:
        """The directory, for messages."""
        return self._path

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        assert not self._db.closed, f"store {self._path} used after close"
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise _read_failed(self._path, error) from error
        return value

    def scan(
        self, start: bytes, stop: bytes, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop as they are at this call, in key order or reversed.

        An iterator keeps the files of its snapshot on disk until it is exhausted or dropped.
        """
        assert not self._db.closed, f"store {self._path} used after close"
        assert limit is None or limit >= 0, f"limit {limit} is negative"
        if start >= stop or limit == 0:
            return iter(())
        # Long scans must not push the hot blocks out of the cache: hence fill_cache=False.
        try:
            cursor = self._db.raw_iterator(verify_checksums=True, fill_cache=False)
        except plyvel.Error as error:
            raise _read_failed(self._path, error) from error
        return self._drain(cursor, start, stop, limit, reverse)

    def _drain(
        self, cursor: plyvel.RawIterator, start: bytes, stop: bytes, limit: int | None, back: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """Walk the raw iterator, which checks LevelDB's status after every step.

        plyvel 1.5.1's own range iterator does not: it ends in silence at an unreadable block.
        It also yields nothing in reverse where `start` is the only row (wbolster/plyvel,
        `Iterator.real_prev` compares with >= where > is meant).
        """
        try:
            with contextlib.closing(cursor):
                if back:
                    _seek_below(cursor, stop)
                else:
                    cursor.seek(start)
                count = 0
                while cursor.valid() and count != limit:
                    key, value = cursor.item()
                    if not start <= key < stop:
                        return
                    yield key, value
                    count += 1
                    if back:
                        cursor.prev()
                    else:
                        cursor.next()
        except plyvel.Error as error:
            raise _read_failed(self._path, error) from error

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """One atomic batch; with `sync` it has been fsynced when this returns."""
        assert not self._db.closed, f"store {self._path} used after close"
        batch = self._db.write_batch(sync=sync)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            batch.write()
        except plyvel.Error as error:
            raise Invalid(
                Reason.STORAGE,
                f"cannot write to {self._path}: {_text(error)}; nothing of this batch was taken. "
                "Check free space, inodes and mount options, then restart the node",
            ) from error

    def close(self) -> None:
        """Release the directory. Open scans end. Closing twice is harmless."""
        self._db.close()


def _seek_below(cursor: plyvel.RawIterator, stop: bytes) -> None:
    """Stand on the last row whose key is below `stop`, if there is one."""
    cursor.seek(stop)
    if cursor.valid():
        cursor.prev()
    else:
        cursor.seek_to_last()


def _make_directory(path: Path) -> None:
    """Create `path` (mode 0700) so that a power cut cannot lose the directory itself."""
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _open_failed(path: Path, error: Exception) -> Invalid:
    text = _text(error)
    if isinstance(error, plyvel.CorruptionError):
        advice = "restore it from a backup, or move it away and start as a restored node"
        return Invalid(Reason.STORAGE, f"{path} is corrupt: {text}; {advice}")
    if "lock " in text and path.is_dir():
        return Invalid(
            Reason.STORAGE,
            f"{path} is in use ({text}); stop the other node, or give this one another directory",
        )
    return Invalid(
        Reason.STORAGE,
        f"cannot open {path}: {text}; it must be a directory that this user can write to, "
        "on a disk with free space",
    )


def _read_failed(path: Path, error: Exception) -> Invalid:
    return Invalid(
        Reason.STORAGE,
        f"cannot read {path}: {_text(error)}; check the disk, then restore the directory from "
        "a backup or move it away and start as a restored node",
    )


def _text(error: Exception) -> str:
    """What went wrong, for a person: plyvel carries LevelDB's message as bytes."""
    first = error.args[0] if error.args else b""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)
