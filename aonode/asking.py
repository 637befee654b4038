"""Asks units over HTTP: bounded answers, one JSON object each, refusals as `Invalid`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from protocols.errors import Invalid, Reason

ANSWER_BYTES_MAX = 32 << 20
"""Largest answer read from a unit."""

Query = Mapping[str, Any] | Sequence[tuple[str, Any]]


class Asker:
    """One HTTP client, asked for JSON objects."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._http.aclose()

    async def get(self, url: str, query: Query | None = None) -> dict[str, Any]:
        """The JSON object at `url`. A refusal becomes Invalid, as does no answer."""
        params = list(query.items()) if isinstance(query, Mapping) else list(query or ())
        return await self._ask(self._http.build_request("GET", url, params=params or None))

    async def post(self, url: str, body: bytes) -> dict[str, Any]:
        """As `get`, with a body."""
        headers = {"content-type": "application/octet-stream"}
        return await self._ask(self._http.build_request("POST", url, content=body, headers=headers))

    async def _ask(self, request: httpx.Request) -> dict[str, Any]:
        try:
            answer = await self._http.send(request, stream=True)
            try:
                body = await _read(answer, str(request.url))
            finally:
                await answer.aclose()
        except httpx.TimeoutException:
            raise Invalid(Reason.TIMEOUT, f"{request.url} did not answer in time") from None
        except httpx.HTTPError as error:
            raise Invalid(
                Reason.UNAVAILABLE, f"{request.url} cannot be reached: {error or repr(error)}"
            ) from None
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        if answer.status_code >= 400 or not isinstance(value, dict):
            raise refusal(value, f"{request.url} answered {answer.status_code}")
        return value


async def _read(answer: httpx.Response, url: str) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise Invalid(Reason.OVERSIZE, f"{url} answers with more than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def refusal(value: Any, what: str) -> Invalid:
    """A unit's refusal under its own reason, where it gives one we know."""
    fields = value if isinstance(value, dict) else {}
    reason = fields.get("reason")
    known = reason if reason in {str(each) for each in Reason} else Reason.UNAVAILABLE
    return Invalid(Reason(known), f"{what}: {str(fields.get('error', 'no reason given'))[:1000]}")
