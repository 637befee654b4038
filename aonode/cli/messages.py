"""`aonode module publish`, `spawn`, `send`: what a user of the network does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from aonode.cli.shared import (
    Access,
    Id,
    client_options,
    data_options,
    emit,
    json_option,
    read_file,
    refusals_exit,
    tags_option,
    with_client,
    write_file,
)
from aonode.client import Client
from aonode.processes import token_wasm
from protocols.ids import ItemId, ProcessId, b64url
from protocols.outbox import FORMAT_CBOR

Tags = Sequence[tuple[str, str]]


@click.group()
def module() -> None:
    """Publish modules."""


@module.command()
@click.argument("wasm", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--format", "format", default=FORMAT_CBOR, show_default=True, help="Module-Format.")
@tags_option
@json_option
@refusals_exit
@client_options
def publish(access: Access, wasm: Path | None, format: str, tags: Tags, as_json: bool) -> None:
    """Upload a WASM file and print its module id. Without one: the bundled token."""
    code = token_wasm() if wasm is None else read_file(wasm)
    id = with_client(access, lambda client: client.publish_module(code, format, tags), sends=True)
    emit({"module": b64url(id)}, as_json=as_json, text=b64url(id))


@click.command()
@click.argument("module", type=Id())
@tags_option
@data_options
@json_option
@refusals_exit
@client_options
def spawn(access: Access, module: bytes, tags: Tags, data: bytes, as_json: bool) -> None:
    """Spawn a process of MODULE and print its id."""
    id = with_client(access, lambda client: client.spawn(module, tags, data), sends=True)
    emit({"process": b64url(id)}, as_json=as_json, text=b64url(id))


@click.command()
@click.argument("process", type=Id())
@tags_option
@data_options
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the signed message, to demand its slot with 'aonode challenge censored'.",
)
@json_option
@refusals_exit
@client_options
def send(
    *, access: Access, process: bytes, tags: Tags, data: bytes, save: Path | None, as_json: bool
) -> None:
    """Send a message to PROCESS and print its id, once it is sure to be scheduled."""

    async def sent(client: Client) -> ItemId:
        item = client.message(ProcessId(process), tags, data)
        if save is not None:
            write_file(save, item.raw)
        await client.submit(item)
        return item.id

    id = with_client(access, sent, sends=True)
    emit({"message": b64url(id)}, as_json=as_json, text=b64url(id))
