"""`aonode ledger`: coins, units, and how many coins there will be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aonode.accept.amounts import base_units, tokens
from aonode.cli.shared import (
    DATA_DIR,
    NETWORK_FILE,
    Access,
    Exit,
    Failure,
    Id,
    client_options,
    emit,
    json_option,
    refusals_exit,
    with_ledger,
)
from aonode.config import load_network
from aonode.env import ProductionEnv
from protocols.ids import Address, address_of, b64url
from protocols.ledger.clock import minted
from protocols.network import default_parameters
from protocols.parameters import Parameters
from protocols.wire.ledger_tx import Faucet, Transaction, Transfer

YEAR_MS = 1461 * 24 * 3600 * 1000 // 4
"""365.25 days."""
YEARS_MAX = 100


@click.group()
def ledger() -> None:
    """Coins and units of the network. Amounts are in tokens; with --json in base units."""


@ledger.command()
@json_option
@refusals_exit
@client_options
def show(access: Access, as_json: bool) -> None:
    """The whole ledger in numbers, as a node tells."""
    told = with_ledger(access, lambda client: client.ask("/ledger"))
    emit(told, as_json=as_json, text="\n".join(_summary(told, access.network.parameters)))


def _summary(told: dict[str, Any], parameters: Parameters) -> list[str]:
    final = told["checkpoint"]
    names = ("supply", "genesis", "minted", "burnt", "left", "bonded")
    return [
        f"ledger   {told['process']}",
        f"slot     {told['slot']}, root {told['root']}",
        f"tick     {told['tick']}"
        + (f", final under slot {final['slot']}, root {final['root']}" if final else ""),
        *(f"{name:8} {tokens(told[name], parameters)}" for name in names),
    ]


@ledger.command()
@click.argument("address", required=False, type=Id())
@json_option
@refusals_exit
@client_options
def balance(access: Access, address: bytes | None, as_json: bool) -> None:
    """Free coins of ADDRESS, or of the key's own."""
    whose = Address(address) if address else address_of(access.signer.owner)
    told = with_ledger(access, lambda client: client.account(whose))
    emit(told, as_json=as_json, text=tokens(told["balance"], access.network.parameters))


@ledger.command()
@json_option
@refusals_exit
@client_options
def units(access: Access, as_json: bool) -> None:
    """Whoever has a stake: address, stake, roles."""
    told = with_ledger(access, lambda client: client.ask("/ledger/units"))
    lines = [_unit(row, access.network.parameters) for row in told["units"]]
    emit(told, as_json=as_json, text="\n".join(lines) or "nobody has a stake")


def _unit(row: dict[str, Any], parameters: Parameters) -> str:
    unit = row["unit"] or {"roles": [], "urls": []}
    case = row["case"]
    words = [f"{row['address']}  {tokens(row['stake'], parameters):>16}", *unit["roles"]]
    words += [url for _, url in unit["urls"]]
    waiting = sum(each["amount"] for each in row["unbonding"])
    if waiting:
        words.append(f"(unbonding {tokens(waiting, parameters)})")
    if case is not None:
        state = "frozen" if case["burnt_tick"] is None else "slashed"
        words.append(f"({state}: {case['reason']})")
    return "  ".join(words)


@ledger.command()
@click.option("--years", default="1,4,8,12", show_default=True, help="Ascending whole years.")
@click.option(
    "--data-dir",
    default=DATA_DIR,
    envvar="AONODE_DATA_DIR",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option(
    "--network",
    "network_file",
    type=click.Path(path_type=Path),
    help="Network file. Without one: a new public network, with nothing at genesis.",
)
@json_option
@refusals_exit
def mint(years: str, data_dir: Path, network_file: Path | None, as_json: bool) -> None:
    """Coins minted after so many years, by the ledger's own rule, mint after mint."""
    path = network_file or data_dir / NETWORK_FILE
    parameters, genesis = default_parameters(), 0
    if network_file is not None or path.exists():
        network = load_network(path)
        parameters = network.parameters
        genesis = sum(amount for _, amount in network.balances + network.stakes)
    rows = mint_table(parameters, genesis, _years(years))
    emit(
        {
            "genesis": genesis,
            "supply_cap": parameters.supply_cap,
            "denomination": parameters.denomination,
            "minted": [
                {"years": year, "epochs": epochs, "minted": amount, "tokens": whole}
                for year, epochs, amount, whole in rows
            ],
        },
        as_json=as_json,
        text="\n".join(
            f"{year:3} years  {whole:>12,} tokens minted in {epochs:,} epochs of "
            f"{parameters.mint_epoch} ticks of {parameters.tick_ms / 1000:g} s"
            for year, epochs, _, whole in rows
        ),
    )


def _years(text: str) -> list[int]:
    parts = text.split(",")
    years = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 4]
    if len(years) != len(parts) or years != sorted(set(years)) or not 0 < years[-1] <= YEARS_MAX:
        raise Failure(
            f"--years {text[:64]!r} is not a list like 1,4,8,12 of ascending years to {YEARS_MAX}",
            Exit.USAGE,
        )
    return years


def mint_table(
    parameters: Parameters, genesis: int, years: list[int]
) -> list[tuple[int, int, int, int]]:
    """(years, epochs, base units minted until then, the same in whole tokens, rounded).

    The rule is the fold's own (`protocols.ledger.clock`): what `_mint` does at each checkpoint.
    """
    token = 10**parameters.denomination
    rows, total, done = [], 0, 0
    left = parameters.supply_cap - genesis
    for year in years:
        epochs = year * YEAR_MS // (parameters.tick_ms * parameters.mint_epoch)
        total += minted(left - total, epochs - done, parameters.mint_numerator)
        done = epochs
        rows.append((year, epochs, total, (total + token // 2) // token))
    return rows


@ledger.command()
@click.argument("to", type=Id())
@click.argument("amount")
@json_option
@refusals_exit
@client_options
def transfer(access: Access, to: bytes, amount: str, as_json: bool) -> None:
    """Give AMOUNT tokens to the address TO."""
    units = base_units(amount, access.network.parameters)
    do(access, lambda sequence: Transfer(sequence, Address(to), units), as_json=as_json)


@ledger.command()
@json_option
@refusals_exit
@client_options
def faucet(access: Access, as_json: bool) -> None:
    """Have the key's balance filled up, on a test network."""
    if not access.network.parameters.faucet_amount:
        raise Failure(f"network {access.network.name!r} has no faucet", Exit.USAGE)
    do(access, lambda sequence: Faucet(), as_json=as_json)


def do(access: Access, make: Callable[[int], Transaction], *, as_json: bool) -> None:
    """Bring a transaction of the key in, wait, and print what the ledger made of it."""
    if not access.messengers:
        raise Failure("no messenger unit's address is known; give it with --mu URL", Exit.USAGE)
    signer = access.signer
    row = with_ledger(
        access,
        lambda client: client.transact(signer, ProductionEnv(), access.messengers[0], make),
    )
    account = b64url(address_of(signer.owner))
    notes = "; ".join(note["detail"] for note in row["notes"])
    text = f"{row['action']} of {account} is done in ledger slot {row['slot']}: {notes}"
    emit({**row, "account": account}, as_json=as_json, text=text)
