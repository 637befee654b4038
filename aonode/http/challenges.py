"""What this node holds against units, and where others hand over what they hold."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import NodeApi, WatcherApi
from aonode.http.edge import Bodies
from aonode.http.ledger import ledger_of
from aonode.http.problem import json_response
from protocols.errors import Invalid, Reason
from protocols.ids import b64url, parse_id, unb64url
from protocols.wire.evidence import statement_id, statement_of
from protocols.wire.proof import PROOF_BYTES_MAX, Receipt

ACCUSATION_BYTES_MAX = 2 * PROOF_BYTES_MAX
"""A statement, also as base64url inside JSON."""
NEXT = (
    "this node compares the statement with what it computes itself; if it is wrong, it proves so "
    "on the ledger: see /challenges/{id}, and /ledger/cases for the verdict"
)


class _Accusation(msgspec.Struct, forbid_unknown_fields=True):
    statement: str
    """Base64url of an encoded receipt or state proof."""


def watcher_of(node: NodeApi) -> WatcherApi:
    """Raises Invalid: 404 without a ledger, 503 where this node does not watch."""
    ledger_of(node)
    if node.watcher is None:
        raise Invalid(
            Reason.UNAVAILABLE,
            "this node watches nobody; ask a compute unit, or a node with the watcher role",
        )
    return node.watcher


def routes(node: NodeApi, bodies: Bodies) -> list[Route]:
    """The routes about challenges."""

    async def cases(request: Request) -> Response:
        return json_response({"challenges": watcher_of(node).cases()})

    async def accuse(request: Request) -> Response:
        """202: looked into, whatever comes of it."""
        watcher = watcher_of(node)
        body = await bodies.read(request, size_max=ACCUSATION_BYTES_MAX)
        raw = _statement(body)
        statement = statement_of(raw)
        await watcher.accuse(raw)
        id = b64url(statement_id(raw))
        kind = "receipt" if isinstance(statement, Receipt) else "state proof"
        answer = {"statement": id, "kind": kind, "unit": b64url(statement.cu)}
        return json_response({**answer, "next": NEXT.format(id=id)}, 202)

    async def show(request: Request) -> Response:
        id = parse_id(request.path_params["id"], "statement id")
        found = watcher_of(node).show(id)
        if found is None:
            raise Invalid(Reason.UNKNOWN_ITEM, f"nothing is held against statement {b64url(id)}")
        return json_response(found)

    return [
        Route("/challenges", cases, methods=["GET"]),
        Route("/challenges", accuse, methods=["POST"]),
        Route("/challenges/{id}", show),
    ]


def _statement(body: bytes) -> bytes:
    """The encoded statement of a body: raw, or in a JSON object. Raises Invalid(MALFORMED)."""
    if body[:1] != b"{":
        return body
    try:
        return unb64url(msgspec.json.decode(body, type=_Accusation).statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            Reason.MALFORMED,
            'an accusation is a statement\'s bytes, or {"statement": base64url of them}: '
            f"{error}",
        ) from None
