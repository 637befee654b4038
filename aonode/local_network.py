"""A network of node processes on this machine: what the demo runs, and the tests of crashes.

Every node is an operating-system process of its own, on free ports of 127.0.0.1 that it keeps
over restarts, so that its peers find it again. Nodes are ended by their process id only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import trio

from aonode.config import write_network
from aonode.crypto.keys import load_key, new_key
from aonode.engine.wasm import WasmEngine
from aonode.env import Env
from aonode.service import Paths
from aonode.toml_files import toml
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, address_of
from protocols.ledger.process import unsigned_ledger
from protocols.network import Network, Unit
from protocols.parameters import Parameters, demo_parameters

HOST = "127.0.0.1"
START_S_MAX = 30.0
"""Longest that a node may take until its ports answer."""
STOP_S_MAX = 10.0
"""Longest that a node may take to end after SIGTERM; then it is killed."""
POLL_S = 0.02
STAKE, BALANCE = 2000, 1000
"""Tokens each node has at stake, and free beside."""
TAIL_LINES = 30

Command = Callable[[Path], Sequence[str]]
"""The command line that runs the node of a config file."""


def run_command(config: Path) -> list[str]:
    """`aonode run` under this interpreter."""
    return [sys.executable, "-m", "aonode", "run", "--config", str(config)]


@dataclass
class LocalNode:
    """One node: its files, and its process while it runs."""

    name: str
    roles: tuple[str, ...]
    directory: Path
    key: NodeKey
    address: str = ""
    """Multiaddress with peer id, from the first start on."""
    urls: dict[str, str] = field(default_factory=dict)
    """HTTP address by role, from the first start on."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def data(self) -> Paths:
        """What the node keeps."""
        return Paths(self.directory / "data")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The end of what the node has logged."""
        path = self.directory / "stderr"
        logged = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        return "\n".join(f"{self.name}: {line}" for line in logged[-lines:])

    def announced(self) -> bool:
        """Take up address and URLs if the node has printed its ready line."""
        printed = (self.directory / "stdout").read_bytes()
        for line in printed.splitlines(keepends=True):
            if line.startswith(b"{") and line.endswith(b"\n"):
                told = json.loads(line)
                self.address, self.urls = told["addresses"][0], told["urls"]
                return True
        return False


class LocalNetwork:
    """The nodes of one network, by name."""

    def __init__(
        self,
        network: Network,
        nodes: Sequence[LocalNode],
        *,
        command: Command = run_command,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is added to that of every node."""
        self.network = network
        self.nodes = {node.name: node for node in nodes}
        self._command = command
        self._environment = {**os.environ, **(environment or {})}

    def of(self, role: str) -> list[LocalNode]:
        """Nodes with a role, in the order they were given."""
        return [node for node in self.nodes.values() if role in node.roles]

    def urls(self, role: str) -> list[str]:
        """HTTP addresses of a role."""
        return [node.urls[role] for node in self.of(role)]

    async def start(self, name: str) -> None:
        """Start a node on the ports it had before, and wait until its ports answer.

        Raises Invalid(UNAVAILABLE) with the end of its log if it does not come up.
        """
        node = self.nodes[name]
        assert not node.running, f"{name} is running"
        config = self._write_config(node)
        with (
            (node.directory / "stdout").open("wb") as out,
            (node.directory / "stderr").open("ab") as err,
        ):
            # In a group of its own: an interrupt at the terminal reaches only whoever started it.
            node.process = subprocess.Popen(
                self._command(config),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment,
                start_new_session=True,
            )
        node.starts += 1
        with trio.move_on_after(START_S_MAX):
            while not node.announced() and node.running:
                await trio.sleep(POLL_S)
        if not node.running or not node.announced():
            await self.kill(name)
            raise Invalid(
                Reason.UNAVAILABLE,
                f"node {name} did not start within {START_S_MAX:g} s; its log ends:\n{node.tail()}",
            )

    async def start_all(self) -> None:
        """Start every node, schedulers first: the others dial them."""
        schedulers = self.of("scheduler")
        for node in schedulers:
            await self.start(node.name)
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                if node not in schedulers:
                    nursery.start_soon(self.start, node.name)

    async def stop(self, name: str) -> int:
        """SIGTERM, then SIGKILL if need be; the exit status."""
        node = self.nodes[name]
        if node.process is None:
            return 0
        if node.running:
            node.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_S_MAX):
            while node.running:
                await trio.sleep(POLL_S)
        return await self.kill(name)

    async def kill(self, name: str) -> int:
        """SIGKILL, as a power cut would end it; the exit status."""
        process = self.nodes[name].process
        if process is None:
            return 0
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            while process.poll() is None:
                await trio.sleep(POLL_S)
        assert process.returncode is not None, "poll has just said so"
        return process.returncode

    async def stop_all(self) -> dict[str, int]:
        """Stop every node; exit status by name. Also when cancelled."""
        statuses: dict[str, int] = {}

        async def stop(name: str) -> None:
            statuses[name] = await self.stop(name)

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for name in self.nodes:
                    nursery.start_soon(stop, name)
        return statuses

    async def wait_ready(self, names: Sequence[str] = (), *, within_s: float = START_S_MAX) -> None:
        """Wait until nodes (all, if none are named) say that they are ready to work."""
        nodes = [self.nodes[name] for name in names or self.nodes]
        async with httpx.AsyncClient(trust_env=False) as http:
            with trio.move_on_after(within_s):
                for node in nodes:
                    while not await _is_ready(http, node):
                        await trio.sleep(POLL_S)
                return
        raise Invalid(
            Reason.UNAVAILABLE,
            f"{', '.join(node.name for node in nodes)} not ready within {within_s:g} s:\n"
            f"{self.tails(5)}",
        )

    def tails(self, lines: int = TAIL_LINES) -> str:
        """The ends of all nodes' logs."""
        return "\n".join(node.tail(lines) for node in self.nodes.values())

    def _write_config(self, node: LocalNode) -> Path:
        """The node's settings: any free port at first, later the ports it had."""
        others = [each.address for each in self.nodes.values() if each is not node and each.address]
        ports = {role: urlsplit(url).port for role, url in node.urls.items()}
        path = node.directory / "aonode.toml"
        path.write_text(
            toml(
                {
                    "data_dir": "data",
                    "network": "../network.toml",
                    "roles": list(node.roles),
                    "listen": node.address.partition("/p2p/")[0] or f"/ip4/{HOST}/tcp/0",
                    "bootstrap": others,
                    "http_host": HOST,
                    **{f"{role}_port": ports.get(role) or 0 for role in node.roles},
                }
            ),
            encoding="utf-8",
        )
        return path


