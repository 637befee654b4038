"""Refusals as HTTP answers: a true status code and one JSON object, `{"error", "reason"}`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from protocols.errors import Invalid, Reason

STATUS: dict[Reason, int] = {
    Reason.MALFORMED: 400,
    Reason.NOT_CANONICAL: 400,
    Reason.BAD_SIGNATURE: 400,
    Reason.WRONG_NETWORK: 400,
    Reason.WRONG_SENDER: 403,
    Reason.OVERSIZE: 413,
    Reason.UNKNOWN_PROCESS: 404,
    Reason.UNKNOWN_MODULE: 404,
    Reason.UNKNOWN_ITEM: 404,
    Reason.UNKNOWN_SCHEDULER: 404,
    Reason.UNHOSTED: 410,
    Reason.NOT_NEXT: 409,
    Reason.FORK: 409,
    Reason.MISMATCH: 409,
    Reason.INADMISSIBLE: 422,
    Reason.FORBIDDEN_MODULE: 422,
    Reason.UNSUPPORTED: 422,
    Reason.BUSY: 503,
    Reason.UNAVAILABLE: 503,
    Reason.REFUSED: 503,
    Reason.TIMEOUT: 504,
    Reason.CONFIG: 500,
    Reason.STORAGE: 500,
}
"""Status code of each reason. 4xx: change the request; 5xx: this unit cannot, another might."""

assert set(STATUS) == set(Reason), "every reason needs a status code"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON. Values are anything `msgspec.json` encodes."""
    body = msgspec.json.encode(value)
    return Response(body, status, headers, media_type="application/json")


def problem(reason: Reason, detail: str, status: int | None = None) -> Response:
    """The one shape of a refusal."""
    code = status or STATUS[reason]
    headers = {"retry-after": "1"} if code == 503 else None
    text = detail or str(reason)
    return json_response({"error": text, "reason": str(reason)}, code, headers)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Starlette exception handler for `Invalid`."""
    assert isinstance(error, Invalid)
    return problem(error.reason, error.detail)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette exception handler for unknown paths and wrong methods."""
    status: int = getattr(error, "status_code", 500)
    what = {404: "no such path", 405: "this path does not take the method"}.get(status, str(error))
    return json_response({"error": f"{what}: {request.method} {request.url.path[:256]}"}, status)
