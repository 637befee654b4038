"""What all HTTP ports share: CORS, bounded bodies, JSON errors, common query parameters.

Bodies are bounded before they are buffered: by their declared length, then byte by byte as they
arrive (chunked bodies declare none), by a deadline, and by one budget for all bodies in flight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from aonode.http.problem import on_http_error, on_invalid, problem
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, parse_id
from protocols.wire.assignment import check_excludes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application."""

BODY_DEADLINE_S = 30.0
"""Seconds in which a whole request body must have arrived; else 408."""
BODIES_BYTES_MAX = 192 << 20
"""Bodies in memory at once, over all requests of a port: three of the largest modules."""
DISCARD_BYTES_MAX = 4 << 20
DISCARD_S_MAX = 1.0
"""How much of a refused body is read and dropped, so that its sender sees the answer at all."""

CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-expose-headers", b"*"),
    (b"access-control-max-age", b"86400"),
]
"""Headers of every answer: any page may ask any port."""


class Slow(Exception):
    """A body that did not arrive in time."""


class Bodies:
    """Reads request bodies within one budget of memory."""

    def __init__(self, *, bytes_max: int = BODIES_BYTES_MAX, deadline_s: float = BODY_DEADLINE_S):
        self._free = bytes_max
        self._deadline_s = deadline_s

    async def read(self, request: Request, *, size_max: int, deadline_s: float = 0) -> bytes:
        """The whole body. Raises Invalid(OVERSIZE, BUSY), Slow, ClientDisconnect.

        The memory it takes is given back when it returns: what the caller does with the bytes is
        bounded by the number of connections.
        """
        declared = _declared_length(request)
        if declared is not None and declared > size_max:
            await _discard(request)
            raise Invalid(Reason.OVERSIZE, f"body of {declared} bytes, at most {size_max}")
        taken = 0
        parts: list[bytes] = []
        try:
            with trio.fail_after(deadline_s or self._deadline_s):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] != "http.request":
                        raise ClientDisconnect
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    taken += len(part)
                    self._free -= len(part)
                    if taken > size_max:
                        parts.clear()
                        if more:
                            await _discard(request)
                        raise Invalid(Reason.OVERSIZE, f"body above {size_max} bytes")
                    if self._free < 0:
                        raise Invalid(Reason.BUSY, "too many large bodies at once; try again")
                    parts.append(part)
            return b"".join(parts)
        except trio.TooSlowError:
            raise Slow(f"{taken} bytes of the body arrived in time, not all of it") from None
        finally:
            self._free += taken


def _declared_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid(Reason.MALFORMED, f"Content-Length {text[:32]!r} is not a number")
    return int(text)


async def _discard(request: Request) -> None:
    """Read on for a moment: an answer sent while the client still writes is often lost."""
    dropped = 0
    with trio.move_on_after(DISCARD_S_MAX):
        while dropped < DISCARD_BYTES_MAX:
            message = await request.receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            dropped += len(message.get("body", b""))


async def _on_slow(request: Request, error: Exception) -> Any:
    return problem(Reason.TIMEOUT, str(error), 408)


async def _on_gone(request: Request, error: Exception) -> Any:
    return problem(Reason.UNAVAILABLE, "the client left before its request was whole", 400)


async def _on_bug(request: Request, error: Exception) -> Any:
    return problem(Reason.STORAGE, "internal error; see the node's log", 500)


def application(routes: Sequence[Route], count: Callable[[int], None] | None = None) -> App:
    """One port: `routes` with JSON errors and CORS. `count` hears every status code."""
    inner = Starlette(
        routes=list(routes),
        exception_handlers={
            Invalid: on_invalid,
            Slow: _on_slow,
            ClientDisconnect: _on_gone,
            HTTPException: on_http_error,
            500: _on_bug,
        },
    )
    # "/x/" is not "/x": a redirect would lose the body of a POST.
    inner.router.redirect_slashes = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *CORS]
                if count is not None:
                    count(int(message["status"]))
            await send(message)

        if scope["method"] == "OPTIONS":
            await send_with_cors({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await inner(scope, receive, send_with_cors)

    return app


def process_of(request: Request) -> ProcessId:
    """The `process-id` query parameter. Raises Invalid(MALFORMED)."""
    text = request.query_params.get("process-id")
    if text is None:
        raise Invalid(Reason.MALFORMED, "the query parameter process-id is missing")
    return ProcessId(parse_id(text, "process-id"))


def asks_to_assign(request: Request) -> bool:
    """Whether a POST is AO's question to assign an item by its id."""
    return "assign" in request.query_params or "process-id" in request.query_params


def assignment_asked(request: Request) -> tuple[ProcessId, ItemId, tuple[str, ...]]:
    """Process, item and excluded fields of `?process-id=&assign=[&exclude=]`. Raises Invalid."""
    query = request.query_params
    if "base-layer" in query:
        raise Invalid(
            Reason.UNSUPPORTED,
            "base-layer asks for confirmations on Arweave, which this network does not read; "
            "leave it out",
        )
    item = query.get("assign")
    if item is None:
        raise Invalid(Reason.MALFORMED, "the query parameter assign is missing beside process-id")
    names = [name.strip() for name in query.get("exclude", "").split(",") if name.strip()]
    return process_of(request), ItemId(parse_id(item, "assign")), check_excludes(names)


def integer_of(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """An integer query parameter, clamped to `most`. Raises Invalid(MALFORMED)."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid(Reason.MALFORMED, f"query parameter {name} is {text[:32]!r}, not a number")
    if int(text) < least:
        raise Invalid(Reason.MALFORMED, f"query parameter {name} is {text}, at least {least}")
    return min(int(text), most)
