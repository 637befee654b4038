"""What all verbs share: exit codes, options, where units are found, output.

Ids go to standard output, one per line, so that verbs can be chained; `--json` gives one object.
Errors go to standard error in one sentence.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from aonode.accept.ledger_client import LedgerClient
from aonode.asking import Asker
from aonode.client import TIMEOUT_S, Client
from aonode.config import load_network
from aonode.crypto.keys import load_wallet
from aonode.crypto.signers import ItemSigner
from aonode.env import ProductionEnv
from aonode.http_transport import http_client
from aonode.running import Running, read_running
from protocols.errors import Invalid, Reason
from protocols.ids import parse_id
from protocols.network import Network

T = TypeVar("T")

DATA_DIR = "aonode-data"
CLIENT_KEY = "client-key.json"
NETWORK_FILE = "network.toml"
ID_MARK = "id:"
"""May stand before an id that begins with a hyphen."""


class Exit(enum.IntEnum):
    """Exit codes; also in every `--help` of the group."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    LOCKED = 3
    DATA = 4
    KEY = 5
    UNREACHABLE = 6
    BUG = 70


class Failure(click.ClickException):
    """One sentence on standard error, and a code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        click.echo(f"aonode: {self.message}", err=True)


_CODES = {
    Reason.CONFIG: Exit.USAGE,
    Reason.STORAGE: Exit.DATA,
    Reason.UNAVAILABLE: Exit.UNREACHABLE,
    Reason.TIMEOUT: Exit.UNREACHABLE,
}


def failure_of(error: Invalid) -> Failure:
    """The exit code of a refusal. `in use` is LevelDB's word for a second node on one directory."""
    code = _CODES.get(error.reason, Exit.REFUSED)
    if error.reason is Reason.STORAGE and " is in use " in error.detail:
        code = Exit.LOCKED
    return Failure(error.detail or str(error.reason), code)


def refusals_exit(verb: Callable[..., T]) -> Callable[..., T]:
    """Decorates a verb: `Invalid`, also out of a nursery, becomes a sentence and a code."""

    @wraps(verb)
    def wrapped(*args: Any, **options: Any) -> T:
        try:
            return verb(*args, **options)
        except Invalid as error:
            raise failure_of(error) from None
        except BaseExceptionGroup as group:
            refused, rest = group.split(Invalid)
            if refused is None or rest is not None:
                raise
            raise failure_of(first_leaf(refused)) from None

    return wrapped


def first_leaf(group: BaseExceptionGroup[Invalid]) -> Invalid:
    """The first exception in a tree of groups."""
    first = group.exceptions[0]
    return first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


