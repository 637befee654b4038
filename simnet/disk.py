"""A simulated disk: what was synced survives a power cut, what was not may be lost.

A `Drive` is the hardware of one machine and outlives power cuts; a `SimDisk` is one volume as one
incarnation has it open, and implements `aonode.ports.Store`. As with LevelDB, a sync makes every
earlier batch of its volume durable too, and after a cut a prefix of the unsynced batches is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aonode.store.memory import Rows
from protocols.errors import Invalid, Reason
from simnet.power import Power
from simnet.trace import Trace

Batch = tuple[tuple[bytes, bytes | None], ...]


class Volume:
    """One table: the rows that survive, and the batches that may not."""

    __slots__ = ("durable", "holder", "unsynced", "view")

    def __init__(self) -> None:
        self.durable = Rows()
        self.view = Rows()
        self.unsynced: list[Batch] = []
        self.holder: SimDisk | None = None

    def flush(self) -> None:
        for batch in self.unsynced:
            self.durable.apply(batch)
        self.unsynced.clear()


class Drive:
    """All volumes of one machine, and the faults planned for them.

    Syncs are counted over all volumes and incarnations, from 1.
    """

    def __init__(self, node: str, trace: Trace) -> None:
        self._node = node
        self._trace = trace
        self._volumes: dict[str, Volume] = {}
        self._syncs = 0
        self._cut_at: int | None = None
        self._cut_durable = False
        self._dropped: dict[int, None] = {}

    @property
    def node(self) -> str:
        """The machine's name in the trace."""
        return self._node

    @property
    def syncs(self) -> int:
        """Syncs asked for so far."""
        return self._syncs

    def open(self, name: str, power: Power) -> SimDisk:
        """Open a volume for one incarnation. Raises Invalid(STORAGE) while another holds it."""
        volume = self._volumes.setdefault(name, Volume())
        if volume.holder is not None:
            raise Invalid(
                Reason.STORAGE,
                f"volume {name} of {self._node} is in use; close it or cut the power first",
            )
        volume.holder = SimDisk(self, name, volume, power)
        return volume.holder

    def drop_sync(self, number: int) -> None:
        """Fault: the `number`-th sync returns and makes nothing durable (a lying drive)."""
        assert number > self._syncs, f"sync {number} has passed, {self._syncs} were asked for"
        self._dropped[number] = None

    def cut_at_sync(self, number: int, *, durable: bool) -> None:
        """Fault: the power fails in the `number`-th sync, after (`durable`) or before it took."""
        assert number > self._syncs, f"sync {number} has passed, {self._syncs} were asked for"
        self._cut_at, self._cut_durable = number, durable

    def copy_of(self, name: str) -> Rows:
        """What a backup of a volume holds that is taken now; empty if there is no such volume."""
        volume = self._volumes.get(name)
        return Rows() if volume is None else volume.durable.copy()

    def put_back(self, name: str, rows: Rows) -> None:
        """Fault: while the power is off somebody replaces a volume by an old copy, or wipes it."""
        volume = self._volumes.setdefault(name, Volume())
        assert volume.holder is None, f"volume {name} of {self._node} is in use"
        volume.durable, volume.view = rows.copy(), rows.copy()
        volume.unsynced.clear()
        self._trace.record(self._node, "put-back", name, len(rows))

    def power_cut(self, power: Power, *, keep: int = 0, torn_rows: int = 0) -> None:
        """End `power`'s incarnation and lose what is not durable.

        `keep` is how many unsynced batches of each volume survive, oldest first; `torn_rows` is
        how many rows of the next one do, which no LevelDB does and a store without a log would.
        """
        power.cut()
        for name, volume in self._volumes.items():
            lost = len(volume.unsynced)
            survivors = volume.unsynced[:keep]
            if torn_rows and keep < lost:
                survivors.append(volume.unsynced[keep][:torn_rows])
            volume.unsynced = survivors
            volume.flush()
            volume.view = volume.durable.copy()
            volume.holder = None
            self._trace.record(self._node, "power-cut", name, lost, len(survivors))

    def _write(self, name: str, volume: Volume, batch: Batch) -> None:
        volume.view.apply(batch)
        volume.unsynced.append(batch)
        self._trace.record(self._node, "write", name, len(batch))
        for key, value in batch:
            self._trace.record(self._node, "row", name, key, b"" if value is None else b"=" + value)

    def _sync(self, name: str, volume: Volume, power: Power) -> None:
        self._syncs += 1
        number = self._syncs
        cut = number == self._cut_at
        if number in self._dropped:
            self._trace.record(self._node, "sync-dropped", name, number)
        elif not cut or self._cut_durable:
            volume.flush()
            self._trace.record(self._node, "sync", name, number)
        if cut:
            self.power_cut(power)
            power.check()


class SimDisk:
    """Implements `aonode.ports.Store` on one volume. Raises PowerLost after its power cut."""

    def __init__(self, drive: Drive, name: str, volume: Volume, power: Power) -> None:
        self._drive = drive
        self._name = name
        self._volume = volume
        self._power = power
        self._closed = False

    def _check(self) -> None:
        self._power.check()
        assert not self._closed, f"volume {self._name} of {self._drive.node} used after close"

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        self._check()
        return self._volume.view.get(key)

    def scan(
        self, start: bytes, stop: bytes, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop as they are at this call, in key order or reversed."""
        self._check()
        return iter(self._volume.view.slice(start, stop, limit, reverse))

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """One atomic batch; with `sync` it survives a power cut when this returns."""
        self._check()
        batch = tuple(rows)
        self._drive._write(self._name, self._volume, batch)
        if sync:
            self._drive._sync(self._name, self._volume, self._power)

    def close(self) -> None:
        """Give the volume back. Harmless twice, and after a power cut. Syncs nothing."""
        if not self._closed and self._volume.holder is self:
            self._volume.holder = None
        self._closed = True
