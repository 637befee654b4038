from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import cbor2
import pytest

from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NodeKey, b64url
from protocols.network import (
    Network,
    Parameters,
    Unit,
    canonical,
    default_parameters,
    demo_parameters,
    parse_network,
    parse_parameters,
    sim_parameters,
)

A, B = (bytes([n]) * 32 for n in (1, 2))
UNIT = Unit(
    NodeKey(A),
    ("messenger", "compute"),
    ("/ip4/127.0.0.1/tcp/4001",),
    (("messenger", "http://127.0.0.1:3005"),),
)
NETWORK = Network(
    name="Zoë's",
    ledger_scheduler=Address(A),
    profile=B,
    parameters=demo_parameters(),
    units=(UNIT, replace(UNIT, key=NodeKey(B), urls=())),
    bootstrap=("/ip4/127.0.0.1/tcp/4001/p2p/x",),
    slashable_modules=(ItemId(A),),
    balances=((Address(A), 5), (Address(B), 0)),
    stakes=((Address(A), 7),),
)


def test_document_is_read_back() -> None:
    again = parse_network(NETWORK.document())
    assert again == NETWORK
    assert again.id == NETWORK.id
    assert again.unit_of(UNIT.address) == UNIT
    assert again.unit_of(Address(A)) is None


def test_id_is_the_hash_of_sorted_pairs() -> None:
    """Recomputed from the description alone, with nothing of `protocols` but the document."""

    def pairs(value: Any) -> Any:
        if isinstance(value, dict):
            return [[key, pairs(value[key])] for key in sorted(value, key=str.encode)]
        return [pairs(each) for each in value] if isinstance(value, list) else value

    blob = cbor2.dumps(pairs(NETWORK.document()), canonical=True)
    assert NETWORK.id == hashlib.sha256(blob).digest()


def test_id_ignores_the_order_of_keys_and_nothing_else() -> None:
    document = NETWORK.document()
    turned = dict(reversed(document.items()))
    assert parse_network(turned).id == NETWORK.id
    others = [
        replace(NETWORK, name="another"),
        replace(NETWORK, parameters=sim_parameters()),
        replace(NETWORK, units=NETWORK.units[::-1]),
        replace(NETWORK, balances=NETWORK.balances[::-1]),
        replace(NETWORK, bootstrap=()),
        replace(NETWORK, stakes=NETWORK.balances, balances=NETWORK.stakes),
    ]
    assert len({network.id for network in [NETWORK, *others]}) == len(others) + 1


def test_every_parameter_counts() -> None:
    base = NETWORK.document()
    ids = {bytes(NETWORK.id)}
    for field in fields(Parameters):
        value = base["parameters"][field.name]
        changed = value + 1 if isinstance(value, int) else value + "x"
        document = {**base, "parameters": {**base["parameters"], field.name: changed}}
        ids.add(hashlib.sha256(repr(canonical(document)).encode()).digest())
    assert len(ids) == len(fields(Parameters)) + 1


@pytest.mark.parametrize("make", [default_parameters, demo_parameters, sim_parameters])
def test_named_parameters_are_fit_for_use(make: Callable[[], Parameters]) -> None:
    parameters = make()
    parameters.check()
    assert (
        parse_parameters(
            {field.name: getattr(parameters, field.name) for field in fields(Parameters)}
        )
        == parameters
    )


def test_defaults_are_those_of_the_design() -> None:
    default, demo, sim = default_parameters(), demo_parameters(), sim_parameters()
    assert [each.tick_ms for each in (default, demo, sim)] == [60_000, 1000, 10_000]
    assert [each.challenge_window for each in (default, demo, sim)] == [1440, 20, 20]
    assert [each.demand_window for each in (default, demo, sim)] == [1440, 20, 12]
    assert [each.unbonding for each in (default, demo, sim)] == [10_080, 120, 120]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in NETWORK.document().items() if name != key}


def changed(**values: Any) -> dict[str, Any]:
    return {**NETWORK.document(), **values}


def with_parameter(**values: Any) -> dict[str, Any]:
    document = NETWORK.document()
    return {**document, "parameters": {**document["parameters"], **values}}


ACCOUNT = {"address": b64url(A), "amount": 1}
UNIT_TABLE = NETWORK.document()["units"][0]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "not a table"),
        (without("profile"), "lacks profile"),
        (changed(bootstraps=[]), "did you mean 'bootstrap'?"),
        (changed(x=1), "known: balances"),
        (changed(name=""), "name"),
        (changed(name=3), "name"),
        (changed(name="x" * 1025), "name"),
        (changed(ledger_scheduler="me"), "ledger_scheduler"),
        (changed(profile=b64url(A)[:-1] + "?"), "profile"),
        (changed(bootstrap="x"), "not a list"),
        (changed(bootstrap=[1]), "bootstrap"),
        (changed(slashable_modules=["x"]), "slashable_modules"),
        (changed(balances=[ACCOUNT, ACCOUNT]), "twice"),
        (changed(balances=[{**ACCOUNT, "amount": -1}]), "balances[0].amount"),
        (changed(balances=[{**ACCOUNT, "amount": True}]), "balances[0].amount"),
        (changed(balances=[{**ACCOUNT, "amount": 1.5}]), "balances[0].amount"),
        (changed(balances=[{**ACCOUNT, "amounts": 1}]), "did you mean 'amount'?"),
        (changed(stakes=[{**ACCOUNT, "amount": (1 << 63) - 1}]), "supply_cap"),
        (changed(units=[UNIT_TABLE, UNIT_TABLE]), "twice"),
        (changed(units=[{**UNIT_TABLE, "roles": ["oracle"]}]), "oracle"),
        (changed(units=[{**UNIT_TABLE, "urls": [["messenger"]]}]), "[role, url]"),
        (changed(units=[{**UNIT_TABLE, "urls": [["x", "y"]]}]), "no role"),
        (with_parameter(fuelmax=1), "did you mean 'fuel_max'?"),
        (with_parameter(fuel_max="1"), "parameters.fuel_max"),
        (with_parameter(fuel_max=0), "too small"),
        (with_parameter(shards=3), "power of two"),
        (with_parameter(inline_bytes_max=3 << 20), "inline_bytes_max"),
        (with_parameter(root_every=7), "proof_every"),
        (with_parameter(memory_max=1000), "memory_max"),
        (with_parameter(slash_burn=7501), "add up"),
        (with_parameter(mint_audits=1001), "add up"),
        (with_parameter(base_unit=5), "base_unit"),
    ],
)
def test_other_documents_are_refused_with_the_key(document: object, complaint: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_network(document)
    assert refusal.value.reason is Reason.CONFIG
    assert complaint in refusal.value.detail


def test_every_parameter_must_be_stated() -> None:
    document = NETWORK.document()
    for field in fields(Parameters):
        rest = {key: value for key, value in document["parameters"].items() if key != field.name}
        with pytest.raises(Invalid, match=f"lacks {field.name}"):
            parse_network({**document, "parameters": rest})


@pytest.mark.parametrize("value", [1.5, True, None, b"x", {"a": 2.5}, [False]])
def test_only_integers_text_lists_and_tables_have_a_canonical_form(value: object) -> None:
    with pytest.raises(Invalid):
        canonical(value)
