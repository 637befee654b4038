"""`aonode challenge`: what watchers hold against units, and how to hand them more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aonode.accept.censored import schedule_subject
from aonode.accept.saved import statements_in
from aonode.cli.ledger import do
from aonode.cli.shared import (
    Access,
    Exit,
    Failure,
    Id,
    client_options,
    emit,
    json_option,
    read_file,
    refusals_exit,
    with_client,
    with_ledger,
)
from protocols.ids import b64url
from protocols.wire.demand import KIND_NAMES, SCHEDULE
from protocols.wire.ledger_tx import Demand


@click.group()
def challenge() -> None:
    """Wrong statements: what is known of them, and what became of them."""


@challenge.command(name="list")
@json_option
@refusals_exit
@client_options
def list_(access: Access, as_json: bool) -> None:
    """Verdicts on the ledger, and what the watchers that are asked are at."""

    async def ask(client: Any) -> dict[str, Any]:
        ledger = await client.ask("/ledger/cases")
        names = ("cases", "fines", "unhosted")
        demands = (await client.ask("/ledger/demands"))["demands"]
        found = [
            {"watcher": url, **row}
            for url, answer in await client.ask_all("/challenges")
            for row in answer["challenges"]
        ]
        told = {name: ledger[name] for name in names}
        return {**told, "demands": demands, "challenges": found}

    told = with_ledger(access, ask)
    lines = [
        f"verdict  {row['account']}  {row['reason']}  "
        + ("frozen" if row["burnt_tick"] is None else f"slashed at tick {row['burnt_tick']}")
        for row in told["cases"]
    ]
    lines += [
        f"fine     {row['account']}  {row['reason']}  {row['amount']} base units"
        for row in told["fines"]
    ]
    lines += [f"unhosted {row['process']}  {row['fault']}" for row in told["unhosted"]]
    lines += [
        f"demand   {row['accused']}  {KIND_NAMES[row['kind']]}  "
        + ("answered" if row["answered"] else f"to be answered by tick {row['deadline']}")
        for row in told["demands"]
    ]
    lines += [
        f"{row['watcher']}  {row['statement']}  {row.get('stage', '')}  {row.get('why', '')}"
        for row in told["challenges"]
    ]
    emit(told, as_json=as_json, text="\n".join(lines) or "nobody is accused of anything")


@challenge.command()
@click.argument("statement", type=Id())
@json_option
@refusals_exit
@client_options
def show(access: Access, statement: bytes, as_json: bool) -> None:
    """All that a watcher knows about STATEMENT."""
    told = with_ledger(access, lambda client: client.ask(f"/challenges/{b64url(statement)}"))
    lines = [f"{key:12} {value}" for key, value in told.items()]
    emit(told, as_json=as_json, text="\n".join(lines))


@challenge.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@json_option
@refusals_exit
@client_options
def censored(access: Access, file: Path, as_json: bool) -> None:
    """Demand on the ledger that the message in FILE gets its slot.

    FILE is a signed message as 'aonode send --save FILE' writes it. Its scheduler has it then, and
    loses a part of its stake and the log if the message has no slot in time. The demand's bond is
    burnt if it is answered: wait some time, and look whether the message has a slot, first.
    """
    raw = read_file(file)
    subject = with_client(access, lambda client: schedule_subject(client, raw))
    do(access, lambda sequence: Demand(sequence, SCHEDULE, subject), as_json=as_json)


@challenge.command(name="raise")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@json_option
@refusals_exit
@client_options
def raise_(access: Access, file: Path, as_json: bool) -> None:
    """Hand the receipts or state proofs in FILE to every watcher known.

    FILE is what 'aonode result --save' wrote, the JSON of /proof, or one encoded statement.
    """
    statements = statements_in(read_file(file))
    told = with_ledger(access, lambda client: client.accuse(statements))
    if not any(row["taken_by"] for row in told):
        raise Failure(f"no watcher took them: {told[0]['refused']}", Exit.REFUSED)
    lines = [
        f"{row['statement']}  taken by {len(row['taken_by'])} of {len(access.nodes)} nodes"
        for row in told
    ]
    emit({"statements": told}, as_json=as_json, text="\n".join(lines))
