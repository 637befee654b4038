"""A production node in this process: LevelDB, libp2p, wasmtime and HTTP ports around `Node`."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from aonode.config import Config, Settings
from aonode.crypto.keys import load_key
from aonode.crypto.signers import Ed25519Signer
from aonode.engine.wasm import WasmEngine
from aonode.env import ProductionEnv, TaskStatus
from aonode.http import compute, everywhere, messenger, scheduler, server
from aonode.http.edge import App
from aonode.net.libp2p_wire import Libp2pWire
from aonode.node import HONEST, Adversary, Node, Parts, build_node
from aonode.ops import log
from aonode.store.level import LevelStore
from aonode.store.schema import prepare
from protocols.errors import Invalid, Reason
from protocols.network import Network

SCHEMA_VERSION = 1
"""Version of the rows in both stores."""
KEY_FILE = "node-key.json"
SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter while another waits for it."""
GC_OBJECTS = 10_000
"""New objects between two looks at the young ones."""


@dataclass(frozen=True, slots=True)
class Paths:
    """What a data directory holds."""

    root: Path

    @property
    def key(self) -> Path:
        return self.root / KEY_FILE

    @property
    def db(self) -> Path:
        return self.root / "db"

    @property
    def sign_once(self) -> Path:
        return self.root / "sign-once"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def sequence(self) -> Path:
        return self.root / "gossip-sequence"


class Port(Protocol):
    """One HTTP port, as a nursery starts it; reports the number it is bound to."""

    def __call__(self, *, task_status: TaskStatus[int]) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Started:
    """Where a node that has started is reached."""

    node: Node
    urls: dict[str, str]
    """HTTP address by role."""


def open_stores(paths: Paths) -> tuple[LevelStore, LevelStore]:
    """The node's two stores, of this release's version. Raises Invalid(STORAGE)."""
    db = LevelStore(paths.db)
    sign_once = LevelStore(paths.sign_once)
    prepare(db, "db", SCHEMA_VERSION)
    prepare(sign_once, "sign-once", SCHEMA_VERSION)
    return db, sign_once


def make_engine(network: Network, cache_dir: Path | None) -> WasmEngine:
    """The engine of `network`; refuses a network whose profile is not this release's."""
    parameters = network.parameters
    engine = WasmEngine(
        fuel_max=parameters.fuel_max,
        memory_max=parameters.memory_max,
        output_bytes_max=parameters.output_bytes_max,
        outbox_max=parameters.outbox_max,
        cache_dir=cache_dir,
    )
    if engine.profile != network.profile:
        raise Invalid(
            Reason.CONFIG,
            f"network {network.name!r} has engine profile {network.profile.hex()}, this release "
            f"has {engine.profile.hex()}; install the release the network runs",
        )
    return engine


def _build(
    config: Config,
    network: Network,
    signer: Ed25519Signer,
    env: ProductionEnv,
    adversary: Adversary,
) -> Node:
    paths = Paths(Path(config.data_dir))
    # The engine sets the stack size of threads made after it.
    needed = "compute" in config.roles or network.ledger is not None
    engine = make_engine(network, paths.code) if needed else None
    db, sign_once = open_stores(paths)
    wire = Libp2pWire(
        seed=signer.seed,
        network=network.id,
        listen=config.listen,
        bootstrap=config.bootstrap,
        env=env,
        shards=network.parameters.shards,
        sequence_path=paths.sequence,
    )
    parts = Parts(env, wire, db, sign_once, signer, engine, config.engine_instances_max)
    return build_node(
        roles=config.roles,
        network=network,
        parts=parts,
        sole_copy=config.sole_copy,
        adversary=adversary,
        audit_share=config.audit_share,
    )


async def run(
    settings: Settings, *, announce: Callable[[Started], None], adversary: Adversary = HONEST
) -> None:
    """Run a node until SIGTERM or SIGINT; `announce` hears of it once every port answers.

    Raises Invalid for settings, keys, stores or ports that cannot be used.
    """
    config, network = settings.config, settings.network
    env = ProductionEnv(engine_threads=config.engine_threads)
    signer = load_key(Paths(Path(config.data_dir)).key)
    node = _build(config, network, signer, env, adversary)
    logger = log.get("service")
    stop = trio.Event()
    tune_interpreter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_on_signal, stop, nursery.cancel_scope)
        await nursery.start(node.run)
        async with trio.open_nursery() as ports:
            urls = {
                role: f"http://{config.http_host}:{await ports.start(port)}"
                for role, port in _ports(node, config, env, stop, adversary)
            }
            node.set_urls(urls)
            logger.info("started", urls=urls, addresses=node.status()["addresses"])
            announce(Started(node, urls))
            # The ports drain when `stop` is set; only then does the node behind them end.
        logger.info("stopped")
        nursery.cancel_scope.cancel()


def tune_interpreter() -> None:
    """Keep the garbage collector from stopping the event loop, and that from stopping workers.

    What has been loaded so far, a hundred thousand objects, stays for good: looking at all of it
    takes 70 ms each time. And one message alone makes more objects than the default threshold.
    A worker needs the interpreter for a moment between two messages, and would wait for it as long
    as several messages take to run.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 10)


def _ports(
    node: Node, config: Config, env: ProductionEnv, stop: trio.Event, adversary: Adversary
) -> list[tuple[str, Port]]:
    parameters = node.network.parameters
    apps = []
    if node.messenger is not None:
        app = messenger.app(node, node.messenger, parameters, count=node.count_http)
        apps.append(("messenger", app, config.messenger_port))
    if node.scheduler is not None:
        app = scheduler.app(node, node.scheduler, parameters, env, count=node.count_http)
        apps.append(("scheduler", app, config.scheduler_port))
    if node.compute is not None:
        api = adversary.compute(node.compute)
        app = compute.app(node, api, parameters, env, count=node.count_http)
        apps.append(("compute", app, config.compute_port))
    if "watcher" in node.roles:
        app = everywhere.app(node, count=node.count_http)
        apps.append(("watcher", app, config.watcher_port))
    return [(role, _port(app, config, port, stop)) for role, app, port in apps]


def _port(app: App, config: Config, port: int, stop: trio.Event) -> Port:
    host = config.http_host
    limits = server.Limits(connections_max=config.client_requests_max)

    async def serve(*, task_status: TaskStatus[int]) -> None:
        try:
            await server.serve(
                app, host=host, port=port, stop=stop, limits=limits, task_status=task_status
            )
        except OSError as error:
            raise Invalid(
                Reason.CONFIG,
                f"cannot listen on {host}:{port}: {error.strerror}; choose another port",
            ) from None

    return serve


async def _on_signal(stop: trio.Event, scope: trio.CancelScope) -> None:
    """First signal: finish what is under way. Second: stop now."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                scope.cancel()
            stop.set()
