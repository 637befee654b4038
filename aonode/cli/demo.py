"""`aonode demo`: a network on this machine, from nothing to verified results."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio

from aonode.cli.shared import CLIENT_KEY, NETWORK_FILE, Exit, Failure, json_option, refusals_exit
from aonode.demo import LIES
from aonode.env import ProductionEnv

if TYPE_CHECKING:
    from aonode.demo.run import Demo, Http, Summary
    from aonode.local_network import LocalNetwork

T = TypeVar("T")

MESSAGES = 200
REPLAYED = "mu"
"""The replica that is replayed: the messenger's, which has evaluated nothing itself."""


@click.command()
@click.option("--aos", is_flag=True, help="A real aos module instead of the bundled token.")
@click.option("--liar", is_flag=True, help="One of three compute units lies, and is slashed.")
@click.option(
    "--lie",
    type=click.Choice(LIES),
    help="How the liar lies; default balance.",
)
@click.option("--messages", default=MESSAGES, show_default=True, type=click.IntRange(min=1))
@click.option("--keep", is_flag=True, help="Leave the network up; print addresses and keys.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the nodes keep their data; must be empty. Default: a temporary one.",
)
@json_option
@click.pass_obj
@refusals_exit
def demo(
    http: Http | None,
    *,
    aos: bool,
    liar: bool,
    lie: str | None,
    messages: int,
    keep: bool,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Start one messenger, one scheduler and three compute units as five processes on loopback,
    send transfers from several keys, verify every result of every compute unit here, and replay
    the log of one replica from disk.

    Ends with exit code 1, naming the message, if anything does not verify.

    With --liar the third compute unit answers questions for balances wrongly: a client is warned,
    the other units prove the lie on the ledger, and its stake is burnt.
    """
    root = _empty(directory)
    if liar or lie:
        _demo_liar(root, lie or "balance", aos=aos, keep=keep or bool(directory), as_json=as_json)
        return
    try:
        options = _Options(aos, messages, keep, as_json)
        summary = trio.run(_until_signal, partial(_run, root, http, options))
    finally:
        if not keep and directory is None:
            shutil.rmtree(root, ignore_errors=True)
    passed = (
        summary["verified"]
        and summary["roots_equal"]
        and summary["replay_equal"]
        and summary["scheduled"] == summary["messages"]
        and summary["results"] == summary["messages"] * summary["cus"]
    )
    if as_json:
        click.echo(json.dumps(summary))
    if not passed:
        raise Failure(f"the demo did not verify: {json.dumps(summary)}", Exit.REFUSED)


def _demo_liar(root: Path, lie: str, *, aos: bool, keep: bool, as_json: bool) -> None:
    from aonode.cli.demo_liar import run_liar

    try:
        run = partial(run_liar, root, lie=lie, aos=aos, quiet=as_json)
        summary, passed = trio.run(_until_signal, run)
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    if as_json:
        click.echo(json.dumps(summary))
    if not passed:
        raise Failure(f"the liar was not caught as it must be: {summary}", Exit.REFUSED)


@dataclass(frozen=True, slots=True)
class _Options:
    aos: bool
    messages: int
    keep: bool
    as_json: bool


def _empty(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="aonode-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise Failure(f"{directory} is not empty; the demo starts from nothing", Exit.USAGE)
    return directory.resolve()


async def _until_signal(run: Callable[[], Awaitable[T]]) -> T:
    """Run the demo, stopping everything on SIGTERM as on any other end."""
    answers: list[T] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        answers.append(await run())
        nursery.cancel_scope.cancel()
    if not answers:
        raise Failure("stopped by a signal", Exit.REFUSED)
    return answers[0]


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _run(root: Path, http: Http | None, options: _Options) -> dict[str, Any]:
    # libp2p and wasmtime are loaded only here.
    from aonode.demo import workload
    from aonode.demo.run import Demo, replay_from_disk
    from aonode.demo.show import Show
    from aonode.local_network import local_network

    show, env = Show(quiet=options.as_json), ProductionEnv()
    show.title("Start: five nodes, each an operating-system process with its own data")
    chosen = workload.aos() if options.aos else workload.token()
    extra: dict[str, Any] = {}
    async with local_network(root, env, name="demo") as local:
        for node in local.nodes.values():
            assert node.process is not None, "local_network has started it"
            urls = "  ".join(node.urls.values())
            show.say(f"  {node.name:7} pid {node.process.pid:<7} {urls}  {node.address}")
        demo = Demo(local, chosen, show, messages=options.messages, http=http)
        summary_of = await demo.run()
        show.title(f"Replay: the log of {REPLAYED} from its disk, in this process")
        replay: Callable[[], Any] = lambda: replay_from_disk(local, REPLAYED, demo.process)  # noqa: E731
        if options.keep:
            await local.stop(REPLAYED)
            replayed = await env.offload(replay)
            await local.start(REPLAYED)
            await local.wait_ready([REPLAYED])
            extra = _hand_over(root, local, demo)
            # From here on they live without us.
            local.nodes.clear()
        else:
            failed = {name: code for name, code in (await local.stop_all()).items() if code}
            if failed:
                raise Failure(f"nodes did not stop cleanly: {failed}", Exit.REFUSED)
            replayed = await env.offload(replay)
    summary = summary_of(replayed)
    show.say(f"  {replayed.slots} slots checked and evaluated again")
    show.title("Summary")
    for line in _lines(summary):
        show.say(f"  {line}")
    for line in _kept(extra):
        show.say(line)
    return {**asdict(summary), **extra}


def _lines(summary: Summary) -> list[str]:
    cus, total = summary.cus, summary.messages * summary.cus
    return [
        f"{summary.scheduled} of {summary.messages} messages scheduled",
        f"{summary.results} of {total} results verified, {cus} compute units each",
        f"roots equal: {summary.roots_equal}   replay equal: {summary.replay_equal}",
        f"latency to the last receipt: median {summary.p50_ms} ms, p99 {summary.p99_ms} ms",
        f"{summary.messages_per_s} messages/s",
    ]


def _hand_over(root: Path, local: LocalNetwork, demo: Demo) -> dict[str, Any]:
    """Write a client's directory: network file, keys, addresses; what `--keep` prints."""
    from aonode.config import write_network
    from aonode.crypto.keys import new_key
    from aonode.running import Running, write_running
    from protocols.ids import b64url

    client = root / "client"
    client.mkdir(mode=0o700)
    write_network(client / NETWORK_FILE, local.network)
    names = [CLIENT_KEY, *(f"client-key-{n}.json" for n in range(1, len(demo.signers)))]
    for name, signer in zip(names, demo.signers, strict=True):
        new_key(client / name, signer.seed)
    pids = {name: node.process.pid for name, node in local.nodes.items() if node.process}
    roles = ("messenger", "scheduler", "compute")
    urls = {role: local.urls(role) for role in roles}
    addresses = [node.address for node in local.nodes.values()]
    write_running(client, Running(next(iter(pids.values())), "", addresses, urls))
    return {
        "directory": str(root),
        "client": str(client),
        "process": b64url(demo.process),
        "urls": urls,
        "keys": [str(client / name) for name in names],
        "pids": pids,
    }


def _kept(extra: dict[str, Any]) -> list[str]:
    if not extra:
        return []
    pids = " ".join(map(str, extra["pids"].values()))
    process, client = extra["process"], extra["client"]
    return [
        "\nThe network stays up.",
        *(f"  {role:10} {' '.join(urls)}" for role, urls in extra["urls"].items()),
        *(f"  funded key {path}" for path in extra["keys"]),
        f"  try:       aonode send {process} --data-dir {client} --tag Action=Info",
        f"  stop:      kill {pids}; rm -r {extra['directory']}",
    ]
