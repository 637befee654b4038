"""The JavaScript verifier: on real answers, on answers with one bit flipped, on golden vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from aonode.crypto.signers import (
    ArweaveSigner,
    Ed25519Signer,
    EthereumSigner,
    ItemSigner,
    SolanaSigner,
    sign_item,
)
from aonode.verify_result import Evidence, Verifier
from protocols.errors import Invalid
from protocols.ids import ItemId, ProcessId, b64url, parse_id, unb64url
from protocols.wire.item import Item, Tag, decode_item
from tests.conformance.nodejs import SCRIPTS, node
from tests.conformance.small_network import Small
from tests.conformance.test_aoconnect import SIGNERS
from tests.vectors import VECTORS

pytestmark = pytest.mark.slow

VERIFIER = Path(__file__).parents[2] / "docs" / "verify" / "aonode-verify.mjs"
WALLETS: dict[str, ItemSigner] = {
    "rsa": ArweaveSigner(SIGNERS["rsa"]["secret"]),
    "ed25519": Ed25519Signer(bytes([11]) * 32),
    "ethereum": EthereumSigner(bytes([12]) * 32),
    "solana": SolanaSigner(bytes([13]) * 32),
}
Answer = dict[str, Any]


def send(
    small: Small, signer: ItemSigner, target: bytes | None, data: str = "Zo\u00eb", **tags: str
) -> Item:
    """Sign and submit one item."""
    base = {"Data-Protocol": "ao", "Variant": "ao.TN.1"}
    pairs = [Tag(name, value) for name, value in (base | tags).items()]
    item = sign_item(signer, target=target, anchor=bytes(32), tags=pairs, data=data.encode())
    answer = httpx.post(small.mu, content=item.raw, trust_env=False)
    assert answer.status_code == 202, answer.text
    return item


class Evidences:
    """Real answers of a compute unit, of every kind of message and outcome."""

    def __init__(self, small: Small) -> None:
        self.small = small
        user = WALLETS["ed25519"]
        self.token, self.other = (
            self._process(user, "token", Name=name, Supply="10") for name in ("one", "two")
        )
        self.aos = self._process(user, "aos")
        self.messages = {
            name: send(small, signer, self.token.id, Type="Message", Action="Info")
            for name, signer in WALLETS.items()
        }
        self.failed = send(small, user, self.token.id, Type="Message", Action="Mint")
        sum = send(small, user, self.aos.id, "1 + 1", Type="Message", Action="Eval")
        process, message = b64url(self.other.id), b64url(self.failed.id)
        path = f"{small.mu}/?process-id={process}&assign={message}&exclude=Tags"
        assert httpx.post(path, trust_env=False).status_code == 202
        self.answers = {name: self.proof(self.token, item) for name, item in self.messages.items()}
        self.answers["failed"] = self.proof(self.token, self.failed)
        self.answers["assigned"] = self.proof(self.other, self.failed)
        self.answers["aos"] = self.proof(self.aos, sum)
        self.processes = [
            self.proof(process, process) for process in (self.token, self.other, self.aos)
        ]

    def _process(self, signer: ItemSigner, module: str, **tags: str) -> Item:
        ids = {
            "Module": b64url(self.small.modules[module].id),
            "Scheduler": self.small.address("scheduler"),
        }
        return send(self.small, signer, None, Type="Process", **ids, **tags)

    def proof(self, process: Item, message: Item) -> Answer:
        """What the unit gives out about a message in a log, named and with what was asked."""
        query = {"process-id": b64url(process.id)}
        path = f"{self.small.cu}/proof/{b64url(message.id)}"
        answer = httpx.get(path, params=query, trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "asked": b64url(message.id)}

    def result(self, answer: Answer) -> Any:
        """What AO's `/result` says of the same message."""
        query = {"process-id": answer["process"]}
        path = f"{self.small.cu}/result/{answer['asked']}"
        return httpx.get(path, params=query, trust_env=False).json()


@pytest.fixture(scope="module")
def evidences(small: Small) -> Evidences:
    return Evidences(small)


def about(answer: Answer) -> dict[str, str]:
    return {"process": answer["process"], "message": answer["asked"]}


def options(small: Small) -> dict[str, Any]:
    """What a client takes from a network file it trusts."""
    network = small.network
    return {
        "network": b64url(network.id),
        "profile": b64url(network.profile),
        "units": [b64url(unit.key) for unit in network.units if "compute" in unit.roles],
    }


def ask(evidences: Evidences, cases: Iterable[dict[str, Any]], agree: list[int]) -> Any:
    """Run the verifier under Node.js."""
    given = {
        "verifier": str(VERIFIER),
        "options": options(evidences.small),
        "processes": evidences.processes,
        "cases": list(cases),
        "agree": agree,
    }
    done = node(SCRIPTS / "verify.mjs", stdin=json.dumps(given))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def case(answer: Answer, **more: Any) -> dict[str, Any]:
    return {"answer": answer, "about": about(answer), **more}


