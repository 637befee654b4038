"""Which release's rows a store holds.

One row under `SCHEMA_KEY` names the kind of the store (so that two directories cannot be swapped)
and its version. Newer data is refused; older data is migrated one version at a time, one way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from aonode.ports import Store
from protocols import keyspace
from protocols.errors import Invalid, Reason

SCHEMA_KEY = keyspace.meta_key("schema")

Batch = Sequence[tuple[bytes, bytes | None]]
Migration = Callable[[Store], Iterable[Batch]]
"""Batches that turn the rows of one version into those of the next.

Written in order and in full again if the node dies in between: a migration must be repeatable.
"""


def prepare(
    store: Store, kind: str, version: int, migrations: Mapping[int, Migration] | None = None
) -> None:
    """Stamp an empty store, accept one of this version, migrate an older one.

    `migrations[v]` leads from version v to v + 1. Raises Invalid(STORAGE) where the store holds
    another kind, a newer version, rows without a version, or there is no way up.
    """
    assert version >= 1, f"version {version} is below 1"
    row = store.get(SCHEMA_KEY)
    if row is None:
        for _ in store.scan(b"", b"\xff" * 64, limit=1):
            raise Invalid(
                Reason.STORAGE,
                f"the {kind} store has rows but no version row; it was not written by a node. "
                "Choose an empty directory",
            )
        _stamp(store, kind, version)
        return
    found_kind, found = _parse(row, kind)
    if found_kind != kind:
        raise Invalid(
            Reason.STORAGE,
            f"this is a {found_kind} store where a {kind} store is expected; "
            "two data directories have been exchanged",
        )
    if found > version:
        raise Invalid(
            Reason.STORAGE,
            f"the {kind} store has version {found}, this release knows up to {version}; "
            "install the newer release again, or restore a backup made before it ran",
        )
    for step in range(found, version):
        migration = (migrations or {}).get(step)
        if migration is None:
            raise Invalid(
                Reason.STORAGE,
                f"the {kind} store has version {found} and this release cannot migrate from "
                f"version {step}; upgrade through an earlier release first",
            )
        for batch in migration(store):
            store.write(batch, sync=False)
        # A synced batch carries all earlier ones with it (see `aonode.store.level`).
        _stamp(store, kind, step + 1)


def _stamp(store: Store, kind: str, version: int) -> None:
    store.write([(SCHEMA_KEY, f"{kind}/{version}".encode())], sync=True)


def _parse(row: bytes, kind: str) -> tuple[str, int]:
    match = re.fullmatch(rb"([a-z-]{1,32})/([1-9][0-9]{0,8})", row)
    if match is None:
        raise Invalid(
            Reason.STORAGE,
            f"the version row of the {kind} store is {row[:64]!r}, not kind/version; "
            "it was not written by a node. Choose another directory",
        )
    return match[1].decode(), int(match[2])
