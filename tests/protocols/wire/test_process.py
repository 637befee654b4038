from __future__ import annotations

from dataclasses import replace

import pytest

from aonode.crypto.signers import EthereumSigner, sign_item
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.network import demo_parameters
from protocols.wire.item import Item
from protocols.wire.process import (
    ProcessInfo,
    admissible,
    assignable,
    home_of,
    is_authority,
    memory_bytes,
    memory_limit,
    outbox_tag,
    owner_text,
    process_info,
    push_key,
    sender_of,
)
from tests.protocols.wire.sample import (
    MESSENGER,
    MODULE,
    SCHEDULER,
    USER,
    message_item,
    process_item,
    tags,
)

PARAMETERS = demo_parameters()
AUTHORITY = ("Authority", b64url(MESSENGER.address))
SOURCE = bytes([5]) * 32
FROM = ("From-Process", b64url(SOURCE))


def info(*extra: tuple[str, str]) -> ProcessInfo:
    return process_info(process_item(*extra))


def test_process_info_reads_the_tags() -> None:
    item = process_item(
        ("Authority", f"{b64url(SOURCE)}, {b64url(bytes(32))},"),
        AUTHORITY,
        ("Memory-Limit", "1-gb"),
    )
    process = process_info(item)
    assert process.id == ProcessId(item.id)
    assert (process.owner, process.owner_address) == (USER.key, USER.address)
    assert (process.module, process.scheduler) == (MODULE, SCHEDULER.address)
    assert process.authorities == (b64url(SOURCE), b64url(bytes(32)), AUTHORITY[1])
    assert process.memory_limit == 1 << 30
    assert process.tags == item.tags
    assert info().memory_limit is None


@pytest.mark.parametrize(
    "item",
    [
        process_item(drop=["Module"]),
        process_item(drop=["Scheduler"]),
        process_item(drop=["Data-Protocol"]),
        process_item(drop=["Type"]),
        process_item(("Module", "x"), drop=["Module"]),
        process_item(("Scheduler", "https://example.org"), drop=["Scheduler"]),
        process_item(("Memory-Limit", "lots")),
        process_item(("Authority", ",".join("abc" for _ in range(65)))),
        process_item(("colour+link", "x")),
        process_item(("colour", "x+link")),
        message_item(bytes(32)),
    ],
)
def test_what_cannot_start_a_log(item: Item) -> None:
    with pytest.raises(Invalid) as refusal:
        admissible(item, None, PARAMETERS)
    assert refusal.value.reason is Reason.INADMISSIBLE
    assert b64url(item.id) in refusal.value.detail or "Memory-Limit" in refusal.value.detail


def test_what_may_start_a_log() -> None:
    admissible(process_item(("Data-Protocol", "other"), AUTHORITY), None, PARAMETERS)


def test_what_may_enter_a_log() -> None:
    process = info(AUTHORITY)
    admissible(message_item(process.id, ("Action", "Eval")), process, PARAMETERS)
    pushed = message_item(process.id, FROM, ("Outbox", "3.0"), signer=MESSENGER)
    admissible(pushed, process, PARAMETERS)


@pytest.mark.parametrize(
    "outbox", ["", "3", "3.", ".0", "3.x", "03.0", "3.0.0", "-1.0", "1.4294967296"]
)
def test_an_outbox_tag_has_one_form(outbox: str) -> None:
    process = info(AUTHORITY)
    with pytest.raises(Invalid) as refusal:
        admissible(message_item(process.id, FROM, ("Outbox", outbox)), process, PARAMETERS)
    assert refusal.value.reason is Reason.INADMISSIBLE


def test_what_may_not_enter_a_log() -> None:
    process = info(AUTHORITY)
    outbox = ("Outbox", "3.0")
    wrong = [
        message_item(bytes(32)),
        message_item(process.id, drop=["Type"]),
        message_item(process.id, drop=["Data-Protocol"]),
        message_item(process.id, ("Balance+link", "x")),
        process_item(),
        message_item(process.id, outbox),
        message_item(process.id, outbox, outbox, FROM),
        message_item(process.id, outbox, FROM, FROM),
        message_item(process.id, outbox, ("From-Process", "me")),
        sign_item(USER, tags=message_item(process.id).tags),
    ]
    for item in wrong:
        with pytest.raises(Invalid) as refusal:
            admissible(item, process, PARAMETERS)
        assert refusal.value.reason is Reason.INADMISSIBLE


