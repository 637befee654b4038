"""The compute port: AO's CU, and results with receipts, so that a client need not trust it.

`GET /results/:pid?receipts=1` lists evaluated slots with everything needed to check them offline:
receipt, outcome bytes, assignment, message, each base64url. It leaves out AO's `node` object, and
with `log=0` the assignment and the message too, for a client that has them from another unit.
`wait_ms` makes it wait for at least one entry. Edges come in log order, failed slots included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import ComputeApi, EvaluatedSlot, NodeApi
from aonode.env import Env
from aonode.http import everywhere
from aonode.http.dry_run import read_dry_run
from aonode.http.edge import App, Bodies, application, integer_of, process_of
from aonode.http.ledger_result import ledger_result
from aonode.http.problem import json_response
from aonode.http.shapes import Cursor, decode_cursor
from protocols.abi import dry_call_for
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, address_of, b64url, parse_id
from protocols.network import Parameters
from protocols.outbox import Bounds
from protocols.result import public_json
from protocols.wire.assignment import Slot
from protocols.wire.item import Item
from protocols.wire.outcome import Status
from protocols.wire.process import ProcessInfo, process_info

RESULT_WAIT_S = 10.0
"""How long `/result` waits for a slot, and then for its evaluation."""
ELSEWHERE_WAIT_S = 2.0
"""The same for a message that is in another log: it may have been assigned to this one too."""
RESULTS_LIMIT = 25
RESULTS_LIMIT_MAX = 1000
PAGE_BYTES_MAX = 8 << 20
"""A page ends early, with `hasNextPage`, once its parts add up to this."""
PAGE_CHUNK = 64
"""Slots of a page looked at without letting others run."""
LOOKED_AT_MAX = 100_000
"""Slots looked at for one page: a page ends early only in a longer run of failures."""
DRY_RUN_BYTES_MAX = 2 << 20
DRY_RUNS_MAX = 8
"""Dry runs at once; each may burn a whole slot's fuel. Beyond: 503."""
FORMATS_MAX = 4096
"""Processes whose Module-Format is kept."""
NONCE_MAX = (1 << 63) - 1


def app(
    node: NodeApi,
    compute: ComputeApi,
    parameters: Parameters,
    env: Env,
    *,
    bodies: Bodies | None = None,
    count: Callable[[int], None] | None = None,
) -> App:
    """The ASGI application of a compute port. `count` hears every status code."""
    edge = _Compute(node, compute, parameters, env, bodies or Bodies())
    routes = [
        Route("/", edge.hello),
        Route("/result/{id}", edge.result),
        Route("/results/{process}", edge.results),
        Route("/dry-run", edge.dry_run, methods=["POST"]),
        Route("/cron/{process}", edge.cron),
        Route("/state/{process}", edge.state),
        Route("/proof/{id}", edge.proof),
        *everywhere.routes(node, edge.bodies),
    ]
    return application(routes, count)


