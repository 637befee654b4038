"""Who is in the network: announcements heard, and our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from aonode.env import Env
from aonode.ports import Signer, Wire
from protocols.ids import NodeKey
from protocols.machine.events import UnitSeen
from protocols.network import Network
from protocols.trust import Verified
from protocols.wire.topics import Topic
from protocols.wire.unit import UnitAnnouncement, UnsignedUnit

EXPIRY_MS = 300_000
"""How long an announcement counts; it is renewed five times in that time."""
RENEW_SECONDS = 60.0
EAGER_SECONDS = 1.0
"""Between announcements while the mesh is still forming: gossip has no memory for newcomers."""
EAGER_COUNT = 10
UNITS_MAX = 4096
"""Units remembered; the earliest to expire goes first."""


class Units:
    """The table of units, and the task that announces this one."""

    def __init__(
        self,
        *,
        env: Env,
        wire: Wire,
        signer: Signer,
        network: Network,
        roles: tuple[str, ...],
        heard: Callable[[UnitSeen], object],
    ) -> None:
        self._env = env
        self._wire = wire
        self._signer = signer
        self._network = network
        self._roles = roles
        self._heard = heard
        self._urls: tuple[tuple[str, str], ...] = ()
        self._table: dict[NodeKey, UnitAnnouncement] = {}
        self._eager = EAGER_COUNT
        self._changed = trio.Event()

    def seen(self, event: UnitSeen) -> None:
        """Take in a verified announcement; older or equal sequences are passed over."""
        unit = event.unit.value
        known = self._table.get(unit.key)
        if known is not None and known.sequence >= unit.sequence:
            return
        if known is None and len(self._table) >= UNITS_MAX:
            del self._table[min(self._table, key=lambda key: self._table[key].expiry_ms)]
        self._table[unit.key] = unit
        if unit.key != self._signer.key and self._wants(unit):
            self._wire.connect(unit.key, unit.addresses)
        self._heard(event)

    def _wants(self, unit: UnitAnnouncement) -> bool:
        """A scheduler is needed by all, a compute unit by the messengers that ask it."""
        return "scheduler" in unit.roles or ("compute" in unit.roles and "messenger" in self._roles)

    def all(self) -> list[UnitAnnouncement]:
        """Unexpired announcements, own one first, then by key."""
        now = self._env.now_ms()
        live = [unit for unit in self._table.values() if unit.expiry_ms >= now]
        return sorted(live, key=lambda unit: (unit.key != self._signer.key, unit.key))

    def set_urls(self, urls: Mapping[str, str]) -> None:
        """HTTP addresses of this node's roles, once its ports are bound."""
        self._urls = tuple(urls.items())
        self.hurry()

    def hurry(self) -> None:
        """Announce soon and often for a while: something changed, or somebody new is here."""
        self._eager = EAGER_COUNT
        self._changed.set()

    async def run(self) -> None:
        """Announce this node for ever."""
        while True:
            unit = self._own()
            self.seen(UnitSeen(Verified(unit)))
            await self._wire.publish(Topic.UNITS, unit.encode())
            self._changed = trio.Event()
            if self._eager:
                self._eager -= 1
                await trio.sleep(EAGER_SECONDS)
                continue
            with trio.move_on_after(RENEW_SECONDS):
                await self._changed.wait()

    def _own(self) -> UnitAnnouncement:
        now = self._env.now_ms()
        draft = UnsignedUnit(
            key=self._signer.key,
            roles=self._roles,
            addresses=self._wire.addresses(),
            urls=self._urls,
            expiry_ms=now + EXPIRY_MS,
            sequence=now,
        )
        return draft.signed(self._signer.sign(draft.message(self._network.id)))
