"""A unit that seals: whatever it loses of its disk, it never contradicts what peers hold of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocols import keyspace
from protocols.errors import Reason
from protocols.ids import ProcessId
from protocols.keyspace import Prefix
from protocols.machine.effects import (
    Alarm,
    Effect,
    Execute,
    Notify,
    Persist,
    Publish,
    Send,
    SetTimer,
    Started,
    Table,
    TimerFired,
)
from protocols.machine.evaluation import Evaluation
from protocols.machine.events import (
    Evaluated,
    Executed,
    ExecutionRefused,
    PeersChanged,
    ProofsArrived,
)
from protocols.machine.proving import TIMER as INTERIM
from protocols.machine.recall import TAG, TIMER, WINDOW_MS
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot
from protocols.wire.proof import Receipt, Statement, StateProof, contradicts
from protocols.wire.proof_streams import ProofsRequest
from protocols.wire.topics import Protocol, Topic
from tests.protocols.machine.test_evaluation import (
    CU,
    NETWORK,
    PROFILE,
    SCHEDULER,
    SMALL,
    USER,
    expected,
    extended,
    of,
    results,
    rows,
    sample,
)
from tests.protocols.machine.toy_engine import ToyEngine
from tests.protocols.machine.world import Disk, Key, message_item, next_slot, process_item

LEDGER = ProcessId(b"L" * 32)
PEER, OTHER = Key.of("peer").public, Key.of("other").public
SLOTS = sample(13)
PROCESS = SLOTS[0].process


def machine() -> Evaluation:
    return Evaluation(
        network=NETWORK,
        parameters=SMALL,
        profile=PROFILE,
        key=CU.public,
        sign=CU.sign,
        ledger=LEDGER,
    )


def recovered(disk: Disk, logs: Sequence[Sequence[Slot]]) -> Evaluation:
    """As the adapter does it."""
    unit = machine()
    for slots in logs:
        process = slots[0].process
        unit.recover(
            process,
            tip=slots[-1].nonce,
            leaves=rows(disk, Table.LOG, Prefix.LEAF, process),
            receipts=rows(disk, Table.SIGN_ONCE, Prefix.RECEIPT, process),
            proofs=rows(disk, Table.SIGN_ONCE, Prefix.PROOF, process),
        )
    return unit


def started(unit: Evaluation, held: Sequence[StateProof] | None) -> list[Effect]:
    """What a start gives when the only peer holds these proofs; None: there is no peer."""
    peers = () if held is None else (PEER,)
    asked = unit.on(Started(peers), 0)
    assert asked[0] == SetTimer(TIMER, WINDOW_MS)
    if held is not None:
        body = ProofsRequest(None, CU.public, 0, False).encode()
        assert of(Send, asked) == [Send(PEER, Protocol.PROOFS, body, TAG, 4_000)]
        proofs = tuple(Verified(proof) for proof in held)
        assert unit.on(ProofsArrived(PEER, proofs, (), TAG), 0) == []
    return unit.on(TimerFired(TIMER), WINDOW_MS)


def drive(unit: Evaluation, engine: ToyEngine, effects: Sequence[Effect]) -> list[Effect]:
    """Run every Execute and what follows; all effects there were."""
    out = list(effects)
    for effect in out:
        if isinstance(effect, Execute):
            if effect.first == 0:
                engine.restart()
            ran = engine.run(SLOTS[effect.first : effect.last + 1])
            out += unit.on(Executed(effect.process, ran), 0)
    return out


def published(effects: Sequence[Effect]) -> list[StateProof]:
    return [
        StateProof.decode(effect.entry)
        for effect in of(Publish, effects)
        if effect.topic is Topic.PROOFS
    ]


def signed(effects: Sequence[Effect]) -> list[Persist]:
    return [effect for effect in of(Persist, effects) if effect.table is Table.SIGN_ONCE]


def evaluated() -> tuple[Disk, list[StateProof]]:
    """The disk of a unit that has evaluated the whole log, and what it has published."""
    unit, disk = machine(), Disk()
    started(unit, None)
    effects = drive(unit, ToyEngine(2), unit.on(extended(SLOTS), 0))
    effects += unit.on(TimerFired((INTERIM, PROCESS)), 0)
    disk.write(effects)
    return disk, published(effects)


def test_nothing_is_run_before_peers_were_asked() -> None:
    unit = machine()
    assert len(of(Send, unit.on(Started((PEER,)), 0))) == 1
    assert unit.on(extended(SLOTS), 0) == []
    assert unit.on(PeersChanged((OTHER, PEER, CU.public)), 0)[0].peer == OTHER  # type: ignore[union-attr]
    assert unit.on(TimerFired(TIMER), WINDOW_MS) == [], "two have not answered yet"
    assert unit.status()["recall"] == {"decided": False, "answers": 0, "processes_behind": 0}
    assert unit.on(ProofsArrived(PEER, (), (), TAG), 0) == []
    assert unit.on(ProofsArrived(OTHER, None, (), TAG), 0) == [Execute(PROCESS, 0, 0)]
    assert unit.status()["recall"]["decided"]


def test_the_ledger_is_not_evaluated() -> None:
    unit = Evaluation(
        network=NETWORK, parameters=SMALL, profile=PROFILE, key=CU.public, sign=CU.sign,
        ledger=PROCESS,
    )  # fmt: skip
    started(unit, None)
    assert unit.on(extended(SLOTS), 0) == []


def test_without_a_ledger_nothing_is_sealed_and_nobody_asked() -> None:
    unit = Evaluation(
        network=NETWORK, parameters=SMALL, profile=PROFILE, key=CU.public, sign=CU.sign
    )
    assert unit.on(Started((PEER,)), 0) == []
    effects = drive(unit, ToyEngine(2), unit.on(extended(SLOTS), 0))
    assert published(effects) == []
    assert of(SetTimer, effects) == []


def test_receipts_are_gathered_in_proofs() -> None:
    disk, proofs = evaluated()
    assert [(proof.first, proof.last) for proof in proofs] == [(0, 11), (12, 13)]
    stored = rows(disk, Table.SIGN_ONCE, Prefix.PROOF, PROCESS)
    assert sorted(stored) == sorted(proof.encode() for proof in proofs)
    made = [result.receipt for result in results(disk, PROCESS)]
    for proof in proofs:
        proof.check(SMALL)
        assert (proof.head, proof.mmr_root) == (made[proof.last].head, made[proof.last].mmr_root)
        assert proof.fuel == sum(r.leaf.fuel for r in made[proof.first : proof.last + 1])


def test_the_newest_is_published_again() -> None:
    disk, proofs = evaluated()
    unit = recovered(disk, [SLOTS])
    effects = drive(unit, ToyEngine(2), started(unit, None))
    assert published(effects) == proofs[-1:]
    assert signed(effects) == []


@pytest.mark.parametrize("table", ["lost", "old", "without proofs"])
def test_an_old_table_waits_until_it_has_caught_up(table: str) -> None:
    """Everything of the table that peers can know of comes back before anything is signed."""
    full, proofs = evaluated()
    disk = Disk()
    if table == "old":
        part = {
            k: v for k, v in full.tables[Table.SIGN_ONCE].items() if k[33:41] < b"\0" * 7 + b"\5"
        }
        disk.tables[Table.SIGN_ONCE] = part
    if table == "without proofs":
        disk.tables[Table.LOG] = dict(full.tables[Table.LOG])
    unit = recovered(disk, [SLOTS])
    engine = ToyEngine(2)
    effects = started(unit, proofs)
    assert unit.status()["recall"]["processes_behind"] == 1
    for effect in effects:
        if not isinstance(effect, Execute):
            continue
        if effect.first == 0:
            engine.restart()
        ran = engine.run(SLOTS[effect.first : effect.last + 1])
        behind = unit.status()["recall"]["processes_behind"]
        answer = unit.on(Executed(effect.process, ran), 0)
        if behind:
            held = {proof.encode() for proof in proofs}
            assert {row.value for row in signed(answer)} <= held, "what it signed itself before"
            assert of(Notify, answer) == []
            assert unit.on(TimerFired((INTERIM, PROCESS)), 0) == []
        disk.write(answer)
        effects += answer
    assert unit.status()["recall"]["processes_behind"] == 0
    assert results(disk, PROCESS) == expected(SLOTS)
    assert (
        disk.tables[Table.SIGN_ONCE].items()
        >= {
            keyspace.proof_key(PROCESS, p.last, p.head, PROFILE): p.encode() for p in proofs
        }.items()
    )
    assert of(Alarm, effects) == []


def test_an_old_table_and_another_engine_sign_nothing() -> None:
    _, proofs = evaluated()
    unit = recovered(Disk(), [SLOTS])
    effects = drive(unit, ToyEngine(2, flaw=5), started(unit, proofs[-1:]))
    assert signed(effects) == []
    assert [alarm.reason for alarm in of(Alarm, effects)] == [Reason.MISMATCH]
    assert "has signed another state" in unit.stopped(PROCESS)


def test_a_copy_of_the_key_is_noticed() -> None:
    disk, proofs = evaluated()
    draft = StateProof.decode(proofs[-1].encode()).signed(b"")
    forged = StateProof(
        **{**{f: getattr(draft, f) for f in draft.__slots__}, "mmr_root": bytes(32)}
    )
    unit = recovered(disk, [SLOTS])
    effects = started(unit, [forged.signed(CU.sign(forged.signing_bytes()))])
    assert [alarm.reason for alarm in of(Alarm, effects)] == [Reason.MISMATCH]
    assert of(Execute, effects) == []


def test_what_others_signed_is_no_claim() -> None:
    _, proofs = evaluated()
    other = Key.of("other")
    foreign = StateProof(
        **{**{f: getattr(proofs[0], f) for f in proofs[0].__slots__}, "cu": other.public}
    )
    unit = recovered(Disk(), [SLOTS])
    started(unit, [foreign.signed(other.sign(foreign.signing_bytes()))])
    assert unit.status()["recall"]["processes_behind"] == 0


def test_a_log_that_is_not_here_yet_is_waited_for() -> None:
    _, proofs = evaluated()
    unit = machine()
    assert of(Execute, started(unit, proofs)) == []
    assert unit.status()["recall"]["processes_behind"] == 1
    disk, engine = Disk(), ToyEngine(2)
    disk.write(drive(unit, engine, unit.on(extended(SLOTS[:7]), 0)))
    assert rows(disk, Table.SIGN_ONCE, Prefix.RECEIPT, PROCESS) == []
    disk.write(drive(unit, engine, unit.on(extended(SLOTS[7:]), 0)))
    assert results(disk, PROCESS) == expected(SLOTS)


class Losses(RuleBasedStateMachine):
    """Two logs, crashes between any two writes, and disks put back from copies.

    An honest peer hears everything that is published, and says so at every start.
    """

    @initialize()
    def start(self) -> None:
        self.disk = Disk()
        self.copies = [Disk()]
        self.logs: dict[ProcessId, list[Slot]] = {}
        self.chains: dict[ProcessId, Chain] = {}
        for number in range(2):
            item = process_item(USER, SCHEDULER, anchor=number)
            process = ProcessId(item.id)
            chain = Chain.genesis(process)
            slot = next_slot(SCHEDULER, chain, item, 0)
            self.logs[process] = [slot]
            self.chains[process] = chain.next(slot)
        self.anchors = 100
        self.statements: dict[bytes, Statement] = {}
        self.heard: dict[bytes, StateProof] = {}
        self.restart()

    def restart(self) -> None:
        self.engines = {process: ToyEngine(SMALL.root_every) for process in self.logs}
        self.runs: dict[ProcessId, Execute] = {}
        self.unit = recovered(self.disk, list(self.logs.values()))
        self.release(started(self.unit, list(self.heard.values())))

    def release(self, effects: Sequence[Effect], tables: int = len(Table)) -> None:
        """Commit the first `tables` tables; if those are all, let the other effects out."""
        for table in list(Table)[:tables]:
            group = [effect for effect in of(Persist, effects) if effect.table is table]
            for row in group if table is Table.SIGN_ONCE else ():
                assert row.key not in self.disk.tables[table], "signed twice"
                kind = Receipt if row.key[0] == Prefix.RECEIPT else StateProof
                self.statements[row.value] = kind.decode(row.value)
            self.disk.write(group)
        if tables < len(Table):
            self.restart()
            return
        for effect in effects:
            match effect:
                case Execute(process=process, first=first):
                    assert process not in self.runs, "two runs of one process"
                    self.runs[process] = effect
                    if first == 0:
                        self.engines[process].restart()
                case Publish(entry=entry):
                    assert entry in self.disk.tables[Table.SIGN_ONCE].values()
                    self.heard[entry] = StateProof.decode(entry)
                case Notify(event=Evaluated(process=process, last=last)):
                    assert len(results(self.disk, process)) > last
                case Alarm():
                    raise AssertionError(f"an honest unit has stopped: {effect}")

    def pick(self, index: int) -> ProcessId:
        return list(self.logs)[index % len(self.logs)]

    @rule(index=st.integers(0, 1), count=st.integers(1, 9))
    def extend(self, index: int, count: int) -> None:
        process = self.pick(index)
        added = []
        for _ in range(count):
            self.anchors += 1
            message = message_item(USER, process, anchor=self.anchors)
            added.append(next_slot(SCHEDULER, self.chains[process], message, 0))
            self.chains[process] = self.chains[process].next(added[-1])
        self.logs[process] += added
        self.release(self.unit.on(extended(added), 0))

    @precondition(lambda self: self.runs)
    @rule(index=st.integers(0, 1), take=st.integers(1, 8), tables=st.integers(0, 9))
    def execute(self, index: int, take: int, tables: int) -> None:
        process = list(self.runs)[index % len(self.runs)]
        run = self.runs.pop(process)
        last = min(run.last, run.first + take - 1)
        ran = self.engines[process].run(self.logs[process][run.first : last + 1])
        self.release(self.unit.on(Executed(process, ran), 0), min(tables, len(Table)))

    @rule(index=st.integers(0, 1), tables=st.integers(0, 9))
    def interim(self, index: int, tables: int) -> None:
        effects = self.unit.on(TimerFired((INTERIM, self.pick(index))), 0)
        self.release(effects, min(tables, len(Table)))

    @rule()
    def copy(self) -> None:
        self.copies.append(copy.deepcopy(self.disk))

    @rule(index=st.integers(0, 9), table=st.booleans(), log=st.booleans())
    def put_back(self, index: int, table: bool, log: bool) -> None:
        """The sign-once table, the database, or both are from an old copy, perhaps empty."""
        old = copy.deepcopy(self.copies[index % len(self.copies)])
        if table:
            self.disk.tables[Table.SIGN_ONCE] = old.tables[Table.SIGN_ONCE]
        if log:
            self.disk.tables[Table.LOG] = old.tables[Table.LOG]
        self.restart()

    @invariant()
    def it_says_one_thing(self) -> None:
        for process, slots in self.logs.items():
            stored = results(self.disk, process)
            assert stored == expected(slots)[: len(stored)]

    def teardown(self) -> None:
        if not hasattr(self, "disk"):
            return
        self.restart()
        while self.runs:
            process, run = self.runs.popitem()
            ran = self.engines[process].run(self.logs[process][run.first : run.last + 1])
            self.release(self.unit.on(Executed(process, ran), 0))
        for process, slots in self.logs.items():
            assert results(self.disk, process) == expected(slots)
            self.release(self.unit.on(TimerFired((INTERIM, process)), 0))
        made = list(self.statements.values())
        for earlier in made:
            for later in made:
                assert not contradicts(earlier, later)
        table = set(self.disk.tables[Table.SIGN_ONCE].values())
        assert set(self.heard) <= table, "what peers hold is in the table again"


TestLosses = pytest.mark.slow(Losses.TestCase)
TestLosses.settings = settings(max_examples=60, stateful_step_count=25)


class OtherMind(RuleBasedStateMachine):
    """After a loss the engine computes something else from some slot on: it signs nothing about
    slots that peers hold proofs of, or stops there."""

    @initialize(length=st.integers(1, 12), flaw=st.integers(0, 13), keep=st.integers(0, 14))
    def start(self, length: int, flaw: int, keep: int) -> None:
        self.disk, proofs = evaluated()
        self.held = [proof for proof in proofs if proof.last <= length]
        self.bound = max((proof.last for proof in self.held), default=-1)
        table = self.disk.tables[Table.SIGN_ONCE]
        for key in list(table):
            if keyspace.nonce_of(key[:41]) >= keep:
                del table[key]
        self.disk.tables[Table.LOG].clear()
        self.flaw = flaw

    @rule()
    def lie_about_nothing(self) -> None:
        unit = recovered(self.disk, [SLOTS])
        effects = drive(unit, ToyEngine(2, flaw=self.flaw), started(unit, self.held))
        truth = [result.receipt.leaf for result in expected(SLOTS)]
        for row in signed(effects):
            if row.key[0] == Prefix.RECEIPT:
                assert row.value is not None
                leaf = Receipt.decode(row.value).leaf
                assert leaf.slot > self.bound or leaf == truth[leaf.slot]
        for one in signed(effects):
            if one.key[0] == Prefix.PROOF and one.value is not None:
                for proof in self.held:
                    assert not contradicts(StateProof.decode(one.value), proof)


TestOtherMind = OtherMind.TestCase
TestOtherMind.settings = settings(max_examples=40, stateful_step_count=2)


def test_a_refusal_while_it_catches_up_stops() -> None:
    _, proofs = evaluated()
    unit = machine()
    started(unit, proofs)
    (run,) = of(Execute, unit.on(extended(SLOTS), 0))
    effects = unit.on(ExecutionRefused(PROCESS, run.first, "stack"), 0)
    assert [alarm.reason for alarm in of(Alarm, effects)] == [Reason.REFUSED]
