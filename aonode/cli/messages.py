"""`aonode module publish`, `spawn`, `send`, `result`: what a user of the network does."""

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
)
from aonode.processes import token_wasm
from aonode.verify_result import VerifiedResult
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
@json_option
@refusals_exit
@client_options
def send(access: Access, process: bytes, tags: Tags, data: bytes, as_json: bool) -> None:
    """Send a message to PROCESS and print its id, once it is sure to be scheduled."""
    target = ProcessId(process)
    id = with_client(access, lambda client: client.send(target, tags, data), sends=True)
    emit({"message": b64url(id)}, as_json=as_json, text=b64url(id))


@click.command()
@click.argument("process", type=Id())
@click.argument("message", type=Id())
@click.option("--quorum", default=1, show_default=True, help="Compute units that must agree.")
@json_option
@refusals_exit
@client_options
def result(access: Access, process: bytes, message: bytes, quorum: int, as_json: bool) -> None:
    """Print the result of MESSAGE in PROCESS, after checking every receipt for it.

    Receipts, assignment, message and outcome are verified here: nothing a unit says is believed.
    """
    verified = with_client(
        access,
        lambda client: client.result(ProcessId(process), ItemId(message), quorum=quorum),
    )
    click.echo(_json(verified) if as_json else _text(verified))


def _json(verified: VerifiedResult) -> str:
    """One object, the module's own Output inside exactly as it wrote it."""
    units = ",".join(f'"{b64url(receipt.cu)}"' for receipt in verified.receipts)
    leaf = b64url(verified.receipts[0].leaf.hash())
    return (
        f'{{"process":"{b64url(verified.process)}","message":"{b64url(verified.message)}",'
        f'"slot":{verified.nonce},"status":"{verified.status.name}","fuel":{verified.fuel},'
        f'"leaf":"{leaf}","units":[{units}],"result":{verified.public}}}'
    )


def _text(verified: VerifiedResult) -> str:
    units = len({receipt.cu for receipt in verified.receipts})
    lines = [
        f"slot {verified.nonce}: {verified.status.name}, {verified.fuel} fuel, "
        f"verified receipts of {units} compute unit{'s' if units > 1 else ''}",
        verified.error or verified.output,
    ]
    for sent in verified.outbox.messages:
        tags = " ".join(f"{tag.name}={tag.value}" for tag in sent.tags)
        lines.append(f"-> {sent.target}  {tags}  {sent.data[:200].decode('utf-8', 'replace')}")
    lines += [f"-> spawns a process: {len(spawn.tags)} tags" for spawn in verified.outbox.spawns]
    return "\n".join(lines)
