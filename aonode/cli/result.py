"""`aonode result`: what a message gave, checked; and whether its signers answer for it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import trio

from aonode.accept.amounts import base_units, tokens
from aonode.accept.decision import Acceptance, Mode
from aonode.accept.exposure import ExposureFile
from aonode.accept.judge import Accepting
from aonode.accept.ledger_client import LedgerClient
from aonode.accept.saved import result_document, write_json
from aonode.accept.trust_file import load_trusted, save_trusted
from aonode.asking import Asker
from aonode.cli.shared import (
    Access,
    Exit,
    Failure,
    Id,
    client_options,
    json_option,
    refusals_exit,
    with_client,
)
from aonode.client import TIMEOUT_S, Client
from aonode.http_transport import http_client
from aonode.verify_result import Evidence, VerifiedResult
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.network import Network

POLL_S_MIN, POLL_S_MAX = 0.2, 5.0
UNIT_URLS_MAX = 64
"""Compute units that are asked."""
ALONE = "one unit says so; nothing is at stake behind it. Use --quorum, or --accept"


@click.command()
@click.argument("process", type=Id())
@click.argument("message", type=Id())
@click.option("--quorum", default=1, show_default=True, help="Compute units that must agree.")
@click.option(
    "--accept",
    type=click.Choice([str(mode) for mode in Mode]),
    help="soft: enough stake burns if it is wrong. hard: the challenge window is over, too.",
)
@click.option("--value", default="", help="Tokens that you lose if the result is wrong.")
@click.option("--wait", is_flag=True, help="Ask again until it can be accepted.")
@click.option("--timeout", default=3600.0, show_default=True, help="Longest wait, seconds.")
@click.option("--save", type=click.Path(path_type=Path), help="Write all that checks it to a file.")
@json_option
@refusals_exit
@client_options
def result(
    *,
    access: Access,
    process: bytes,
    message: bytes,
    quorum: int,
    accept: str | None,
    value: str,
    wait: bool,
    timeout: float,
    save: Path | None,
    as_json: bool,
) -> None:
    """Print the result of MESSAGE in PROCESS, after checking every receipt for it.

    Receipts, assignment, message and outcome are verified here: nothing a unit says is believed.
    With --accept, what its signers have at stake is read from the final ledger, as two thirds of
    the stake have signed it. Exit code 1 if the result is not to be relied on.
    """
    named = ProcessId(process), ItemId(message)
    if accept is None:
        if value or wait:
            raise Failure("--value and --wait go with --accept soft or hard", Exit.USAGE)
        _verified(access, named, quorum, save, as_json=as_json)
        return
    if quorum < 1:
        raise Failure(f"a quorum of {quorum}; ask for at least 1 unit", Exit.USAGE)
    parameters = access.network.parameters
    units = base_units(value, parameters) if value else 0
    question = Question(*named, Mode(accept), quorum, units, wait, timeout, save)
    acceptance, verified = trio.run(_accept, access, question)
    if as_json:
        click.echo(_json(named[0], named[1], verified, acceptance))
    else:
        _tell(access.network, acceptance, verified)
    if verified is None:
        raise Failure("; ".join(acceptance.reasons), Exit.REFUSED)


# Without the ledger


def _verified(
    access: Access,
    named: tuple[ProcessId, ItemId],
    quorum: int,
    save: Path | None,
    *,
    as_json: bool,
) -> None:
    async def ask(client: Client) -> VerifiedResult:
        verified = await client.result(*named, quorum=quorum)
        if save is not None:
            await _save(save, client, *named, [each.cu for each in verified.receipts])
        return verified

    verified = with_client(access, ask)
    click.echo(_json(*named, verified, None) if as_json else _text(verified))
    if quorum == 1:
        click.echo(f"aonode: warning: {ALONE}", err=True)


# With the ledger


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for."""

    process: ProcessId
    message: ItemId
    mode: Mode
    quorum: int
    value: int
    wait: bool
    timeout_s: float
    save: Path | None


async def _accept(access: Access, question: Question) -> tuple[Acceptance, VerifiedResult | None]:
    network = access.network
    asker = Asker(http_client(timeout_s=TIMEOUT_S))
    try:
        ledger = LedgerClient(network, asker, access.nodes)
        urls = await _unit_urls(ledger, access.computes)
        async with access.client(urls) as client:
            accepting = Accepting(
                client,
                ledger,
                load_trusted(access.data_dir, network),
                ExposureFile(access.data_dir, network.id),
            )

            async def judge() -> tuple[Acceptance, VerifiedResult | None]:
                return await accepting.judge(
                    question.process,
                    question.message,
                    question.mode,
                    quorum=question.quorum,
                    value=question.value,
                )

            found = await _judged(judge, question, network.parameters.tick_ms)
            save_trusted(access.data_dir, accepting.trusted)
            if question.save is not None:
                _write(question.save, client, question.process, accepting)
            return found
    finally:
        await asker.aclose()


