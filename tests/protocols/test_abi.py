"""The bytes that modules get are the golden ones, and are JSON as JavaScript writes it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import abi
from protocols.codec import decode
from protocols.ethereum import address_text, keccak_256
from protocols.ids import b64url
from protocols.outbox import FORMAT_CBOR
from protocols.wire.assignment import Slot, assignment_of
from protocols.wire.item import Item, Tag, decode_item
from protocols.wire.process import ProcessInfo, process_info
from tests.protocols.golden import FILES, JSON_FORMAT, dry_runs, text_of
from tests.vectors import VECTORS as FOLDER
from tests.vectors import load

VECTORS = load("abi")
KEYS = [
    *("Id", "Signature", "Data", "Owner", "Anchor", "From", "Forwarded-By", "Tags", "Target"),
    *("Epoch", "Nonce", "Timestamp", "Block-Height", "Hash-Chain", "Message", "Cron", "Read-Only"),
]


def item(raw: str) -> Item:
    return decode_item(bytes.fromhex(raw), size_max=1 << 20)


INFO: ProcessInfo = process_info(item(VECTORS["process"]))
CALLS: dict[str, Any] = {case["name"]: case for case in VECTORS["calls"]}


def slot_of_case(case: dict[str, Any]) -> Slot:
    return Slot(assignment_of(item(case["assignment"])), item(case["message"]))


@pytest.mark.parametrize("name", FILES)
def test_bytes_are_the_golden_ones(name: str) -> None:
    assert text_of(name) == (FOLDER / f"{name}.json").read_text(encoding="utf-8"), (
        "two releases would disagree on results; if that is meant, run "
        "`python -m tests.protocols.golden --write` and give the format a new version"
    )


@pytest.mark.parametrize("name", CALLS)
def test_calls_follow_from_the_log_alone(name: str) -> None:
    case = CALLS[name]
    slot = slot_of_case(case)
    assert abi.call_for(JSON_FORMAT, slot, INFO).decode() == case["json"]
    assert abi.call_for(FORMAT_CBOR, slot, INFO).hex() == case["cbor"]


@pytest.mark.parametrize(
    "text",
    [VECTORS["env"], *(case["json"] for case in (*VECTORS["calls"], *VECTORS["dry_runs"]))],
)
def test_json_is_what_json_stringify_writes(text: str) -> None:
    again = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    assert again == text


@pytest.mark.parametrize("name", CALLS)
def test_keys_come_in_order_and_absent_ones_are_left_out(name: str) -> None:
    keys = list(json.loads(CALLS[name]["json"]))
    assert keys == [key for key in KEYS if key in keys]


def call(name: str) -> Any:
    return json.loads(CALLS[name]["json"])


def test_the_first_message_is_the_process_to_itself() -> None:
    first = call("process")
    assert first["Id"] == first["Target"] == b64url(INFO.id)
    assert first["Owner"] == first["From"] == INFO.owner_text
    assert first["Nonce"] == 0
    assert "Message" not in first
    assert {"name": "Type", "value": "Process"} in first["Tags"]


def test_numbers_are_integers() -> None:
    for name in CALLS:
        message = call(name)
        for key in ("Epoch", "Nonce", "Timestamp", "Block-Height"):
            assert type(message[key]) is int


def test_from_and_owner_tags_cannot_be_forged() -> None:
    odd = call("odd characters")
    assert [tag["name"] for tag in odd["Tags"]] == ["Data-Protocol", "Variant", "Type", "Note"]
    assert odd["From"] == odd["Owner"] != "forged"
    assert odd["Data"].endswith("\ufffd" * 5)


def test_who_speaks() -> None:
    """JSON-1 leaves trust to the process; ao-cbor-1 believes authorities only."""
    for name, believed in (("pushed by an authority", True), ("From-Process of a stranger", False)):
        message = call(name)
        source = next(tag["value"] for tag in message["Tags"] if tag["name"] == "From-Process")
        assert message["From"] == source
        assert message["Forwarded-By"] == message["Owner"]
        fields = decode(bytes.fromhex(CALLS[name]["cbor"]), size_max=4096)
        assert isinstance(fields, list)
        assert fields[6] == (source if believed else message["Owner"])


def test_withheld_fields_are_left_out() -> None:
    message = call("assigned by id, withheld fields")
    assert {"Data", "Anchor"}.isdisjoint(message)
    assert {"Id", "Nonce", "Tags", "Owner"} <= set(message)
    assert message["Target"] == ""


def test_cbor_call_has_the_stated_fields() -> None:
    case = CALLS["plain"]
    slot = slot_of_case(case)
    text = b64url(slot.message.owner_address)
    assert decode(bytes.fromhex(case["cbor"]), size_max=4096) == [
        1,
        INFO.id,
        INFO.module,
        1,
        slot.assignment.timestamp,
        slot.message.id,
        text,
        text,
        [list(tag) for tag in slot.message.tags],
        slot.message.data,
    ]


def test_an_item_for_another_process_is_from_nobody_in_cbor() -> None:
    """A transfer signed for one token must not move another one's money."""
    case = CALLS["assigned by id, withheld fields"]
    slot = slot_of_case(case)
    fields = decode(bytes.fromhex(case["cbor"]), size_max=4096)
    assert isinstance(fields, list)
    assert fields[6:] == [
        "",
        b64url(slot.message.owner_address),
        [["Data-Protocol", "ao"], ["Variant", "ao.TN.1"], ["Type", "Message"]],
        b"",
    ]
    assert fields[5] == slot.message.id


