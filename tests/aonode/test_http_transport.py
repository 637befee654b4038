"""The client's HTTP transport, against servers on loopback that behave and that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from aonode.http_transport import http_client

Serve = Callable[[trio.SocketStream, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Server:
    """Runs `serve(stream, number)` for every connection."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections = 0
        self.url = ""

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            await self.serve(stream, self.connections)
        except trio.BrokenResourceError:
            pass  # the client has gone


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Server]:
    server = Server(serve)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, server.handle, [listener])
        yield server
        nursery.cancel_scope.cancel()


async def request_of(stream: trio.SocketStream) -> bytes:
    """One request without a body, or as much of it as comes in one piece."""
    return await stream.receive_some(65536)


async def polite(stream: trio.SocketStream, number: int) -> None:
    while await request_of(stream):
        await stream.send_all(OK)


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with serving(polite) as server, http_client(timeout_s=5) as http:
        for _ in range(5):
            assert (await http.get(server.url)).text == "hi"
        assert server.connections == 1


async def test_requests_under_way_have_connections_of_their_own_up_to_the_bound() -> None:
    async with (
        serving(polite) as server,
        http_client(timeout_s=5, connections_max=3) as http,
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(http.get, server.url)
    assert 1 < server.connections <= 3


async def test_a_body_is_sent_and_a_chunked_answer_is_read() -> None:
    seen = []

    async def serve(stream: trio.SocketStream, number: int) -> None:
        got = b""
        while not got.endswith(b"payload"):
            got += await request_of(stream)
        seen.append(got)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await stream.send_all(b"3\r\ndef\r\n0\r\n\r\n")

    async with serving(serve) as server, http_client(timeout_s=5) as http:
        answer = await http.post(server.url + "/path?q=1", content=b"payload")
    assert answer.text == "abcdef"
    assert seen[0].startswith(b"POST /path?q=1 HTTP/1.1\r\n")
    assert b"127.0.0.1" in seen[0]


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    gone = trio.Event()

    async def once(stream: trio.SocketStream, number: int) -> None:
        await request_of(stream)
        await stream.send_all(OK)
        await stream.aclose()
        gone.set()

    async with serving(once) as server, http_client(timeout_s=5) as http:
        assert (await http.get(server.url)).text == "hi"
        await gone.wait()
        assert (await http.get(server.url)).text == "hi"
        assert server.connections == 2


async def test_an_answer_that_is_not_read_to_its_end_costs_its_connection() -> None:
    async def endless(stream: trio.SocketStream, number: int) -> None:
        await request_of(stream)
        if number == 1:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
            await trio.sleep_forever()
        await stream.send_all(OK)

    async with serving(endless) as server, http_client(timeout_s=5) as http:
        async with http.stream("GET", server.url):
            pass
        assert (await http.get(server.url)).text == "hi"
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome", b"SSH-2.0-OpenSSH\r\n\r\n"],
)
async def test_what_is_no_whole_answer_is_an_error_of_httpx(answer: bytes) -> None:
    async def serve(stream: trio.SocketStream, number: int) -> None:
        await request_of(stream)
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    async with serving(serve) as server, http_client(timeout_s=5) as http:
        with pytest.raises(httpx.TransportError):
            await http.get(server.url)


async def test_silence_ends_as_a_timeout_and_gives_its_place_back() -> None:
    async def silent(stream: trio.SocketStream, number: int) -> None:
        await trio.sleep_forever()

    async with (
        serving(silent) as server,
        http_client(timeout_s=0.05, connections_max=1) as http,
    ):
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                await http.get(server.url)
        assert server.connections == 3


async def test_nobody_listening_is_an_error_of_httpx() -> None:
    async with serving(polite) as server:
        url = server.url
    async with http_client(timeout_s=5) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)
