"""One live process: runs slots, and goes back when a slot must leave no trace.

    run ok ----------------> journal grows; when it is long: new checkpoint
    trap, out of fuel,
    error, bad output -----> checkpoint put back, journal run again, new checkpoint

A checkpoint is a `Shadow`; the journal holds the calls committed since. After every step back a
new checkpoint is taken, so a row of errors costs no replay, and each good slot is replayed at
most once. Memory cannot shrink: if the slot grew it, a fresh instance takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

import wasmtime

from aonode.engine import witness
from aonode.engine.calls import Trapped
from aonode.engine.config import require_stack
from aonode.engine.instance import Instance
from aonode.engine.shadow import Shadow
from aonode.ports import SlotResult
from protocols.errors import Invalid, Reason
from protocols.wire.evidence import Witness
from protocols.wire.outcome import Status

JOURNAL_CALLS_MAX = 64
"""Calls between two checkpoints."""
JOURNAL_BYTES_MAX = 1 << 20
"""Bytes of those calls, together."""
CALM_SLOTS = 256
"""While a slot failed less than this many slots ago, every state root takes a checkpoint too: going
back is then likely, and should replay little."""


class Unreadable(Exception):
    """The call returned, and what it returned cannot be used; `status` says how."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class Guest(Protocol):
    """A convention's view of one instance."""

    instance: Instance

    def initialize(self) -> None:
        """Run the constructors, once per process. Raises Trapped."""

    def call(self, message: bytes) -> bytes:
        """Evaluate one message; its output. Raises Trapped or Unreadable."""

    def settle(self) -> None:
        """Bring what is dead (a stack between messages) into its canonical form."""


