"""Settings of one node: where they come from, and what an operator may choose.

Two files, kept apart on purpose. The network file (`protocols.network`) decides results and is
the same on every node. The operator's file says how this one node runs, and can change no result.

A setting is looked up in four places; the last that states it wins, and `Settings.origin` says
which that was:

    network file  <  config file  <  environment (AONODE_<KEY>)  <  command-line flags
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from aonode.toml_files import read_toml, toml
from protocols.errors import Invalid, Reason
from protocols.network import ROLES, ROLES_DEFAULT, Network, check_keys, parse_network

ENVIRONMENT_PREFIX = "AONODE_"
CONFIG_VARIABLE = "AONODE_CONFIG"
"""Path of the config file, for the command line; not a setting itself."""
LOG_LEVELS = ("debug", "info", "warning", "error")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator chooses. Environment and flags have the same names."""

    data_dir: str = "aonode-data"
    """Directory of keys, stores and compiled code."""
    network: str = "network.toml"
    """Path of the network file."""
    roles: tuple[str, ...] = ROLES_DEFAULT
    """Any of messenger, scheduler, compute, watcher. Every node keeps a replica, and follows the
    ledger."""
    listen: str = "/ip4/127.0.0.1/tcp/0"
    """Multiaddress for peers; port 0 takes a free one."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddresses to dial first; the network file's unless stated."""
    http_host: str = "127.0.0.1"
    """Address of all HTTP ports."""
    messenger_port: int = 3005
    scheduler_port: int = 9000
    compute_port: int = 6363
    """HTTP ports as AO's units have them; 0 takes a free one."""
    watcher_port: int = 6364
    """HTTP port of a watcher: what every port says of the node, the ledger and challenges."""
    follow: tuple[str, ...] = ()
    """Process ids to replicate; all if empty."""
    sole_copy: bool = False
    """This scheduler's data is the only copy: sign without asking peers for its heads."""
    audit_share: int = 500
    """Basis points of the state proofs heard that a watcher without the compute role checks by
    running the process; whatever units disagree about it runs in any case."""
    log_level: str = "info"
    peer_requests_max: int = 64
    """Stream requests served to one peer at a time."""
    peer_bytes_per_s: int = 32 << 20
    """Stream bytes served to one peer per second."""
    client_requests_max: int = 256
    """HTTP requests handled at a time on each port."""
    inbox_max: int = 4096
    """Events waiting in front of one role."""
    engine_threads: int = 2
    """Processes evaluated at a time."""
    engine_instances_max: int = 256
    """Processes kept alive in the engine, 4 MiB each for aos; others are set aside, compressed."""


@dataclass(frozen=True)
class Settings:
    """A node's settings, its network, and where each setting came from."""

    config: Config
    network: Network
    origin: Mapping[str, str]
    """By key: `default`, `network file`, the config file's path, `AONODE_<KEY>`, or `--<key>`."""


KEYS = tuple(Config.__struct_fields__)
"""Names of all settings."""


def load_settings(
    path: Path | None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from the four places. `path` is the config file, if there is one.

    A relative `data_dir` or `network` in the config file is relative to that file. `flags` holds
    only those that were given. Raises Invalid(CONFIG).
    """
    values: dict[str, Any] = {}
    origin = dict.fromkeys(KEYS, "default")
    for name, (value, source) in _stated(path, environment, flags).items():
        values[name] = value
        origin[name] = source
    config = _convert(values, origin)
    network = load_network(Path(config.network))
    if origin["bootstrap"] == "default" and network.bootstrap:
        config = msgspec.structs.replace(config, bootstrap=network.bootstrap)
        origin["bootstrap"] = "network file"
    return Settings(config, network, origin)


def _stated(
    path: Path | None, environment: Mapping[str, str] | None, flags: Mapping[str, Any] | None
) -> dict[str, tuple[Any, str]]:
    """Every key that some place states, with its raw value and that place."""
    stated: dict[str, tuple[Any, str]] = {}
    if path is not None:
        document = read_toml(path)
        check_keys(document, KEYS, str(path))
        for name, value in document.items():
            if name in {"data_dir", "network"} and isinstance(value, str):
                value = str(path.parent / value)
            stated[name] = (value, str(path))
    given = os.environ if environment is None else environment
    names = {key: key.removeprefix(ENVIRONMENT_PREFIX) for key in given}
    ours = {key: name.lower() for key, name in names.items() if key not in {name, CONFIG_VARIABLE}}
    check_keys(ours.values(), KEYS, "the environment")
    for key, name in sorted(ours.items()):
        stated[name] = (_from_text(name, given[key]), key)
    check_keys(flags or {}, KEYS, "the command line")
    for name, value in (flags or {}).items():
        stated[name] = (value, "--" + name.replace("_", "-"))
    return stated


def _from_text(name: str, text: str) -> object:
    """An environment variable as a file would have the value: lists are split on commas."""
    kind = type(getattr(Config(), name))
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if kind is int and text.strip().isdecimal():
        return int(text)
    return text


def _convert(values: Mapping[str, Any], origin: Mapping[str, str]) -> Config:
    for name, value in values.items():
        expected = Config.__annotations__[name]
        try:
            msgspec.convert({name: value}, Config)
        except msgspec.ValidationError as error:
            raise _config(f"{name} = {value!r} from {origin[name]}: {error} ({expected})") from None
    config = msgspec.convert(dict(values), Config)
    for role in config.roles:
        if role not in ROLES:
            raise _config(
                f"roles from {origin['roles']}: {role!r} is no role; use {', '.join(ROLES)}"
            )
    if config.log_level not in LOG_LEVELS:
        raise _config(
            f"log_level {config.log_level!r} from {origin['log_level']}: "
            f"use {', '.join(LOG_LEVELS)}"
        )
    for name in ("messenger_port", "scheduler_port", "compute_port", "watcher_port"):
        port = getattr(config, name)
        if not 0 <= port < 1 << 16:
            raise _config(f"{name} = {port} from {origin[name]} is no TCP port")
    for name in KEYS:
        value = getattr(config, name)
        if type(value) is int and not name.endswith("_port") and value < 1:
            raise _config(f"{name} = {value} from {origin[name]} must be at least 1")
    return config


def _config(detail: str) -> Invalid:
    return Invalid(Reason.CONFIG, detail)


# Files


def load_network(path: Path) -> Network:
    """Read a network file. Raises Invalid(CONFIG) naming the file and the key."""
    document = read_toml(path)
    try:
        return parse_network(document)
    except Invalid as error:
        raise _config(f"{path}: {error.detail}") from None


def write_network(path: Path, network: Network) -> None:
    """Write `network` so that `load_network` gives it back, with the same id."""
    document = network.document()
    parse_network(document)
    header = f"# Network {network.name!r}. Every node has the same file: its hash is its name.\n\n"
    path.write_text(header + toml(document), encoding="utf-8")
