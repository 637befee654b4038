"""Hostile Wasm on a real network: each process gets its clear error, and the node goes on serving.

All the bad processes are there at once, so that none holds up the others, or the good one.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from aonode.crypto.signers import Ed25519Signer, sign_item
from protocols.ids import ItemId, b64url
from protocols.wire.item import Item, Tag
from tests.conformance.bad_modules import BAD, DIGITS, JSON, NESTED, answering, response
from tests.conformance.small_network import Small, module_item

pytestmark = pytest.mark.slow

USER = Ed25519Signer(bytes([22]) * 32)
PATIENCE_S = 60.0


def send(small: Small, *pairs: tuple[str, str], **fields: Any) -> Item:
    """Sign an item and hand it in."""
    tags = [Tag("Data-Protocol", "ao"), *(Tag(*pair) for pair in pairs)]
    item = sign_item(USER, tags=tags, **({"anchor": bytes(32), "data": b" "} | fields))
    answer = httpx.post(small.mu, content=item.raw, trust_env=False)
    assert answer.status_code == 202, answer.text
    return item


def spawn(small: Small, module: ItemId, *more: tuple[str, str]) -> Item:
    scheduler = ("Scheduler", small.address("scheduler"))
    return send(small, ("Type", "Process"), ("Module", b64url(module)), scheduler, *more)


def publish(small: Small, wasm: bytes, format: str) -> ItemId:
    item = module_item(wasm, format)
    answer = httpx.post(small.mu + "/tx", content=item.raw, trust_env=False)
    assert answer.status_code == 200, answer.text
    return item.id


def ask(small: Small, process: Item, message: Item) -> httpx.Response:
    """`GET /result`, again until the slot is evaluated: a slow one outlasts one request."""
    path = f"{small.cu}/result/{b64url(message.id)}?process-id={b64url(process.id)}"
    while True:
        answer = httpx.get(path, trust_env=False, timeout=PATIENCE_S)
        if answer.status_code != 504 and '"timeout"' not in answer.text:
            return answer


class World:
    """Every bad process spawned, one message sent to each, and one good token."""

    def __init__(self, small: Small) -> None:
        self.small = small
        self.token = spawn(small, small.modules["token"].id, ("Supply", "10"))
        self.bad = {
            name: spawn(small, publish(small, bad.wasm, bad.format)) for name, bad in BAD.items()
        }
        self.sent = {
            name: send(small, ("Type", "Message"), ("Action", name), target=process.id)
            for name, process in self.bad.items()
        }
        with ThreadPoolExecutor(len(BAD)) as pool:
            answers = pool.map(lambda name: ask(small, self.bad[name], self.sent[name]), BAD)
            self.answers = dict(zip(BAD, answers, strict=True))


@pytest.fixture(scope="module")
def world(small: Small) -> World:
    return World(small)


@pytest.mark.parametrize("name", BAD)
def test_bad_module_gets_a_clear_error(world: World, name: str) -> None:
    bad, answer = BAD[name], world.answers[name]
    if bad.refused:
        assert (answer.status_code, answer.json()["reason"]) == (503, "refused")
        assert bad.error in answer.json()["error"]
        assert b64url(world.bad[name].id) in answer.json()["error"]
        return
    assert answer.status_code == 200, answer.text
    assert bad.error in answer.json()["Error"]
    assert not any(answer.json()[kind] for kind in ("Messages", "Spawns", "Assignments"))


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_never_signed(world: World, name: str) -> None:
    page = httpx.get(
        f"{world.small.cu}/results/{b64url(world.bad[name].id)}?receipts=1", trust_env=False
    )
    assert page.status_code == 200, page.text
    slots = [edge["nonce"] for edge in page.json()["edges"]]
    assert slots == ([] if BAD[name].refused else [0, 1])


def test_an_integer_of_5000_digits_is_handed_on_as_it_was_written(small: Small) -> None:
    digits = b"9" * DIGITS
    module = publish(small, answering(response(digits)), JSON)
    process = spawn(small, module)
    answer = ask(small, process, process)
    assert answer.status_code == 200
    assert f'"Output":{digits.decode()},' in answer.text


WAYS_OUT = {
    "return tostring(os.execute('touch owned'))": "nil",
    "return tostring(os.execute())": "false",
    "return tostring(pcall(io.popen, 'ls'))": "false",
    "return tostring(io.open('/etc/passwd'))": "nil",
}


def test_aos_finds_no_way_out_and_cannot_nest_too_deep(small: Small, tmp_path: Path) -> None:
    process = spawn(small, small.modules["aos"].id, ("Name", "hostile"))
    deep = (
        f"local t = {{}} for i = 1, {NESTED} do t = {{t}} end "
        "table.insert(ao.outbox.Messages, {Target = 'x', Data = t, Tags = {}})"
    )
    sources = [*WAYS_OUT, deep, "os.exit(0)", "return 6 * 7"]
    sent = [
        send(
            small,
            ("Type", "Message"),
            ("Action", "Eval"),
            target=process.id,
            anchor=bytes([number]) * 32,
            data=source.encode(),
        )
        for number, source in enumerate(sources)
    ]
    answers = [ask(small, process, message).json() for message in sent]
    said = [str(answer["Output"]["data"]) for answer in answers[: len(WAYS_OUT)]]
    assert said == list(WAYS_OUT.values())
    assert not os.path.exists("owned")
    assert "output cannot be read" in answers[-3]["Error"]
    assert "the module trapped" in answers[-2]["Error"]
    assert answers[-1]["Output"]["data"].endswith("42")


def test_the_network_goes_on_serving(world: World) -> None:
    """The last of this file: the good process answers, and no port has anything to report."""
    small = world.small
    message = send(small, ("Type", "Message"), ("Action", "Info"), target=world.token.id)
    result = ask(small, world.token, message).json()
    assert result["Messages"][0]["Tags"][0] == {"name": "Action", "value": "Info-Notice"}
    for url in (small.mu, small.su, small.cu):
        assert httpx.get(url + "/readyz", trust_env=False).json() == {"ready": True, "reasons": []}
    status = httpx.get(small.cu + "/status", trust_env=False).json()
    assert json.dumps(status).count("stopped here") == 0
    assert status["machines"]["compute"]["stopped_count"] == sum(b.refused for b in BAD.values())
