"""What an operator reads, on every port: /livez, /readyz, /status, /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import NodeApi
from aonode.http.problem import json_response


def routes(node: NodeApi) -> list[Route]:
    """The operator's routes."""

    async def live(request: Request) -> Response:
        """200 while the event loop turns: answering is the proof."""
        return json_response({"live": True})

    async def ready(request: Request) -> Response:
        """200, or 503 with the reasons why not."""
        reasons = node.ready()
        return json_response({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def status(request: Request) -> Response:
        return json_response(node.status())

    async def metrics(request: Request) -> Response:
        return Response(node.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [
        Route("/livez", live),
        Route("/readyz", ready),
        Route("/status", status),
        Route("/metrics", metrics),
    ]
