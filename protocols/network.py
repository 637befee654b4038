"""The network file: what all nodes of one network agree on before they start.

It holds every number that decides a result, so that no release default does; an operator cannot
change any of them. Values are integers, strings and lists, shares are in basis points, every key
is present, and an unknown key is an error.

The network id is SHA-256 of the canonical CBOR of the parsed file. Wire CBOR has no maps, so a
mapping is written as an array of `[key, value]` arrays, sorted by the UTF-8 bytes of the key, at
every depth; lists keep their order; strings and integers stand for themselves. Comments, order of
keys and layout of the file do not matter; everything else does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from protocols import codec
from protocols.codec import Value
from protocols.errors import Invalid, Reason
from protocols.ids import (
    Address,
    ItemId,
    NetworkId,
    NodeKey,
    ProcessId,
    address_of,
    b64url,
    parse_id,
    unb64url,
)
from protocols.parameters import (
    Parameters,
    default_parameters,
    demo_parameters,
    sim_parameters,
)
from protocols.wire.item import decode_item

ROLES = ("messenger", "scheduler", "compute", "watcher")
"""What a unit can be. Every node also keeps a replica and follows the ledger; every compute unit
watches, too."""

ROLES_DEFAULT = ROLES[:3]
"""What a unit is unless it is told: a compute unit watches anyway."""

LIST_ENTRIES_MAX = 1 << 16
TEXT_BYTES_MAX = 1024
INTEGER_MAX = (1 << 63) - 1
LEDGER_TEXT_MAX = 8192


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit known from the start; others announce themselves."""

    key: NodeKey
    roles: tuple[str, ...]
    addresses: tuple[str, ...]
    """Multiaddresses to dial, without or with the peer id."""
    urls: tuple[tuple[str, str], ...] = ()
    """(role, HTTP address)."""

    @property
    def address(self) -> Address:
        return address_of(self.key)


@dataclass(frozen=True)
class Network:
    """A parsed network file."""

    name: str
    ledger_scheduler: Address
    profile: bytes
    """32-byte id of the engine's semantics (`aonode.engine`)."""
    parameters: Parameters
    units: tuple[Unit, ...] = ()
    bootstrap: tuple[str, ...] = ()
    """Multiaddresses of peers to dial first."""
    slashable_modules: tuple[ItemId, ...] = ()
    balances: tuple[tuple[Address, int], ...] = ()
    """Base units at genesis, by account."""
    stakes: tuple[tuple[Address, int], ...] = ()
    """Bonded base units at genesis, by account; apart from balances."""
    ledger_item: bytes = b""
    """Raw process item of the ledger, signed by its scheduler (`protocols.ledger.process`). Empty
    for a network without a ledger: then nothing can be at stake."""

    def document(self) -> dict[str, Any]:
        """The mapping that `parse_network` reads: what the file says."""
        return {
            "name": self.name,
            "ledger_scheduler": b64url(self.ledger_scheduler),
            "ledger": b64url(self.ledger_item),
            "profile": b64url(self.profile),
            "bootstrap": list(self.bootstrap),
            "slashable_modules": [b64url(module) for module in self.slashable_modules],
            "parameters": {
                field.name: getattr(self.parameters, field.name) for field in fields(Parameters)
            },
            "units": [
                {
                    "key": b64url(unit.key),
                    "roles": list(unit.roles),
                    "addresses": list(unit.addresses),
                    "urls": [list(url) for url in unit.urls],
                }
                for unit in self.units
            ],
            "balances": _accounts(self.balances),
            "stakes": _accounts(self.stakes),
        }

    @cached_property
    def id(self) -> NetworkId:
        """SHA-256 of the canonical CBOR of the file (see the head of this file)."""
        return NetworkId(hashlib.sha256(codec.encode(canonical(self.document()))).digest())

    @cached_property
    def ledger(self) -> ProcessId | None:
        """The ledger's process; None for a network without one."""
        if not self.ledger_item:
            return None
        return ProcessId(decode_item(self.ledger_item, size_max=LEDGER_TEXT_MAX).id)

    def unit_of(self, address: Address) -> Unit | None:
        """The known unit with this address."""
        return next((unit for unit in self.units if unit.address == address), None)


def _accounts(rows: Iterable[tuple[Address, int]]) -> list[dict[str, Any]]:
    return [{"address": b64url(address), "amount": amount} for address, amount in rows]


