"""What every port says about the ledger: amounts are base units, times ticks, ids base64url.

`/ledger/checkpoint` and `/ledger/prove/KIND/KEY` are for those who trust no node: a transaction
with the stakers' votes, and proofs of entries under the root they voted for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import LedgerApi, NodeApi
from aonode.http.edge import integer_of
from aonode.http.problem import json_response
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ProcessId, b64url, parse_id, unb64url
from protocols.ledger.entries import (
    KINDS,
    Account,
    Bond,
    Case,
    Demanded,
    Entry,
    Fine,
    Registered,
    Session,
    Totals,
    Unbonding,
    Unhosted,
)
from protocols.ledger.state import State
from protocols.machine.events import FoldedSlot
from protocols.network import Network
from protocols.wire.unit import UnitAnnouncement

T = TypeVar("T")

ENTRIES_MAX = 4096
"""Entries of one kind in one answer: as many as a checkpoint can have votes."""
SLOTS_LIMIT = 100
SLOTS_LIMIT_MAX = 1000
PROVE_MAX = 128
"""Entries one request may have proved beside the stakes."""
WAIT_MS_MAX = 10_000
SLOT_MAX = (1 << 63) - 1

KIND_NAMES = {kind.__name__.lower(): kind for kind in KINDS.values()}
"""Kinds of entries as `/ledger/prove` names them."""


def ledger_of(node: NodeApi) -> tuple[ProcessId, LedgerApi]:
    """The ledger's process and what this node knows of it. Raises Invalid, which shows as 404."""
    process = node.network.ledger
    if process is None or node.ledger is None:
        raise Invalid(
            Reason.UNKNOWN_PROCESS,
            f"network {node.network.name!r} has no ledger: nothing is at stake on it; "
            "'aonode init' makes networks with one",
        )
    return process, node.ledger


def routes(node: NodeApi) -> list[Route]:
    """The ledger's routes."""
    edge = _Ledger(node)
    return [
        Route("/ledger", edge.show),
        Route("/ledger/account/{address}", edge.account),
        Route("/ledger/units", edge.units),
        Route("/ledger/cases", edge.cases),
        Route("/ledger/demands", edge.demands),
        Route("/ledger/slots", edge.slots),
        Route("/ledger/checkpoint", edge.checkpoint),
        Route("/ledger/prove/{kind}/{key}", edge.prove),
    ]


