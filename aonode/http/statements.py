"""State proofs this node has heard, and leaf hashes: what shows that a result was stated publicly.

`GET /proofs/PROCESS?from=SLOT` lists state proofs that end at the slot or later, with the tick at
which this node first heard each. `GET /leaves/PROCESS?from=SLOT&to=SLOT` gives the leaf hashes of
those slots and the peaks before them, from which the roots of state proofs follow.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import NodeApi
from aonode.http.edge import integer_of
from aonode.http.ledger import ledger_of
from aonode.http.problem import json_response
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url, parse_id
from protocols.wire.evidence import CLAIM_SLOTS_MAX

PROOFS_LIMIT = 100
PROOFS_LIMIT_MAX = 1000
SLOT_MAX = (1 << 63) - 1


def routes(node: NodeApi) -> list[Route]:
    """The routes about statements."""

    async def proofs(request: Request) -> Response:
        ledger_of(node)
        process = ProcessId(parse_id(request.path_params["process"], "process"))
        first = integer_of(request, "from", 0, least=0, most=SLOT_MAX)
        limit = integer_of(request, "limit", PROOFS_LIMIT, least=1, most=PROOFS_LIMIT_MAX)
        rows = [] if node.proofs is None else node.proofs.heard(process, first, limit)
        told = [{"proof": b64url(row.raw), "tick": row.tick} for row in rows]
        return json_response({"key": b64url(node.key), "proofs": told})

    async def leaves(request: Request) -> Response:
        if node.compute is None:
            raise Invalid(
                Reason.UNAVAILABLE, "this node computes nothing; ask a compute unit for leaves"
            )
        process = ProcessId(parse_id(request.path_params["process"], "process"))
        first = integer_of(request, "from", 0, least=0, most=SLOT_MAX)
        last = integer_of(request, "to", first, least=first, most=SLOT_MAX)
        if last - first >= CLAIM_SLOTS_MAX:
            raise Invalid(
                Reason.OVERSIZE,
                f"{last - first + 1} leaves, at most {CLAIM_SLOTS_MAX}; ask for fewer",
            )
        found = node.compute.leaves(process, first, last)
        peaks = [b64url(peak) for peak in found.peaks]
        return json_response(
            {"from": first, "peaks": peaks, "leaves": b64url(b"".join(found.leaves))}
        )

    return [Route("/proofs/{process}", proofs), Route("/leaves/{process}", leaves)]
