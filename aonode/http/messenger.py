"""The messenger port: AO's MU, module upload, and the gateway reads that AO clients expect.

Routes only: whether an item is admissible and when it is durable is the messenger's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aonode.api import MessengerApi, NodeApi
from aonode.crypto.verify import verify_item
from aonode.http import everywhere, gateway
from aonode.http.edge import App, Bodies, application, asks_to_assign, assignment_asked
from aonode.http.problem import STATUS, json_response
from protocols.errors import Invalid, Reason
from protocols.ids import b64url, parse_id
from protocols.network import Parameters
from protocols.wire.bundle import decode_bundle
from protocols.wire.item import Item, decode_item, item_id

BUNDLE_ITEMS_MAX = 50
"""Items of one POST: what one slot batch can carry on without waiting for the next."""
BUNDLE_BYTES_MAX = 8 << 20
MODULE_TAGS_BYTES_MAX = 1 << 20
"""What a module's item may have besides its wasm: keys, signature, tags."""
MODULE_DEADLINE_S = 120.0


def app(
    node: NodeApi,
    messenger: MessengerApi,
    parameters: Parameters,
    *,
    bodies: Bodies | None = None,
    count: Callable[[int], None] | None = None,
) -> App:
    """The ASGI application of a messenger port. `count` hears every status code."""
    edge = _Messenger(node, messenger, parameters, bodies or Bodies())
    routes = [
        Route("/", edge.hello, methods=["GET"]),
        Route("/", edge.submit, methods=["POST"]),
        Route("/tx", edge.upload, methods=["POST"]),
        Route("/tx/arweave", edge.upload, methods=["POST"]),
        Route("/monitor/{process}", edge.monitor, methods=["POST", "DELETE"]),
        *everywhere.routes(node, edge.bodies),
        *gateway.routes(node, edge.bodies),
    ]
    return application(routes, count)


def looks_like_bundle(body: bytes) -> bool:
    """A bundle starts with a 32-byte little-endian count, an item with a type and a signature."""
    return body[2:32] == bytes(30)


def _refusal(error: Invalid) -> dict[str, Any]:
    return {
        "error": error.detail or str(error.reason),
        "reason": str(error.reason),
        "status": STATUS[error.reason],
    }


class _Messenger:
    def __init__(
        self, node: NodeApi, messenger: MessengerApi, parameters: Parameters, bodies: Bodies
    ) -> None:
        self.bodies = bodies
        self._node = node
        self._messenger = messenger
        self._item_bytes_max = parameters.item_bytes_max
        self._module_bytes_max = parameters.module_bytes_max + MODULE_TAGS_BYTES_MAX

    async def hello(self, request: Request) -> Response:
        """AO's greeting, which tools look for."""
        return PlainTextResponse("ao messenger unit")

    async def submit(self, request: Request) -> Response:
        """One item, or a bundle of many. 202: durable here, and it will be scheduled."""
        if asks_to_assign(request):
            assigned = await self._messenger.assign(*assignment_asked(request))
            answer = {"message": "Processing Assignment", "id": b64url(assigned)}
            return json_response(answer, 202)
        size_max = max(self._item_bytes_max, BUNDLE_BYTES_MAX)
        body = await self.bodies.read(request, size_max=size_max)
        if looks_like_bundle(body):
            return await self._submit_bundle(body)
        item = decode_item(body, size_max=self._item_bytes_max)
        await self._messenger.submit(item)
        return json_response({"message": "Processing DataItem", "id": b64url(item.id)}, 202)

    async def _submit_bundle(self, body: bytes) -> Response:
        raws = decode_bundle(body, items_max=BUNDLE_ITEMS_MAX, size_max=BUNDLE_BYTES_MAX)
        if not raws:
            raise Invalid(Reason.MALFORMED, "a bundle of no items")
        answers: list[dict[str, Any]] = []
        items: list[Item] = []
        places: list[int] = []
        for place, raw in enumerate(raws):
            answers.append({"id": b64url(item_id(raw))})
            try:
                items.append(decode_item(raw, size_max=self._item_bytes_max))
                places.append(place)
            except Invalid as error:
                answers[place] |= _refusal(error)
        refusals = await self._messenger.submit_many(items)
        for place, refusal in zip(places, refusals, strict=True):
            if refusal is not None:
                answers[place] |= _refusal(refusal)
        accepted = not any("error" in answer for answer in answers)
        return json_response(
            {"message": "Processing DataItems", "items": answers}, 202 if accepted else 207
        )

    async def upload(self, request: Request) -> Response:
        """A Module item, raw. Answers as upload services for Arweave do."""
        body = await self.bodies.read(
            request, size_max=self._module_bytes_max, deadline_s=MODULE_DEADLINE_S
        )
        item = decode_item(body, size_max=self._module_bytes_max)
        if item.first("Type") != "Module":
            kind = item.first("Type")
            raise Invalid(
                Reason.INADMISSIBLE, f"/tx takes Type=Module, not {kind!r}; POST others to /"
            )
        await self._node.replica.put_module(item)
        return json_response({"id": b64url(item.id), "owner": b64url(item.owner_address)})

    async def monitor(self, request: Request) -> Response:
        """AO's cron subscription. Here the scheduler fires cron by itself: nothing to start."""
        body = await self.bodies.read(request, size_max=self._item_bytes_max)
        process = parse_id(request.path_params["process"], "process")
        item = decode_item(body, size_max=self._item_bytes_max)
        verify_item(item)
        if item.target != process:
            target = "none" if item.target is None else b64url(item.target)
            raise Invalid(
                Reason.MALFORMED,
                f"the monitor item's target is {target}, not the process {b64url(process)}",
            )
        if self._node.replica.find(process) is None:
            raise Invalid(Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known here")
        stops = request.method == "DELETE"
        return PlainTextResponse("Process deleted" if stops else "Monitoring process")
