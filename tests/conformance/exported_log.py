"""What a log says, read from a scheduler's pages and nowhere else, and what follows from it.

Every item is put together again from AO's JSON and its signature is checked, so a page that loses
or changes anything fails here. Then our engine replays the log.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from aonode.crypto.verify import verify_item
from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, SlotResult
from aonode.processes.npm import default_cache_dir
from protocols import abi
from protocols.errors import Invalid
from protocols.ids import ProcessId, b64url, parse_id, unb64url
from protocols.network import Network
from protocols.outbox import Bounds
from protocols.result import public_json
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, Tag, Unsigned
from protocols.wire.outcome import Status
from protocols.wire.process import memory_bytes, process_info

PAGE_LIMIT = 7
"""Small, so that every log has several pages."""
_TYPES = {512: (1,), 65: (3,), 32: (2, 4)}
"""Signature types by length of the owner's key."""


def item_of(shape: Mapping[str, Any], *, assignment: bool = False) -> Item:
    """The signed item that a page shows, its signature checked."""
    owner = unb64url(shape["owner"]["key"])
    anchor = shape["anchor"]
    if anchor is not None:
        anchor = unb64url(anchor) if len(anchor) == 43 else anchor.encode()
    for number in _TYPES[len(owner)]:
        unsigned = Unsigned(
            number,
            owner,
            parse_id(shape["target"]) if shape["target"] else None,
            anchor,
            tuple(Tag(tag["name"], tag["value"]) for tag in shape["tags"]),
            b"" if assignment else shape["data"].encode(),
        )
        item = unsigned.signed(unb64url(shape["signature"]))
        try:
            verify_item(item)
        except Invalid:
            continue
        assert b64url(item.id) == shape["id"]
        assert b64url(item.owner_address) == shape["owner"]["address"]
        return item
    raise AssertionError(f"the signature of {shape['id']} does not fit what the page shows")


def read_log(su: str, process: str) -> list[Slot]:
    """All slots of a process, from its pages, the chain checked."""
    query: dict[str, Any] = {"process-id": process, "limit": PAGE_LIMIT, "show-anchor": "1"}
    query["to-nonce"] = 1 << 40
    slots: list[Slot] = []
    chain = Chain.genesis(ProcessId(parse_id(process)))
    more = True
    while more:
        answer = httpx.get(f"{su}/{process}", params=query, trust_env=False)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        for edge in page["edges"]:
            node = edge["node"]
            assigned = assignment_of(item_of(node["assignment"], assignment=True))
            slots.append(slot_of(assigned, item_of(node["message"])))
            chain = chain.next(slots[-1])
            assert edge["cursor"] == str(chain.nonce)
        query["from-nonce"] = page["edges"][-1]["cursor"]
        more = page["page_info"]["has_next_page"]
    return slots


class Replay:
    """A log evaluated from slot 0 on, and what AO's compute unit would say of it."""

    def __init__(self, network: Network, module: Item, slots: Sequence[Slot]) -> None:
        parameters = network.parameters
        self._bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
        self.slots = slots
        self.info = process_info(slots[0].message)
        assert self.info.module == module.id
        self.format = module.first("Module-Format") or ""
        self._session = _engine(network).open(
            self.info.id,
            ModuleSpec(module.id, module.data, self.format),
            abi.env_for(self.format, self.info, module),
            memory_bytes(self.info, module, parameters),
        )
        self.outcomes = [
            self._session.run_slot(abi.call_for(self.format, slot, self.info)) for slot in slots
        ]

    def close(self) -> None:
        self._session.close()

    def result(self, nonce: int) -> Any:
        """Result JSON of a slot."""
        return self._public(self.outcomes[nonce])

    def results(self, *, descending: bool, limit: int) -> list[Any]:
        """All pages as aoconnect gives them on, from the first cursor to the last."""
        sort = "DESC" if descending else "ASC"
        nonces = range(len(self.slots))
        rows = [
            {"cursor": cursor(nonce, sort), "node": self._node(nonce)}
            for nonce in (reversed(nonces) if descending else nonces)
            if self.outcomes[nonce].status == Status.OK
        ]
        pages = [rows[start : start + limit] for start in range(0, len(rows), limit)]
        if not pages or len(pages[-1]) == limit:
            pages.append([])
        return [{"edges": page} for page in pages]

    def dry_run(self, message: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
        """Result of aoconnect's dry run of `message` on the last state."""
        tags = [*message.get("tags", ()), *defaults["tags"]]
        dry = abi.DryRun(
            id=message.get("Id", "1234"),
            owner=message.get("Owner", "1234"),
            target=b64url(self.info.id),
            tags=tuple(Tag(tag["name"], tag["value"]) for tag in tags),
            data=message.get("data", "1234"),
            timestamp=self.slots[-1].assignment.timestamp,
            anchor=message.get("anchor", "0"),
        )
        call = abi.dry_call_for(self.format, dry, self.info, self.slots[-1].nonce)
        return self._public(self._session.dry_run(call))

    def _node(self, nonce: int) -> Any:
        result = self.result(nonce)
        return {name: result[name] for name in ("Messages", "Output", "Spawns")}

    def _public(self, outcome: SlotResult) -> Any:
        text = public_json(
            self.format, Status(outcome.status), outcome.raw, self._bounds, outcome.fuel
        )
        return json.loads(text)


def cursor(nonce: int, sort: str) -> str:
    """AO's cursor of a slot: base64 of JSON."""
    text = json.dumps({"timestamp": 0, "ordinate": str(nonce), "sort": sort}, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def _engine(network: Network) -> WasmEngine:
    parameters = network.parameters
    engine = WasmEngine(
        fuel_max=parameters.fuel_max,
        memory_max=parameters.memory_max,
        output_bytes_max=parameters.output_bytes_max,
        outbox_max=parameters.outbox_max,
        cache_dir=default_cache_dir().parent / "test-code",
    )
    assert engine.profile == network.profile
    return engine