async def _judged(
    judge: Callable[[], Awaitable[tuple[Acceptance, VerifiedResult | None]]],
    question: Question,
    tick_ms: int,
) -> tuple[Acceptance, VerifiedResult | None]:
    """The answer; with --wait the first that accepts, or against which waiting does not help."""
    deadline = trio.current_time() + question.timeout_s
    pause = min(max(tick_ms / 2000, POLL_S_MIN), POLL_S_MAX)
    while True:
        late = not question.wait or trio.current_time() + pause >= deadline
        try:
            acceptance, verified = await judge()
            if late or verified is not None or acceptance.disagree:
                return acceptance, verified
        except Invalid as error:
            if late or error.reason is Reason.CONFIG:
                raise
        await trio.sleep(pause)


async def _unit_urls(ledger: LedgerClient, known: tuple[str, ...]) -> tuple[str, ...]:
    """Compute units that are known, and those that staked units have registered."""
    found = list(known)
    for row in (await ledger.ask("/ledger/units")).get("units", ()):
        unit = row.get("unit") or {}
        found += [url for role, url in unit.get("urls", ()) if role == "compute"]
    return tuple(dict.fromkeys(url.rstrip("/") for url in found))[:UNIT_URLS_MAX]


# Files


async def _save(
    path: Path, client: Client, process: ProcessId, message: ItemId, units: list[bytes]
) -> None:
    """Ask those units again for what they were asked for, and write it down."""
    evidence = []
    for url in client.cu_urls:
        try:
            edge = Evidence.of_json(await client.asker.get(f"{url}/proof/{b64url(message)}"))
        except Invalid:
            continue  # a unit that is silent now was not needed then, or is missing in the file
        if client.verifier.check(process, edge, message=message).cu in units:
            evidence.append(edge)
    _document(path, client, process, evidence)


def _write(path: Path, client: Client, process: ProcessId, accepting: Accepting) -> None:
    said = [each.evidence for each in accepting.answers.said]
    final = accepting.final
    assert final is not None, "a result is judged under a final checkpoint"
    stakes = [b64url(proof.encode()) for proof in final.stakes]
    _document(path, client, process, said, checkpoint=b64url(final.raw), stakes=stakes)


def _document(
    path: Path, client: Client, process: ProcessId, evidence: list[Evidence], **extra: Any
) -> None:
    item, format = client.process_item(process)
    document = result_document(
        client.network.id, process, format=format, process_item=item.raw, evidence=evidence
    )
    write_json(path, {**document, **extra})


# Output


def _json(
    process: ProcessId,
    message: ItemId,
    verified: VerifiedResult | None,
    acceptance: Acceptance | None,
) -> str:
    """One object, the module's own Output inside exactly as it wrote it."""
    fields = [f'"process":"{b64url(process)}","message":"{b64url(message)}"']
    if verified is not None:
        units = ",".join(f'"{b64url(receipt.cu)}"' for receipt in verified.receipts)
        leaf = b64url(verified.receipts[0].leaf.hash())
        fields.append(
            f'"slot":{verified.nonce},"status":"{verified.status.name}","fuel":{verified.fuel},'
            f'"leaf":"{leaf}","units":[{units}],"result":{verified.public}'
        )
    if acceptance is not None:
        fields.append(f'"acceptance":{json.dumps(acceptance.view())}')
    return f"{{{','.join(fields)}}}"


def _tell(network: Network, acceptance: Acceptance, verified: VerifiedResult | None) -> None:
    for warning in acceptance.warnings:
        click.echo(f"aonode: warning: {warning}", err=True)
    for row in acceptance.handed_over:
        taken = len(row["taken_by"])
        click.echo(
            f"aonode: statement {row['statement']} was handed to {taken} watchers; see 'aonode "
            f"challenge show {row['statement']}'",
            err=True,
        )
    if verified is None:
        return
    click.echo(_text(verified))
    parameters = network.parameters
    staked = sum(each.stake for each in acceptance.counted)
    risk = (
        f"{len(acceptance.counted)} units with {tokens(staked, parameters)} tokens at stake agree; "
        f"{tokens(acceptance.at_risk, parameters)} would burn if they lied"
    )
    if acceptance.mode is Mode.HARD:
        window = f"the challenge window is over since checkpoint {acceptance.hard_tick}"
        click.echo(f"accepted hard at checkpoint {acceptance.tick}: {window}; {risk}")
    else:
        behind = f", {tokens(acceptance.exposed, parameters)} of it behind other results"
        click.echo(f"accepted soft at checkpoint {acceptance.tick}: {risk}{behind}")


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
