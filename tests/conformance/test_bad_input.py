"""Bad input at the ports of a real network: refused, with the offending value named, and that is
all that happens."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from aonode.crypto.signers import Ed25519Signer, sign_item
from protocols.ids import b64url
from protocols.wire.bundle import encode_bundle
from protocols.wire.item import Item, Tag, item_id
from tests.conformance.exported_log import read_log
from tests.conformance.small_network import Small

pytestmark = pytest.mark.slow

USER = Ed25519Signer(bytes([21]) * 32)
NOBODY = b64url(b"n" * 32)
TARGET_FLAG, ANCHOR_FLAG, TAG_COUNT, TAG_BYTES, TAGS = 98, 131, 164, 172, 180
"""Where an Ed25519 item with target and anchor has them."""


@dataclass(frozen=True)
class World:
    """A running network with one token process."""

    small: Small
    token: Item

    @property
    def mu(self) -> str:
        return self.small.mu

    def message(self, number: int = 0, *more: tuple[str, str], **given: Any) -> Item:
        """A good message, unless `more` or `given` spoil it."""
        pairs = [("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Info"), *more]
        fields: dict[str, Any] = {
            "target": self.token.id,
            "anchor": number.to_bytes(32, "big"),
            "tags": [Tag(*pair) for pair in pairs],
            "data": b"hello",
        }
        return sign_item(USER, **(fields | given))

    def process(self, **tags: str) -> Item:
        """A process item; `tags` replace or (empty) remove its own."""
        base = {
            "Data-Protocol": "ao",
            "Type": "Process",
            "Module": b64url(self.small.modules["token"].id),
            "Scheduler": self.small.address("scheduler"),
        }
        pairs = [Tag(name, value) for name, value in (base | tags).items() if value]
        return sign_item(USER, anchor=bytes(32), tags=pairs, data=b" ")


@pytest.fixture(scope="module")
def world(small: Small) -> World:
    world = World(small, Item.__new__(Item))
    token = world.process(Name="bad input", Supply="10")
    answer = httpx.post(small.mu, content=token.raw, trust_env=False)
    assert answer.status_code == 202, answer.text
    return World(small, token)


def set_bytes(raw: bytes, at: int, value: bytes) -> bytes:
    return raw[:at] + value + raw[at + len(value) :]


def with_tags(raw: bytes, region: bytes, count: int) -> bytes:
    """The item with another tag region; its signature no longer matters."""
    size = int.from_bytes(raw[TAG_BYTES:TAGS], "little")
    counts = count.to_bytes(8, "little") + len(region).to_bytes(8, "little")
    return raw[:TAG_COUNT] + counts + region + raw[TAGS + size :]


def bundle_of(raw: bytes) -> bytes:
    """A bundle of one entry that is no item."""
    return (1).to_bytes(32, "little") + len(raw).to_bytes(32, "little") + bytes(32) + raw


def region_of(count: int) -> bytes:
    """Avro of `count` tags a=b."""
    zigzag = 2 * count
    head = bytes((zigzag & 0x7F | 0x80, zigzag >> 7)) if zigzag > 0x7F else bytes((zigzag,))
    return head + b"\x02a\x02b" * count + b"\0"


Case = tuple[Callable[[World], bytes], int, str, Callable[[World, bytes], str]]
"""Body, status, reason, and what the error must name."""


def says(text: str) -> Callable[[World, bytes], str]:
    return lambda world, body: text


def its_id(world: World, body: bytes) -> str:
    return b64url(item_id(body))


CASES: dict[str, Case] = {
    "nothing": (lambda w: b"", 400, "malformed", says("0 bytes")),
    "truncated before the tags": (
        lambda w: w.message().raw[:100],
        400,
        "malformed",
        says("100"),
    ),
    "truncated in the tags": (
        lambda w: w.message().raw[: TAGS + 5],
        400,
        "malformed",
        says("reach beyond"),
    ),
    "truncated in the data": (lambda w: w.message().raw[:-1], 400, "bad_signature", its_id),
    "longer than signed": (lambda w: w.message().raw + b"!", 400, "bad_signature", its_id),
    "an item too large": (
        lambda w: w.message(data=bytes(w.small.network.parameters.item_bytes_max)).raw,
        413,
        "oversize",
        says(str(2 << 20)),
    ),
    "a body too large": (lambda w: bytes((8 << 20) + 1), 413, "oversize", says("8388609")),
    "signature changed": (
        lambda w: set_bytes(w.message().raw, 40, b"\xff\xfe"),
        400,
        "bad_signature",
        its_id,
    ),
    "owner changed": (
        lambda w: set_bytes(w.message().raw, 70, b"\x01\x02"),
        400,
        "bad_signature",
        its_id,
    ),
    "signature of an unknown type": (
        lambda w: b"\x09\x00" + w.message().raw[2:],
        422,
        "unsupported",
        says("type 9"),
    ),
    "target flag of 7": (
        lambda w: set_bytes(w.message().raw, TARGET_FLAG, b"\x07"),
        400,
        "malformed",
        says("target flag '07'"),
    ),
    "anchor flag of 2": (
        lambda w: set_bytes(w.message().raw, ANCHOR_FLAG, b"\x02"),
        400,
        "malformed",
        says("anchor flag '02'"),
    ),
    "anchor of another item": (
        lambda w: set_bytes(w.message().raw, ANCHOR_FLAG + 1, b"\x99" * 32),
        400,
        "bad_signature",
        its_id,
    ),
    "129 tags": (
        lambda w: with_tags(w.message().raw, region_of(129), 129),
        413,
        "oversize",
        says("129 tags"),
    ),
    "tags of a terabyte": (
        lambda w: set_bytes(w.message().raw, TAG_BYTES, (1 << 40).to_bytes(8, "little")),
        413,
        "oversize",
        says(str(1 << 40)),
    ),
    "fewer tags than stated": (
        lambda w: with_tags(w.message().raw, region_of(3), 4),
        400,
        "malformed",
        says("4 in"),
    ),
    "more tags than stated": (
        lambda w: with_tags(w.message().raw, region_of(3), 2),
        400,
        "malformed",
        says("2 stated"),
    ),
    "an Avro string of negative length": (
        lambda w: with_tags(w.message().raw, b"\x02\x01\x00\x00", 1),
        400,
        "malformed",
        says("-1 bytes"),
    ),
    "Avro without its end": (
        lambda w: with_tags(w.message().raw, region_of(3)[:-1], 3),
        400,
        "malformed",
        says("cut short"),
    ),
    "an endless Avro number": (
        lambda w: with_tags(w.message().raw, b"\xff" * 12, 1),
        400,
        "malformed",
        says("too long"),
    ),
    "no Data-Protocol": (
        lambda w: w.message(tags=[Tag("Type", "Message")]).raw,
        422,
        "inadmissible",
        its_id,
    ),
    "no Type": (
        lambda w: w.message(tags=[Tag("Data-Protocol", "ao")]).raw,
        422,
        "inadmissible",
        says("Type is None"),
    ),
    "a linked tag": (
        lambda w: w.message(1, ("Balance+link", "x")).raw,
        422,
        "inadmissible",
        says("Balance+link"),
    ),
    "an Outbox tag that is none": (
        lambda w: w.message(1, ("Outbox", "first"), ("From-Process", NOBODY)).raw,
        422,
        "inadmissible",
        says("'first'"),
    ),
    "a carrier of a bundle": (
        lambda w: (
            sign_item(
                USER,
                tags=[Tag("Bundle-Format", "binary"), Tag("Bundle-Version", "2.0.0")],
                data=encode_bundle([w.message().raw]),
            ).raw
        ),
        422,
        "inadmissible",
        its_id,
    ),
    "no target": (
        lambda w: sign_item(USER, tags=w.message().tags, data=b"x").raw,
        422,
        "inadmissible",
        its_id,
    ),
    "a process that nobody has": (
        lambda w: w.message(target=b"n" * 32).raw,
        404,
        "unknown_process",
        says(NOBODY),
    ),
    "a process without a module": (
        lambda w: w.process(Module="").raw,
        422,
        "inadmissible",
        says("Module"),
    ),
    "a module id that is none": (
        lambda w: w.process(Module="aos").raw,
        422,
        "inadmissible",
        says("'aos'"),
    ),
    "a process of another network": (
        lambda w: w.process(Scheduler=NOBODY).raw,
        404,
        "unknown_scheduler",
        says(NOBODY),
    ),
    "an item as its own assignment": (
        lambda w: read_log(w.small.su, b64url(w.token.id))[0].assignment.item.raw,
        422,
        "inadmissible",
        its_id,
    ),
    "an empty bundle": (lambda w: bytes(32), 400, "malformed", says("no items")),
    "a bundle of far too many": (
        lambda w: (60_000).to_bytes(32, "little") + bytes(200),
        413,
        "oversize",
        says("60000"),
    ),
    "a bundle in a bundle": (
        lambda w: bundle_of(encode_bundle([w.message(4).raw])),
        400,
        "malformed",
        says("512"),
    ),
    "a bundle with another's id": (
        lambda w: set_bytes(encode_bundle([w.message(3).raw]), 70, b"\x01\x02"),
        400,
        "malformed",
        says("item 0"),
    ),
    "a bundle longer than it says": (
        lambda w: encode_bundle([w.message(3).raw]) + b"!",
        400,
        "malformed",
        says("1 bytes after"),
    ),
    "a bundle of too many": (
        lambda w: encode_bundle([w.message(n).raw for n in range(51)]),
        413,
        "oversize",
        says("51"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_messenger_refuses(world: World, name: str) -> None:
    make, status, reason, named = CASES[name]
    body = make(world)
    answer = httpx.post(world.mu, content=body, trust_env=False)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
    assert named(world, body) in answer.json()["error"]


BY_THE_SCHEDULER = {
    "a process of another network": "unknown_process",
    "an item as its own assignment": "inadmissible",
}
"""Where its reason is another than the messenger's."""
NOT_ITS_BUSINESS = tuple(
    name for name in CASES if name.startswith("a bundle") or "empty bundle" in name
)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in NOT_ITS_BUSINESS and "body" not in name]
)
def test_the_scheduler_refuses(world: World, name: str) -> None:
    make, status, reason, _ = CASES[name]
    answer = httpx.post(world.small.su, content=make(world), trust_env=False)
    expected = BY_THE_SCHEDULER.get(name, reason)
    assert answer.json()["reason"] == expected, answer.text
    assert answer.status_code == status


