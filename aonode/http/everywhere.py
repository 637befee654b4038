"""What every port serves, and the port of a node that serves nothing else."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import Route

from aonode.api import NodeApi
from aonode.http import challenges, ledger, ops, statements
from aonode.http.edge import App, Bodies, application


def routes(node: NodeApi, bodies: Bodies) -> list[Route]:
    """Operator's facts, the ledger, statements, challenges."""
    return [
        *ops.routes(node),
        *ledger.routes(node),
        *statements.routes(node),
        *challenges.routes(node, bodies),
    ]


def app(node: NodeApi, *, count: Callable[[int], None] | None = None) -> App:
    """The ASGI application of a watcher's port. `count` hears every status code."""
    return application(routes(node, Bodies()), count)