def test_size_bound_is_the_networks() -> None:
    process = info()
    item = message_item(process.id, data=bytes(5000))
    exact = replace(PARAMETERS, item_bytes_max=len(item.raw))
    admissible(item, process, exact)
    with pytest.raises(Invalid) as refusal:
        admissible(item, process, replace(exact, item_bytes_max=len(item.raw) - 1))
    assert refusal.value.reason is Reason.OVERSIZE


def test_from_process_counts_from_authorities_only() -> None:
    process = info(AUTHORITY)
    forged = message_item(process.id, FROM)
    pushed = message_item(process.id, FROM, signer=MESSENGER)
    assert not is_authority(forged, process)
    assert sender_of(forged, process) == b64url(USER.address)
    assert is_authority(pushed, process)
    assert sender_of(pushed, process) == b64url(SOURCE)
    assert sender_of(message_item(process.id, signer=MESSENGER), process) == AUTHORITY[1]


def test_ethereum_owner_is_named_as_ethereum_does() -> None:
    signer = EthereumSigner(bytes([1]) * 32)
    item = sign_item(signer, target=bytes(32), tags=tags(FROM))
    name = "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"
    assert owner_text(item) == name
    assert sender_of(item, info(("Authority", name))) == b64url(SOURCE)
    assert sender_of(item, info(("Authority", b64url(item.owner_address)))) == b64url(SOURCE)
    assert sender_of(item, info()) == name


def test_push_key_of_an_authority_has_no_owner() -> None:
    process = info(AUTHORITY)
    pushed = message_item(process.id, FROM, ("Outbox", "3.1"), signer=MESSENGER)
    forged = message_item(process.id, FROM, ("Outbox", "3.1"))
    key = push_key(pushed, process)
    assert key is not None
    assert (key.target, key.from_process) == (process.id, ProcessId(SOURCE))
    assert (key.slot, key.index, key.owner) == (3, 1, None)
    stranger = push_key(forged, process)
    assert stranger == replace(key, owner=USER.address)
    assert push_key(message_item(process.id, FROM), process) is None
    assert push_key(process_item(), None) is None


def test_home_is_the_log_an_item_is_for() -> None:
    process = process_item()
    assert home_of(process) == ProcessId(process.id)
    assert home_of(message_item(SOURCE)) == ProcessId(SOURCE)
    assert home_of(sign_item(USER, tags=tags())) is None


def test_assignable_is_almost_anything() -> None:
    for item in (process_item(), message_item(SOURCE, drop=["Data-Protocol", "Type"])):
        assignable(item, PARAMETERS)
    assert push_key(message_item(SOURCE, FROM, ("Outbox", "x")), info()) is None
    for wrong, reason in (
        (message_item(SOURCE, ("a", "b+link")), Reason.INADMISSIBLE),
        (message_item(SOURCE, ("Type", "Assignment"), drop=["Type"]), Reason.INADMISSIBLE),
        (message_item(SOURCE, data=bytes(PARAMETERS.item_bytes_max)), Reason.OVERSIZE),
    ):
        with pytest.raises(Invalid) as refusal:
            assignable(wrong, PARAMETERS)
        assert refusal.value.reason is reason


def test_outbox_tag_is_read_back() -> None:
    process = info()
    item = message_item(process.id, FROM, tuple(outbox_tag(12, 255)))  # type: ignore[arg-type]
    key = push_key(item, process)
    assert key is not None
    assert (key.slot, key.index) == (12, 255)


@pytest.mark.parametrize(
    ("text", "size"), [("1-gb", 1 << 30), ("500-mb", 500 << 20), ("16-kb", 16 << 10), ("7-b", 7)]
)
def test_memory_limits(text: str, size: int) -> None:
    assert memory_limit(text) == size


@pytest.mark.parametrize("text", ["", "1gb", "1-GB", "-gb", "1.5-gb", "1-tb", "1-gb-x"])
def test_what_is_no_memory_limit(text: str) -> None:
    with pytest.raises(Invalid):
        memory_limit(text)


def test_least_memory_limit_holds() -> None:
    module = sign_item(USER, tags=tags(("Memory-Limit", "64-mb")))
    bare = sign_item(USER, tags=tags(("Type", "Module")))
    assert memory_bytes(info(), bare, PARAMETERS) == PARAMETERS.memory_max
    assert memory_bytes(info(), module, PARAMETERS) == 64 << 20
    assert memory_bytes(info(("Memory-Limit", "128-mb")), module, PARAMETERS) == 128 << 20
    assert memory_bytes(info(("Memory-Limit", "900-gb")), module, PARAMETERS) == (
        PARAMETERS.memory_max
    )