def test_a_bundle_is_answered_item_by_item(world: World) -> None:
    good = world.message(100)
    cut = good.raw[:100]
    other = world.message(102, target=b"n" * 32)
    answer = httpx.post(
        world.mu, content=encode_bundle([cut, other.raw, good.raw]), trust_env=False
    )
    assert answer.status_code == 207
    items = answer.json()["items"]
    assert [each.get("reason") for each in items] == ["malformed", "unknown_process", None]
    assert [each["id"] for each in items[1:]] == [b64url(other.id), b64url(good.id)]


def ids(world: World) -> list[str]:
    return [b64url(slot.message.id) for slot in read_log(world.small.su, b64url(world.token.id))]


def test_a_replayed_item_has_one_slot(world: World) -> None:
    item = world.message(200)
    bundle = encode_bundle([item.raw] * 3)
    for body in (item.raw, item.raw, bundle):
        assert httpx.post(world.mu, content=body, trust_env=False).status_code == 202
    answer = httpx.post(world.small.su, content=item.raw, trust_env=False)
    assert answer.status_code == 200
    assert ids(world).count(b64url(item.id)) == 1


def test_128_tags_are_no_error(world: World) -> None:
    more = [(f"X-{number}", "y") for number in range(125)]
    item = world.message(300, *more)
    assert len(item.tags) == 128
    assert httpx.post(world.mu, content=item.raw, trust_env=False).status_code == 202


