"""The four ports of a node: Wire, Store, Engine, Signer. Shapes only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from aonode.env import Env, TaskStatus
from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.wire.evidence import Witness
from protocols.wire.topics import Protocol as StreamProtocol
from protocols.wire.topics import Topic


class Verdict(Enum):
    """What a node says of a gossip message (libp2p pubsub extended validators)."""

    ACCEPT = "accept"
    """Forward it."""
    IGNORE = "ignore"
    """Do not forward it, blame nobody: a duplicate, or old."""
    REJECT = "reject"
    """Do not forward it, and count it against the sender: malformed or forged."""


Door = Callable[[NodeKey, bytes], Verdict]
"""Stateless check of one gossip payload by its signed origin; takes it in if it accepts.

Synchronous, cheap, never raises anything but `Invalid` (which is a REJECT)."""

StreamHandler = Callable[[NodeKey, bytes], AsyncIterator[bytes]]
"""Answers one stream request of a peer with frames of at most FRAME_BYTES_MAX."""


class Wire(Protocol):
    """Gossip and streams between nodes, addressed by `NodeKey`."""

    def subscribe(self, topic: Topic, door: Door) -> None:
        """Join a topic before `run`. Own publishes do not come back."""

    def serve(self, protocol: StreamProtocol, handler: StreamHandler) -> None:
        """Answer a stream protocol. `Invalid` raised by the handler resets that stream only."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Listen, dial bootstrap peers, redial with back-off; `started()` once listening."""

    async def publish(self, topic: Topic, payload: bytes, *, shard: int = 0) -> None:
        """Gossip `payload`; returns when it has been handed to the mesh."""

    async def request(
        self, peer: NodeKey, protocol: StreamProtocol, body: bytes, *, frames_max: int
    ) -> tuple[bytes, ...]:
        """One request, all frames of the answer. Raises Invalid(UNAVAILABLE) if there is none.

        The caller bounds it in time with `trio.fail_after` or `move_on_after`.
        """

    def peers(self) -> tuple[NodeKey, ...]:
        """Peers connected now, sorted."""

    def addresses(self) -> tuple[str, ...]:
        """Multiaddresses this node listens on, with its peer id."""

    def connect(self, peer: NodeKey, addresses: Sequence[str]) -> None:
        """Stay connected to `peer` from now on: dial, and redial with back-off."""


class Store(Protocol):
    """One ordered key-value table with atomic, durable batches."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(
        self, start: bytes, stop: bytes, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, in key order (or reversed)."""

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """One atomic batch; with `sync` it is durable when this returns."""

    def close(self) -> None: ...


class Signer(Protocol):
    """The node's one Ed25519 key. Signing is deterministic (RFC 8032)."""

    @property
    def key(self) -> NodeKey: ...

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature."""


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A module as the engine needs it."""

    id: ItemId
    wasm: bytes
    format: str
    """Module-Format tag: `ao-cbor-1`, `wasm64-unknown-emscripten-draft_2024_02_15`, ..."""


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What evaluating one slot gave. See `protocols.wire.outcome.Status`."""

    status: int
    raw: bytes
    """The module's output bytes; empty unless status is OK or ERROR."""
    fuel: int


class Session(Protocol):
    """One live process in the engine. Used by one thread at a time."""

    def run_slot(self, call: bytes) -> SlotResult:
        """Evaluate one message (the exact input bytes of `protocols.abi`), commit or roll back.

        Raises Invalid(REFUSED) where the outcome would depend on this machine.
        """

    def dry_run(self, call: bytes) -> SlotResult:
        """As `run_slot`, and leave the state as it was."""

    def state_root(self) -> bytes:
        """Root of the state after the last slot (design section 6)."""

    def memory(self) -> bytes:
        """Linear memory, for `/state`."""

    def witness(self, bytes_max: int) -> Witness:
        """The state after the last slot, for `Engine.restore`.

        Raises Invalid(OVERSIZE) if its frame would have more than `bytes_max` bytes.
        """

    def close(self) -> None: ...


class Engine(Protocol):
    """Wasm evaluation under one profile."""

    @property
    def profile(self) -> bytes:
        """32-byte id of the semantics (fuel rules, patches, shims, limits)."""

    def validate(self, module: ModuleSpec) -> None:
        """Raise Invalid(FORBIDDEN_MODULE or UNSUPPORTED) naming what is wrong."""

    def open(self, process: ProcessId, module: ModuleSpec, env: bytes, memory_max: int) -> Session:
        """A fresh process at genesis. `env` is its input environment (`protocols.abi`)."""

    def restore(
        self,
        process: ProcessId,
        module: ModuleSpec,
        env: bytes,
        memory_max: int,
        witness: Witness,
    ) -> Session | None:
        """A process in the state that `witness` claims it had; None if it can have had no such
        state. Only `Session.state_root` says whether it is the one that is meant.

        Raises Invalid(MALFORMED, OVERSIZE) for a frame that lies about its size, before its
        content takes memory; REFUSED where this machine cannot hold the state.
        """


Serve = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """A node's ports. Stores are open and owned by the node from here on."""

    env: Env
    wire: Wire
    db: Store
    sign_once: Store
    signer: Signer
    engine: Engine | None
    """None for a node without the compute role on a network without a ledger."""
    engine_instances_max: int = 256
    """Processes kept alive in it."""