@pytest.mark.parametrize(
    ("name", "place", "empty"),
    [("From", 6, ""), ("Owner", 7, ""), ("Tags", 8, []), ("Data", 9, b"")],
)
def test_withheld_fields_are_empty_in_cbor(name: str, place: int, empty: Any) -> None:
    slot = slot_of_case(CALLS["plain"])
    hidden = Slot(replace(slot.assignment, exclude=(name,)), slot.message)
    whole, cut = (decode(abi.cbor_call(each, INFO), size_max=4096) for each in (slot, hidden))
    assert isinstance(whole, list)
    assert cut == [*whole[:place], empty, *whole[place + 1 :]]
    assert whole[place] != empty


def test_env_for_cbor_is_empty() -> None:
    assert abi.env_for(FORMAT_CBOR, INFO, item(VECTORS["module"])) == b""
    assert abi.env_for(JSON_FORMAT, INFO, item(VECTORS["module"])).decode() == VECTORS["env"]


def test_dry_runs_are_read_only_and_have_no_nonce() -> None:
    for (name, dry), case in zip(dry_runs(), VECTORS["dry_runs"], strict=True):
        assert name == case["name"]
        message = json.loads(abi.dry_call_for(JSON_FORMAT, dry, INFO, 7))
        assert message["Read-Only"] is True
        assert "Nonce" not in message


@given(st.text(max_size=8), st.text(max_size=8))
def test_any_dry_run_text_can_be_given(name: str, text: str) -> None:
    """Also lone surrogates, which a JSON body can hold."""
    dry = abi.DryRun(
        id=text + "\ud800",
        owner=text,
        target=text,
        tags=(Tag(name, text + "\udc00"),),
        data=text,
        timestamp=0,
    )
    json.loads(abi.dry_call_for(JSON_FORMAT, dry, INFO, 0))
    decode(abi.dry_call_for(FORMAT_CBOR, dry, INFO, 0), size_max=4096)


def test_keccak_and_addresses() -> None:
    """Keccak's and EIP-55's published examples."""
    assert keccak_256(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
    assert keccak_256(b"abc").hex() == (
        "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    )
    generator = bytes.fromhex(
        "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    )
    assert address_text(generator) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"


def test_keccak_agrees_with_a_library_at_every_block_border() -> None:
    from Crypto.Hash import keccak

    for size in (0, 1, 64, 134, 135, 136, 137, 271, 272, 400):
        data = bytes(range(256))[: size % 256] * (1 + size // 256)
        assert keccak_256(data) == keccak.new(data=data, digest_bits=256).digest()