def paths(world: World) -> Iterable[tuple[str, str, int, str, str]]:
    """Port, path, status, reason, what the error names."""
    token, short = b64url(world.token.id), "A" * 42
    stray = "A" * 42 + "B"
    """Its last character carries bits that no 32 bytes have."""
    yield "cu", f"/result/{stray}?process-id={token}", 400, "malformed", stray
    yield "cu", f"/result/{short}?process-id={token}", 400, "malformed", "42"
    yield "cu", f"/result/{token}?process-id={stray}", 400, "malformed", stray
    yield "cu", f"/result/{token}", 400, "malformed", "process-id"
    yield "cu", f"/results/{NOBODY}", 404, "unknown_process", NOBODY
    yield "cu", f"/results/{token}?limit=-1", 400, "malformed", "'-1'"
    yield "cu", f"/results/{token}?from=x", 400, "malformed", "'x'"
    yield "cu", f"/results/{token}?sort=sideways", 400, "malformed", "SIDEWAYS"
    yield "cu", f"/proof/{stray}", 400, "malformed", stray
    yield "su", f"/{NOBODY}?process-id={token}", 404, "unknown_item", NOBODY
    yield "su", f"/{token}?process-id={token}&from-nonce=1e3", 400, "malformed", "1e3"
    yield "su", f"/{token}", 400, "malformed", "process-id"
    yield "mu", f"/{NOBODY}", 404, "unknown_item", NOBODY
    yield "mu", f"/raw/{stray}", 400, "malformed", stray


