"""A replica among liars holds a prefix of the true log at all times, and in the end all of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols import keyspace
from protocols.ids import ProcessId
from protocols.keyspace import Prefix
from protocols.machine.effects import (
    Alarm,
    Answered,
    Event,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.events import Extended, LogArrived, SlotsArrived
from protocols.machine.replica import Replica
from protocols.machine.rows import slot_of_row
from protocols.wire.assignment import Chain, Slot
from protocols.wire.process import process_info
from protocols.wire.streams import Head, Heads, LogRequest
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import notices, only
from tests.protocols.machine.world import (
    Disk,
    Key,
    chain_of,
    log,
    message_item,
    process_item,
    verified,
)

SU, USER, ME = Key.of("scheduler"), Key.of("user"), Key.of("me")
HONEST, LIAR = Key.of("honest peer").public, Key.of("liar").public
PEERS = tuple(sorted((HONEST, LIAR, SU.public)))


def _log(number: int, count: int) -> list[Slot]:
    process = process_item(USER, SU, anchor=number)
    return log(
        SU, [process, *(message_item(USER, process.id, anchor=each) for each in range(count))]
    )


LOGS = [_log(number, count) for number, count in enumerate((12, 5, 1))]
TRUE = {slots[0].process: slots for slots in LOGS}
FORGED = {process: log(USER, [slot.message for slot in slots]) for process, slots in TRUE.items()}
LIES = ["nothing", "silence", "forged", "skips", "other log", "bad bytes"]


class ReplicaLife(RuleBasedStateMachine):
    """Gossip in any order, with losses; answers true, false or missing; crashes."""

    @initialize()
    def begin(self) -> None:
        self.disk = Disk()
        self.now = 0
        self.sends: list[Send] = []
        self.boot()

    def boot(self) -> None:
        self.sends.clear()
        self.timers: dict[object, int] = {}
        self.machine = Replica(key=ME.public)
        rows = self.disk.scan(Table.LOG, *keyspace.prefix_range(Prefix.HEAD))
        chains = [Chain.decode(row) for _, row in rows]
        self.machine.recover(
            (chain, process_info(self.held(chain.process)[0].message)) for chain in chains
        )
        self.on(Started(PEERS))

    def held(self, process: ProcessId) -> list[Slot]:
        start, stop = keyspace.process_range(Prefix.SLOT, process)
        rows = self.disk.scan(Table.LOG, start, stop)
        return [slot_of_row(row, item_bytes_max=1 << 20) for _, row in rows]

    def on(self, event: Event, *, lost: bool = False) -> None:
        self.now += 1
        effects = self.machine.on(event, self.now)
        if lost:
            self.boot()
            return
        self.disk.write(effects)
        self.sends += only(effects, Send)
        for timer in only(effects, SetTimer):
            self.timers[timer.key] = timer.at_ms
        for extended in notices(effects, Extended):
            true = TRUE[extended.process]
            first = extended.slots[0].nonce
            assert list(extended.slots) == true[first : first + len(extended.slots)]
            assert extended.heads[-1] == chain_of(true[: first + len(extended.slots)]).head
        for alarm in only(effects, Alarm):
            assert b"fork" not in alarm.reason.encode(), "nobody forked"

    @rule(
        picks=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=6),
        sender=st.sampled_from([SU.public, HONEST]),
        lost=st.integers(0, 9),
    )
    def gossip(self, picks: list[tuple[int, int]], sender: bytes, lost: int) -> None:
        slots = [LOGS[number][nonce % len(LOGS[number])] for number, nonce in picks]
        self.on(SlotsArrived(verified(slots), sender), lost=lost == 0)  # type: ignore[arg-type]

    @rule(number=st.integers(0, 2), nonce=st.integers(0, 12))
    def forged_gossip(self, number: int, nonce: int) -> None:
        """A stranger signs slots of another's log, also before slot 0 is known here."""
        slots = FORGED[LOGS[number][0].process]
        self.on(SlotsArrived(verified([slots[nonce % len(slots)]]), LIAR))

    @rule(liar=st.booleans(), more=st.integers(0, 1 << 40))
    def heads(self, liar: bool, more: int) -> None:
        claimed = [
            Head(process, len(slots) - 1 + (more if liar else 0), chain_of(slots).head)
            for process, slots in TRUE.items()
        ]
        peer = LIAR if liar else HONEST
        self.on(Answered(("heads",), peer, (Heads(tuple(claimed)).encode(),)))

    @rule(lie=st.sampled_from(LIES), page=st.integers(1, 4))
    def answer(self, lie: str, page: int) -> None:
        if self.sends:
            self._answer(self.sends.pop(0), lie, page)

    def _answer(self, send: Send, lie: str, page: int) -> None:
        if send.protocol is Protocol.HEADS:
            self.on(Answered(send.tag, send.peer, None))
            return
        request = LogRequest.decode(send.body)
        process = request.process
        slots = TRUE[process][request.first : request.last + 1][:page]
        if send.peer != LIAR:
            self.on(LogArrived(process, verified(slots), send.peer, send.tag))
            return
        others = {
            "nothing": [],
            "forged": FORGED[process][request.first : request.last + 1],
            "skips": TRUE[process][request.first + 1 : request.last + 2],
            "other log": next(each for each in LOGS if each[0].process != process),
        }
        found = None if lie in ("silence", "bad bytes") else verified(others[lie])
        wrong = "bytes that do not decode" if lie == "bad bytes" else ""
        self.on(LogArrived(process, found, send.peer, send.tag, wrong))

    @rule()
    def time_passes(self) -> None:
        if self.timers:
            key, at = min(self.timers.items(), key=lambda pair: pair[1])
            del self.timers[key]
            self.now = max(self.now, at)
            self.on(TimerFired(key))  # type: ignore[arg-type]

    @invariant()
    def the_disk_holds_a_prefix(self) -> None:
        for process, slots in TRUE.items() if hasattr(self, "disk") else ():
            held = self.held(process)
            assert held == slots[: len(held)]

    def teardown(self) -> None:
        """Liars or not: with one honest peer answering, everything arrives."""
        for _ in range(400):
            if not hasattr(self, "disk") or all(
                self.held(process) == slots for process, slots in TRUE.items()
            ):
                return
            self.heads(False, 0)
            while self.sends:
                self._answer(self.sends.pop(0), "silence", 4)
            self.time_passes()
        raise AssertionError(f"not caught up: {self.machine.status()}")


TestReplicaLife = pytest.mark.slow(ReplicaLife.TestCase)
TestReplicaLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
