"""The server over real sockets: bounds, deadlines, drain; one misbehaving client at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.http.edge import Bodies, application
from aonode.http.server import Limits, serve

LIMITS = Limits(connections_max=4, header_bytes_max=4096, idle_s_max=0.3, drain_s_max=2.0)


class _App:
    """Reads a body, answers its length; or blocks; or answers much."""

    def __init__(self, size_max: int = 1000, deadline_s: float = 0.3) -> None:
        self.entered = trio.Event()
        self.release = trio.Event()
        self.bodies = Bodies(deadline_s=deadline_s)
        self.size_max = size_max

    def routes(self) -> Callable[..., Awaitable[None]]:
        async def body(request: Request) -> Response:
            got = await self.bodies.read(request, size_max=self.size_max)
            return Response(str(len(got)))

        async def block(request: Request) -> Response:
            self.entered.set()
            await self.release.wait()
            return Response("late")

        async def much(request: Request) -> Response:
            self.entered.set()
            return Response(bytes(64 << 20))

        async def quick(request: Request) -> Response:
            return Response("unread")

        async def broken(request: Request) -> Response:
            raise RuntimeError("a bug of ours")

        return application(
            [
                Route("/body", body, methods=["POST"]),
                Route("/quick", quick, methods=["POST"]),
                Route("/block", block),
                Route("/much", much),
                Route("/broken", broken),
            ]
        )


class _Running:
    def __init__(self, port: int, app: _App, stop: trio.Event) -> None:
        self.port, self.app, self.stop = port, app, stop
        self.url = f"http://127.0.0.1:{port}"

    async def raw(self, request: bytes) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(request)
        return stream


@asynccontextmanager
async def running(app: _App | None = None, limits: Limits = LIMITS) -> AsyncIterator[_Running]:
    app = app or _App()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(
            partial(serve, app.routes(), host="127.0.0.1", port=0, stop=stop, limits=limits)
        )
        yield _Running(port, app, stop)
        app.release.set()
        stop.set()


async def all_of(stream: trio.SocketStream) -> bytes:
    parts = b""
    with trio.fail_after(10):
        try:
            while part := await stream.receive_some(65536):
                parts += part
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    return parts


async def refused(port: int) -> None:
    """Returns once nobody listens there: a few steps of the event loop after `stop`."""
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return
            await stream.aclose()


async def test_head_and_body_leave_in_one_write() -> None:
    async with running() as server:
        stream = await server.raw(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
        with trio.fail_after(10):
            first = await stream.receive_some(65536)
        assert first.endswith(b"\r\n\r\n2")
        await stream.aclose()


async def test_serves_on_the_port_it_reports() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        answer = await client.post(server.url + "/body", content=b"x" * 999)
    assert (answer.status_code, answer.text) == (200, "999")
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_declared_body_above_the_bound_is_refused() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        answer = await client.post(server.url + "/body", content=b"x" * 1001)
        again = await client.post(server.url + "/body", content=b"x")
    assert answer.status_code == 413
    assert answer.json()["error"] == "body of 1001 bytes, at most 1000"
    assert again.status_code == 200


async def test_chunked_body_above_the_bound_is_refused_as_it_arrives() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with running() as server, httpx.AsyncClient() as client:
        answer = await client.post(server.url + "/body", content=chunks())
    assert answer.status_code == 413
    assert answer.json()["reason"] == "oversize"


@pytest.mark.slow
async def test_endless_body_gets_its_answer_and_is_cut_off() -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
    async with running() as server:
        stream = await server.raw(head + b"x" * 5000)
        assert (await all_of(stream)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
async def test_body_that_drips_ends_with_408() -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab"
    async with running() as server:
        answer = await all_of(await server.raw(head))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"2 bytes of the body arrived in time" in answer


async def test_body_budget_is_shared_and_given_back() -> None:
    app = _App()
    app.bodies = Bodies(bytes_max=10)
    async with running(app) as server, httpx.AsyncClient() as client:
        refused = await client.post(server.url + "/body", content=b"x" * 11)
        taken = await client.post(server.url + "/body", content=b"x" * 10)
    assert (refused.status_code, taken.status_code) == (503, 200)
    assert refused.headers["retry-after"] == "1"


async def test_long_headers_are_refused() -> None:
    async with running() as server:
        stream = await server.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5000)
        assert (await all_of(stream)).startswith(b"HTTP/1.1 431 ")


async def test_long_headers_are_refused_also_if_they_come_at_once() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        stream = await server.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5000 + b"\r\n\r\n")
        answer = await all_of(stream)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'{"error":"request line and headers have more than 4096 bytes"}' in answer
        assert b"access-control-allow-origin: *" in answer
        assert (await client.post(server.url + "/quick")).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET /block HTTP/1.1\r\nHost: a\r\nX-"])
async def test_silent_connection_is_closed(start: bytes) -> None:
    async with running() as server:
        stream = await server.raw(start)
        assert await all_of(stream) == b""


async def test_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    head = b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    limits = Limits(connections_max=1)
    async with running(limits=limits) as server:
        for _ in range(3):
            stream = await server.raw(head)
            with trio.move_on_after(0.05):
                try:
                    while True:
                        await stream.send_all(bytes(65536))
                except trio.BrokenResourceError:
                    pass
            await all_of(stream)


async def test_connections_are_bounded() -> None:
    async with running(limits=Limits(connections_max=2)) as server:
        held = [await server.raw(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(2)]
        third = await server.raw(b"POST /quick HTTP/1.0\r\nHost: a\r\n\r\n")
        with trio.move_on_after(0.1) as waited:
            await third.receive_some(1)
        assert waited.cancelled_caught
        await held[0].aclose()
        server.app.release.set()
        assert (await all_of(third)).startswith(b"HTTP/1.1 200 ")
        await held[1].aclose()


async def test_upgrades_are_ignored() -> None:
    for upgrade in (b"websocket", b"h2c"):
        request = b"POST /quick HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: "
        extra = b"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Key: eA==\r\n\r\n"
        async with running() as server:
            answer = await all_of(await server.raw(request + upgrade + extra))
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_http2_preface_does_no_harm() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        await all_of(await server.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100)))
        assert (await client.post(server.url + "/quick")).status_code == 200


async def test_garbage_does_no_harm() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        for garbage in (b"\x16\x03\x01\x02\x00\x01", b"\0" * 100, b"GET\r\n\r\n", b"G E T\r\n" * 9):
            await all_of(await server.raw(garbage + b"\r\n\r\n"))
        assert (await client.post(server.url + "/quick")).status_code == 200


async def test_bug_in_a_route_is_a_500_and_nothing_more() -> None:
    async with running() as server, httpx.AsyncClient() as client:
        answer = await client.get(server.url + "/broken")
        assert answer.status_code == 500
        assert "internal error" in answer.json()["error"]
        assert (await client.post(server.url + "/quick")).status_code == 200


async def test_stop_lets_a_request_finish_and_refuses_new_ones() -> None:
    async with running() as server, trio.open_nursery() as nursery:
        answers: list[int] = []

        async def ask() -> None:
            async with httpx.AsyncClient() as client:
                answers.append((await client.get(server.url + "/block")).status_code)

        nursery.start_soon(ask)
        await server.app.entered.wait()
        server.stop.set()
        await refused(server.port)
        server.app.release.set()
    assert answers == [200]


@pytest.mark.slow
async def test_stop_does_not_wait_for_who_never_reads() -> None:
    limits = Limits(drain_s_max=0.2)
    async with running(limits=limits) as server:
        stream = await server.raw(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.app.entered.wait()
        server.stop.set()
        await refused(server.port)
    await stream.aclose()
