"""Golden bytes of what modules get, of what their outputs mean, and of compute units' statements.

The tests compare; only `python -m tests.protocols.golden --write` writes. A file that changes
means that two releases no longer agree on a result.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from aonode.crypto.signers import Ed25519Signer, EthereumSigner, sign_item
from protocols import abi
from protocols.accumulator import Mmr
from protocols.codec import encode
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId, b64url
from protocols.outbox import FORMAT_CBOR, Bounds, Derived, derive
from protocols.result import public_json
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, Tag, Unsigned
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import process_info
from protocols.wire.proof import Leaf, Receipt, StateProof
from tests.vectors import VECTORS, load

SCHEDULER = Ed25519Signer(bytes(range(32)))
USER = Ed25519Signer(bytes(range(2, 34)))
CU = Ed25519Signer(bytes(range(3, 35)))
WALLET = EthereumSigner(bytes([1]) * 32)
NETWORK = NetworkId(bytes([9]) * 32)
PROFILE = bytes([8]) * 32
JSON_FORMAT = "wasm64-unknown-emscripten-draft_2024_02_15"
BOUNDS = Bounds(output_bytes_max=4096, outbox_max=3)
ODD = 'a"b\\c\b\f\n\r\t\x00\x1f\x7f é ✓ \u2028\u2029 \U0001f600'
"""Every kind of character that a JSON writer may treat specially."""


# What modules get


def module_item() -> Item:
    pairs = (("Data-Protocol", "ao"), ("Type", "Module"), ("Module-Format", JSON_FORMAT))
    return sign_item(USER, anchor=bytes(32), tags=_tags(*pairs), data=b"\0asm")


def process_item() -> Item:
    pairs = (
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", b64url(module_item().id)),
        ("Scheduler", b64url(SCHEDULER.address)),
        ("Authority", b64url(CU.address)),
        ("Name", ODD),
    )
    return sign_item(USER, anchor=bytes([1]) * 32, tags=_tags(*pairs), data=b"return 1\n")


def call_slots() -> list[tuple[str, Slot]]:
    """A log whose messages differ in everything that the ABI treats differently."""
    process = process_item()
    ao = (("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message"))
    other = b64url(bytes([5]) * 32)
    plain = sign_item(
        USER, target=process.id, anchor=b"0" * 32, tags=_tags(*ao, ("Action", "Eval")), data=b"1"
    )
    odd = sign_item(
        USER,
        target=process.id,
        anchor=bytes([0xFF]) * 32,
        tags=_tags(*ao, ("Note", ODD), ("From", "forged"), ("Owner", "forged")),
        data=ODD.encode() + b"\xff\xe2\x82\xed\xa0\x80",
    )
    pushed = sign_item(
        CU, target=process.id, anchor=None, tags=_tags(*ao, ("From-Process", other)), data=b" "
    )
    stranger = sign_item(
        USER, target=process.id, anchor=None, tags=_tags(*ao, ("From-Process", other)), data=b" "
    )
    wallet = sign_item(WALLET, target=process.id, anchor=None, tags=_tags(*ao), data=b"")
    hidden = sign_item(USER, target=None, anchor=None, tags=_tags(*ao), data=b"unseen")
    items: list[tuple[str, Item, tuple[str, ...]]] = [
        ("process", process, ()),
        ("plain", plain, ()),
        ("odd characters", odd, ()),
        ("pushed by an authority", pushed, ()),
        ("From-Process of a stranger", stranger, ()),
        ("Ethereum owner", wallet, ()),
        ("assigned by id, withheld fields", hidden, ("Data", "Anchor", "Nonce", "Id", "nonsense")),
    ]
    chain = Chain.genesis(ProcessId(process.id))
    slots = []
    for number, (name, item, exclude) in enumerate(items):
        message = None if number == 0 else item.id
        draft = chain.draft(NodeKey(SCHEDULER.key), 1_700_000_000_000 + number, message, exclude)
        slot = slot_of(assignment_of(_signed(draft, SCHEDULER)), item)
        chain = chain.next(slot)
        slots.append((name, slot))
    return slots


def dry_runs() -> list[tuple[str, abi.DryRun]]:
    pid = b64url(process_item().id)
    return [
        (
            "as aoconnect asks",
            abi.DryRun(
                id="1234",
                owner="1234",
                target=pid,
                tags=_tags(("Action", "Info"), ("Data-Protocol", "ao")),
                data="1234",
                timestamp=1_700_000_000_000,
                anchor="0",
            ),
        ),
        (
            "with all fields",
            abi.DryRun(
                id="x",
                owner="me",
                target=pid,
                tags=_tags(("From-Process", "you"), ("From", "forged"), ("Odd", "\ud800" + ODD)),
                data="lone \udc00 surrogate",
                timestamp=1,
                block_height=1_500_000,
                signature="sig",
            ),
        ),
    ]


def abi_vectors() -> Any:
    info = process_info(process_item())
    return {
        "process": process_item().raw.hex(),
        "module": module_item().raw.hex(),
        "env": abi.env_for(JSON_FORMAT, info, module_item()).decode(),
        "calls": [
            {
                "name": name,
                "assignment": slot.assignment.item.raw.hex(),
                "message": slot.message.raw.hex(),
                "json": abi.call_for(JSON_FORMAT, slot, info).decode(),
                "cbor": abi.call_for(FORMAT_CBOR, slot, info).hex(),
            }
            for name, slot in call_slots()
        ],
        "dry_runs": [
            {
                "name": name,
                "json": abi.dry_call_for(JSON_FORMAT, dry, info, 7).decode(),
                "cbor": abi.dry_call_for(FORMAT_CBOR, dry, info, 7).hex(),
            }
            for name, dry in dry_runs()
        ],
    }


# What outputs mean


def ok(response: str) -> bytes:
    """A JSON-1 output that did not fail."""
    return f'{{"ok":true,"response":{response}}}'.encode()


def output_of(size: int) -> bytes:
    """A good output of exactly `size` bytes."""
    frame = len(ok('{"Output":""}'))
    return ok('{"Output":"' + "x" * (size - frame) + '"}')


MESSAGE = '{"Target":"t","Anchor":"a","Data":"d","Tags":[{"name":"n","value":"v"}]}'
JSON_OUTPUTS: list[tuple[str, bytes]] = [
    ("empty response", ok("{}")),
    ("everything", ok(
        f'{{"Messages":[{MESSAGE}],"Spawns":[{{"Data":"NODATA","Anchor":"b","Tags":[]}}],'
        '"Assignments":[{"Processes":["p"],"Message":"m"}],"Output":{"data":"2"}}'
    )),
    ("Lua's empty tables", ok('{"Messages":{},"Spawns":[],"Assignments":{},"Output":{}}')),
    ("nulls are absent", ok(
        '{"Messages":[{"Target":null,"Anchor":null,"Data":null,"Tags":null}],"Spawns":null,'
        '"Output":null,"Error":null}'
    )),
    ("source text of other values", ok(
        '{"Messages":[{"Target":5,"Data":[1, {"a" : 1e400}],"Anchor":true,'
        '"Tags":[{"name":1.50,"value":{}},{"name":"x","value":-0}]}],"Output":0.10}'
    )),
    ("a number of 4001 digits", ok('{"Messages":[{"Target":"t","Data":1' + "0" * 4000 + "}]}")),
    ("last duplicate key wins", ok('{"Output":1,"Output":2,"\\u004futput":3}')),
    ("surrogates", ok('{"Output":"\\ud83d\\ude00 \\ud800 \\udc00\\ud83d"}')),
    ("bytes that are not UTF-8", ok('{"Output":"X"}').replace(b"X", b"\xff\xe2\x82\xed\xa0\x80")),
    ("unknown fields", ok('{"Patches":[],"GasUsed":0,"Memory":"x"}')),
    ("spaces", b' {\t"ok" :\r true ,\n"response":{ } } '),
    ("64 deep", ok('{"Output":' + "[" * 62 + "]" * 62 + "}")),
    ("65 deep", ok('{"Output":' + "[" * 63 + "]" * 63 + "}")),
    ("1200 deep", ok('{"Output":' + "[" * 1198 + "]" * 1198 + "}")),
    ("brackets in text are not depth", ok('{"Output":"' + "[{" * 100 + '"}')),
    ("error", ok('{"Error":"boom","Messages":[1]}')),
    ("error that is a table", ok('{"Error":{"code": 1}}')),
    ("empty error", ok('{"Error":"","Output":"x"}')),
    ("false error", ok('{"Error":false}')),
    ("zero error", ok('{"Error":0}')),
    ("not ok", b'{"ok":false,"response":"zap"}'),
    ("not ok with a table", b'{"ok":false,"response":{"a":1}}'),
    ("not ok without words", b'{"ok":false}'),
    ("three deliveries", ok(f'{{"Messages":[{MESSAGE},{MESSAGE},{MESSAGE}]}}')),
    ("four deliveries", ok(f'{{"Messages":[{MESSAGE},{MESSAGE},{MESSAGE},{MESSAGE}]}}')),
    ("an assignment counts by process", ok(
        '{"Assignments":[{"Processes":["a","b","c","d"],"Message":"m"}]}'
    )),
    ("one process as text", ok('{"Assignments":[{"Processes":"p","Message":"m"}]}')),
    ("bad entry and too many", ok(f'{{"Messages":[{MESSAGE},{MESSAGE},{MESSAGE},{MESSAGE},1]}}')),
    ("largest output", output_of(4096)),
    ("one byte too large", output_of(4097)),
    ("empty", b""),
    ("no object", b"[]"),
    ("ok missing", b'{"response":{}}'),
    ("ok is text", b'{"ok":"true","response":{}}'),
    ("response missing", b'{"ok":true}'),
    ("response is text", ok('"x"')),
    ("NaN", ok('{"Output":NaN}')),
    ("Infinity", ok('{"Output":-Infinity}')),
    ("leading zero", ok('{"Output":01}')),
    ("bare point", ok('{"Output":1.}')),
    ("raw control character", ok('{"Output":"\n"}')),
    ("bad escape", ok('{"Output":"\\x"}')),
    ("trailing comma", ok('{"Output":[1,]}')),
    ("rest after the end", ok("{}") + b"x"),
    ("NUL after the end", ok("{}") + b"\0"),
    ("byte order mark", b"\xef\xbb\xbf" + ok("{}")),
    ("single quotes", b"{'ok':true,'response':{}}"),
    ("message is a number", ok('{"Messages":[1]}')),
    ("messages are text", ok('{"Messages":"x"}')),
    ("messages are a filled object", ok('{"Messages":{"1":{}}}')),
    ("tag is text", ok('{"Messages":[{"Tags":["x"]}]}')),
    ("tags are a filled object", ok('{"Messages":[{"Tags":{"a":"b"}}]}')),
    ("processes are a number", ok('{"Assignments":[{"Processes":1}]}')),
]  # fmt: skip

_TAGS = [["n", "v"]]
CBOR_OUTPUTS: list[tuple[str, bytes]] = [
    ("nothing", encode([0, None, [], None])),
    ("text", encode([0, "done ✓", [], None])),
    ("bytes", encode([0, b"done \xff", [], None])),
    ("kinds in any order", encode(
        [0, "", [[2, ["p"], "m"], [1, None, _TAGS, b""], [0, "t", "a", _TAGS, b"\xff"]], None]
    )),
    ("four deliveries", encode([0, "", [[2, ["p"] * 4, "m"]], None])),
    ("error", encode([1, "seen by nobody", [], "boom"])),
    ("error with an outbox", encode([1, "", [[2, ["p"], "m"]], "boom"])),
    ("error without words", encode([1, "", [], None])),
    ("status 2", encode([2, "", [], None])),
    ("status true", encode([True, "", [], "boom"])),
    ("status false", encode([False, "", [], None])),
    ("too few fields", encode([0, "", []])),
    ("output is a number", encode([0, 5, [], None])),
    ("entry of kind 3", encode([0, "", [[3, "t", None, [], b""]], None])),
    ("entry of kind false", encode([0, "", [[False, "t", None, [], b""]], None])),
    ("data is text", encode([0, "", [[0, "t", None, [], "d"]], None])),
    ("tag of one", encode([0, "", [[0, "t", None, [["n"]], b""]], None])),
    ("process is bytes", encode([0, "", [[2, [b"p"], "m"]], None])),
    ("not canonical", b"\x84\x18\x00\x60\x80\xf6"),
    ("a map", b"\xa0"),
    ("a float", b"\x84\x00\xf9\x00\x00\x80\xf6"),
    ("text that is not UTF-8", b"\x84\x00\x61\xff\x80\xf6"),
    ("empty", b""),
    ("rest after the end", encode([0, None, [], None]) + b"\0"),
    ("too large", encode([0, "x" * 5000, [], None])),
]  # fmt: skip


def _case(name: str, format: str, raw: bytes, bounds: Bounds) -> Any:
    derived = derive(format, Status.OK, raw, bounds)
    return {"name": name, "raw": raw.hex(), **meaning(derived)}


def meaning(derived: Derived) -> Any:
    """A derived result as vectors show it."""
    return {
        "status": derived.status.name,
        "output": derived.output,
        "error": derived.error,
        "outbox": [encode(entry.to_value()).hex() for entry in derived.outbox.entries()],
        "outbox_root": derived.outbox.root().hex(),
    }


def outbox_vectors() -> Any:
    return {
        "output_bytes_max": BOUNDS.output_bytes_max,
        "outbox_max": BOUNDS.outbox_max,
        "json": [_case(name, JSON_FORMAT, raw, BOUNDS) for name, raw in JSON_OUTPUTS],
        "cbor": [_case(name, FORMAT_CBOR, raw, BOUNDS) for name, raw in CBOR_OUTPUTS],
    }


def aos_vectors() -> Any:
    """What a real aos module answered (`aos.json`, recorded with AO's own loader)."""
    bounds = Bounds(1 << 20, 256)
    cases = []
    for case in load("aos")["cases"]:
        raw = ok(case["response"])
        cases.append(
            {
                "name": case["name"],
                **meaning(derive(JSON_FORMAT, Status.OK, raw, bounds)),
                "result": public_json(JSON_FORMAT, Status.OK, raw, bounds),
            }
        )
    return cases


# Statements


def statements() -> dict[str, Leaf | Receipt | StateProof]:
    process = ProcessId(bytes([1]) * 32)
    inner = Leaf(process, 5, ItemId(bytes([2]) * 32), None, outcome_hash(b"raw", bytes(32)), 9, 0)
    border = Leaf(
        process,
        71,
        ItemId(bytes([2]) * 32),
        bytes([3]) * 32,
        outcome_hash(b"", bytes(32)),
        5_000_000_000,
        int(Status.TRAP),
    )
    early = _receipt(inner, bytes([4]) * 32, None)
    late = _receipt(border, bytes([5]) * 32, bytes([6]) * 32)
    proof = StateProof(
        network=NETWORK,
        process=process,
        first=64,
        last=191,
        head_before=bytes([10]) * 32,
        head=bytes([11]) * 32,
        mmr_before=Mmr().root(),
        mmr_root=bytes([12]) * 32,
        block_roots=((127, bytes([13]) * 32),),
        state_root=bytes([14]) * 32,
        fuel=1 << 40,
        profile=PROFILE,
        tick=3,
        sequence=17,
        start=None,
        cu=NodeKey(CU.key),
    )
    signed = proof.signed(CU.sign(proof.signing_bytes()))
    return {"leaf": inner, "border_leaf": border, "early": early, "late": late, "proof": signed}


def _receipt(leaf: Leaf, head: bytes, block_root: bytes | None) -> Receipt:
    draft = Receipt(
        NETWORK,
        leaf.process,
        leaf.slot,
        head,
        leaf,
        Mmr().append(leaf.hash()).root(),
        block_root,
        PROFILE,
        NodeKey(CU.key),
    )
    return draft.signed(CU.sign(draft.signing_bytes()))


def proof_vectors() -> Any:
    document: dict[str, Any] = {"empty_outcome": outcome_hash(b"", bytes(32)).hex()}
    for name, statement in statements().items():
        document[name] = {"bytes": statement.encode().hex()}
        if isinstance(statement, Leaf):
            document[name]["hash"] = statement.hash().hex()
        else:
            document[name]["signed_bytes"] = statement.signing_bytes().hex()
    return document


def _tags(*pairs: tuple[str, str]) -> tuple[Tag, ...]:
    return tuple(Tag(name, value) for name, value in pairs)


def _signed(draft: Unsigned, signer: Ed25519Signer) -> Item:
    return draft.signed(signer.sign(draft.message()))


FILES = {
    "abi": abi_vectors,
    "outbox": outbox_vectors,
    "aos-derived": aos_vectors,
    "proof": proof_vectors,
}


def text_of(name: str) -> str:
    """What the file should say. Written in ASCII: the texts hold every odd character there is."""
    return json.dumps(FILES[name](), indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.protocols.golden --write")
    for file in FILES:
        (VECTORS / f"{file}.json").write_text(text_of(file), encoding="utf-8")
