"""`aonode module run`: a process on this machine alone, without a network or keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from aonode.cli.shared import read_file, refusals_exit
from protocols.codec import encode
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId
from protocols.outbox import FORMAT_CBOR, Bounds
from protocols.parameters import default_parameters
from protocols.result import public_json
from protocols.wire.outcome import Status

SLOTS_MAX = 100_000
_ID_BYTES = 32


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A message of the log; what is left out is empty."""

    sender: str = msgspec.field(name="from", default="")
    owner: str | None = None
    """As `from` unless given."""
    tags: dict[str, str] = {}
    data: str = ""
    timestamp: int = 0
    """Milliseconds."""


@click.command("run")
@click.argument("wasm", type=click.Path(path_type=Path))
@click.argument("log", type=click.Path(path_type=Path, allow_dash=True))
@refusals_exit
def run_alone(wasm: Path, log: Path) -> None:
    """Run an ao-cbor-1 module on this machine alone, with the default network's limits.

    LOG has one message per line, slot 0 (the process item) first:
    {"from": "alice", "tags": {"Action": "Add"}, "data": "text"}. Prints one JSON object per slot.
    """
    from aonode.engine.wasm import WasmEngine  # wasmtime takes a while to load
    from aonode.ports import ModuleSpec

    parameters = default_parameters()
    bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
    engine = WasmEngine(
        fuel_max=parameters.fuel_max,
        memory_max=parameters.memory_max,
        output_bytes_max=bounds.output_bytes_max,
        outbox_max=bounds.outbox_max,
    )
    spec = ModuleSpec(ItemId(bytes(_ID_BYTES)), read_file(wasm), FORMAT_CBOR)
    session = engine.open(ProcessId(bytes(_ID_BYTES)), spec, b"", parameters.memory_max)
    for slot, line in enumerate(read_log(read_file(log))):
        done = session.run_slot(call_of(line, slot))
        status = Status(done.status)
        shown = json.loads(public_json(FORMAT_CBOR, status, done.raw, bounds, done.fuel))
        root = session.state_root().hex()
        click.echo(json.dumps({"slot": slot, "status": status.name, "root": root, **shown}))
    session.close()


def read_log(blob: bytes) -> list[Line]:
    """The messages of a log, one JSON object per line. Raises Invalid(MALFORMED or OVERSIZE)."""
    lines = blob.splitlines()
    if len(lines) > SLOTS_MAX:
        raise Invalid(Reason.OVERSIZE, f"the log has {len(lines)} lines, at most {SLOTS_MAX}")
    read = []
    for number, line in enumerate(lines, 1):
        try:
            read.append(msgspec.json.decode(line, type=Line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(
                Reason.MALFORMED,
                f"line {number} of the log is not a message, which is "
                f'{{"from", "owner", "tags", "data", "timestamp"}}: {error}',
            ) from None
    return read


def call_of(line: Line, slot: int) -> bytes:
    """What the module is given; the message's id is its slot."""
    owner = line.sender if line.owner is None else line.owner
    fields: list[Any] = [
        1,
        bytes(_ID_BYTES),
        bytes(_ID_BYTES),
        slot,
        line.timestamp,
        slot.to_bytes(_ID_BYTES, "big"),
        line.sender,
        owner,
        [[name, value] for name, value in line.tags.items()],
        line.data.encode(),
    ]
    return encode(fields)
