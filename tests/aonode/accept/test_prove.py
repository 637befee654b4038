"""What a saved result shows without asking anybody, and each way in which it can be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from aonode.accept.prove import Prover
from aonode.accept.saved import result_document
from aonode.config import write_network
from aonode.http import compute
from aonode.verify_result import Evidence
from protocols.errors import Invalid
from protocols.ids import b64url, unb64url
from protocols.ledger.entries import Bond, Totals
from protocols.wire.proof import Receipt
from tests.aonode.cli.test_cli import call
from tests.aonode.fake_ledger import FakeLedger, with_ledger
from tests.aonode.fakes import FakeNetwork, FakeNode, signer, spawned

Document = dict[str, Any]


class World:
    """A process with messages, and what its units answer about one of them."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        self.network = with_ledger(self.fake)
        self.process = spawned(self.fake, 4)
        self.ledger = FakeLedger(self.fake)

    async def ask(self, unit: int, nonce: int = 2, **query: Any) -> Document:
        """The JSON of `/proof`."""
        node = FakeNode(self.fake, self.fake.computes[unit])
        assert node.compute is not None
        app = compute.app(node, node.compute, self.fake.parameters, self.fake.env)
        message = self.fake.logs[self.process][nonce].message.id
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
            answer = await http.get(f"http://cu/proof/{b64url(message)}", params=query)
        assert answer.status_code == 200
        found: Document = answer.json()
        return found

    async def saved(self) -> Document:
        """What `aonode result --save` writes, with --accept."""
        self.ledger.tick()
        state = self.ledger._final
        assert state is not None
        item, under = state
        bonds = [under.prove(Bond, each.address) for each in self.fake.computes]
        rows = [await self.ask(unit) for unit in range(3)]
        document = result_document(
            self.network.id,
            self.process,
            format=rows[0]["format"],
            process_item=self.fake.logs[self.process][0].message.raw,
            evidence=[Evidence.of_json(row) for row in rows],
        )
        proofs = [under.prove(Totals), *bonds]
        stakes = [b64url(proof.encode()) for proof in proofs]
        return {**document, "checkpoint": b64url(item.raw), "stakes": stakes}

    def prove(self, document: Document) -> Prover:
        prover = Prover(self.network)
        prover.check(document)
        return prover


@pytest.fixture
def world() -> World:
    return World()


def wrong(prover: Prover) -> list[tuple[str, str]]:
    return [(step.what, step.detail) for step in prover.steps if step.holds is False]


async def test_a_saved_result_holds_step_by_step(world: World) -> None:
    prover = world.prove(await world.saved())
    assert prover.holds
    each = ["message", "assignment", "receipt", "outcome"]
    assert [step.what for step in prover.steps] == [
        "network",
        "process",
        *each * 3,
        "agreement",
        "checkpoint",
        *["stake"] * 3,
    ]
    assert all(step.holds for step in prover.steps)
    assert "3 units say the same" in [step.detail for step in prover.steps]
    assert "2,000 tokens at stake at checkpoint 1" in prover.steps[-1].detail


async def test_the_answer_of_one_unit_holds_with_its_process(world: World) -> None:
    prover = world.prove(await world.ask(0, process=1))
    assert prover.holds
    assert "at stake at genesis" in prover.steps[-1].detail


async def test_without_the_process_item_nothing_is_shown(world: World) -> None:
    prover = world.prove(await world.ask(0))
    assert not prover.holds
    (step,) = prover.steps
    assert (step.what, step.holds) == ("process", None)
    assert "?process=1" in step.detail


@pytest.mark.parametrize(
    ("part", "step"),
    [("message", "message"), ("assignment", "assignment"), ("outcome", "outcome")],
)
async def test_a_changed_part_is_found(world: World, part: str, step: str) -> None:
    document = await world.saved()
    raw = bytearray(unb64url(document["results"][0][part]))
    raw[-1] ^= 1
    document["results"][0][part] = b64url(bytes(raw))
    prover = world.prove(document)
    assert not prover.holds
    assert wrong(prover)[0][0] == step