class _Compute:
    def __init__(
        self,
        node: NodeApi,
        compute: ComputeApi,
        parameters: Parameters,
        env: Env,
        bodies: Bodies,
    ) -> None:
        self._node = node
        self._compute = compute
        self._bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
        self._env = env
        self.bodies = bodies
        self._dry_runs = 0
        self._formats: dict[ProcessId, str] = {}

    async def hello(self, request: Request) -> Response:
        """Address and time, as AO's CU says them; the key and profile are in `/status`."""
        address = b64url(address_of(self._node.key))
        return json_response({"address": address, "timestamp": self._env.now_ms()})

    async def result(self, request: Request) -> Response:
        """Result JSON of a message, assignment or process id."""
        named = process_of(request)
        if named == self._node.network.ledger and self._node.ledger is not None:
            _, nonce, wait_s = await self._place_of(request, named)
            return json_response(await ledger_result(self._node.ledger, nonce, wait_s))
        process, evaluated = await self._evaluated(request, named)
        text = self._public(self._format(process), evaluated)
        return Response(text, media_type="application/json")

    async def proof(self, request: Request) -> Response:
        """All that is needed to check one result offline (see `aonode.verify_result`).

        A message that stands in several logs (assigned by id) is told apart by `process-id`.
        `process=1` adds the process item, which says who may schedule.
        """
        named = process_of(request) if "process-id" in request.query_params else None
        process, evaluated = await self._evaluated(request, named)
        slot = self._slot(process, evaluated.nonce)
        return json_response(
            {
                "process": b64url(process),
                "nonce": evaluated.nonce,
                "format": self._format(process),
                **_receipt_parts(evaluated),
                **_log_parts(slot),
                **self._process_part(request, process),
            }
        )

    def _process_part(self, request: Request, process: ProcessId) -> dict[str, Any]:
        if request.query_params.get("process") != "1":
            return {}
        return {"process_item": b64url(self._process_item(process).raw)}

    async def _evaluated(
        self, request: Request, process: ProcessId | None
    ) -> tuple[ProcessId, EvaluatedSlot]:
        """The slot a request names, once it is evaluated. Raises Invalid, 404 for no slot."""
        found, nonce, wait_s = await self._place_of(request, process)
        self._check_evaluates(found)
        return found, await self._compute.result(found, nonce, wait_s)

    async def _place_of(
        self, request: Request, process: ProcessId | None
    ) -> tuple[ProcessId, int, float]:
        """Where the id of a request stands, and how long its answer may still take."""
        deadline = trio.current_time() + RESULT_WAIT_S
        id = parse_id(request.path_params["id"], "message")
        replica = self._node.replica
        elsewhere = None if process is None else replica.find(id)
        wait_s = RESULT_WAIT_S if elsewhere is None else ELSEWHERE_WAIT_S
        found, nonce = await replica.wait_slot(id, wait_s, process)
        # A slot that came at the last moment still gets a second.
        return found, nonce, max(1.0, deadline - trio.current_time())

    def _check_evaluates(self, process: ProcessId) -> None:
        if process == self._node.network.ledger:
            raise Invalid(
                Reason.UNSUPPORTED,
                f"{b64url(process)} is the ledger, which every node folds and no unit evaluates; "
                "see /ledger, /ledger/slots, and /result for one message",
            )

    async def results(self, request: Request) -> Response:
        """A page of results, AO's cursors; see the head of this file for `receipts=1`."""
        most = round(RESULT_WAIT_S * 1000)
        wait_s = integer_of(request, "wait_ms", 0, least=0, most=most) / 1000
        if wait_s:
            await self._node.replica.wait_slot(
                parse_id(request.path_params["process"], "process"), wait_s
            )
        process = self._known(request)
        first, last, descending = self._range(request, process)
        limit = integer_of(request, "limit", RESULTS_LIMIT, least=1, most=RESULTS_LIMIT_MAX)
        receipts = request.query_params.get("receipts") == "1"
        if receipts and not descending:
            await self._wait_for(process, first, last, wait_s)
        if receipts:
            return await self._receipts_page(request, process, (first, last, limit), descending)
        return await self._public_page(process, (first, last, limit), descending)

    async def _receipts_page(
        self,
        request: Request,
        process: ProcessId,
        bounds: tuple[int, int, int],
        descending: bool,
    ) -> Response:
        """Read in chunks, so that a long page does not hold up the node."""
        first, last, limit = bounds
        with_log = request.query_params.get("log") != "0"
        size, more = 0, True
        edges: list[dict[str, Any]] = []
        while more and len(edges) < limit and size <= PAGE_BYTES_MAX:
            count = min(PAGE_CHUNK, limit - len(edges))
            rows = self._compute.results(process, first, last, count + 1, reverse=descending)
            more, rows = len(rows) > count, rows[:count]
            for row in rows:
                edge = {"cursor": _cursor(row.nonce), "nonce": row.nonce, **_receipt_parts(row)}
                if with_log:
                    edge |= _log_parts(self._slot(process, row.nonce))
                edges.append(edge)
                size += sum(len(part) for part in edge.values() if isinstance(part, str))
            first, last = _beyond(rows, first, last, descending)
            await trio.lowlevel.checkpoint()
        return json_response({"pageInfo": {"hasNextPage": more}, "edges": edges})

    def _slot(self, process: ProcessId, nonce: int) -> Slot:
        slot = self._node.replica.slot(process, nonce)
        assert slot is not None, f"slot {nonce} was evaluated but is not in the log"
        return slot

    async def _public_page(
        self, process: ProcessId, bounds: tuple[int, int, int], descending: bool
    ) -> Response:
        """As AO's CU: evaluations that failed are left out, and a page is full without them.

        (aoconnect hands on no pageInfo: to its callers a short page is the last one.)
        """
        first, last, limit = bounds
        format, sort = self._format(process), "DESC" if descending else "ASC"
        size, looked_at, more = 0, 0, True
        edges: list[dict[str, Any]] = []
        while more and len(edges) < limit and size <= PAGE_BYTES_MAX and looked_at < LOOKED_AT_MAX:
            # One more than is looked at tells whether there are others.
            count = min(PAGE_CHUNK, limit)
            rows = self._compute.results(process, first, last, count + 1, reverse=descending)
            more, rows = len(rows) > count, rows[:count]
            looked_at += len(rows)
            for number, row in enumerate(rows):
                if len(edges) == limit or size > PAGE_BYTES_MAX:
                    more, rows = True, rows[:number]
                    break
                if row.status == Status.OK:
                    node = self._public(format, row)
                    edges.append({"node": msgspec.Raw(node), "cursor": _cursor(row.nonce, sort)})
                    size += len(node)
            first, last = _beyond(rows, first, last, descending)
            await trio.lowlevel.checkpoint()
        return json_response({"pageInfo": {"hasNextPage": more}, "edges": edges})

    async def _wait_for(self, process: ProcessId, first: int, last: int, wait_s: float) -> None:
        if not wait_s or first > last or self._compute.results(process, first, last, 1):
            return
        with trio.move_on_after(wait_s):
            try:
                await self._compute.result(process, first, wait_s)
            except Invalid as error:
                if error.reason not in (Reason.TIMEOUT, Reason.UNKNOWN_ITEM):
                    raise

    def _range(self, request: Request, process: ProcessId) -> tuple[int, int, bool]:
        """First and last nonce of a listing, and whether it goes down.

        `from` is exclusive and `to` inclusive; going down they bound from above and below.
        """
        cursors = {
            name: decode_cursor(request.query_params[name])
            for name in ("from", "to")
            if request.query_params.get(name)
        }
        start, stop = cursors.get("from"), cursors.get("to")
        sort = request.query_params.get("sort", "ASC").upper()
        if start is not None and start.sort is not None:
            sort = start.sort
        if sort not in ("ASC", "DESC"):
            raise Invalid(Reason.MALFORMED, f"sort is {sort[:16]!r}, not ASC or DESC")
        if sort == "DESC":
            last = self._place(process, start) - 1 if start else NONCE_MAX
            return (self._place(process, stop) if stop else 0), last, True
        first = self._place(process, start) + 1 if start else 0
        return first, (self._place(process, stop) if stop else NONCE_MAX), False

    def _place(self, process: ProcessId, cursor: Cursor) -> int:
        """The nonce a cursor stands for: of the last slot at or before its time, -1 for none."""
        if not cursor.by_time:
            return cursor.ordinate
        return nonce_at(self._node, process, cursor.timestamp)

    async def dry_run(self, request: Request) -> Response:
        """Evaluate a message on the latest state and forget it."""
        process = process_of(request)
        body = await self.bodies.read(request, size_max=DRY_RUN_BYTES_MAX)
        info, format = self._info(process), self._format(process)
        chain = self._node.replica.chain(process)
        assert chain is not None, "a process with a process item has a chain"
        dry = read_dry_run(body, process, chain.timestamp)
        if self._dry_runs >= DRY_RUNS_MAX:
            raise Invalid(Reason.BUSY, f"{DRY_RUNS_MAX} dry runs are under way; try again")
        self._dry_runs += 1
        try:
            done = await self._compute.dry_run(
                process, dry_call_for(format, dry, info, chain.nonce)
            )
        finally:
            self._dry_runs -= 1
        text = public_json(format, Status(done.status), done.raw, self._bounds, done.fuel)
        return Response(text, media_type="application/json")

    async def cron(self, request: Request) -> Response:
        """Always empty: cron messages are ordinary scheduled messages here, see `/results`."""
        self._known(request)
        return json_response({"pageInfo": {"hasNextPage": False}, "edges": []})

    async def state(self, request: Request) -> Response:
        """Linear memory after the last evaluated slot."""
        process = self._known(request)
        memory = await self._compute.state(process)
        last = self._compute.results(process, 0, NONCE_MAX, 1, reverse=True)
        slot = self._node.replica.slot(process, last[0].nonce) if last else None
        headers = {}
        if slot is not None:
            headers = {
                "Last-Timestamp": str(slot.assignment.timestamp),
                "Last-Ordinate": str(slot.nonce),
                "Last-Block-Height": slot.assignment.block_height,
            }
        return Response(memory, headers=headers, media_type="application/octet-stream")

    def _known(self, request: Request) -> ProcessId:
        process = ProcessId(parse_id(request.path_params["process"], "process"))
        self._process_item(process)
        return process

    def _process_item(self, process: ProcessId) -> Item:
        self._check_evaluates(process)
        slot = self._node.replica.slot(process, 0)
        if slot is None:
            raise Invalid(Reason.UNKNOWN_PROCESS, f"process {b64url(process)} is not known here")
        return slot.message

    def _info(self, process: ProcessId) -> ProcessInfo:
        return process_info(self._process_item(process))

    def _format(self, process: ProcessId) -> str:
        """Module-Format of a process. Kept: a module has megabytes, and every request asks."""
        known = self._formats.get(process)
        if known is not None:
            return known
        module = self._info(process).module
        item = self._node.replica.module(module)
        if item is None:
            raise Invalid(Reason.UNKNOWN_MODULE, f"module {b64url(module)} is not known here")
        if len(self._formats) >= FORMATS_MAX:
            self._formats.pop(next(iter(self._formats)))
        self._formats[process] = item.first("Module-Format") or ""
        return self._formats[process]

    def _public(self, format: str, row: EvaluatedSlot) -> bytes:
        text = public_json(format, Status(row.status), row.raw, self._bounds, row.fuel)
        return text.encode("utf-8")


