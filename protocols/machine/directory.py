"""What a messenger knows of the network: processes, where their logs stand, scheduler keys.

Part of `delivery`. Memory grows with the number of processes in the log, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols.errors import Invalid, Reason
from protocols.ids import Address, NodeKey, ProcessId, address_of, b64url
from protocols.machine.events import Extended
from protocols.machine.recent import Recent
from protocols.network import Parameters, Unit
from protocols.wire.assignment import Chain
from protocols.wire.item import Item
from protocols.wire.process import ProcessInfo, admissible, process_info

SCHEDULERS_MAX = 4096


@dataclass(slots=True)
class Known:
    """A process whose slot 0 this node has."""

    info: ProcessInfo
    nonce: int
    """Of the last slot of its log here."""


class Directory:
    """Fed by the network file, by announcements, and by the log."""

    def __init__(self, *, parameters: Parameters, units: Sequence[Unit]) -> None:
        self._parameters = parameters
        self._schedulers: Recent[Address, NodeKey] = Recent(SCHEDULERS_MAX)
        self._logs: dict[ProcessId, Known] = {}
        for unit in units:
            if "scheduler" in unit.roles:
                self._schedulers.put(unit.address, unit.key)

    def recover(self, logs: Iterable[tuple[Chain, ProcessInfo]]) -> None:
        """Take up the durable logs."""
        for chain, info in logs:
            self._logs[info.id] = Known(info, chain.nonce)

    def extend(self, event: Extended) -> Known:
        """A log has grown, or begun."""
        first, last = event.slots[0], event.slots[-1]
        owner = first.assignment.item
        self._schedulers.put(owner.owner_address, NodeKey(owner.owner))
        known = self._logs.get(event.process)
        if known is None:
            known = self._logs[event.process] = Known(process_info(first.message), last.nonce)
        known.nonce = last.nonce
        return known

    def add_scheduler(self, key: NodeKey) -> None:
        """A scheduler has announced itself."""
        self._schedulers.put(address_of(key), key)

    def scheduler_key(self, address: Address) -> NodeKey | None:
        """The key behind a scheduler's address, if known."""
        return self._schedulers.get(address)

    def known(self, process: ProcessId) -> Known | None:
        """A process, if its slot 0 is here."""
        return self._logs.get(process)

    def process_for(self, item: Item) -> ProcessInfo | None:
        """The process an item goes to, or (a process item) is; None if it is not known here.

        Raises Invalid if the item is not admissible there.
        """
        if item.first("Type") == "Process":
            admissible(item, None, self._parameters)
            return process_info(item)
        if item.target is None:
            raise Invalid(Reason.INADMISSIBLE, f"message {b64url(item.id)} has no target")
        known = self._logs.get(ProcessId(item.target))
        if known is None:
            return None
        admissible(item, known.info, self._parameters)
        return known.info

    def check_scheduler(self, info: ProcessInfo) -> None:
        """Raise Invalid(UNKNOWN_SCHEDULER) for a new process that nobody here would schedule."""
        if info.id not in self._logs and self._schedulers.get(info.scheduler) is None:
            raise Invalid(
                Reason.UNKNOWN_SCHEDULER,
                f"no scheduler {b64url(info.scheduler)} is known in this network; name one that "
                "is announced",
            )
