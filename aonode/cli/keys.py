"""`aonode keys`: key files."""

from __future__ import annotations

from pathlib import Path

import click

from aonode.cli.shared import Exit, Failure, emit, json_option, refusals_exit
from aonode.crypto.keys import load_wallet, new_key
from aonode.env import ProductionEnv
from protocols.errors import Invalid
from protocols.ids import address_of, b64url


@click.group()
def keys() -> None:
    """Make and show key files."""


@keys.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
@refusals_exit
def new(path: Path, as_json: bool) -> None:
    """Write a new Ed25519 key file (mode 0600) and print its address."""
    signer = new_key(path, ProductionEnv().entropy("key", 32))
    shown = {"address": b64url(signer.address), "key": b64url(signer.key), "file": str(path)}
    emit(shown, as_json=as_json, text=shown["address"])


@keys.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def show(path: Path, as_json: bool) -> None:
    """Print the address of a key file or Arweave wallet; never its secret."""
    try:
        signer = load_wallet(path)
    except Invalid as error:
        raise Failure(error.detail, Exit.KEY) from None
    shown = {"address": b64url(address_of(signer.owner)), "key": b64url(signer.owner)}
    emit(shown, as_json=as_json, text=shown["address"])