async def _is_ready(http: httpx.AsyncClient, node: LocalNode) -> bool:
    try:
        answer = await http.get(next(iter(node.urls.values())) + "/readyz")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


@asynccontextmanager
async def local_network(
    root: Path,
    env: Env,
    *,
    computes: int = 3,
    watchers: int = 0,
    slashable_modules: Sequence[ItemId] = (),
    ledger: bool = True,
    name: str = "local",
    parameters: Parameters | None = None,
    command: Command = run_command,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[LocalNetwork]:
    """A running network of one messenger "mu", one scheduler "su", `computes` compute units
    "cu1", "cu2", ... and `watchers` watchers "w1", ... below the empty directory `root`; stopped
    when the block ends. With a ledger each of them has a stake, and compute units can lose theirs
    for wrong results of processes that run one of `slashable_modules`.

    Raises Invalid if a node does not come up.
    """
    roles = {"su": "scheduler", "mu": "messenger"}
    roles |= {f"cu{number + 1}": "compute" for number in range(computes)}
    roles |= {f"w{number + 1}": "watcher" for number in range(watchers)}
    nodes = []
    for each, role in roles.items():
        directory = root / each
        (directory / "data").mkdir(parents=True, mode=0o700)
        signer = new_key(Paths(directory / "data").key, env.entropy("key", 32))
        nodes.append(LocalNode(each, (role,), directory, signer.key))
    network = make_network(name, nodes, parameters or demo_parameters())
    if ledger:
        network = with_ledger(network, nodes, env.entropy("anchor", 32), slashable_modules)
    write_network(root / "network.toml", network)
    running = LocalNetwork(network, nodes, command=command, environment=environment)
    try:
        await running.start_all()
        await running.wait_ready()
        yield running
    finally:
        await running.stop_all()


def make_network(name: str, nodes: Sequence[LocalNode], parameters: Parameters) -> Network:
    """The network file of some nodes; they tell each other their addresses."""
    engine = WasmEngine(
        fuel_max=parameters.fuel_max,
        memory_max=parameters.memory_max,
        output_bytes_max=parameters.output_bytes_max,
        outbox_max=parameters.outbox_max,
    )
    scheduler = next(node for node in nodes if "scheduler" in node.roles)
    computes = sum("compute" in node.roles for node in nodes)
    # A quorum that no set of units can reach would leave every outbox unsent for ever.
    quorum = max(1, min(parameters.push_quorum, computes))
    return Network(
        name=name,
        ledger_scheduler=address_of(scheduler.key),
        profile=engine.profile,
        parameters=replace(parameters, push_quorum=quorum),
        units=tuple(Unit(node.key, node.roles, ()) for node in nodes),
    )


def with_ledger(
    network: Network,
    nodes: Sequence[LocalNode],
    anchor: bytes,
    slashable_modules: Sequence[ItemId] = (),
) -> Network:
    """The same network with a ledger on which every node has a stake and some free tokens."""
    keeper = next(node for node in nodes if address_of(node.key) == network.ledger_scheduler)
    draft = unsigned_ledger(keeper.key, network.name, anchor)
    token = 10**network.parameters.denomination
    accounts = [address_of(node.key) for node in nodes]
    return replace(
        network,
        ledger_item=draft.signed(load_key(keeper.data.key).sign(draft.message())).raw,
        slashable_modules=tuple(slashable_modules),
        balances=tuple((account, BALANCE * token) for account in accounts),
        stakes=tuple((account, STAKE * token) for account in accounts),
    )
