"""Finds the module of a process: in the local store, or at a peer."""

from __future__ import annotations

import trio

from aonode.net.admission import Admission
from aonode.ops import log
from aonode.ports import Wire
from aonode.roles.replica import ReplicaRole
from protocols.errors import Invalid
from protocols.ids import ItemId, b64url
from protocols.wire.item import Item, decode_item
from protocols.wire.topics import Protocol

RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 30.0


class Modules:
    """Fetches modules by id; a module's id is the hash of its signature, checked on arrival."""

    def __init__(self, *, wire: Wire, replica: ReplicaRole, admission: Admission) -> None:
        self._wire = wire
        self._replica = replica
        self._admission = admission
        self._log = log.get("modules")

    async def search(self, id: ItemId) -> Item | None:
        """The module, here or at a peer; None if none of them has it now."""
        if module := self._replica.module(id):
            return module
        for peer in self._wire.peers():
            try:
                size_max = self._replica.module_item_bytes_max
                raw = await self._admission.fetch(peer, Protocol.MODULE, id, size_max)
                item = decode_item(raw, size_max=size_max)
                if item.id == id:
                    await self._replica.put_module(item)
                    return item
            except Invalid as error:
                self._admission.refuse(error)
        return None

    async def fetch(self, id: ItemId) -> Item:
        """The module, asking peers with back-off for as long as nobody has it."""
        pause_s = RETRY_SECONDS_MIN
        while True:
            if module := await self.search(id):
                return module
            self._log.info("module_wanted", message=b64url(id), retry_s=pause_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_SECONDS_MAX)