def test_bad_paths_and_queries_are_refused_by_name(world: World) -> None:
    for port, path, status, reason, named in paths(world):
        answer = httpx.get(getattr(world.small, port) + path, trust_env=False)
        assert (answer.status_code, answer.json().get("reason")) == (status, reason), path
        assert named in answer.json()["error"], path


@pytest.mark.parametrize(("port", "path"), [("mu", "/graphql"), ("cu", "/dry-run?process-id=")])
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"query":"\xff","Data":"\xff"}', b"[" * 5000, b"\xff", b"[]"]
)
def test_json_bodies_that_are_none(world: World, port: str, path: str, body: bytes) -> None:
    if path.endswith("="):
        path += b64url(world.token.id)
        body = body or b"{]"  # nothing at all is a dry run of nothing
    answer = httpx.post(getattr(world.small, port) + path, content=body, trust_env=False)
    assert answer.status_code == 400, answer.text
    named = "a GraphQL request is" if port == "mu" else "a dry run is a JSON message"
    assert named in answer.text


@pytest.mark.parametrize("port", ["mu", "su", "cu"])
def test_no_post_is_redirected_and_every_answer_is_open_to_browsers(
    world: World, port: str
) -> None:
    url = getattr(world.small, port)
    token = b64url(world.token.id)
    for path in ("", "/", "//", "/monitor", f"/monitor/{token}/", "/graphql/", "/tx/", "/nowhere"):
        answer = httpx.post(url + path, content=b"x", trust_env=False)
        assert 400 <= answer.status_code < 500, (path, answer.text)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json()["error"]
    preflight = httpx.request("OPTIONS", url + "/anything", trust_env=False)
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]


def raw_answer(url: str, request: bytes, *, patience_s: float = 20.0) -> bytes:
    """What a port says to these bytes until it hangs up."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=patience_s) as stream:
        answer = b""
        try:
            stream.sendall(request)
            while part := stream.recv(65536):
                answer += part
        except ConnectionError:
            pass  # it hung up while we wrote
        return answer


def test_headers_and_declared_bodies_above_the_bounds(world: World) -> None:
    long = b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (20 << 10) + b"\r\n\r\n"
    assert raw_answer(world.mu, long).startswith(b"HTTP/1.1 431 ")
    huge = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n"
    answer = raw_answer(world.mu, huge + bytes(1000))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"99999999999" in answer


def test_slow_clients_hold_up_nobody(world: World) -> None:
    """Bodies that drip and headers that never end, while others are served."""
    place = urlsplit(world.mu)
    half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nab"
    held = []
    for start in (half, b"POST / HT", b"") * 20:
        stream = socket.create_connection((place.hostname, place.port), timeout=20)
        stream.sendall(start)
        held.append(stream)
    started = time.monotonic()
    item = world.message(400)
    assert httpx.post(world.mu, content=item.raw, trust_env=False).status_code == 202
    assert time.monotonic() - started < 10
    for stream in held:
        stream.close()


def test_the_network_goes_on_serving(world: World) -> None:
    """The last of this file: after all of the above, a message still gets its result."""
    item = world.message(500)
    assert httpx.post(world.mu, content=item.raw, trust_env=False).status_code == 202
    path = f"{world.small.cu}/result/{b64url(item.id)}?process-id={b64url(world.token.id)}"
    result = httpx.get(path, trust_env=False, timeout=30).json()
    assert result["Messages"][0]["Tags"][0] == {"name": "Action", "value": "Info-Notice"}
    for url in (world.mu, world.small.su, world.small.cu):
        assert httpx.get(url + "/readyz", trust_env=False).json() == {"ready": True, "reasons": []}
        status = httpx.get(url + "/status", trust_env=False).json()
        assert all(machine["inbox"] == 0 for machine in status["machines"].values())