class _Ledger:
    def __init__(self, node: NodeApi) -> None:
        self._node = node
        self._stakes: tuple[bytes, list[dict[str, Any]]] = (b"", [])
        """Root, and the proofs of all stakes under it: every client asks for the same ones."""

    async def show(self, request: Request) -> Response:
        """The whole in numbers."""
        process, ledger = ledger_of(self._node)
        return json_response(_summary(self._node.network, process, ledger))

    async def account(self, request: Request) -> Response:
        """Coins and stake of one address; zeros for one that the ledger does not know."""
        _, ledger = ledger_of(self._node)
        address = Address(parse_id(request.path_params["address"], "address"))
        return json_response(account_json(ledger.state(), address))

    async def units(self, request: Request) -> Response:
        """Whoever has a stake, and what a staked unit has registered about itself."""
        _, ledger = ledger_of(self._node)
        state = ledger.state()
        rows = [_unit_json(state, Address(key), bond) for key, bond in _some(state.all(Bond))]
        return json_response({"slot": state.totals().slot, "units": rows})

    async def cases(self, request: Request) -> Response:
        """Verdicts: `cases` froze a whole stake, `fines` took a share of one, `unhosted` are logs
        that their scheduler may keep no longer."""
        _, ledger = ledger_of(self._node)
        state = ledger.state()
        cases = [{"account": b64url(key), **entry_json(case)} for key, case in _cases(state)]
        fines = [
            {"account": b64url(key[:32]), "offence": b64url(key[32:]), **entry_json(fine)}
            for key, fine in _some(state.all(Fine))
        ]
        unhosted = [
            {"process": b64url(key), **entry_json(entry)}
            for key, entry in _some(state.all(Unhosted))
        ]
        found = {"cases": cases, "fines": fines, "unhosted": unhosted}
        return json_response({"slot": state.totals().slot, **found})

    async def demands(self, request: Request) -> Response:
        """Demands that are made and not over."""
        _, ledger = ledger_of(self._node)
        state = ledger.state()
        rows = [{"id": b64url(key), **entry_json(row)} for key, row in _some(state.all(Demanded))]
        return json_response({"slot": state.totals().slot, "demands": rows})

    async def slots(self, request: Request) -> Response:
        """What the fold did: `from`, `limit`; or in the slot of `item`, awaited for `wait_ms`.

        What it did long ago is not remembered: those slots are left out; go on from `next`."""
        process, ledger = ledger_of(self._node)
        limit = integer_of(request, "limit", SLOTS_LIMIT, least=1, most=SLOTS_LIMIT_MAX)
        first = integer_of(request, "from", 0, least=0, most=SLOT_MAX)
        item = request.query_params.get("item")
        if item is not None:
            wait_s = integer_of(request, "wait_ms", 0, least=0, most=WAIT_MS_MAX) / 1000
            id = parse_id(item, "item")
            _, first = await self._node.replica.wait_slot(id, wait_s, process)
            # A slot that came at the last moment still gets a second to be folded.
            await ledger.follow(first, max(1.0, wait_s))
            limit = 1
        last = ledger.state().totals().slot
        rows = [_slot_json(row) for row in ledger.recent(first, limit)]
        return json_response({"last": last, "next": min(first + limit, last + 1), "slots": rows})

    async def checkpoint(self, request: Request) -> Response:
        """The last final checkpoint. `stakes=1` adds proofs of the totals, of every stake and of
        every session key; `prove=KIND/KEY`, repeated, of other entries, all under its root."""
        _, ledger = ledger_of(self._node)
        found = ledger.final()
        if found is None:
            raise Invalid(Reason.UNKNOWN_ITEM, "no checkpoint is final yet; wait for some ticks")
        item, state = found
        asked = request.query_params.getlist("prove")
        if len(asked) > PROVE_MAX:
            raise Invalid(Reason.OVERSIZE, f"{len(asked)} entries to prove, at most {PROVE_MAX}")
        proofs = self._proofs(state) if request.query_params.get("stakes") == "1" else []
        proofs = proofs + [_proof_json(state, *_key(*text.partition("/")[::2])) for text in asked]
        answer = {"checkpoint": b64url(item.raw), **_under(state)}
        return json_response({**answer, "proofs": proofs})

    def _proofs(self, state: State) -> list[dict[str, Any]]:
        """Proofs of the totals, of every stake and of every session key."""
        root = state.root()
        if self._stakes[0] != root:
            keys: list[tuple[type[Entry], bytes]] = [(Totals, b"")]
            for kind in (Bond, Session):
                keys += [(kind, key) for key, _ in _some(state.all(kind))]
            self._stakes = root, [_proof_json(state, *key) for key in keys]
        return self._stakes[1]

    async def prove(self, request: Request) -> Response:
        """One entry, or its absence, under the last final root."""
        _, ledger = ledger_of(self._node)
        kind, key = _key(request.path_params["kind"], request.path_params["key"])
        found = ledger.final()
        if found is None:
            raise Invalid(Reason.UNKNOWN_ITEM, "no checkpoint is final yet; wait for some ticks")
        _, state = found
        return json_response({**_under(state), **_proof_json(state, kind, key)})


# Shapes


