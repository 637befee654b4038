"""Who this node is connected to: dialling, redialling with back-off, banning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.host.basic_host import BasicHost
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from aonode.env import Env
from aonode.net.libp2p_corrections import Corrections
from aonode.net.libp2p_keys import id_of_key, key_of_id
from protocols.ids import NodeKey

log = logging.getLogger("aonode.net.libp2p")

WANTED_MAX = 1024
ADDRESSES_MAX = 8
DIALS_MAX = 8
"""Dials under way at a time."""
DIAL_DEADLINE_S = 10.0
BACKOFF_S, BACKOFF_S_MAX = 0.25, 60.0
LASTING_S = 10.0
"""A connection that lasted this long ends a peer's back-off."""
REJECTS_MAX = 64
"""Rejected messages of one forwarder, halved every `FORGIVE_S`, until it is banned."""
FORGIVE_S = 10.0
BAN_S = 600.0


class Peers(INotifee):
    """Keeps the connections of one host: the wanted ones up, the banned ones down."""

    def __init__(self, own: NodeKey, env: Env, corrections: Corrections) -> None:
        self._own = own
        self._env = env
        self._corrections = corrections
        self._addresses: dict[NodeKey, tuple[Multiaddr, ...]] = {}
        self._changed: dict[NodeKey, trio.Event] = {}
        self._banned: dict[NodeKey, float] = {}
        self._host: BasicHost | None = None
        self._nursery: trio.Nursery | None = None
        self._limiter = trio.CapacityLimiter(DIALS_MAX)
        self.on_closed: Callable[[INetConn], None] = lambda connection: None
        self.dials_failed = 0
        self.dials_done = 0

    # What the node wants.

    def want(self, peer: NodeKey, addresses: Sequence[Multiaddr]) -> None:
        """Stay connected to `peer`; later addresses replace earlier ones."""
        if peer == self._own or not addresses:
            return
        known = peer in self._addresses
        if not known and len(self._addresses) >= WANTED_MAX:
            return
        before = self._addresses.get(peer)
        self._addresses[peer] = tuple(addresses[:ADDRESSES_MAX])
        if known and before != self._addresses[peer]:
            self._signal(peer)  # new addresses are tried at once, the same ones in their turn
        elif not known and self._nursery is not None:
            self._nursery.start_soon(self._keep, peer)

    def keys(self) -> tuple[NodeKey, ...]:
        """Peers connected now, sorted."""
        keys = (key_of_id(peer) for peer, open_ in self._connections().items() if open_)
        return tuple(sorted(key for key in keys if key is not None))

    def is_connected(self, peer: NodeKey) -> bool:
        """Whether there is a connection to `peer` now."""
        return bool(self._connections().get(id_of_key(peer)))

    def judge(self, rejects: dict[ID, int]) -> None:
        """Ban who has forwarded too many rejected messages; forgive half of the rest."""
        for peer in list(rejects):
            key = key_of_id(peer)
            if rejects[peer] >= REJECTS_MAX and key is not None and self._nursery is not None:
                log.warning("banned %s: %d rejected messages", key.hex(), rejects[peer])
                self._banned[key] = trio.current_time() + BAN_S
                self._nursery.start_soon(self._swarm().close_peer, peer)
            rejects[peer] //= 2
            if not rejects[peer]:
                del rejects[peer]

    # Dialling.

    async def run(self, host: BasicHost, nursery: trio.Nursery) -> None:
        """Start keeping the wanted peers; `nursery` ends with the host."""
        self._host = host
        self._nursery = nursery
        host.get_network().register_notifee(self)
        for peer in list(self._addresses):
            nursery.start_soon(self._keep, peer)

    async def dial(self, peer: NodeKey) -> bool:
        """Try the known addresses of `peer` once, unless it is connected."""
        async with self._limiter:
            for address in self._addresses.get(peer, ()):
                if self.is_connected(peer):
                    break
                with trio.move_on_after(DIAL_DEADLINE_S):
                    try:
                        await self._dial_address(id_of_key(peer), address)
                        self.dials_done += 1
                    except Exception as error:
                        self.dials_failed += 1
                        log.debug("could not dial %s: %r", address, error)
        return self.is_connected(peer)

    async def _dial_address(self, peer: ID, address: Multiaddr) -> None:
        if self._corrections.direct_dial:
            await self._swarm().dial_addr(address, peer)
        else:
            assert self._host is not None, "dialling starts with run"
            await self._host.connect(PeerInfo(peer, [address]))

    async def _keep(self, peer: NodeKey) -> None:
        failures = 0
        while True:
            since = trio.current_time()
            changed = self._changed.setdefault(peer, trio.Event())
            if not self._is_banned(peer) and (self.is_connected(peer) or await self.dial(peer)):
                while self.is_connected(peer):
                    await self._changed.setdefault(peer, trio.Event()).wait()
                lasted = trio.current_time() - since >= LASTING_S
                failures = 0 if lasted else failures + 1
            else:
                failures += 1
            if failures:
                with trio.move_on_after(self._pause_s(failures)):
                    await changed.wait()

    def _pause_s(self, failures: int) -> float:
        """Exponential back-off with jitter between a half and the whole."""
        jitter = self._env.entropy("redial", 1)[0] / 512
        return min(BACKOFF_S_MAX, BACKOFF_S * (1 << min(failures, 10))) * (0.5 + jitter)

    def _is_banned(self, peer: NodeKey) -> bool:
        until = self._banned.get(peer)
        if until is not None and until <= trio.current_time():
            del self._banned[peer]
            return False
        return until is not None

    def _signal(self, peer: NodeKey) -> None:
        event = self._changed.pop(peer, None)
        if event is not None:
            event.set()

    def _swarm(self) -> Swarm:
        assert self._host is not None, "only after run"
        network = self._host.get_network()
        assert isinstance(network, Swarm)
        return network

    def _connections(self) -> dict[ID, list[INetConn]]:
        return {} if self._host is None else self._swarm().connections

    # What py-libp2p tells us.

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """Part of INotifee."""
        key = key_of_id(conn.muxed_conn.peer_id)
        if key is not None and not self._is_banned(key):
            self._signal(key)
        elif self._nursery is not None:
            self._nursery.start_soon(conn.close)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Part of INotifee."""
        self.on_closed(conn)
        key = key_of_id(conn.muxed_conn.peer_id)
        if key is not None:
            self._signal(key)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Part of INotifee."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Part of INotifee."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Part of INotifee."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Part of INotifee."""
