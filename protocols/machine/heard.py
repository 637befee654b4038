"""What a watcher remembers of what units state: enough to see that two statements disagree.

Bounded by unit and process, and in all. Proofs are cumulative, so what is forgotten shows again
in the unit's next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from protocols.ids import Address, NodeKey, ProcessId
from protocols.machine.audit import differ, last_slot
from protocols.parameters import Parameters
from protocols.wire.evidence import statement_id
from protocols.wire.proof import Statement, contradicts
from protocols.wire.vote import Vote

STATEMENTS_MAX = 16
"""Newest statements of one unit over one process."""
LINES_MAX = 4096
"""Pairs of unit and process."""
VOTES_MAX = 64
"""Newest votes of one account."""
VOTERS_MAX = 4096


class Heard:
    """Statements and votes of others."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._lines: OrderedDict[tuple[ProcessId, NodeKey], OrderedDict[bytes, Statement]]
        self._lines = OrderedDict()
        self._raw: dict[bytes, bytes] = {}
        self._unchecked: dict[ProcessId, dict[bytes, None]] = {}
        self._votes: OrderedDict[Address, OrderedDict[int, Vote]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._raw)

    def add(self, raw: bytes, statement: Statement) -> tuple[bool, bytes | None]:
        """Take in a statement: whether it is new, and another one of its unit that excludes it."""
        id = statement_id(raw)
        if id in self._raw:
            return False, None
        key = (statement.process, statement.cu)
        line = self._lines.setdefault(key, OrderedDict())
        self._lines.move_to_end(key)
        against = next((each for each, old in line.items() if contradicts(old, statement)), None)
        other = None if against is None else self._raw[against]
        line[id] = statement
        self._raw[id] = raw
        self._unchecked.setdefault(statement.process, {})[id] = None
        if len(line) > STATEMENTS_MAX:
            self._forget(line.popitem(last=False))
        if len(self._lines) > LINES_MAX:
            _, oldest = self._lines.popitem(last=False)
            for pair in oldest.items():
                self._forget(pair)
        return True, other

    def _forget(self, pair: tuple[bytes, Statement]) -> None:
        id, statement = pair
        del self._raw[id]
        self.checked(statement.process, id)

    def checked(self, process: ProcessId, id: bytes) -> None:
        """This statement has been compared with the own leaves."""
        waiting = self._unchecked.get(process, {})
        waiting.pop(id, None)
        if not waiting:
            self._unchecked.pop(process, None)

    def unchecked(self, process: ProcessId, last: int) -> list[tuple[bytes, bytes, Statement]]:
        """(id, encoded, decoded) of the statements up to slot `last` not compared yet."""
        waiting = self._unchecked.get(process)
        if not waiting:
            return []
        return [
            (id, self._raw[id], statement)
            for id, statement in self._of(process)
            if id in waiting and last_slot(statement) <= last
        ]

    def _of(self, process: ProcessId) -> Iterator[tuple[bytes, Statement]]:
        for (each, _), line in self._lines.items():
            if each == process:
                yield from line.items()

    def disagreement(self, statement: Statement) -> int | None:
        """The last slot to run to find out who is right, if a statement of another unit disagrees
        with this one."""
        for _, other in self._of(statement.process):
            if other.cu != statement.cu and differ(statement, other, self._parameters) is not None:
                return last_slot(statement)
        return None

    def vote(self, account: Address, vote: Vote) -> Vote | None:
        """Take in a vote; another one of the same account for the same tick that excludes it."""
        line = self._votes.setdefault(account, OrderedDict())
        self._votes.move_to_end(account)
        other = line.setdefault(vote.tick, vote)
        if len(line) > VOTES_MAX:
            del line[min(line)]
        if len(self._votes) > VOTERS_MAX:
            self._votes.popitem(last=False)
        return other if other.against(vote) else None