def canonical(value: object) -> Value:
    """A parsed value as wire CBOR can say it: mappings become sorted [key, value] arrays."""
    if isinstance(value, Mapping):
        pairs = sorted(value.items(), key=lambda pair: str(pair[0]).encode("utf-8"))
        return [[str(key), canonical(inner)] for key, inner in pairs]
    if isinstance(value, list | tuple):
        return [canonical(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _config(f"{value!r} is a {type(value).__name__}; only integers, strings and lists")
    return value


# Reading


def check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise Invalid(CONFIG) for a key that is not known, and name the nearest that is."""
    names = sorted(known)
    for key in given:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise _config(f"{where} has an unknown key {key!r}; {hint}")


def _config(detail: str) -> Invalid:
    return Invalid(Reason.CONFIG, detail)


def _table(value: object, keys: Iterable[str], where: str) -> Mapping[str, Any]:
    """A mapping with exactly `keys`."""
    if not isinstance(value, Mapping):
        raise _config(f"{where} is a {type(value).__name__}, not a table")
    names = list(keys)
    check_keys(value, names, where)
    missing = [name for name in names if name not in value]
    if missing:
        raise _config(f"{where} lacks {', '.join(missing)}; a network file states every key")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > LIST_ENTRIES_MAX:
        raise _config(f"{where} is not a list of at most {LIST_ENTRIES_MAX} entries")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8")) <= TEXT_BYTES_MAX:
        raise _config(f"{where} = {str(value)[:64]!r} is not text of 1..{TEXT_BYTES_MAX} bytes")
    return value


def _integer(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise _config(f"{where} = {str(value)[:64]!r} is not an integer from 0 to {INTEGER_MAX}")
    return value


def _id(value: object, where: str) -> bytes:
    try:
        return parse_id(_text(value, where))
    except Invalid as error:
        raise _config(f"{where}: {error.detail}") from None


def parse_network(document: object) -> Network:
    """Read a parsed network file. Raises Invalid(CONFIG) naming the key, the value, the remedy."""
    top = _table(document, _KEYS, "the network file")
    network = Network(
        name=_text(top["name"], "name"),
        ledger_scheduler=Address(_id(top["ledger_scheduler"], "ledger_scheduler")),
        profile=_id(top["profile"], "profile"),
        parameters=parse_parameters(top["parameters"]),
        units=tuple(
            _unit(unit, f"units[{index}]")
            for index, unit in enumerate(_list(top["units"], "units"))
        ),
        bootstrap=_texts(top["bootstrap"], "bootstrap"),
        slashable_modules=tuple(
            ItemId(_id(module, "slashable_modules"))
            for module in _list(top["slashable_modules"], "slashable_modules")
        ),
        balances=_parse_accounts(top["balances"], "balances"),
        stakes=_parse_accounts(top["stakes"], "stakes"),
        ledger_item=_ledger_item(top["ledger"]),
    )
    held = sum(amount for _, amount in network.balances + network.stakes)
    if held > network.parameters.supply_cap:
        raise _config(
            f"balances and stakes add up to {held}, above supply_cap "
            f"{network.parameters.supply_cap}"
        )
    keys = [unit.key for unit in network.units]
    if len(set(keys)) != len(keys):
        raise _config("units names one key twice; merge their roles")
    return network


_KEYS = (
    "name",
    "ledger_scheduler",
    "ledger",
    "profile",
    "bootstrap",
    "slashable_modules",
    "parameters",
    "units",
    "balances",
    "stakes",
)


def _ledger_item(value: object) -> bytes:
    """The raw process item of the ledger, or nothing."""
    if not isinstance(value, str) or len(value) > LEDGER_TEXT_MAX:
        raise _config(f"ledger is not text of at most {LEDGER_TEXT_MAX} characters")
    try:
        raw = unb64url(value)
        if raw:
            decode_item(raw, size_max=LEDGER_TEXT_MAX)
    except Invalid as error:
        raise _config(
            f"ledger: {error.detail}; it is the ledger's process item, or empty for a network "
            "without a ledger"
        ) from None
    return raw


def parse_parameters(document: object) -> Parameters:
    """Read the `[parameters]` table: every one present, and fit for use."""
    names = [field.name for field in fields(Parameters)]
    table = _table(document, names, "parameters")
    values: dict[str, Any] = {
        name: _text(table[name], f"parameters.{name}")
        if name == "base_unit"
        else _integer(table[name], f"parameters.{name}")
        for name in names
    }
    parameters = Parameters(**values)
    parameters.check()
    return parameters


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(each, where) for each in _list(value, where))


def _unit(value: object, where: str) -> Unit:
    table = _table(value, ("key", "roles", "addresses", "urls"), where)
    roles = _texts(table["roles"], f"{where}.roles")
    for role in roles:
        _role(role, f"{where}.roles")
    urls = []
    for pair in _list(table["urls"], f"{where}.urls"):
        match pair:
            case [role, url]:
                urls.append((_role(role, f"{where}.urls"), _text(url, f"{where}.urls")))
            case _:
                raise _config(f"{where}.urls: {pair!r} is not [role, url]")
    return Unit(
        key=NodeKey(_id(table["key"], f"{where}.key")),
        roles=roles,
        addresses=_texts(table["addresses"], f"{where}.addresses"),
        urls=tuple(urls),
    )


def _role(value: object, where: str) -> str:
    if value not in ROLES:
        raise _config(f"{where}: {value!r} is no role; use {', '.join(ROLES)}")
    return str(value)


def _parse_accounts(value: object, where: str) -> tuple[tuple[Address, int], ...]:
    rows = []
    seen = set()
    for index, row in enumerate(_list(value, where)):
        table = _table(row, ("address", "amount"), f"{where}[{index}]")
        address = Address(_id(table["address"], f"{where}[{index}].address"))
        if address in seen:
            raise _config(f"{where} names {b64url(address)} twice; add the amounts up")
        seen.add(address)
        rows.append((address, _integer(table["amount"], f"{where}[{index}].amount")))
    return tuple(rows)


__all__ = [
    "ROLES",
    "ROLES_DEFAULT",
    "Network",
    "Parameters",
    "Unit",
    "canonical",
    "check_keys",
    "default_parameters",
    "demo_parameters",
    "parse_network",
    "parse_parameters",
    "sim_parameters",
]
