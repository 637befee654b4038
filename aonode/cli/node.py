"""`aonode init`, `run`, `status`: a node's life."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx
import trio

from aonode.cli.shared import (
    CLIENT_KEY,
    DATA_DIR,
    NETWORK_FILE,
    Exit,
    Failure,
    emit,
    json_option,
    refusals_exit,
)
from aonode.config import CONFIG_VARIABLE, Settings, load_network, load_settings, write_network
from aonode.crypto.keys import load_key, new_key
from aonode.crypto.signers import Ed25519Signer
from aonode.env import ProductionEnv
from aonode.ops.log import LEVELS, configure
from aonode.running import Running, read_running, remove_running, write_running
from aonode.toml_files import toml
from protocols.ids import Address, b64url
from protocols.ledger.process import unsigned_ledger
from protocols.network import ROLES, ROLES_DEFAULT, Network, Unit
from protocols.parameters import Parameters, default_parameters

if TYPE_CHECKING:
    from aonode.node import Adversary

CONFIG_FILE = "config.toml"
STATUS_TIMEOUT_S = 10.0
STAKE = 2000
"""Tokens at stake behind the node of a new network, unless told."""
BALANCE = 1000
"""Tokens of that node, and of its client, beside."""


@click.command()
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
    help="Join the network of this file. Without it: a new network of this one node.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(ROLES),
    help=f"Default: {', '.join(ROLES_DEFAULT)}.",
)
@click.option("--name", default="private", show_default=True, help="Name of a new network.")
@click.option(
    "--stake",
    default=STAKE,
    show_default=True,
    type=click.IntRange(0),
    help="Tokens at stake behind this node on a new network. 0: a network without a ledger.",
)
@json_option
@refusals_exit
def init(
    data_dir: Path,
    network_file: Path | None,
    roles: Sequence[str],
    name: str,
    *,
    stake: int,
    as_json: bool,
) -> None:
    """Make a data directory: keys, config file, network file.

    A new network has this node as its only unit, and is ready to run: it keeps the ledger's log,
    and the client's key has some tokens.
    """
    chosen = tuple(role for role in ROLES if role in roles) or ROLES_DEFAULT
    joined = None if network_file is None else load_network(network_file)
    if (data_dir / CONFIG_FILE).exists():
        raise Failure(f"{data_dir} holds a node already; choose another --data-dir", Exit.USAGE)
    # The engine's profile is part of a new network: wasmtime is loaded only here.
    from aonode.service import Paths

    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    env = ProductionEnv()
    signer = new_key(Paths(data_dir).key, env.entropy("key", 32))
    client = new_key(data_dir / CLIENT_KEY, env.entropy("key", 32))
    network = joined or new_network(name, [Unit(signer.key, chosen, ())], default_parameters())
    if joined is None and stake:
        network = with_ledger(network, signer, client, stake, env.entropy("anchor", 32))
    write_network(data_dir / NETWORK_FILE, network)
    # Nobody else can have a copy of a log that starts here.
    write_config(data_dir, roles=chosen, sole_copy=joined is None)
    emit(
        {
            "data_dir": str(data_dir),
            "network": b64url(network.id),
            "key": b64url(signer.key),
            "address": b64url(signer.address),
            "client": b64url(client.address),
        },
        as_json=as_json,
        text=f"{data_dir} is ready; start it with: aonode run --data-dir {data_dir}",
    )


def new_network(name: str, units: Sequence[Unit], parameters: Parameters) -> Network:
    """A network of these units, under this release's engine profile."""
    from aonode.engine.wasm import WasmEngine

    schedulers: list[Address] = [unit.address for unit in units if "scheduler" in unit.roles]
    if not schedulers:
        raise Failure("a new network needs a scheduler; add --role scheduler", Exit.USAGE)
    computes = sum("compute" in unit.roles for unit in units)
    # A quorum that no set of units can reach would leave every outbox unsent for ever.
    reachable = replace(parameters, push_quorum=max(1, min(parameters.push_quorum, computes)))
    engine = WasmEngine(
        fuel_max=reachable.fuel_max,
        memory_max=reachable.memory_max,
        output_bytes_max=reachable.output_bytes_max,
        outbox_max=reachable.outbox_max,
    )
    return Network(
        name=name,
        ledger_scheduler=schedulers[0],
        profile=engine.profile,
        parameters=reachable,
        units=tuple(units),
    )