def test_real_answers_verify_and_say_what_ao_says(evidences: Evidences) -> None:
    answers = list(evidences.answers.values())
    found = ask(evidences, [case(answer) for answer in (*answers, *evidences.processes)], [])
    for answer, checked in zip(answers, found["answers"], strict=False):
        value = checked["value"]
        assert value["message"] == answer["asked"]
        assert value["nonce"] == answer["nonce"]
        assert value["unit"] in options(evidences.small)["units"]
        assert value["result"] == evidences.result(answer)
    statuses = {
        name: checked["value"]["status"]
        for name, checked in zip(evidences.answers, found["answers"], strict=False)
    }
    assert statuses["failed"] == statuses["assigned"] == "ERROR"
    assert statuses["rsa"] == statuses["aos"] == "OK"
    assert len(found["answers"]) == len(answers) + 3


def test_every_flipped_byte_is_refused(evidences: Evidences) -> None:
    """All bytes of one answer, and of the others, with longer signatures, every few."""
    strides = {"ed25519": 1, "aos": 5, "failed": 5, "assigned": 7, "rsa": 7, "ethereum": 7}
    cases = [case(evidences.answers[name], stride=stride) for name, stride in strides.items()]
    found = ask(evidences, cases, [])["answers"]
    assert [each["accepted"] for each in found] == [[]] * len(cases)
    assert [each["unnamed"] for each in found] == [0] * len(cases)
    assert found[0]["tried"] > 1000


def foreign(evidences: Evidences) -> dict[str, tuple[dict[str, Any], str]]:
    """Answers whose parts are all genuine and do not belong together, and why they fail."""
    one, two = (evidences.answers[name] for name in ("ed25519", "solana"))
    failed, assigned = (evidences.answers[name] for name in ("failed", "assigned"))
    nobody = b64url(bytes(32))
    return {
        "another message": ({"answer": two, "about": about(one)}, "mismatch"),
        "another log": ({"answer": assigned, "about": about(failed)}, "mismatch"),
        "receipt of another slot": (case(one | {"receipt": two["receipt"]}), "mismatch"),
        "outcome of another slot": (case(one | {"outcome": failed["outcome"]}), "mismatch"),
        "assignment of another": (case(one | {"assignment": two["assignment"]}), "mismatch"),
        "message of another": (case(one | {"message": two["message"]}), "mismatch"),
        "another network": (case(one, options={"network": nobody}), "wrong_network"),
        "unlisted unit": (case(one, options={"units": [nobody]}), "wrong_sender"),
        "another profile": (case(one, options={"profile": nobody}), "mismatch"),
        "other borders": (case(one, options={"parameters": {"root_every": 1}}), "malformed"),
        "no receipt": (case({**one, "receipt": None}), "malformed"),
        "not base64url": (case(one | {"outcome": one["outcome"] + "="}), "malformed"),
        "cut short": (case(one | {"message": one["message"][:40]}), "malformed"),
        "unknown process": (
            {"answer": one, "about": {"process": nobody, "message": one["asked"]}},
            "mismatch",
        ),
    }


def test_genuine_parts_that_do_not_belong_together_are_refused(evidences: Evidences) -> None:
    wanted = foreign(evidences)
    found = ask(evidences, [each for each, _ in wanted.values()], [])["answers"]
    reasons = {name: answer.get("reason") for name, answer in zip(wanted, found, strict=True)}
    assert reasons == {name: reason for name, (_, reason) in wanted.items()}
    for (name, (each, _)), answer in zip(wanted.items(), found, strict=True):
        assert each["about"]["message"] in answer["detail"], name


def test_both_verifiers_refuse_the_same(evidences: Evidences) -> None:
    """The Python client's verifier, on the answers that the JavaScript one refused above."""
    verifier = Verifier(evidences.small.network)
    for answer in evidences.processes:
        item = decode_item(unb64url(answer["message"]), size_max=1 << 20)
        verifier.know_process(item, answer["format"])
    for name, (each, _) in foreign(evidences).items():
        if "options" in each or "unknown" in name:
            continue
        process = ProcessId(parse_id(each["about"]["process"]))
        message = ItemId(parse_id(each["about"]["message"]))
        with pytest.raises(Invalid):
            verifier.check(process, Evidence.of_json(each["answer"]), message=message)


def test_answers_agree_only_if_they_are_equal_and_of_different_units(
    evidences: Evidences,
) -> None:
    cases = [case(evidences.answers[name]) for name in ("ed25519", "solana")]
    twice = ask(evidences, [cases[0], cases[0]], [0, 1])["agreement"]
    assert "one unit" in twice["detail"]
    other = ask(evidences, cases, [0, 1])["agreement"]
    assert other["reason"] == "mismatch"
    assert "value" in ask(evidences, cases[:1], [0])["answers"][0]


def test_golden_vectors() -> None:
    done = node(SCRIPTS / "vectors.mjs", str(VERIFIER), str(VECTORS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 400