def _beyond(rows: list[EvaluatedSlot], first: int, last: int, descending: bool) -> tuple[int, int]:
    """What is left of a range after `rows` of it."""
    if not rows:
        return first, last
    return (first, rows[-1].nonce - 1) if descending else (rows[-1].nonce + 1, last)


def _cursor(nonce: int, sort: str = "ASC") -> str:
    return Cursor(ordinate=nonce, sort=sort).encode()


def _receipt_parts(row: EvaluatedSlot) -> dict[str, Any]:
    return {"receipt": b64url(row.receipt), "outcome": b64url(row.raw)}


def _log_parts(slot: Slot) -> dict[str, Any]:
    return {
        "assignment": b64url(slot.assignment.item.raw),
        "message": b64url(slot.message.raw),
    }


def nonce_at(node: NodeApi, process: ProcessId, timestamp: int) -> int:
    """The last slot at or before `timestamp` (ms), -1 for none. Timestamps never go back."""
    chain = node.replica.chain(process)
    low, high = -1, -1 if chain is None else chain.nonce
    while low < high:
        middle = (low + high + 1) // 2
        slot = node.replica.slot(process, middle)
        assert slot is not None, f"slot {middle} is below the head but not in the log"
        if slot.assignment.timestamp <= timestamp:
            low = middle
        else:
            high = middle - 1
    return low
