"""The official client, unmodified: what it returns is what the log says.

Every value is compared with one computed here, from the scheduler's pages and our engine alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocols.ids import b64url
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status
from protocols.wire.process import owner_text
from tests.conformance.driver import Answers, Plan, Signer, run
from tests.conformance.exported_log import Replay, cursor, read_log
from tests.conformance.nodejs import SCRIPTS, node
from tests.conformance.small_network import Small

pytestmark = pytest.mark.slow

WALLET = Path(__file__).parents[1] / "aonode" / "crypto" / "wallet.json"
SIGNERS: dict[str, Signer] = {
    "rsa": {"kind": "rsa", "secret": json.loads(WALLET.read_text("utf-8"))},
    "ed25519": {"kind": "ed25519", "secret": "05" * 32},
    "ethereum": {"kind": "ethereum", "secret": "07" * 32},
    "solana": {"kind": "solana", "secret": "06" * 32},
}
TYPES = {"rsa": 1, "ed25519": 2, "ethereum": 3, "solana": 4}
TRANSFERS = 11
PAGE = 4
SDK = {"Data-Protocol": "ao", "Variant": "ao.TN.1", "SDK": "aoconnect"}
DRY_DEFAULTS = {
    "tags": [
        {"name": "Data-Protocol", "value": "ao"},
        {"name": "Type", "value": "Message"},
        {"name": "Variant", "value": "ao.TN.1"},
    ]
}
"""What aoconnect adds to every dry run."""


def tags(**pairs: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs.items()]


def spawn_token(plan: Plan, small: Small, name: str, **more: str) -> str:
    return plan.add(
        "spawn",
        named=name,
        module=b64url(small.modules["token"].id),
        scheduler=small.address("scheduler"),
        tags=tags(Name=f"Tok\u00e9n {name} \u2713", Supply="1000000", **more),
    )


class Session:
    """One wallet's afternoon: two tokens, messages, questions of every kind."""

    def __init__(self, small: Small, signer: Signer) -> None:
        plan = Plan()
        self.token, self.other = (spawn_token(plan, small, name) for name in ("token", "other"))
        self.sent = [
            plan.message(self.token, "Transfer", f"n {n}", Recipient="bob", Quantity=str(n))
            for n in range(TRANSFERS)
        ]
        self.sent.append(
            plan.add("message", process=self.token, anchor="a" * 32, tags=tags(Action="Info"))
        )
        signed = plan.add("signMessage", process=self.token, data="x", tags=tags(Action="Balances"))
        self.sent.append(plan.add("sendSignedMessage", named="sent", **{"$": signed}))
        self.plan = plan
        self.results = [
            plan.add("result", process=self.token, message=message)
            for message in (*self.sent, self.token)
        ]
        self.pages = {
            sort: plan.add("pages", process=self.token, sort=sort, limit=PAGE)
            for sort in ("ASC", "DESC")
        }
        self.bounded = plan.add(
            "results", **{"process": self.token, "from": cursor(2, "ASC"), "to": cursor(5, "ASC")}
        )
        self.dry: list[dict[str, Any]] = [
            {"tags": tags(Action="Info")},
            {"tags": tags(Action="Balance", Target="bob"), "data": "d", "Owner": "o"},
            {"tags": tags(Action="Mint", Quantity="1"), "anchor": "5", "Id": "i"},
        ]
        self.dry_runs = [plan.add("dryrun", process=self.token, **args) for args in self.dry]
        self.assigned = [
            plan.add("assign", process=self.other, message=self.sent[1]),
            plan.add("assign", process=self.other, message=self.sent[2], exclude=["Data", "Tags"]),
            plan.add("assign", process=self.other, message=self.token),
            plan.add("assign", process=self.other, message=self.sent[1]),
        ]
        self.assigned_results = [
            plan.add("result", process=self.other, message=id)
            for id in (self.assigned[0], self.sent[1], self.assigned[1], self.token)
        ]
        self.monitors = [plan.add(call, process=self.token) for call in ("monitor", "unmonitor")]
        self.answers: Answers = run(small, signer, plan)


