"""The scheduler port: AO's SU. Pages of the log in AO's JSON, with both kinds of cursor.

Reads are served from the local replica; `POST /` hands an item to this node's scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import NodeApi
from aonode.env import Env
from aonode.http import everywhere
from aonode.http.compute import nonce_at
from aonode.http.edge import (
    App,
    Bodies,
    application,
    asks_to_assign,
    assignment_asked,
    integer_of,
    process_of,
)
from aonode.http.problem import json_response
from aonode.http.shapes import anchor_json, owner_json, slot_json, tags_json
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, address_of, b64url, parse_id
from protocols.network import Parameters
from protocols.wire.assignment import BLOCK_HEIGHT_NONE, Slot
from protocols.wire.item import Item, decode_item

PAGE_LIMIT = 100
PAGE_LIMIT_MAX = 1000
PAGE_BYTES_MAX = 8 << 20
"""A page ends early, with `has_next_page`, once its items add up to this."""
INTEGER_MAX = (1 << 63) - 1


class SchedulerApi(Protocol):
    """A scheduler unit's door."""

    async def schedule(self, item: Item) -> Slot:
        """The slot of `item`, durable; raises Invalid if it must be refused."""

    async def assign(self, process: ProcessId, item: ItemId, exclude: tuple[str, ...]) -> Slot:
        """As `schedule`, of an item that this node knows, in the log of `process`."""


def app(
    node: NodeApi,
    scheduler: SchedulerApi,
    parameters: Parameters,
    env: Env,
    *,
    bodies: Bodies | None = None,
    count: Callable[[int], None] | None = None,
) -> App:
    """The ASGI application of a scheduler port. `count` hears every status code."""
    edge = _Scheduler(node, scheduler, parameters, env, bodies or Bodies())
    routes = [
        Route("/", edge.hello, methods=["GET"]),
        Route("/", edge.schedule, methods=["POST"]),
        Route("/timestamp", edge.timestamp),
        Route("/health", edge.health),
        *everywhere.routes(node, edge.bodies),
        Route("/processes/{process}", edge.process),
        Route("/{id}/latest", edge.latest),
        Route("/{id}", edge.log),
    ]
    return application(routes, count)