async def test_a_changed_receipt_is_found(world: World) -> None:
    document = await world.saved()
    row = document["results"][1]
    receipt = Receipt.decode(unb64url(row["receipt"]))
    row["receipt"] = b64url(replace(receipt, mmr_root=bytes(32)).encode())
    assert wrong(world.prove(document)) == [
        ("receipt", "the receipt's signature is not the unit's"),
    ]
    row["receipt"] = "AA"
    assert wrong(world.prove(document))[0][0] == "receipt"


async def test_units_that_disagree_are_found(world: World) -> None:
    document = await world.saved()
    row = document["results"][1]
    receipt = Receipt.decode(unb64url(row["receipt"]))
    lie = replace(receipt, mmr_root=bytes(32), signature=b"")
    liar = world.fake.computes[1]
    row["receipt"] = b64url(lie.signed(liar.sign(lie.signing_bytes())).encode())
    (found,) = wrong(world.prove(document))
    assert found[0] == "agreement"
    assert "one of them is wrong" in found[1]


async def test_a_unit_that_nobody_knows_is_found(world: World) -> None:
    document = await world.saved()
    row = document["results"][0]
    stranger = signer(77)
    receipt = replace(Receipt.decode(unb64url(row["receipt"])), cu=stranger.key, signature=b"")
    row["receipt"] = b64url(receipt.signed(stranger.sign(receipt.signing_bytes())).encode())
    (found,) = wrong(world.prove(document))
    assert found[0] == "stake"
    assert "is in no network file" in found[1]


async def test_a_false_checkpoint_is_found(world: World) -> None:
    document = await world.saved()
    document["stakes"][1] = document["stakes"][2][:-1] + "A"
    prover = world.prove(document)
    assert "checkpoint" in dict(wrong(prover))


async def test_votes_of_others_than_at_genesis_show_nothing(world: World) -> None:
    document = await world.saved()
    later = replace(world.network, stakes=((signer(7).address, 5),))
    document["network"] = b64url(later.id)
    for row in document["results"]:
        receipt = Receipt.decode(unb64url(row["receipt"]))
        unit = next(each for each in world.fake.computes if each.key == receipt.cu)
        moved = replace(receipt, network=later.id, signature=b"")
        row["receipt"] = b64url(moved.signed(unit.sign(moved.signing_bytes())).encode())
    prover = Prover(later)
    prover.check(document)
    assert prover.holds
    shown = {step.what: step.holds for step in prover.steps}
    assert (shown["checkpoint"], shown["stake"]) == (None, None)


async def test_another_network_is_found(world: World) -> None:
    document = await world.saved()
    prover = Prover(replace(world.network, name="other"))
    prover.check(document)
    assert wrong(prover)[0][0] == "network"


async def test_what_is_no_file_is_refused(world: World) -> None:
    wrongs: list[Document] = [{}, {"process": "x"}, {"results": []}, {"results": [1]}]
    for document in wrongs:
        with pytest.raises(Invalid):
            world.prove(document)


async def test_the_verb(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "network.toml", world.network)
    document = await world.saved()
    (tmp_path / "good.json").write_text(json.dumps(document))
    done = call("prove", "good.json", "--network", "network.toml")
    assert done.exit_code == 0, done.stderr
    assert done.output.count("holds") == len(done.output.splitlines())
    told = json.loads(call("prove", "good.json", "--network", "network.toml", "--json").output)
    assert told["holds"]
    document["results"][0]["outcome"] = "AA"
    (tmp_path / "bad.json").write_text(json.dumps(document))
    done = call("prove", "bad.json", "--network", "network.toml")
    assert (done.exit_code, "does not prove" in done.stderr) == (1, True)
    assert "WRONG      outcome" in done.stdout
    (tmp_path / "none.json").write_text("[]")
    done = call("prove", "none.json", "--network", "network.toml")
    assert (done.exit_code, "not a JSON object" in done.stderr) == (1, True)
