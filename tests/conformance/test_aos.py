"""A real aos process behind the official client: handlers, errors, pushes, spawns, assignments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from protocols.ids import b64url
from protocols.wire.assignment import Slot
from tests.conformance.driver import Answers, Plan, run
from tests.conformance.exported_log import Replay, read_log
from tests.conformance.small_network import Small
from tests.conformance.test_aoconnect import DRY_DEFAULTS, PAGE, SIGNERS, spawn_token, tags

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
"""Longest wait for pushes that normally take a blink, and for the module to be compiled."""
PING = 'Handlers.add("ping", "Ping", function(m) m.reply({Data = "pong " .. m.Data}) end)'


class Session:
    """What a developer at an aos prompt would do."""

    def __init__(self, small: Small) -> None:
        self.small = small
        plan = Plan()
        module = b64url(small.modules["aos"].id)
        authority = small.address("messenger")
        process = plan.add(
            "spawn",
            module=module,
            scheduler=small.address("scheduler"),
            tags=tags(Name="conformance", Authority=authority),
        )
        token = spawn_token(plan, small, "ledger", Authority=authority)
        answers = run(small, SIGNERS["rsa"], plan)
        self.process, self.token = answers.value(process), answers.value(token)
        evaluated(small, self.process)
        plan = Plan()
        booted = plan.add("result", process=self.process, message=self.process)
        sent = [
            plan.message(self.process, "Eval", "1 + 1"),
            plan.message(self.process, "Eval", PING),
            plan.message(self.process, "Ping", "Zo\u00eb"),
            plan.message(self.process, "Eval", "error('boom')"),
            plan.message(self.process, "Eval", "return { a = 1, b = { true, 'x' } }"),
        ]
        answers = run(small, SIGNERS["rsa"], plan)
        self.sent = [answers.value(each) for each in sent]
        self.boot = answers.value(booted)
        self._act(module, authority)
        # Of the process: its item, eight messages, the token's answer, Spawned, the assignment.
        self.slots = settled(small, self.process, 12)
        self.token_slots = settled(small, self.token, 2)
        self.replay = Replay(small.network, small.modules["aos"], self.slots)

    def _act(self, module: str, authority: str) -> None:
        """Eval what needs the ids of the first calls."""
        plan = Plan()
        sent = [
            plan.message(self.process, "Eval", lua)
            for lua in (
                f'Send({{Target = "{self.token}", Action = "Info"}})',
                f'Spawn("{module}", {{Name = "child", Authority = "{authority}"}})',
                f'Assign({{Processes = {{"{self.process}"}}, Message = "{self.token}"}})',
            )
        ]
        answers = run(self.small, SIGNERS["rsa"], plan)
        self.sent += [answers.value(each) for each in sent]

    def pushed(self) -> list[Slot]:
        """Slots of the process that its owner did not send."""
        return [slot for slot in self.slots if b64url(slot.message.id) not in self.sent][1:]


def settled(small: Small, process: str, count: int) -> list[Slot]:
    """The log of a process, once it has `count` slots."""
    deadline = time.monotonic() + PATIENCE_S
    while len(slots := read_log(small.su, process)) < count:
        assert time.monotonic() < deadline, f"{process} has {len(slots)} slots, not {count}"
        time.sleep(0.1)
    return slots


def evaluated(small: Small, process: str) -> None:
    """Wait until slot 0 is evaluated: compiling aos takes longer than a client waits, if the
    machine is busy."""
    deadline = time.monotonic() + PATIENCE_S
    path = f"{small.cu}/result/{process}?process-id={process}"
    while (answer := httpx.get(path, trust_env=False, timeout=PATIENCE_S)).status_code != 200:
        assert time.monotonic() < deadline, answer.text


@pytest.fixture(scope="module")
def session(small: Small) -> Iterator[Session]:
    session = Session(small)
    yield session
    session.replay.close()


def ask(session: Session, plan: Plan) -> Answers:
    return run(session.small, SIGNERS["ethereum"], plan)


def test_what_the_owner_sees(session: Session) -> None:
    results = [session.replay.result(nonce) for nonce in range(6)]
    assert session.boot == results[0]
    assert results[1]["Output"]["data"] == "2"
    (pong,) = results[3]["Messages"]
    assert pong["Data"] == "pong Zo\u00eb"
    assert pong["Target"] == b64url(session.slots[0].message.owner_address)
    assert "boom" in results[4]["Error"]


def test_every_result_is_the_replayed_one(session: Session) -> None:
    plan = Plan()
    asked = [
        plan.add("result", process=session.process, message=b64url(id))
        for slot in session.slots
        for id in (slot.message.id, slot.assignment.id)
    ]
    answers = ask(session, plan)
    expected = [session.replay.result(nonce) for nonce in range(len(session.slots))]
    assert [answers.value(each) for each in asked] == [each for each in expected for _ in (0, 1)]


@pytest.mark.parametrize("sort", ["ASC", "DESC"])
def test_all_pages_of_results_are_the_replayed_ones(session: Session, sort: str) -> None:
    plan = Plan()
    pages = plan.add("pages", process=session.process, sort=sort, limit=PAGE)
    found = ask(session, plan).value(pages)
    assert len(found) >= 3
    assert found == session.replay.results(descending=sort == "DESC", limit=PAGE)


def test_dry_run_is_the_replayed_one(session: Session) -> None:
    owner = b64url(session.slots[0].message.owner_address)
    args: dict[str, Any] = {"tags": tags(Action="Eval"), "data": "#Inbox", "Owner": owner}
    plan = Plan()
    asked = plan.add("dryrun", process=session.process, **args)
    answer = ask(session, plan).value(asked)
    assert answer == session.replay.dry_run(args, DRY_DEFAULTS)
    assert answer["Output"]["data"].isdigit()


def test_what_a_process_sends_arrives(session: Session) -> None:
    """By gossip and quorum, into other logs and back, each once."""
    (info,) = session.token_slots[1:]
    assert info.message.first("From-Process") == session.process
    pushed = {slot.message.first("Action"): slot for slot in session.pushed()}
    assert pushed["Info-Notice"].message.first("From-Process") == session.token
    spawned = pushed["Spawned"].message
    child = read_log(session.small.su, spawned.first("Process") or "")
    assert child[0].message.first("Name") == "child"
    assert child[0].message.first("From-Process") == session.process


def test_what_a_process_assigns_arrives(session: Session) -> None:
    (assigned,) = (slot for slot in session.pushed() if slot.message.first("Type") == "Process")
    assert b64url(assigned.message.id) == session.token
    assert assigned.process != session.token_slots[0].process