@pytest.fixture(scope="module", params=list(SIGNERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def session(small: Small, kind: str) -> Session:
    return Session(small, SIGNERS[kind])


def replay(small: Small, process: str) -> Replay:
    return Replay(small.network, small.modules["token"], read_log(small.su, process))


@pytest.fixture(scope="module")
def token(small: Small, session: Session) -> Replay:
    return replay(small, session.answers.value(session.token))


@pytest.fixture(scope="module")
def other(small: Small, session: Session) -> Replay:
    return replay(small, session.answers.value(session.other))


def ids(slots: list[Slot]) -> list[str]:
    return [b64url(slot.message.id) for slot in slots]


def test_ids_are_those_in_the_log(kind: str, session: Session, token: Replay) -> None:
    value = session.answers.value
    slots = list(token.slots)
    assert ids(slots) == [value(session.token), *(value(each) for each in session.sent)]
    assert {slot.message.signature_type for slot in slots} == {TYPES[kind]}
    assert len({owner_text(slot.message) for slot in slots}) == 1
    for n, slot in enumerate(slots[1 : 1 + TRANSFERS]):
        item = slot.message
        assert item.data == f"n {n}".encode()
        pairs = {tag.name: tag.value for tag in item.tags}
        assert pairs | {"Quantity": str(n), "Type": "Message", **SDK} == pairs
        assert b64url(item.target or b"") == value(session.token)
    assert slots[0].message.first("Name") == "Tok\u00e9n token \u2713"
    assert slots[1 + TRANSFERS].message.anchor == b"a" * 32


def test_every_result_is_the_replayed_one(session: Session, token: Replay) -> None:
    nonces = [*range(1, len(token.slots)), 0]
    assert [session.answers.value(each) for each in session.results] == [
        token.result(nonce) for nonce in nonces
    ]
    assert token.outcomes[1].status == Status.ERROR
    assert "Quantity is 0" in session.answers.value(session.results[0])["Error"]


@pytest.mark.parametrize("sort", ["ASC", "DESC"])
def test_all_pages_of_results_are_the_replayed_ones(
    session: Session, token: Replay, sort: str
) -> None:
    pages = session.answers.value(session.pages[sort])
    assert len(pages) > 3
    assert pages == token.results(descending=sort == "DESC", limit=PAGE)


def test_results_between_cursors(session: Session, token: Replay) -> None:
    (rows,) = token.results(descending=False, limit=1000)
    assert session.answers.value(session.bounded) == {"edges": rows["edges"][2:5]}
    assert [row["cursor"] for row in rows["edges"][2:5]] == [cursor(n, "ASC") for n in (3, 4, 5)]


def test_dry_runs_are_the_replayed_ones(session: Session, token: Replay) -> None:
    answers = [session.answers.value(each) for each in session.dry_runs]
    assert answers == [token.dry_run(args, DRY_DEFAULTS) for args in session.dry]
    assert answers[1]["Output"] == str(sum(range(TRANSFERS)))
    assert answers[2]["Error"] == "only the owner of the process may mint"


def test_assignments_are_those_in_the_log(session: Session, token: Replay, other: Replay) -> None:
    value = session.answers.value
    slots = other.slots
    assigned = [b64url(slot.assignment.id) for slot in slots[1:]]
    assert [value(each) for each in session.assigned] == [*assigned, assigned[0]]
    assert [slot.message.id for slot in slots[1:]] == [
        token.slots[2].message.id,
        token.slots[3].message.id,
        token.slots[0].message.id,
    ]
    assert [slot.assignment.exclude for slot in slots[1:]] == [(), ("Data", "Tags"), ()]
    assert [value(each) for each in session.assigned_results] == [
        other.result(nonce) for nonce in (1, 1, 2, 3)
    ]


def test_a_transfer_of_one_token_moves_nothing_in_another(other: Replay) -> None:
    assert other.outcomes[1].status == Status.ERROR
    assert "insufficient balance" in other.result(1)["Error"]


def test_monitors_are_accepted(session: Session) -> None:
    for each in session.monitors:
        assert len(session.answers.value(each)) == 43


NOBODY = "A" * 43


def refusals(small: Small) -> dict[str, tuple[str, dict[str, Any], str]]:
    """Calls that must fail, and what the client's error must name."""
    module, scheduler = b64url(small.modules["token"].id), small.address("scheduler")
    return {
        "message to nobody": ("message", {"process": NOBODY}, f"404: .*{NOBODY}"),
        "spawn of no module": ("spawn", {"module": NOBODY, "scheduler": scheduler}, "Required"),
        "spawn at nobody": ("spawn", {"module": module, "scheduler": NOBODY}, f"404: .*{NOBODY}"),
        "assign to nobody": ("assign", {"process": NOBODY, "message": NOBODY}, f"404: .*{NOBODY}"),
        "monitor nobody": ("monitor", {"process": NOBODY}, f"404: .*{NOBODY}"),
    }


def test_refusals_reach_the_caller(small: Small) -> None:
    plan = Plan()
    wanted = refusals(small)
    for name, (call, args, _) in wanted.items():
        plan.add(call, named=name, **args)
    token = spawn_token(plan, small, "mine")
    base = plan.add("assign", process=token, message=token, baseLayer=True)
    lost = plan.add("assign", process=token, message=NOBODY)
    answers = run(small, SIGNERS["ed25519"], plan)
    for name, (_, _, pattern) in wanted.items():
        with pytest.raises(AssertionError, match=pattern):
            answers.value(name)
    assert answers.error(base).startswith("422: ")
    assert answers.error(lost).startswith("404: ")


def test_the_guard_lets_nothing_out(tmp_path: Path) -> None:
    """What keeps these tests honest: no other host can be reached, by name or by address."""
    script = tmp_path / "out.mjs"
    script.write_text(
        "for (const url of ['http://127.0.0.2:4000/', 'http://localhost:4000/', 'http://[::1]:4000/'])"
        " await fetch(url).then(() => 0, (e) => console.log(String(e.cause ?? e)))"
    )
    said = node(script).stdout.splitlines()
    assert len(said) == 3
    assert all("loopback_only" in line for line in said), said
    assert (SCRIPTS / "loopback_only.mjs").exists()