def _summary(network: Network, process: ProcessId, ledger: LedgerApi) -> dict[str, Any]:
    state = ledger.state()
    totals = state.totals()
    found = ledger.final()
    return {
        "process": b64url(process),
        "slot": totals.slot,
        "head": b64url(ledger.head()),
        "root": b64url(state.root()),
        "tick": totals.tick,
        "final": totals.final,
        "checkpoint": None if found is None else _under(found[1]),
        "genesis": totals.genesis,
        "minted": totals.minted,
        "burnt": totals.burnt,
        "supply": totals.genesis + totals.minted - totals.burnt,
        "left": totals.left,
        "bonded": totals.bonded,
        "denomination": network.parameters.denomination,
        "base_unit": network.parameters.base_unit,
    }


def _under(state: State) -> dict[str, Any]:
    return {"slot": state.totals().slot, "root": b64url(state.root())}


def account_json(state: State, address: Address) -> dict[str, Any]:
    """All that the ledger holds about one address."""
    account = state.get(Account, address) or Account(0, -1)
    session = state.get(Session, address)
    return {
        "address": b64url(address),
        "balance": account.balance,
        "sequence": account.sequence,
        **_stake_json(state, address, state.get(Bond, address) or Bond(0, 0, False)),
        "session_of": None if session is None else b64url(session.account),
        "tick": state.totals().tick,
    }


def _stake_json(state: State, address: Address, bond: Bond) -> dict[str, Any]:
    waiting = [
        {"tick": int.from_bytes(key[32:], "big"), "amount": entry.amount}
        for key, entry in _some(state.all(Unbonding, address))
    ]
    cases = [entry_json(case) for key, case in _cases(state, address)]
    return {
        "stake": bond.amount,
        "frozen": bond.frozen,
        "sessions": bond.sessions,
        "unbonding": waiting,
        "case": cases[0] if cases else None,
    }


def _unit_json(state: State, address: Address, bond: Bond) -> dict[str, Any]:
    registered = state.get(Registered, address)
    unit = None if registered is None else UnitAnnouncement.decode(registered.unit)
    return {
        "address": b64url(address),
        **_stake_json(state, address, bond),
        "unit": None
        if unit is None
        else {
            "key": b64url(unit.key),
            "roles": list(unit.roles),
            "addresses": list(unit.addresses),
            "urls": [list(url) for url in unit.urls],
            "expiry_ms": unit.expiry_ms,
        },
    }


def _cases(state: State, *parts: bytes) -> list[tuple[bytes, Case]]:
    return _some(state.all(Case, *parts))


def entry_json(entry: Entry) -> dict[str, Any]:
    """The fields of an entry by name."""
    assert is_dataclass(entry), "entries are"
    return {field.name: _plain(getattr(entry, field.name)) for field in fields(entry)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64url(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _slot_json(row: FoldedSlot) -> dict[str, Any]:
    return {
        "slot": row.nonce,
        "item": b64url(row.item.id),
        "action": row.item.first("Action"),
        "sender": b64url(row.item.owner_address),
        "notes": [
            {"kind": str(note.kind), "detail": note.detail, "subject": b64url(note.subject)}
            for note in row.notes
        ],
    }


def _some(rows: Iterable[T]) -> list[T]:
    return list(islice(rows, ENTRIES_MAX))


def _key(name: str, text: str) -> tuple[type[Entry], bytes]:
    """Kind and rest of the key. Raises Invalid(MALFORMED)."""
    kind = KIND_NAMES.get(name)
    if kind is None:
        raise Invalid(
            Reason.MALFORMED, f"{name[:64]!r} is no kind of entry; use {', '.join(KIND_NAMES)}"
        )
    size = kind.KEY_BYTES - 1
    key = unb64url(text) if size and len(text) <= 2 * kind.KEY_BYTES else b""
    if len(key) != size:
        raise Invalid(
            Reason.MALFORMED,
            f"the key of a {name} is base64url of {size} bytes (ids, and numbers of 8 bytes), not "
            f"{text[:64]!r}",
        )
    return kind, key


def _proof_json(state: State, kind: type[Entry], key: bytes) -> dict[str, Any]:
    return {
        "kind": kind.__name__.lower(),
        "key": b64url(key),
        "proof": b64url(state.prove(kind, key).encode()),
    }
