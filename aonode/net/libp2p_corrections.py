"""What py-libp2p 0.8.1 does wrong for us, one switch each, with the reason and the report it owes.

`Corrections` is the register. A switch that is off gives py-libp2p's own behaviour back, so every
one of them has a test which passes with it and fails without. Those that concern one object only
are functions here; those on the message path are read in `libp2p_pubsub`, `libp2p_router` and
`libp2p_yamux`. py-libp2p is pinned: each release is read again before the pin moves.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import trio
from libp2p import new_swarm
from libp2p.abc import (
    IMuxedConn,
    INetConn,
    INetStream,
    IRawConnection,
    ISecureConn,
    ISecureTransport,
)
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.timed_cache.last_seen_cache import LastSeenCache
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from aonode.net.libp2p_yamux import LeanYamux
from protocols.errors import Invalid, Reason

log = logging.getLogger("aonode.net.libp2p")

CONNECTIONS_MAX = 512
STREAMS_PER_PEER_MAX = 64
"""Inbound streams of one peer at a time, all protocols together."""
SEEN_MAX = 1 << 17
SEEN_TTL_S = 120.0
DAEMON_RESTART_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """One switch per fault of py-libp2p. Letters are those of the project's py-libp2p notes."""

    contain: bool = True
    """A, C. One bad RPC (6 bytes) of a peer, or any exception in a handler of ours, climbs
    through `Pubsub.stream_handler`, the connection's nursery and the swarm, and ends the process.
    Report: contain exceptions per stream in `SwarmConn._handle_muxed_stream`, per task in
    `TrioManager`."""
    inline_keys_only: bool = True
    """B. A message whose `from` holds no inline key and whose `key` is garbage raises out of
    `signature_validator` and ends the process. A node's key is Ed25519 and always inline.
    Report: `signature_validator` must return False."""
    noise_only: bool = True
    """D. `new_host()` also accepts /plaintext/2.0.0: who knows the public key of X is X.
    Report: plaintext must not be among the defaults."""
    no_opportunistic_graft: bool = True
    """E. With all scores 0 the opportunistic graft fires at every heartbeat, meshes grow past
    D_high and are cut again; pruned nodes end with an empty mesh and 1-5 % of deliveries are
    lost. The scorer is not the specification's either, so it is off.
    Report: median threshold, and every 60th heartbeat only."""
    steady_heartbeat: bool = True
    """F. `adaptive_gossip_enabled` turns a heartbeat of 1 s into 30 s after half a minute.
    Report: off by default."""
    no_spam_limit: bool = True
    """G. More than 10 messages per second of one forwarder and topic are dropped silently.
    Report: off by default, and count by origin."""
    direct_dial: bool = True
    """H. Every dial waits 250 ms even when it succeeded, tries only one TCP address, and one
    failure bars the peer for a minute.
    Report: `_HAPPY_EYEBALLS_DELAY` must end with the first success."""
    verdicts: bool = True
    """I. Validators answer yes or no, and asynchronous ones run once per duplicate because the
    message is marked as seen after the await. Ours are synchronous and say accept, ignore or
    reject (`Pubsub.push_msg`). Report: extended validators; mark first."""
    deep_queues: bool = True
    """K. A queue of 32 RPCs per peer drops the rest of a burst, and mesh peers get no IHAVE for
    it. Report: a parameter for the queue size."""
    lasting_sequence: bool = True
    """L. The sequence number restarts at the wall clock in seconds: a node that published faster
    than once a second and restarts reuses its ids. Report: nanoseconds, as go does."""
    no_autodial: bool = True
    """M. Below the high watermark every address in the peer store is dialled, at the start, every
    half minute and whenever somebody disconnects; no watermark turns it off.
    Report: off unless asked for."""
    inbound_slots: bool = True
    """The slot and the task of an inbound connection are kept until the swarm ends, not the
    connection: after `max_connections` of them in all, a node is deaf for good.
    Report: wait for the connection in `_do_handle_inbound_connection`."""
    own_port: bool = True
    """Listeners set SO_REUSEPORT, so a second node on the same port is not refused and each gets
    half of the connections. Report: only for hole punching."""
    no_peer_records: bool = True
    """Each RPC carries a signed peer record that the receiver verifies again, twice for control.
    go and js ignore the field; we neither send nor read it. Report: hello packet only."""
    buffered_reader: bool = True
    """The length prefix of an RPC is read one byte at a time, each through five locks.
    Report: buffered reader per stream."""
    lean_yamux: bool = True
    """WINDOW_UPDATE after nearly every read, a dozen locks and formatted log lines per frame, a
    window that a peer may exceed without limit, and half a frame left on the wire when a caller
    is cancelled in a write. Report: one reader, one writer; end a connection that overruns."""
    flat_tasks: bool = True
    """`Service.run_task` walks all tasks of the service to find the parent.
    Report: keep the parent in a context variable."""
    seen_first: bool = True
    """A duplicate costs a task, and its signature is looked at, before the seen cache is asked.
    Report: ask first."""
    seen_without_thread: bool = True
    """`LastSeenCache` starts one operating system thread per Pubsub and never ends it, follows
    the wall clock and has no size bound. Report: sweep from the heartbeat."""
    mesh_backoff: bool = True
    """The pruner keeps no backoff and sends none, GRAFT lists leak from one peer to the next, and
    IHAVE skips peers in backoff, who need it most. Report: as the specification has it."""
    graft_limit: bool = True
    """GRAFT above D_high is accepted and pruned at the next heartbeat. Report: refuse, as go."""
    iwant_once: bool = True
    """Each IHAVE of a message in flight is answered with another IWANT, of any length.
    Report: ask one peer per id, bound the ids."""
    no_pending: bool = True
    """Messages are kept for every peer that is not in the topic, and again for equivocation
    checks: 100 whole messages per peer. Report: bytes bound, subscribed peers only."""
    no_peer_exchange: bool = True
    """PRUNE makes us dial 16 peers of the sender's choice, with a backoff of its choice.
    Report: PX off must mean off on receipt."""
    encode_once: bool = True
    """An RPC is copied, split and serialised again for every peer. Report: serialise once."""
    dead_streams: bool = True
    """With two connections to a peer, the pubsub stream stays on the one that has closed until
    something is lost; then the peer's subscriptions are forgotten for good, though it still says
    them. Report: follow the connection that carries the stream; forget with the inbound one."""


