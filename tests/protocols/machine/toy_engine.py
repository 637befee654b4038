"""A deterministic engine without wasm: what a slot gives depends on the log before it only."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.codec import digest
from protocols.machine.events import ExecutedSlot
from protocols.machine.results import executed_slot
from protocols.outbox import Bounds
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status

FORMAT = "wasm64-unknown-emscripten-draft_2024_02_15"
BOUNDS = Bounds(output_bytes_max=1 << 20, outbox_max=256)
FUEL_MAX = 5_000_000_000
RAWS = (
    b'{"ok":true,"response":{"Output":"done","Messages":[{"Target":"t","Tags":[],"Data":"d"}]}}',
    b'{"ok":true,"response":{"Output":{"data":"2"}}}',
    b'{"ok":true,"response":{"Error":"boom"}}',
    b'{"ok":true,"response":{"Messages":[1]}}',
    b'{"ok":true',
)


class ToyEngine:
    """One process, from genesis on. `flaw` makes it an engine of another mind from a slot on."""

    def __init__(self, root_every: int, flaw: int | None = None) -> None:
        self._root_every = root_every
        self._flaw = flaw
        self._state = bytes(32)
        self.next = 0

    def restart(self) -> None:
        """From genesis again."""
        self._state = bytes(32)
        self.next = 0

    def run(self, slots: Sequence[Slot]) -> tuple[ExecutedSlot, ...]:
        """Evaluate the next slots."""
        return tuple(self._slot(slot) for slot in slots)

    def _slot(self, slot: Slot) -> ExecutedSlot:
        assert slot.nonce == self.next, f"slot {slot.nonce} run, slot {self.next} comes first"
        self.next += 1
        mind = self._flaw is not None and slot.nonce >= self._flaw
        chance = digest("toy", slot.assignment.id, mind)
        status = Status.OK
        raw = RAWS[chance[0] % len(RAWS)]
        fuel = 1000 * chance[1]
        if chance[2] < 64:
            status = (Status.TRAP, Status.OUT_OF_FUEL, Status.TOO_LARGE)[chance[2] % 3]
            raw = b""
            fuel = FUEL_MAX
        else:
            self._state = digest("toy-state", self._state, slot.assignment.id, mind)
        border = (slot.nonce + 1) % self._root_every == 0
        root = self._state if border else None
        return executed_slot(slot, FORMAT, int(status), raw, fuel=fuel, root=root, bounds=BOUNDS)