def emit(value: Any, *, as_json: bool, text: str) -> None:
    """One JSON object, or `text`."""
    click.echo(json.dumps(value) if as_json else text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@dataclass(frozen=True, slots=True)
class Access:
    """How a client verb reaches the network."""

    network: Network
    data_dir: Path
    key: Path
    messengers: tuple[str, ...]
    computes: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def signer(self) -> ItemSigner:
        """The key that signs; verbs that only read need none."""
        return _signer(self.key)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every port known, each once."""
        return tuple(dict.fromkeys((*self.others, *self.computes, *self.messengers)))

    def client(self, computes: Sequence[str] = ()) -> Client:
        """A client of these compute units, or of those that are known."""
        return Client(
            self.network,
            signer=self.signer,
            env=ProductionEnv(),
            mu_url=self.messengers[0] if self.messengers else "",
            cu_urls=computes or self.computes,
        )


def client_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options by which a client finds network, key and units, as one `access`."""

    @click.option(
        "--data-dir",
        default=DATA_DIR,
        envvar="AONODE_DATA_DIR",
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Where network file, client key and addresses are, unless the others say.",
    )
    @click.option(
        "--network", "network_file", type=click.Path(path_type=Path), help="Network file."
    )
    @click.option("--key", type=click.Path(path_type=Path), help="Key file or Arweave wallet.")
    @click.option("--mu", multiple=True, help="Address of a messenger unit.")
    @click.option("--cu", multiple=True, help="Address of a compute unit; repeat for a quorum.")
    @click.option("--node", multiple=True, help="Address of any node, to ask about the ledger.")
    @wraps(verb)
    def wrapped(
        *,
        data_dir: Path,
        network_file: Path | None,
        key: Path | None,
        mu: Sequence[str],
        cu: Sequence[str],
        node: Sequence[str],
        **options: Any,
    ) -> Any:
        network = load_network(network_file or data_dir / NETWORK_FILE)
        running = read_running(data_dir)
        access = Access(
            network=network,
            data_dir=data_dir,
            key=key or data_dir / CLIENT_KEY,
            messengers=tuple(mu) or _urls(network, running, "messenger"),
            computes=tuple(cu) or _urls(network, running, "compute"),
            others=tuple(node)
            or tuple(
                url for role in ("scheduler", "watcher") for url in _urls(network, running, role)
            ),
        )
        return verb(access=access, **options)

    return wrapped


def _signer(path: Path) -> ItemSigner:
    if not path.exists():
        raise Failure(
            f"no key file {path}; make one with 'aonode keys new {path}', or name yours with --key",
            Exit.KEY,
        )
    try:
        return load_wallet(path)
    except Invalid as error:
        raise Failure(error.detail, Exit.KEY) from None


def _urls(network: Network, running: Running | None, role: str) -> tuple[str, ...]:
    """Addresses of the units of a role: of what runs from the data directory, else listed."""
    if running is not None and running.urls.get(role):
        return tuple(running.urls[role])
    return tuple(url for unit in network.units for kind, url in unit.urls if kind == role)


def with_client(access: Access, ask: Callable[[Client], Awaitable[T]], *, sends: bool = False) -> T:
    """Run `ask` with a client of the network."""
    role, urls = ("messenger", access.messengers) if sends else ("compute", access.computes)
    if not urls:
        raise Failure(
            f"no {role} unit's address is known; give it with --{'mu' if sends else 'cu'} URL",
            Exit.USAGE,
        )

    async def run() -> T:
        async with access.client() as client:
            return await ask(client)

    return trio.run(run)


def with_ledger(access: Access, ask: Callable[[LedgerClient], Awaitable[T]]) -> T:
    """Run `ask` with a client of the network's ledger."""

    async def run() -> T:
        asker = Asker(http_client(timeout_s=TIMEOUT_S))
        try:
            return await ask(LedgerClient(access.network, asker, access.nodes))
        finally:
            await asker.aclose()

    return trio.run(run)


class Id(click.ParamType[bytes]):
    """A 43-character id."""

    name = "id"

    def convert(self, value: Any, param: Any, context: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            return parse_id(value.removeprefix(ID_MARK), param.name if param else "id")
        except Invalid as error:
            self.fail(error.detail, param, context)


class TagOption(click.ParamType[tuple[str, str]]):
    """`Name=Value`."""

    name = "name=value"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not Name=Value", param, context)
        return name, text


tags_option = click.option(
    "--tag", "tags", multiple=True, type=TagOption(), help="A tag; repeat for several."
)


def data_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--data TEXT` and `--data-file FILE` (`-`: standard input), as one `data`."""

    @click.option("--data", "text", help="Data as text.")
    @click.option("--data-file", type=click.Path(path_type=Path, allow_dash=True))
    @wraps(verb)
    def wrapped(*, text: str | None, data_file: Path | None, **options: Any) -> Any:
        if text is not None and data_file is not None:
            raise click.UsageError("give --data or --data-file, not both")
        data = b" " if text is None else text.encode("utf-8")
        if data_file is not None:
            data = read_file(data_file)
        return verb(data=data, **options)

    return wrapped


def read_file(path: Path) -> bytes:
    """A file's bytes, or standard input's for `-`."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", Exit.USAGE) from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file that the user has named."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", Exit.USAGE) from None