class WasmSession:
    """`aonode.ports.Session` over any guest."""

    def __init__(
        self,
        make: Callable[[], Guest],
        shadow: Shadow,
        classify: Callable[[bytes], Status],
        fuel_max: int,
        restored: Witness | None = None,
    ) -> None:
        """`make` instantiates, without running constructors. With `restored`, which can be a state
        of the module, they do not run at all: the session goes on from that state."""
        require_stack()
        self._make = make
        self._classify = classify
        self._fuel_max = fuel_max
        self._shadow = shadow
        self._lost = ""
        self._guest = make()
        if restored is None:
            self._construct()
        else:
            self._restore(restored)
        self._guest.settle()
        self._journal: list[bytes] = []
        self._journal_bytes = 0
        self._journal_fuel = 0
        self._calm = CALM_SLOTS
        """Slots since one failed."""
        shadow.take(self._guest.instance)

    def _construct(self) -> None:
        self._guest.instance.set_fuel(self._fuel_max)
        try:
            self._guest.initialize()
        except Trapped as trap:
            machine = self._blames_machine(trap)
            raise Invalid(
                Reason.REFUSED if machine else Reason.FORBIDDEN_MODULE,
                f"the module's constructors end in a trap: {trap}",
            ) from None

    def _restore(self, state: Witness) -> None:
        instance = self._guest.instance
        try:
            witness.put(instance, state, self._shadow.image_pages)
        except wasmtime.WasmtimeError as error:
            instance.close()
            raise Invalid(Reason.REFUSED, f"no memory to restore a state: {error}") from None
        except Invalid:
            instance.close()
            raise

    def run_slot(self, call: bytes) -> SlotResult:
        """Evaluate one message and commit it, or leave the state as it was."""
        result = self._evaluate(call)
        if result.status == Status.OK:
            self._commit(call, result.fuel)
        else:
            self._step_back()
            self._calm = 0
        return result

    def dry_run(self, call: bytes) -> SlotResult:
        """Evaluate one message and leave the state as it was."""
        self._require_alive()
        if self._journal:
            self._checkpoint()
        result = self._evaluate(call)
        self._step_back()
        return result

    def state_root(self) -> bytes:
        """Root after the last slot."""
        self._require_alive()
        if self._journal and self._calm < CALM_SLOTS:
            self._checkpoint()
        return self._shadow.root(self._guest.instance)

    def memory(self) -> bytes:
        """Linear memory after the last slot."""
        self._require_alive()
        instance = self._guest.instance
        return bytes(instance.view[: instance.size()])

    def witness(self, bytes_max: int) -> Witness:
        """The state after the last slot, for others to start from."""
        self._require_alive()
        shadow = self._shadow
        return witness.take(self._guest.instance, shadow.mutable, shadow.image_pages, bytes_max)

    def close(self) -> None:
        """Free the instance. Whatever is asked of the session afterwards is REFUSED."""
        self._lost = "this session is closed; open the process again"
        self._guest.instance.close()

    def _evaluate(self, call: bytes) -> SlotResult:
        """Run, and judge what came out; the state may have changed whatever the status."""
        self._require_alive()
        require_stack()
        guest = self._guest
        guest.instance.set_fuel(self._fuel_max)
        raw, unreadable = b"", None
        try:
            raw = guest.call(call)
        except Trapped as trap:
            return self._trapped(trap)
        except Unreadable as bad:
            unreadable = bad.status
        left = guest.instance.fuel()
        if left < 0:
            return self._spent()
        fuel = self._fuel_max - left
        status = self._classify(raw) if unreadable is None else unreadable
        return SlotResult(status, raw if status in (Status.OK, Status.ERROR) else b"", fuel)

    def _trapped(self, trap: Trapped) -> SlotResult:
        """A trap costs the full limit: where exactly it struck shall not matter."""
        if self._blames_machine(trap):
            self._step_back()
            raise Invalid(
                Reason.REFUSED,
                "the slot ran out of what this machine gives it (native stack, or memory below "
                f"the process's limit); free memory, or take a snapshot beyond it: {trap}",
            )
        if self._guest.instance.fuel() < 0:
            return self._spent()
        return SlotResult(Status.TRAP, b"", self._fuel_max)

    def _spent(self) -> SlotResult:
        return SlotResult(Status.OUT_OF_FUEL, b"", self._fuel_max)

    def _blames_machine(self, trap: Trapped) -> bool:
        return trap.machine or self._guest.instance.was_refused()

    def _commit(self, call: bytes, fuel: int) -> None:
        self._guest.settle()
        self._calm += 1
        self._journal.append(call)
        self._journal_bytes += len(call)
        self._journal_fuel += fuel
        if (
            len(self._journal) >= JOURNAL_CALLS_MAX
            or self._journal_bytes > JOURNAL_BYTES_MAX
            or self._journal_fuel > self._fuel_max
        ):
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._shadow.take(self._guest.instance)
        self._journal.clear()
        self._journal_bytes = self._journal_fuel = 0

    def _step_back(self) -> None:
        """To the state before the last evaluation: the checkpoint, then the journal again."""
        if self._guest.instance.size() == self._shadow.size:
            self._guest.settle()
            self._shadow.put_back(self._guest.instance, fresh=False)
        else:
            self._replace_instance()
        if not self._journal:
            return
        for call in self._journal:
            self._replay(call)
        self._checkpoint()

    def _replay(self, call: bytes) -> None:
        """Run a committed call again. It ends as before, unless the machine has less to give."""
        self._guest.instance.set_fuel(self._fuel_max)
        try:
            self._guest.call(call)
        except Trapped as trap:
            if not self._blames_machine(trap):
                raise AssertionError(f"a replayed slot ended otherwise: {trap}") from trap
            self._give_up(f"a slot that ran before does not run again: {trap}")
        self._guest.settle()

    def _replace_instance(self) -> None:
        """Memory cannot shrink: put the checkpoint into a fresh instance."""
        self._guest.instance.close()
        try:
            self._guest = self._make()
            self._shadow.put_back(self._guest.instance, fresh=True)
        except (Invalid, wasmtime.WasmtimeError) as error:
            self._give_up(f"no memory to put the state back: {error}")

    def _give_up(self, why: str) -> NoReturn:
        """The instance no longer holds the state. Raises Invalid(REFUSED), now and from now on."""
        self.close()
        self._lost = f"this session has ended ({why}); free memory and open the process again"
        raise Invalid(Reason.REFUSED, self._lost)

    def _require_alive(self) -> None:
        if self._lost:
            raise Invalid(Reason.REFUSED, self._lost)
