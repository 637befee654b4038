"""One live process: runs slots, and goes back when a slot must leave no trace.

    run ok ----------------> journal grows; at a border or when it is long: new checkpoint
    trap, out of fuel,
    error, bad output -----> checkpoint put back, journal run again, new checkpoint

A checkpoint is a `Shadow`; the journal holds the calls committed since. After every step back a
new checkpoint is taken, so a row of errors costs no replay, and each good slot is replayed at
most once. Memory cannot shrink: if the slot grew it, a fresh instance takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import wasmtime

from aonode.engine.calls import Trapped
from aonode.engine.config import require_stack
from aonode.engine.instance import Instance
from aonode.engine.shadow import Shadow
from aonode.ports import SlotResult
from protocols.errors import Invalid, Reason
from protocols.wire.outcome import Status

JOURNAL_CALLS_MAX = 64
"""Calls between two checkpoints, if no state root is asked for before."""
JOURNAL_BYTES_MAX = 1 << 20
"""Bytes of those calls, together."""


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
    ) -> None:
        """`make` instantiates, without running constructors."""
        require_stack()
        self._make = make
        self._classify = classify
        self._fuel_max = fuel_max
        self._shadow = shadow
        self._guest = make()
        self._guest.instance.context.set_fuel(fuel_max)
        try:
            self._guest.initialize()
        except Trapped as trap:
            raise Invalid(
                self._genesis_reason(trap), f"the module's constructors end in a trap: {trap}"
            ) from None
        self._guest.settle()
        self._journal: list[bytes] = []
        self._journal_bytes = 0
        self._journal_fuel = 0
        shadow.take(self._guest.instance)

    def run_slot(self, call: bytes) -> SlotResult:
        """Evaluate one message and commit it, or leave the state as it was."""
        result = self._evaluate(call)
        if result.status == Status.OK:
            self._commit(call, result.fuel)
        else:
            self._step_back()
        return result

    def dry_run(self, call: bytes) -> SlotResult:
        """Evaluate one message and leave the state as it was."""
        if self._journal:
            self._checkpoint()
        result = self._evaluate(call)
        self._step_back()
        return result

    def state_root(self) -> bytes:
        """Root after the last slot."""
        if self._journal:
            self._checkpoint()
        return self._shadow.root()

    def memory(self) -> bytes:
        """Linear memory after the last slot."""
        instance = self._guest.instance
        return bytes(instance.view[: instance.size()])

    def close(self) -> None:
        """Free the instance. The session cannot be used afterwards."""
        self._guest.instance.close()

    def _evaluate(self, call: bytes) -> SlotResult:
        """Run, and judge what came out; the state may have changed whatever the status."""
        require_stack()
        guest = self._guest
        context = guest.instance.context
        context.set_fuel(self._fuel_max)
        try:
            raw = guest.call(call)
        except Trapped as trap:
            return self._trapped(trap)
        except Unreadable as bad:
            return SlotResult(bad.status, b"", self._fuel_max - context.fuel())
        fuel = self._fuel_max - context.fuel()
        status = self._classify(raw)
        return SlotResult(status, raw if status in (Status.OK, Status.ERROR) else b"", fuel)

    def _trapped(self, trap: Trapped) -> SlotResult:
        """The counter cannot be read reliably after a trap: it counts the full limit."""
        if trap.code is wasmtime.TrapCode.STACK_OVERFLOW:
            self._step_back()
            raise Invalid(
                Reason.REFUSED, "the native stack overflowed, at a depth that depends on the build"
            )
        if self._guest.instance.was_refused():
            self._step_back()
            raise Invalid(
                Reason.REFUSED,
                "the machine denied memory below the process's limit; free memory and try again",
            )
        spent = trap.code is wasmtime.TrapCode.OUT_OF_FUEL
        return SlotResult(Status.OUT_OF_FUEL if spent else Status.TRAP, b"", self._fuel_max)

    def _genesis_reason(self, trap: Trapped) -> Reason:
        machine = trap.code is wasmtime.TrapCode.STACK_OVERFLOW
        if machine or self._guest.instance.was_refused():
            return Reason.REFUSED
        return Reason.FORBIDDEN_MODULE

    def _commit(self, call: bytes, fuel: int) -> None:
        self._guest.settle()
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
            self._guest.instance.context.set_fuel(self._fuel_max)
            try:
                self._guest.call(call)
            except (Trapped, Unreadable) as error:
                raise AssertionError(f"a replayed slot ended otherwise: {error}") from error
            self._guest.settle()
        self._checkpoint()

    def _replace_instance(self) -> None:
        self._guest.instance.close()
        self._guest = self._make()
        try:
            self._shadow.put_back(self._guest.instance, fresh=True)
        except wasmtime.WasmtimeError as error:
            raise Invalid(
                Reason.REFUSED, f"no memory to put the state back: {error}; free some and restart"
            ) from None