class _Scheduler:
    def __init__(
        self,
        node: NodeApi,
        scheduler: SchedulerApi,
        parameters: Parameters,
        env: Env,
        bodies: Bodies,
    ) -> None:
        self._node = node
        self._scheduler = scheduler
        self._item_bytes_max = parameters.item_bytes_max
        self._env = env
        self.bodies = bodies

    async def hello(self, request: Request) -> Response:
        return json_response(
            {"timestamp": str(self._env.now_ms()), "address": b64url(address_of(self._node.key))}
        )

    async def health(self, request: Request) -> Response:
        return Response(b"")

    async def timestamp(self, request: Request) -> Response:
        now = str(self._env.now_ms())
        return json_response({"timestamp": now, "block_height": BLOCK_HEIGHT_NONE})

    async def schedule(self, request: Request) -> Response:
        """Assign one item; the answer has the assignment's time."""
        if asks_to_assign(request):
            slot = await self._scheduler.assign(*assignment_asked(request))
            return _scheduled(slot, slot.assignment.id)
        body = await self.bodies.read(request, size_max=self._item_bytes_max)
        item = decode_item(body, size_max=self._item_bytes_max)
        return _scheduled(await self._scheduler.schedule(item), item.id)

    async def process(self, request: Request) -> Response:
        """The Process item and when it was scheduled."""
        slot = self._slot(ProcessId(parse_id(request.path_params["process"], "process")), 0)
        item = slot.message
        return json_response(
            {
                "process_id": b64url(item.id),
                "block": slot.assignment.block_height,
                "owner": owner_json(item),
                "tags": tags_json(item),
                "timestamp": slot.assignment.timestamp,
                "data": _text_or_none(item.data),
                "anchor": anchor_json(item),
                "signature": b64url(item.signature),
                "target": b64url(item.target) if item.target is not None else None,
            }
        )

    async def latest(self, request: Request) -> Response:
        process = ProcessId(parse_id(request.path_params["id"], "process"))
        chain = self._node.replica.chain(process)
        if chain is None or chain.nonce < 0:
            raise Invalid(Reason.UNKNOWN_PROCESS, "Latest message not available")
        return json_response(_slot_json(self._slot(process, chain.nonce)))

    async def log(self, request: Request) -> Response:
        """A page of the process of this id, or the one slot of this message or assignment."""
        process = process_of(request)
        id = parse_id(request.path_params["id"], "id")
        if id == process:
            return self._page(request, process)
        found = self._node.replica.find(id, process)
        if found is None:
            raise Invalid(
                Reason.UNKNOWN_ITEM,
                f"Message or Process not found: {b64url(id)} in the log of {b64url(process)}",
            )
        return json_response(_slot_json(self._slot(*found)))

    def _page(self, request: Request, process: ProcessId) -> Response:
        chain = self._node.replica.chain(process)
        if chain is None:
            raise Invalid(Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known here")
        by_nonce = "from-nonce" in request.query_params or "to-nonce" in request.query_params
        first, last = self._range(request, process, by_nonce)
        limit = integer_of(request, "limit", PAGE_LIMIT, least=1, most=PAGE_LIMIT_MAX)
        show_anchor = "show-anchor" in request.query_params
        stop = min(last, chain.nonce)
        slots = self._node.replica.slots(process, first, stop, limit)
        if not by_nonce and slots:
            slots += self._same_time(process, slots[-1], stop)
        edges: list[dict[str, Any]] = []
        size = 0
        for slot in slots:
            full = size > PAGE_BYTES_MAX and (
                by_nonce or slot.assignment.timestamp > slots[len(edges) - 1].assignment.timestamp
            )
            if full:
                break
            edges.append(_edge(slot, by_nonce, show_anchor))
            size += len(slot.message.raw)
        more = first + len(edges) <= stop
        return json_response({"page_info": {"has_next_page": more}, "edges": edges})

    def _same_time(self, process: ProcessId, last: Slot, stop: int) -> list[Slot]:
        """Slots after `last` with its timestamp: a time as cursor would otherwise skip them."""
        slots: list[Slot] = []
        for slot in self._node.replica.slots(process, last.nonce + 1, stop, PAGE_LIMIT_MAX):
            if slot.assignment.timestamp != last.assignment.timestamp:
                break
            slots.append(slot)
        return slots

    def _range(self, request: Request, process: ProcessId, by_nonce: bool) -> tuple[int, int]:
        """First and last nonce of a page: `from` is exclusive, `to` inclusive."""
        suffix = "-nonce" if by_nonce else ""
        low, high = (
            integer_of(request, name + suffix, -1, least=0, most=INTEGER_MAX)
            for name in ("from", "to")
        )
        if by_nonce:
            return low + 1, INTEGER_MAX if high < 0 else high
        first = 0 if low < 0 else nonce_at(self._node, process, low) + 1
        return first, INTEGER_MAX if high < 0 else nonce_at(self._node, process, high)

    def _slot(self, process: ProcessId, nonce: int) -> Slot:
        slot = self._node.replica.slot(process, nonce)
        if slot is None:
            raise Invalid(
                Reason.UNKNOWN_PROCESS, f"no slot {nonce} of process {b64url(process)} here"
            )
        return slot


def _scheduled(slot: Slot, id: ItemId) -> Response:
    return json_response({"timestamp": slot.assignment.timestamp, "id": b64url(id)})


def _slot_json(slot: Slot) -> dict[str, Any]:
    shape = slot_json(slot)
    if slot.nonce == 0:
        shape["message"]["data"] = _text_or_none(slot.message.data)
    return shape


def _edge(slot: Slot, by_nonce: bool, show_anchor: bool) -> dict[str, Any]:
    shape = slot_json(slot, show_anchor=show_anchor)
    if slot.nonce == 0:
        shape["message"]["data"] = _text_or_none(slot.message.data)
    cursor = slot.nonce if by_nonce else slot.assignment.timestamp
    return {"cursor": str(cursor), "node": shape}


def _text_or_none(data: bytes) -> str | None:
    """AO shows a Process item's data only if they are UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
