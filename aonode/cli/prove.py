"""`aonode prove`: checks a saved result without asking anybody."""

from __future__ import annotations

from pathlib import Path

import click

from aonode.accept.prove import Prover
from aonode.accept.saved import read_document
from aonode.cli.shared import (
    DATA_DIR,
    NETWORK_FILE,
    Exit,
    Failure,
    emit,
    json_option,
    read_file,
    refusals_exit,
)
from aonode.config import load_network

MARKS = {True: "holds    ", False: "WRONG    ", None: "not shown"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--data-dir",
    default=DATA_DIR,
    envvar="AONODE_DATA_DIR",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option("--network", "network_file", type=click.Path(path_type=Path), help="Network file.")
@json_option
@refusals_exit
def prove(file: Path, data_dir: Path, network_file: Path | None, as_json: bool) -> None:
    """Check offline what FILE shows, against the network file, step by step.

    FILE is what 'aonode result --save' wrote, or the JSON of /proof/ID?process=1. Exit code 1 if
    a step is wrong, or if no result is shown.
    """
    network = load_network(network_file or data_dir / NETWORK_FILE)
    prover = Prover(network)
    prover.check(read_document(read_file(file), str(file)))
    lines = [f"{MARKS[step.holds]}  {step.what:10}  {step.detail}" for step in prover.steps]
    document = {"holds": prover.holds, "steps": [step.view() for step in prover.steps]}
    emit(document, as_json=as_json, text="\n".join(lines))
    if not prover.holds:
        raise Failure(f"{file} does not prove a result", Exit.REFUSED)
