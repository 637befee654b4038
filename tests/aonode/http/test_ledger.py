"""What every port says about the ledger, and challenges handed over."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from aonode.api import HeardProof
from aonode.http import everywhere
from aonode.http.challenges import ACCUSATION_BYTES_MAX
from aonode.http.ledger import PROVE_MAX
from protocols.accumulator import Mmr
from protocols.ids import ItemId, b64url, unb64url
from protocols.ledger.entries import Account, Bond, Case, Demanded, Fine, Totals, Unhosted
from protocols.ledger.state import State, check_entry
from protocols.ledger.trie import EntryProof
from protocols.wire.evidence import statement_id
from protocols.wire.item import decode_item
from protocols.wire.ledger_tx import Checkpoint, Register, Transfer, Unbond, transaction_of
from protocols.wire.proof import Receipt
from protocols.wire.unit import UnsignedUnit
from tests.aonode.fake_ledger import (
    RICH,
    STAKE,
    FakeLedger,
    FakeProofs,
    FakeWatcher,
    open_demand,
    with_ledger,
)
from tests.aonode.fakes import NOW_MS, FakeNetwork, FakeNode, signer, spawned


class World:
    """One node with a ledger, asked over HTTP."""

    def __init__(self) -> None:
        self.fake = FakeNetwork()
        with_ledger(self.fake)
        self.node = FakeNode(self.fake, self.fake.computes[0])
        self.ledger = self.node.ledger = FakeLedger(self.fake)
        self.watcher = self.node.watcher = FakeWatcher(self.fake)
        transport = httpx.ASGITransport(everywhere.app(self.node))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://node")

    async def get(self, path: str, code: int = 200, **query: Any) -> Any:
        answer = await self.http.get(path, params=query or None)
        assert answer.status_code == code, answer.text
        return answer.json()

    async def post(self, path: str, body: bytes, code: int = 202) -> Any:
        answer = await self.http.post(path, content=body)
        assert answer.status_code == code, answer.text
        return answer.json()


@pytest.fixture
def world() -> World:
    return World()


async def test_the_whole_in_numbers(world: World) -> None:
    told = await world.get("/ledger")
    assert told["process"] == b64url(world.ledger.process)
    assert (told["slot"], told["tick"], told["final"], told["checkpoint"]) == (0, 0, -1, None)
    assert told["supply"] == told["genesis"] == RICH + 3 * STAKE
    assert (told["bonded"], told["minted"], told["burnt"]) == (3 * STAKE, 0, 0)
    before = world.ledger.state().root()
    assert told["root"] == b64url(before)
    world.ledger.tick()
    told = await world.get("/ledger")
    assert (told["slot"], told["tick"], told["final"]) == (1, 1, 0)
    assert told["checkpoint"] == {"slot": 0, "root": b64url(before)}
    assert told["head"] == b64url(world.fake.head(world.ledger.process, 1))


async def test_an_account(world: World) -> None:
    rich, staker = signer(7), world.fake.computes[0]
    world.ledger.do(rich, Transfer(5, staker.address, 30))
    world.ledger.do(staker, Unbond(6, STAKE // 2))
    one = await world.get(f"/ledger/account/{b64url(rich.address)}")
    assert (one["balance"], one["sequence"], one["stake"]) == (RICH - 30, 5, 0)
    other = await world.get(f"/ledger/account/{b64url(staker.address)}")
    assert (other["balance"], other["stake"], other["frozen"]) == (30, STAKE // 2, False)
    assert other["unbonding"] == [{"tick": 120, "amount": STAKE // 2}]
    assert (other["case"], other["session_of"]) == (None, None)
    nobody = await world.get(f"/ledger/account/{b64url(bytes(32))}")
    assert (nobody["balance"], nobody["sequence"]) == (0, -1)
    assert "has 5 characters" in (await world.get("/ledger/account/short", 400))["error"]


async def test_units_and_what_they_registered(world: World) -> None:
    unit = world.fake.computes[0]
    urls = (("compute", "http://127.0.0.1:1"),)
    draft = UnsignedUnit(unit.key, ("compute",), (), urls, NOW_MS, 1)
    raw = draft.signed(unit.sign(draft.message(world.fake.network.id))).encode()
    world.ledger.do(unit, Register(raw))
    rows = (await world.get("/ledger/units"))["units"]
    assert {row["address"] for row in rows} == {
        b64url(each.address) for each in world.fake.computes
    }
    (told,) = [row["unit"] for row in rows if row["unit"]]
    assert (told["key"], told["urls"]) == (b64url(unit.key), [["compute", "http://127.0.0.1:1"]])


async def test_cases_name_whose_stake_is_frozen(world: World) -> None:
    accused = world.fake.computes[1].address
    case = Case(1, "a leaf is wrong", b"e" * 32, None, None, STAKE, None)
    state = world.ledger.fold.state
    changed = state.trie.put(bytes((Case.KIND,)) + accused, case.encode())
    world.ledger.fold.state = type(state)(changed)
    (row,) = (await world.get("/ledger/cases"))["cases"]
    assert (row["account"], row["reason"], row["amount"]) == (
        b64url(accused),
        "a leaf is wrong",
        STAKE,
    )
    told = await world.get(f"/ledger/account/{b64url(accused)}")
    assert told["case"]["evidence"] == b64url(b"e" * 32)


async def test_fines_and_logs_without_a_host_are_shown(world: World) -> None:
    accused = world.fake.scheduler.address
    fine = Fine(3, "a slot was not published", b"d" * 32, None, None, 7, None)
    gone = Unhosted(accused, "unpublished", 3, None, None)
    trie = world.ledger.fold.state.trie
    trie = trie.put(bytes((Fine.KIND,)) + accused + b"o" * 32, fine.encode())
    trie = trie.put(bytes((Unhosted.KIND,)) + b"p" * 32, gone.encode())
    world.ledger.fold.state = State(trie)
    told = await world.get("/ledger/cases")
    (row,) = told["fines"]
    assert (row["account"], row["offence"]) == (b64url(accused), b64url(b"o" * 32))
    assert (row["amount"], row["burnt_tick"]) == (7, None)
    (log,) = told["unhosted"]
    assert (log["process"], log["scheduler"]) == (b64url(b"p" * 32), b64url(accused))


async def test_open_demands_are_listed(world: World) -> None:
    accused = world.fake.computes[1].address
    demand = open_demand(accused, deadline=9)
    trie = world.ledger.fold.state.trie
    trie = trie.put(bytes((Demanded.KIND,)) + b"d" * 32, demand.encode())
    world.ledger.fold.state = State(trie)
    (row,) = (await world.get("/ledger/demands"))["demands"]
    assert (row["id"], row["accused"]) == (b64url(b"d" * 32), b64url(accused))
    assert (row["answered"], row["deadline"]) == (False, 9)


async def test_notes_of_slots(world: World) -> None:
    rich = signer(7)
    world.ledger.do(rich, Transfer(5, bytes(32), 30))  # type: ignore[arg-type]
    world.ledger.do(rich, Transfer(5, bytes(32), 31))  # type: ignore[arg-type]
    told = await world.get("/ledger/slots")
    assert told["last"] == 2
    done, refused = told["slots"]
    assert (done["slot"], done["action"], done["notes"][0]["kind"]) == (1, "Transfer", "done")
    assert refused["notes"][0]["kind"] == "refused"
    assert "sequence 5" in refused["notes"][0]["detail"]
    assert (await world.get("/ledger/slots", **{"from": 2}))["slots"] == [refused]
    assert len((await world.get("/ledger/slots", limit=1))["slots"]) == 1
    by_item = await world.get("/ledger/slots", item=refused["item"])
    assert by_item["slots"] == [refused]
    missing = await world.get("/ledger/slots", 404, item=b64url(bytes(32)))
    assert "no slot" in missing["error"]


async def test_a_checkpoint_with_what_it_takes_to_check_it(world: World) -> None:
    assert "no checkpoint is final" in (await world.get("/ledger/checkpoint", 404))["error"]
    world.ledger.tick()
    rich = b64url(signer(7).address)
    told = await world.get("/ledger/checkpoint", stakes=1, prove=f"account/{rich}")
    tx = transaction_of(decode_item(unb64url(told["checkpoint"]), size_max=1 << 20))
    assert isinstance(tx, Checkpoint)
    root = unb64url(told["root"])
    assert (tx.root, tx.slot) == (root, told["slot"])
    kinds = [row["kind"] for row in told["proofs"]]
    assert kinds == ["totals", "bond", "bond", "bond", "account"]
    totals, *bonds, account = [EntryProof.decode(unb64url(row["proof"])) for row in told["proofs"]]
    entry = check_entry(root, totals, Totals)
    assert entry is not None
    assert entry.bonded == 3 * STAKE
    for proof in bonds:
        assert check_entry(root, proof, Bond, proof.key[1:]) == Bond(STAKE, 0, False)
    assert check_entry(root, account, Account, signer(7).address) == Account(RICH, -1)


async def test_proofs_of_entries_are_under_the_final_root(world: World) -> None:
    world.ledger.tick()
    world.ledger.do(signer(7), Transfer(5, bytes(32), 30))  # type: ignore[arg-type]
    told = await world.get(f"/ledger/prove/account/{b64url(signer(7).address)}")
    proof = EntryProof.decode(unb64url(told["proof"]))
    entry = check_entry(unb64url(told["root"]), proof, Account, signer(7).address)
    assert entry == Account(RICH, -1)
    absent = await world.get(f"/ledger/prove/case/{b64url(signer(7).address)}")
    proof = EntryProof.decode(unb64url(absent["proof"]))
    assert check_entry(unb64url(absent["root"]), proof, Case, signer(7).address) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/ledger/prove/coin/" + "A" * 43, "no kind of entry"),
        ("/ledger/prove/bond/AAAA", "32 bytes"),
        ("/ledger/prove/bond/" + "A" * 4000, "32 bytes"),
        ("/ledger/prove/bond/***", "not base64url"),
        ("/ledger/checkpoint?prove=bond", "32 bytes"),
        ("/ledger/slots?from=x", "not a number"),
    ],
)
async def test_bad_questions_are_refused(world: World, path: str, words: str) -> None:
    world.ledger.tick()
    assert words in (await world.get(path, 400))["error"]


async def test_not_everything_is_proved_at_once(world: World) -> None:
    world.ledger.tick()
    many: list[tuple[str, Any]] = [("prove", "totals/")] * (PROVE_MAX + 1)
    answer = await world.http.get("/ledger/checkpoint", params=many)
    assert answer.status_code == 413


async def test_a_network_without_a_ledger_says_so() -> None:
    node = FakeNode(FakeNetwork(), signer(3))
    transport = httpx.ASGITransport(everywhere.app(node))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
        for path in ("/ledger", "/ledger/units", "/ledger/checkpoint", "/challenges"):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert "has no ledger" in answer.json()["error"]
        assert (await http.get("/livez")).status_code == 200


async def receipt_of(world: World) -> bytes:
    process = spawned(world.fake, 1)
    assert world.node.compute is not None
    return (await world.node.compute.result(process, 1, 1)).receipt


async def test_a_receipt_is_handed_over(world: World) -> None:
    raw = await receipt_of(world)
    told = await world.post("/challenges", raw)
    id = b64url(statement_id(raw))
    assert (told["statement"], told["kind"]) == (id, "receipt")
    assert told["unit"] == b64url(world.node.key)
    assert f"/challenges/{id}" in told["next"]
    again = await world.post("/challenges", b'{"statement":"%s"}' % b64url(raw).encode())
    assert again == told
    assert [row["statement"] for row in (await world.get("/challenges"))["challenges"]] == [id]
    assert (await world.get(f"/challenges/{id}"))["unit"] == told["unit"]
    other = await world.get(f"/challenges/{b64url(ItemId(bytes(32)))}", 404)
    assert "nothing is held" in other["error"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"\x8a", 400),
        (b"{", 400),
        (b'{"statement":"*"}', 400),
        (b'{"receipt":""}', 400),
        (b"x" * (ACCUSATION_BYTES_MAX + 1), 413),
    ],
)
async def test_no_statement_is_no_accusation(world: World, body: bytes, code: int) -> None:
    await world.post("/challenges", body, code)
    assert not world.watcher.accused


async def test_a_node_that_does_not_watch_says_who_does(world: World) -> None:
    world.node.watcher = None
    told = await world.post("/challenges", await receipt_of(world), 503)
    assert "ask a compute unit" in told["error"]


async def test_heard_proofs_and_leaves(world: World) -> None:
    process = spawned(world.fake, 5)
    world.node.proofs = proofs = FakeProofs()
    proofs.rows = [(process, 3, HeardProof(b"one", 2)), (process, 5, HeardProof(b"two", 4))]
    path = f"/proofs/{b64url(process)}"
    told = await world.get(path)
    assert told["key"] == b64url(world.node.key)
    assert told["proofs"] == [
        {"proof": b64url(b"one"), "tick": 2},
        {"proof": b64url(b"two"), "tick": 4},
    ]
    later = await world.get(path, **{"from": 4})
    assert [row["tick"] for row in later["proofs"]] == [4]
    assert len((await world.get(path, limit=1))["proofs"]) == 1


async def test_leaves_give_the_roots_of_receipts(world: World) -> None:
    process = spawned(world.fake, 5)
    told = await world.get(f"/leaves/{b64url(process)}", **{"from": 3, "to": 9})
    leaves = unb64url(told["leaves"])
    peaks = tuple(unb64url(each) for each in told["peaks"])
    mmr = Mmr(3, peaks).extend([leaves[at : at + 32] for at in range(0, len(leaves), 32)])
    assert world.node.compute is not None
    receipt = Receipt.decode((await world.node.compute.result(process, 5, 1)).receipt)
    assert (mmr.count, mmr.root()) == (6, receipt.mmr_root)
    beyond = await world.get(f"/leaves/{b64url(process)}", **{"from": 99, "to": 99})
    assert (beyond["peaks"], beyond["leaves"]) == ([], "")
    await world.get(f"/leaves/{b64url(process)}", 413, to=1 << 20)
    await world.get(f"/leaves/{b64url(process)}", 400, **{"from": 5, "to": 3})
    world.node.compute = None
    assert "ask a compute unit" in (await world.get(f"/leaves/{b64url(process)}", 503))["error"]
