"""`aonode stake`: what a unit puts at risk for its word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aonode.accept.amounts import base_units, tokens
from aonode.cli.ledger import do
from aonode.cli.shared import (
    Access,
    Id,
    client_options,
    emit,
    json_option,
    refusals_exit,
    with_ledger,
)
from aonode.crypto.keys import load_key
from protocols.ids import Address, address_of
from protocols.parameters import Parameters
from protocols.wire.ledger_tx import Delegate, Stake, Unbond, Withdraw, delegation_bytes


@click.group()
def stake() -> None:
    """Put tokens at stake, and take them out again.

    A unit stakes with its own key: --key aonode-data/node-key.json.
    """


@stake.command()
@click.argument("address", required=False, type=Id())
@json_option
@refusals_exit
@client_options
def show(access: Access, address: bytes | None, as_json: bool) -> None:
    """The stake of ADDRESS, or of the key's own."""
    whose = Address(address) if address else address_of(access.signer.owner)
    told = with_ledger(access, lambda client: client.account(whose))
    emit(told, as_json=as_json, text="\n".join(_lines(told, access.network.parameters)))


def _lines(told: dict[str, Any], parameters: Parameters) -> list[str]:
    lines = [
        f"address   {told['address']}",
        f"balance   {tokens(told['balance'], parameters)}",
        f"stake     {tokens(told['stake'], parameters)}" + (", frozen" if told["frozen"] else ""),
        f"sessions  {told['sessions']}",
    ]
    lines += [
        f"unbonding {tokens(row['amount'], parameters)}, to withdraw from tick {row['tick']} on "
        f"(now {told['tick']})"
        for row in told["unbonding"]
    ]
    if told["session_of"] is not None:
        lines.append(f"the stake of {told['session_of']} answers for what this key signs")
    case = told["case"]
    if case is not None:
        burnt = case["burnt_tick"]
        end = "not final yet" if burnt is None else f"taken at tick {burnt}"
        lines.append(f"case      {case['reason']}: {tokens(case['amount'], parameters)}, {end}")
    return lines


@stake.command()
@click.argument("amount")
@json_option
@refusals_exit
@client_options
def add(access: Access, amount: str, as_json: bool) -> None:
    """Put AMOUNT tokens of the key's balance at stake."""
    units = base_units(amount, access.network.parameters)
    do(access, lambda sequence: Stake(sequence, units), as_json=as_json)


@stake.command()
@click.argument("amount")
@json_option
@refusals_exit
@client_options
def remove(access: Access, amount: str, as_json: bool) -> None:
    """Take AMOUNT tokens out of the stake.

    They stay at risk for the network's unbonding time; then 'aonode stake withdraw' frees them.
    """
    units = base_units(amount, access.network.parameters)
    do(access, lambda sequence: Unbond(sequence, units), as_json=as_json)


@stake.command()
@json_option
@refusals_exit
@client_options
def withdraw(access: Access, as_json: bool) -> None:
    """Move what has been unbonding long enough to the balance."""
    do(access, lambda sequence: Withdraw(), as_json=as_json)


@stake.command()
@click.argument("keyfile", type=click.Path(path_type=Path))
@json_option
@refusals_exit
@client_options
def delegate(access: Access, keyfile: Path, as_json: bool) -> None:
    """Let the stake answer for what the key in KEYFILE signs, for ever."""
    session = load_key(keyfile)
    account = address_of(access.signer.owner)
    consent = session.sign(delegation_bytes(access.network.id, account))
    do(access, lambda sequence: Delegate(session.key, consent), as_json=as_json)
