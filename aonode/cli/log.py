"""`aonode log`: what is on disk."""

from __future__ import annotations

from pathlib import Path

import click

from aonode.cli.shared import (
    DATA_DIR,
    NETWORK_FILE,
    Exit,
    Failure,
    Id,
    emit,
    json_option,
    refusals_exit,
)
from aonode.config import load_network
from protocols.ids import ProcessId, b64url


@click.group()
def log() -> None:
    """Check the log that a stopped node has on disk."""


@log.command()
@click.option(
    "--data-dir",
    default=DATA_DIR,
    envvar="AONODE_DATA_DIR",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option("--network", "network_file", type=click.Path(path_type=Path), help="Network file.")
@click.option("--process", "only", type=Id(), help="This process only.")
@click.option("--replay", is_flag=True, help="Also evaluate every slot again, but the ledger's.")
@json_option
@refusals_exit
def verify(
    data_dir: Path, network_file: Path | None, only: bytes | None, replay: bool, as_json: bool
) -> None:
    """Re-check everything: chains, both signatures of every slot, receipts, leaves.

    The node must be stopped. Exit code 1 names the first slot that is wrong.
    """
    # LevelDB and wasmtime are loaded only here.
    from aonode.log_check import check_process, processes_of, replay_process
    from aonode.service import Paths, make_engine
    from aonode.store.level import LevelStore

    network = load_network(network_file or data_dir / NETWORK_FILE)
    paths = Paths(data_dir)
    if not paths.db.is_dir():
        raise Failure(f"{paths.db} does not exist; is {data_dir} a node's directory?", Exit.USAGE)
    engine = make_engine(network, paths.code) if replay else None
    db = LevelStore(paths.db)
    slots = receipts = replayed = 0
    try:
        chosen = processes_of(db) if only is None else [ProcessId(only)]
        for process in chosen:
            checked = check_process(db, network, process)
            slots += checked.slots
            receipts += checked.receipts
            # No engine runs the ledger; a node folds it again at every start.
            if engine is not None and process != network.ledger:
                replayed += replay_process(db, network, engine, process).slots
            if not as_json:
                click.echo(f"{b64url(process)}  {checked.slots} slots, {checked.receipts} receipts")
    finally:
        db.close()
    summary = {
        "processes": len(chosen),
        "slots": slots,
        "receipts": receipts,
        "replayed": replayed,
        "verified": True,
    }
    again = f", {replayed} slots evaluated again" if replay else ""
    text = f"verified: {len(chosen)} processes, {slots} slots, {receipts} receipts{again}"
    emit(summary, as_json=as_json, text=text)