def corrections_off(*names: str) -> Corrections:
    """All corrections but these; for tests that show what each of them is for."""
    return dataclasses.replace(Corrections(), **dict.fromkeys(names, False))


def quiet_logging() -> None:
    """py-libp2p logs peers' mistakes as errors, and some of it to the root logger."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("libp2p."):
            logging.getLogger(name).setLevel(logging.NOTSET)
    top = logging.getLogger("libp2p")
    top.setLevel(logging.CRITICAL + 1)
    top.propagate = False
    replace(swarm_connection, "logging", logging.getLogger("libp2p.network.connection"))


def replace(target: object, name: str, value: object) -> None:
    """Put `value` in place of an attribute that must be there in the pinned release."""
    assert hasattr(target, name), f"py-libp2p has no {type(target).__name__}.{name} any more"
    setattr(target, name, value)


class ContainedManager(TrioManager):
    """Runs a py-libp2p service; what a peer makes a task raise ends with that task."""

    def __init__(self, service: Any, corrections: Corrections) -> None:
        super().__init__(service)
        self._corrections = corrections
        self.contained = 0
        """Exceptions that would have ended the process."""

    def _find_parent_task(self, trio_task: trio.lowlevel.Task) -> Any:
        if self._corrections.flat_tasks:
            return None
        return super()._find_parent_task(trio_task)

    def run_task(self, async_fn: Any, *args: Any, **options: Any) -> None:
        internal = options.get("_internal", False)
        if self._corrections.contain and not internal:
            again = options.get("daemon", False)
            super().run_task(self._contained, async_fn, args, again, **options)
        else:
            super().run_task(async_fn, *args, **options)

    def run_daemon_task(self, async_fn: Any, *args: Any, name: str | None = None) -> None:
        self.run_task(async_fn, *args, daemon=True, name=name)

    async def _contained(self, async_fn: Any, args: tuple[Any, ...], again: bool) -> None:
        while True:
            try:
                await async_fn(*args)
                return
            except Exception as error:
                self.contained += 1
                log.warning("py-libp2p task %s failed: %r", async_fn, error)
            if not again or self.is_cancelled:
                return
            await trio.sleep(DAEMON_RESTART_S)


class InboundStreams:
    """Contains each inbound stream, and bounds how many of them one peer has open."""

    def __init__(self, inner: Any, corrections: Corrections) -> None:
        self._inner = inner
        self._corrections = corrections
        self._open: dict[Any, int] = {}
        self.contained = 0
        self.refused = 0

    async def __call__(self, stream: INetStream) -> None:
        if not self._corrections.contain:
            await self._inner(stream)
            return
        peer = stream.muxed_conn.peer_id
        if self._open.get(peer, 0) >= STREAMS_PER_PEER_MAX:
            self.refused += 1
            await stream.reset()
            return
        self._open[peer] = self._open.get(peer, 0) + 1
        try:
            await self._inner(stream)
        except (MuxedStreamError, StreamError) as error:
            log.debug("stream of %s ended: %r", peer, error)
            await stream.reset()
        except Exception as error:
            self.contained += 1
            log.info("stream of %s ended: %r", peer, error)
            await stream.reset()
        finally:
            left = self._open[peer] - 1
            if left:
                self._open[peer] = left
            else:
                del self._open[peer]


def correct_swarm(keys: KeyPair, corrections: Corrections) -> Swarm:
    """A TCP swarm: Noise only (D), our yamux, and nothing dialled that nobody asked for (M)."""
    security: dict[TProtocol, ISecureTransport] | None = None
    if corrections.noise_only:
        noise = NoiseTransport(keys, noise_privkey=new_x25519_key_pair().private_key)
        security = {NOISE_ID: noise}
    config = ConnectionConfig()
    if corrections.no_autodial:
        config = ConnectionConfig(
            min_connections=0,
            low_watermark=0,
            high_watermark=CONNECTIONS_MAX,
            max_connections=CONNECTIONS_MAX,
            auto_connect_interval=3600.0,
        )
    swarm = new_swarm(
        key_pair=keys,
        sec_opt=security,
        muxer_opt={TProtocol(YAMUX_ID): Yamux},
        connection_config=config,
        retry_config=RetryConfig(max_retries=0),
        transports=[TCP()],
    )
    assert isinstance(swarm, Swarm)
    if corrections.no_autodial:
        replace(swarm.auto_connector, "maybe_connect", _nothing)
    if corrections.inbound_slots:
        replace(swarm, "upgrade_inbound_raw_conn", _inbound_until_closed(swarm))
    if corrections.lean_yamux:
        replace(swarm.upgrader.muxer_multistream, "new_conn", _lean_connections(swarm))
    return swarm


def _lean_connections(swarm: Swarm) -> Any:
    """py-libp2p makes its own `Yamux` whatever class was registered for the protocol."""
    multistream = swarm.upgrader.muxer_multistream

    async def new_conn(conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await multistream._selector.select(
            conn, conn.is_initiator, multistream.negotiate_timeout
        )
        return multistream._annotate_connection(LeanYamux(conn, peer_id), conn, protocol)

    return new_conn


def _inbound_until_closed(swarm: Swarm) -> Any:
    """What follows a successful upgrade waits for the swarm; so this one fails, at the end."""
    upgrade = swarm.upgrade_inbound_raw_conn

    async def upgrade_and_wait(raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        muxed: Any = await upgrade(raw_conn, maddr)
        await muxed.event_closed.wait()
        raise SwarmException("the connection has ended")

    return upgrade_and_wait


async def _nothing() -> None:
    """In place of what must not happen."""


async def require_free_port(listen: Multiaddr, corrections: Corrections) -> None:
    """Raise Invalid(CONFIG) if somebody listens there: the listener would share the port."""
    host, port = (
        listen.value_for_protocol(listen.protocols()[0].code),
        listen.value_for_protocol("tcp"),
    )
    if not corrections.own_port or port == "0":
        return
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    with trio.socket.socket(family) as probe:
        probe.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        try:
            await probe.bind((host, int(port)))
        except OSError as error:
            raise Invalid(Reason.CONFIG, f"cannot listen on {listen}: {error}") from None


def correct_router(router: GossipSub, corrections: Corrections) -> None:
    """E, F, G: heuristics of GossipSub that are not in the specification."""
    router.eclipse_protection_enabled = False
    if corrections.no_opportunistic_graft:
        router.scorer = None
    if corrections.steady_heartbeat:
        router.adaptive_gossip_enabled = False
    if corrections.no_spam_limit:
        router.spam_protection_enabled = False


class SeenCache(LastSeenCache):
    """Message ids of the last two minutes of trio's clock, at most `SEEN_MAX`; no thread."""

    def __init__(self) -> None:
        self._ids: dict[bytes, float] = {}

    def has(self, key: bytes) -> bool:
        return key in self._ids

    def add(self, key: bytes) -> bool:
        now = trio.current_time()
        fresh = key not in self._ids
        self._ids[key] = now
        self._forget(now)
        return fresh

    def _forget(self, now: float) -> None:
        """Drop what is too old or too much, oldest first; a few per call."""
        for _ in range(4):
            oldest = next(iter(self._ids))
            if len(self._ids) <= SEEN_MAX and self._ids[oldest] > now - SEEN_TTL_S:
                return
            del self._ids[oldest]
            if not self._ids:
                return

    def length(self) -> int:
        return len(self._ids)

    def stop(self) -> None:
        self._ids.clear()


def correct_seen_cache(pubsub: Pubsub, corrections: Corrections) -> None:
    """Replace the seen cache, and end the thread of the one that `Pubsub` made."""
    if corrections.seen_without_thread:
        pubsub.seen_messages.stop()
        pubsub.seen_messages = SeenCache()


def follow_connection(pubsub: Pubsub, connection: INetConn, corrections: Corrections) -> None:
    """Called when a connection has closed: was it the one with the peer's pubsub stream?"""
    if not corrections.dead_streams:
        return
    peer = connection.muxed_conn.peer_id
    stream = pubsub.peers.get(peer)
    if stream is not None and stream.muxed_conn is connection.muxed_conn:
        pubsub._handle_dead_peer(peer)
