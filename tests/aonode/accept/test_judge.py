"""Soft and hard acceptance against a small world in memory: a ledger, three stakers, a client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from aonode.accept.decision import Acceptance, Mode
from aonode.accept.exposure import Entry, ExposureFile
from aonode.accept.judge import Accepting, holds_leaf
from aonode.accept.ledger_client import LedgerClient
from aonode.accept.trust_file import FILE, load_trusted, save_trusted
from aonode.api import EvaluatedSlot, HeardProof
from aonode.client import Client
from aonode.http import compute, messenger
from aonode.verify_result import VerifiedResult
from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, ProcessId, b64url
from protocols.ledger.entries import Demanded
from protocols.ledger.light import at_genesis
from protocols.ledger.state import State
from protocols.wire.evidence import statement_id
from protocols.wire.ledger_tx import Unbond
from protocols.wire.proof import Receipt, StateProof
from tests.aonode.fake_ledger import (
    STAKE,
    FakeLedger,
    FakeProofs,
    FakeWatcher,
    open_demand,
    with_ledger,
)
from tests.aonode.fakes import FakeNetwork, FakeNode, other_outcome, signer, spawned

BURNT = STAKE * 7500 // 10_000
WINDOW = 20


class World:
    """A messenger, three compute units that watch, one ledger that all have folded."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fake = FakeNetwork()
        self.network = with_ledger(self.fake)
        self.ledger = FakeLedger(self.fake)
        self.ledger.tick()
        self.mu = FakeNode(self.fake, self.fake.messenger)
        self.cus = [FakeNode(self.fake, key) for key in self.fake.computes]
        self.process = spawned(self.fake, 5)
        self.down: set[str] = set()
        self.watchers: list[FakeWatcher] = []
        for node in (self.mu, *self.cus):
            node.ledger = self.ledger
            node.proofs = FakeProofs()
        parameters = self.fake.parameters
        assert self.mu.messenger is not None
        apps: dict[str, Any] = {"mu": messenger.app(self.mu, self.mu.messenger, parameters)}
        for node in self.cus:
            watcher = node.watcher = FakeWatcher(self.fake)
            self.watchers.append(watcher)
        self.apps = apps
        for number in range(3):
            self.serve(number)

    def serve(self, number: int) -> None:
        """The port of a compute unit, as its node is now."""
        node = self.cus[number]
        assert node.compute is not None
        app = compute.app(node, node.compute, self.fake.parameters, self.fake.env)
        self.apps[f"cu{number}"] = app

    def message(self, nonce: int = 3) -> ItemId:
        return self.fake.logs[self.process][nonce].message.id

    def lies(self, cu: int, nonce: int = 3) -> None:
        node = self.cus[cu]
        assert node.compute is not None
        node.compute.bend[nonce] = other_outcome

    def accepting(self) -> Accepting:
        """A client that starts anew, with what its directory holds."""
        mounts = {
            f"http://{host}": httpx.ASGITransport(app)
            for host, app in self.apps.items()
            if host not in self.down
        }
        down = httpx.MockTransport(lambda request: httpx.Response(503, json={}))
        client = Client(
            self.network,
            signer=signer(7),
            env=self.fake.env,
            mu_url="http://mu",
            cu_urls=[f"http://cu{number}" for number in range(3)],
            http=httpx.AsyncClient(mounts=mounts, transport=down),
        )
        return Accepting(
            client,
            LedgerClient(self.network, client.asker, [f"http://{host}" for host in self.apps]),
            load_trusted(self.directory, self.network),
            ExposureFile(self.directory, self.network.id),
        )

    async def judge(
        self, mode: Mode = Mode.SOFT, *, nonce: int = 3, quorum: int = 2, value: int = 0
    ) -> tuple[Acceptance, VerifiedResult | None]:
        accepting = self.accepting()
        found = await accepting.judge(
            self.process, self.message(nonce), mode, quorum=quorum, value=value
        )
        save_trusted(self.directory, accepting.trusted)
        return found

    async def proof(self, cu: int, first: int, last: int) -> StateProof:
        """A state proof of a unit over slots of the process."""
        node = self.cus[cu]
        assert node.compute is not None
        receipt = Receipt.decode((await node.compute.result(self.process, last, 1)).receipt)
        before = node.compute.leaves(self.process, first, last).peaks
        draft = StateProof(
            network=self.network.id,
            process=self.process,
            first=first,
            last=last,
            head_before=self.fake.head(self.process, first - 1),
            head=receipt.head,
            mmr_before=Mmr(first, before).root(),
            mmr_root=receipt.mmr_root,
            block_roots=(),
            state_root=receipt.leaf.root,
            fuel=0,
            profile=self.network.profile,
            tick=0,
            sequence=1,
            start=None,
            cu=node.key,
        )
        return draft.signed(self.fake.computes[cu].sign(draft.signing_bytes()))

    async def publish(self, proof: StateProof, tick: int, hosts: str = "0123") -> None:
        """Let nodes (messenger 3) have heard a proof at a tick."""
        nodes = [*self.cus, self.mu]
        for host in hosts:
            proofs = nodes[int(host)].proofs
            assert isinstance(proofs, FakeProofs)
            proofs.rows.append((self.process, proof.last, HeardProof(proof.encode(), tick)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_soft_is_what_enough_stake_says(world: World) -> None:
    acceptance, verified = await world.judge(quorum=3, value=3 * BURNT)
    assert acceptance.accepted
    assert verified is not None
    assert verified.output == '"3:2"'
    assert (acceptance.tick, acceptance.at_risk, len(acceptance.counted)) == (1, 3 * BURNT, 3)
    view = acceptance.view()
    assert {row["stake"] for row in view["units"]} == {STAKE}
    assert (view["accepted"], view["reasons"], view["disagree"]) == (True, [], [])


async def test_more_value_than_what_burns_is_not_accepted(world: World) -> None:
    acceptance, verified = await world.judge(quorum=3, value=3 * BURNT + 1)
    assert (acceptance.accepted, verified) == (False, None)
    assert "would lose only 4,500" in acceptance.reasons[0]


async def test_stake_stands_behind_one_result_at_a_time(world: World) -> None:
    value = 2 * BURNT
    assert (await world.judge(nonce=3, value=value))[0].accepted
    again, _ = await world.judge(nonce=3, value=value)
    assert (again.accepted, again.exposed) == (True, 0), "the same result once more"
    other, _ = await world.judge(nonce=4, value=value)
    assert (other.accepted, other.exposed) == (False, value)
    assert "behind other results" in other.reasons[0]
    assert (await world.judge(nonce=4, value=BURNT))[0].accepted
    world.ledger.tick(WINDOW)
    assert not (await world.judge(nonce=2, value=value))[0].accepted
    world.ledger.tick()
    later, _ = await world.judge(nonce=2, value=value)
    assert (later.accepted, later.exposed) == (True, 0), "the challenge window is over"


async def test_who_has_no_stake_does_not_count(world: World) -> None:
    world.ledger.do(world.fake.computes[0], Unbond(1, STAKE))
    assert (await world.judge(quorum=3))[0].accepted, "until a checkpoint with it is final"
    world.ledger.tick()
    acceptance, _ = await world.judge(quorum=3)
    assert not acceptance.accepted
    assert "2 units with a stake answered, 3 are asked for" in acceptance.reasons[0]
    assert "has no stake at checkpoint 2" in acceptance.warnings[0]
    assert (await world.judge(quorum=2))[0].at_risk == 2 * BURNT


async def test_disagreement_is_refused_and_handed_over(world: World) -> None:
    world.lies(1)
    acceptance, verified = await world.judge(quorum=1)
    assert (acceptance.accepted, verified) == (False, None)
    (reason,) = acceptance.reasons
    assert reason.startswith("do not rely on this result")
    for number in (0, 1):
        assert b64url(world.cus[number].key) in reason
    assert reason.count("3:2") == 2
    assert len(acceptance.disagree) == 3
    receipts = {each.evidence.receipt for each in acceptance.disagree}
    for watcher in world.watchers:
        assert set(watcher.accused) == {statement_id(raw) for raw in receipts}
    assert all(len(row["taken_by"]) == 3 for row in acceptance.handed_over)


async def test_a_liar_without_stake_cannot_hold_up_the_others(world: World) -> None:
    world.ledger.do(world.fake.computes[1], Unbond(1, STAKE))
    world.ledger.tick()
    world.lies(1)
    acceptance, verified = await world.judge(quorum=2)
    assert verified is not None
    assert any("says something else" in warning for warning in acceptance.warnings)
    assert world.watchers[0].accused, "it is handed over all the same"


async def test_a_receipt_is_a_word_that_is_given(world: World) -> None:
    """Whatever else a unit answers: a status that is none cannot even be shown."""
    node = world.cus[2]
    assert node.compute is not None
    node.compute.bend[3] = lambda leaf: replace(leaf, status=6)
    acceptance, verified = await world.judge(quorum=2)
    assert (verified, len(acceptance.disagree)) == (None, 3)
    assert "6 " in acceptance.reasons[0]
    assert "does not even verify" in acceptance.reasons[0]


async def test_an_answer_with_other_bytes_than_it_signed_does_not_count(world: World) -> None:
    node = world.cus[2]
    assert node.compute is not None
    real = node.compute.result

    async def garbled(process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        return replace(await real(process, nonce, timeout_s), raw=b"garbled")

    node.compute.result = garbled  # type: ignore[method-assign]
    acceptance, verified = await world.judge(quorum=2)
    assert verified is not None
    assert "does not verify: the outcome means BAD_OUTPUT" in acceptance.warnings[0]
    assert not acceptance.handed_over, "it has signed the right thing"
    assert not (await world.judge(quorum=3))[0].accepted


async def test_units_and_nodes_may_be_silent(world: World) -> None:
    world.down = {"cu2", "mu"}
    assert (await world.judge(quorum=2))[0].accepted
    assert not (await world.judge(quorum=3))[0].accepted
    world.down = {"cu0", "cu1", "cu2"}
    with pytest.raises(Invalid):
        await world.judge(quorum=1)


async def test_without_a_final_checkpoint_nothing_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ledger._final = None
    with pytest.raises(Invalid, match=r"none of 4 nodes"):
        await world.judge()


async def test_a_node_that_shows_a_false_checkpoint_is_passed_over(world: World) -> None:
    false = FakeLedger(world.fake)
    false.catch_up()
    item, _ = world.ledger.final() or (None, None)
    assert item is not None
    false._final = item, State(world.ledger.state().trie.put(b"\2" + bytes(32), b"\0"))
    world.mu.ledger = world.cus[0].ledger = false
    acceptance, _ = await world.judge()
    assert acceptance.tick == 1


# Hard


async def test_hard_is_public_for_a_whole_window(world: World) -> None:
    for number in range(3):
        await world.publish(await world.proof(number, 0, 5), tick=1)
    acceptance, verified = await world.judge(Mode.HARD, quorum=3)
    assert (verified, acceptance.hard_tick) == (None, 1 + 1 + WINDOW)
    assert "is over at checkpoint 22; now 1 is final" in acceptance.reasons[0]
    world.ledger.tick(WINDOW)
    assert not (await world.judge(Mode.HARD, quorum=3))[0].accepted
    world.ledger.tick()
    acceptance, verified = await world.judge(Mode.HARD, quorum=3)
    assert verified is not None
    assert (acceptance.accepted, acceptance.tick) == (True, 22)


async def test_the_latest_that_a_node_names_counts(world: World) -> None:
    for number in range(3):
        proof = await world.proof(number, 0, 5)
        await world.publish(proof, tick=1, hosts="012")
        await world.publish(proof, tick=9, hosts="3")
    acceptance, _ = await world.judge(Mode.HARD, quorum=2)
    assert acceptance.hard_tick == 9 + 1 + WINDOW


async def test_what_few_have_heard_is_not_public(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    for number in range(3):
        # The unit itself says so, and one more.
        await world.publish(await world.proof(number, 0, 5), tick=1, hosts=f"{number}3")
    acceptance, _ = await world.judge(Mode.HARD, quorum=2)
    assert not acceptance.accepted
    assert "most nodes have not heard" in acceptance.reasons[0]


async def test_enough_units_are_enough(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    for number in (0, 2):
        await world.publish(await world.proof(number, 0, 5), tick=1)
    assert (await world.judge(Mode.HARD, quorum=2))[0].accepted
    assert not (await world.judge(Mode.HARD, quorum=3))[0].accepted


async def test_a_proof_that_does_not_hold_the_result_is_none(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    right = [await world.proof(number, 0, 5) for number in range(3)]
    other = replace(right[0], mmr_root=bytes(32))
    forged = replace(right[1], fuel=7)
    elsewhere = await world.proof(2, 4, 5)
    for proof in (
        other.signed(world.fake.computes[0].sign(other.signing_bytes())),
        forged,
        elsewhere,
    ):
        await world.publish(proof, tick=1)
    acceptance, _ = await world.judge(Mode.HARD, quorum=1)
    assert len(acceptance.reasons) == 3
    for proof in right:
        await world.publish(proof, tick=1)
    assert (await world.judge(Mode.HARD, quorum=3))[0].accepted


async def test_a_proof_that_starts_later_is_checked_from_its_peaks(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    for number in range(3):
        await world.publish(await world.proof(number, 2, 4), tick=1)
    assert (await world.judge(Mode.HARD, quorum=3))[0].accepted


async def test_a_proof_that_ends_at_the_slot_needs_no_leaves(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    for number in range(3):
        await world.publish(await world.proof(number, 0, 3), tick=1)
    assert (await world.judge(Mode.HARD, quorum=3))[0].accepted


async def test_an_open_demand_holds_it_up(world: World) -> None:
    world.ledger.tick(WINDOW + 5)
    for number in range(3):
        await world.publish(await world.proof(number, 0, 5), tick=1)
    accused = world.fake.computes[0].address
    demand = open_demand(accused, deadline=99)
    ledger = world.ledger.fold
    ledger.state = State(
        ledger.state.trie.put(bytes((Demanded.KIND,)) + b"d" * 32, demand.encode())
    )
    assert (await world.judge(Mode.HARD, quorum=3))[0].accepted, "until it is final"
    world.ledger.tick()
    acceptance, _ = await world.judge(Mode.HARD, quorum=3)
    assert not acceptance.accepted
    assert "a demand against" in acceptance.reasons[0]
    answered = replace(demand, answered=True)
    ledger.state = State(
        ledger.state.trie.put(bytes((Demanded.KIND,)) + b"d" * 32, answered.encode())
    )
    world.ledger.tick()
    assert (await world.judge(Mode.HARD, quorum=3))[0].accepted


@pytest.mark.parametrize(
    "answer",
    [{}, {"peaks": 1, "leaves": ""}, {"peaks": [], "leaves": "*"}, {"peaks": [], "leaves": None}],
)
async def test_leaves_that_are_none(world: World, answer: dict[str, Any]) -> None:
    proof = await world.proof(0, 0, 5)
    node = world.cus[0]
    assert node.compute is not None
    receipt = Receipt.decode((await node.compute.result(world.process, 3, 1)).receipt)
    with pytest.raises(Invalid) as caught:
        holds_leaf(answer, proof, receipt)
    assert caught.value.reason is Reason.MALFORMED
    assert not holds_leaf({"peaks": [], "leaves": b64url(bytes(32))}, proof, receipt)


# Files


def test_the_trusted_checkpoint_is_kept_by_network(world: World) -> None:
    assert load_trusted(world.directory, world.network) == at_genesis(world.network)
    trusted = replace(at_genesis(world.network), tick=7)
    save_trusted(world.directory, trusted)
    assert load_trusted(world.directory, world.network) == trusted
    other = replace(world.network, name="other")
    assert load_trusted(world.directory, other) == at_genesis(other)
    (world.directory / FILE).write_text("{")
    with pytest.raises(Invalid, match="remove it"):
        load_trusted(world.directory, world.network)


def test_exposures_outlive_the_client(world: World) -> None:
    file = ExposureFile(world.directory, world.network.id)
    one, process = Address(b"1" * 32), ProcessId(bytes(32))
    with file.locked():
        file.add(Entry(b64url(process), "m", 5, 1, 10, (b64url(one),)), 1)
        file.add(Entry(b64url(process), "n", 7, 2, 12, (b64url(one), "other")), 2)
    live = file.read(2)
    assert live.behind([one], process, ItemId(bytes(32))) == 12
    assert live.behind([Address(b"2" * 32)], process, ItemId(bytes(32))) == 0
    assert file.read(10).behind([one], process, ItemId(bytes(32))) == 7
    assert ExposureFile(world.directory, at_genesis(world.network).network).read(0).entries
    (world.directory / "exposure.json").write_text("[]")
    with pytest.raises(Invalid, match="accept nothing of value"):
        file.read(0)