def with_ledger(
    network: Network, node: Ed25519Signer, client: Ed25519Signer, stake: int, anchor: bytes
) -> Network:
    """The network with a ledger that its one node keeps, and has so many tokens at stake on."""
    parameters = network.parameters
    token = 10**parameters.denomination
    if stake * token < parameters.stake_min:
        least = -(-parameters.stake_min // token)
        raise Failure(f"--stake {stake} is too small: 0, or at least {least}", Exit.USAGE)
    draft = unsigned_ledger(node.key, network.name, anchor)
    return replace(
        network,
        ledger_item=draft.signed(node.sign(draft.message())).raw,
        balances=tuple((each.address, BALANCE * token) for each in (node, client)),
        stakes=((node.address, stake * token),),
    )


def write_config(directory: Path, **settings: Any) -> None:
    """A node's config file; its paths are relative to itself."""
    document = {"data_dir": ".", "network": NETWORK_FILE, **settings}
    lines = {
        key: list(value) if isinstance(value, tuple) else value for key, value in document.items()
    }
    (directory / CONFIG_FILE).write_text(toml(lines), encoding="utf-8")


@click.command()
@click.option(
    "--config",
    "config_file",
    envvar=CONFIG_VARIABLE,
    type=click.Path(path_type=Path),
    help=f"Default: {CONFIG_FILE} in the data directory.",
)
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False))
@click.option("--network", type=click.Path(path_type=Path))
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES))
@click.option("--listen", help="Multiaddress for peers.")
@click.option("--bootstrap", multiple=True, help="Multiaddress of a peer to dial first.")
@click.option("--http-host")
@click.option("--messenger-port", type=int)
@click.option("--scheduler-port", type=int)
@click.option("--compute-port", type=int)
@click.option("--watcher-port", type=int)
@click.option("--sole-copy", is_flag=True, default=None, help="No peer has this scheduler's log.")
@click.option("--log-level", type=click.Choice(LEVELS))
@refusals_exit
def run(config_file: Path | None, **given: Any) -> None:
    """Run a node until SIGTERM or SIGINT.

    Prints one JSON line once it serves: where peers and clients reach it.
    """
    flags = {name: _plain(value) for name, value in given.items() if value not in (None, ())}
    path = config_file or _config_in(flags)
    serve(load_settings(path, flags=flags))


def serve(
    settings: Settings, adversary: Callable[[Ed25519Signer], Adversary] | None = None
) -> None:
    """Run the node of these settings, bent by what `adversary` makes for it, if anything."""
    configure(settings.config.log_level)
    directory = Path(settings.config.data_dir)
    # libp2p and wasmtime are loaded only here: they take most of a second.
    from aonode.node import HONEST
    from aonode.service import Paths, Started
    from aonode.service import run as run_service

    if not Paths(directory).key.exists():
        raise Failure(
            f"no key file {Paths(directory).key}; make a data directory with 'aonode init'",
            Exit.KEY,
        )

    def announce(started: Started) -> None:
        addresses = list(started.node.status()["addresses"])
        urls = {role: [url] for role, url in started.urls.items()}
        key = b64url(started.node.key)
        write_running(directory, Running(os.getpid(), key, addresses, urls))
        ready = {"key": key, "addresses": addresses, "urls": started.urls}
        click.echo(json.dumps(ready))

    bent = HONEST if adversary is None else adversary(load_key(Paths(directory).key))
    try:
        trio.run(partial(run_service, settings, announce=announce, adversary=bent))
    finally:
        remove_running(directory, os.getpid())


def _plain(value: Any) -> Any:
    """A flag's value as a file would have it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _config_in(flags: dict[str, Any]) -> Path | None:
    """The config file of the data directory, if there is one."""
    data_dir = flags.get("data_dir") or os.environ.get("AONODE_DATA_DIR") or DATA_DIR
    path = Path(data_dir) / CONFIG_FILE
    return path if path.exists() else None


@click.command()
@click.argument("url", required=False)
@click.option(
    "--data-dir",
    default=DATA_DIR,
    envvar="AONODE_DATA_DIR",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
)
@json_option
@refusals_exit
def status(url: str | None, data_dir: Path, as_json: bool) -> None:
    """Show what the node at URL, or the one of the data directory, says of itself."""
    if url is None:
        running = read_running(data_dir)
        if running is None:
            raise Failure(f"no node runs in {data_dir}; give the URL of one", Exit.UNREACHABLE)
        url = next(iter(running.urls.values()))[0]
    try:
        answer = httpx.get(f"{url.rstrip('/')}/status", timeout=STATUS_TIMEOUT_S, trust_env=False)
        facts = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Failure(f"{url} gives no status: {error}", Exit.UNREACHABLE) from None
    emit(facts, as_json=as_json, text="\n".join(_lines(facts)))


def _lines(facts: Any, prefix: str = "") -> list[str]:
    """Nested facts as `a.b  value` lines."""
    if not isinstance(facts, dict):
        text = facts if isinstance(facts, str) else json.dumps(facts)
        return [f"{prefix[:-1]:32} {text}"]
    return [line for key, value in facts.items() for line in _lines(value, f"{prefix}{key}.")]
