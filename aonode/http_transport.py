"""An httpx transport for plain HTTP/1.1: h11 on trio, idle connections kept by origin.

httpx's own pool looks at every connection it has for every request, which at thirty connections
costs a client more than checking what it has fetched. Here a request takes the connection that
was used last, or makes one; nothing is counted but those that are busy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import h11
import httpx
import trio

IDLE_MAX = 64
"""Idle connections kept for one origin."""
READ_BYTES = 64 << 10
_Origin = tuple[str, int]


class PlainTransport(httpx.AsyncBaseTransport):
    """For `http://` addresses; made and used in one trio run."""

    def __init__(self, *, connections_max: int = 64) -> None:
        """`connections_max` bounds requests under way; further ones wait."""
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._room = trio.Semaphore(connections_max)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout = request.extensions.get("timeout", {})
        origin = (request.url.host, request.url.port or 80)
        await self._enter(timeout.get("pool"))
        connection: _Connection | None = None
        answered = False
        try:
            connection = self._take(origin)
            if connection is None:
                connection = await _Connection.open(origin, timeout.get("connect"))
            await connection.send(request, timeout.get("write"))
            connection.read_s_max = _seconds(timeout.get("read"))
            head = await connection.head()
            answered = True
        finally:
            if not answered:
                self._room.release()
                if connection is not None:
                    await trio.aclose_forcefully(connection.stream)
        body = _Body(self, origin, connection)
        return httpx.Response(head.status_code, headers=list(head.headers), stream=body)

    async def _enter(self, timeout_s: float | None) -> None:
        with trio.move_on_after(_seconds(timeout_s)) as scope:
            await self._room.acquire()
        if scope.cancelled_caught:
            raise httpx.PoolTimeout(f"every connection is in use after {timeout_s:g} s")

    async def aclose(self) -> None:
        idle = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        for connection in idle:
            await trio.aclose_forcefully(connection.stream)

    def _take(self, origin: _Origin) -> _Connection | None:
        """An idle connection that the other side has not closed."""
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            # A server has nothing to say between requests, but that it has gone.
            if not connection.stream.socket.is_readable():
                return connection
            connection.stream.socket.close()
        return None

    async def done(self, origin: _Origin, connection: _Connection) -> None:
        """Keep a connection whose answer has been read; close any other."""
        self._room.release()
        idle = self._idle.setdefault(origin, [])
        if len(idle) < IDLE_MAX and connection.next():
            idle.append(connection)
        else:
            await trio.aclose_forcefully(connection.stream)


class _Connection:
    """One TCP connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.read_s_max = float("inf")
        """Longest silence in an answer."""
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, origin: _Origin, timeout_s: float | None) -> _Connection:
        host, port = origin
        with trio.move_on_after(_seconds(timeout_s)):
            try:
                return cls(await trio.open_tcp_stream(host, port))
            except OSError as error:
                raise httpx.ConnectError(str(error)) from error
        raise httpx.ConnectTimeout(f"no connection after {timeout_s:g} s")

    async def send(self, request: httpx.Request, timeout_s: float | None) -> None:
        head = h11.Request(
            method=request.method, target=request.url.raw_path, headers=request.headers.raw
        )
        out = [self._http.send(head)]
        assert isinstance(request.stream, httpx.AsyncByteStream), "a request of an async client"
        async for chunk in request.stream:
            out.append(self._http.send(h11.Data(chunk)))
        out.append(self._http.send(h11.EndOfMessage()))
        with trio.move_on_after(_seconds(timeout_s)) as scope:
            try:
                await self.stream.send_all(b"".join(part for part in out if part))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise httpx.WriteError(f"the connection broke: {error}") from error
        if scope.cancelled_caught:
            raise httpx.WriteTimeout(f"the request does not leave after {timeout_s:g} s")

    async def head(self) -> h11.Response:
        """The answer's status and headers; interim answers are passed over."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpx.RemoteProtocolError("the connection was closed before an answer")

    async def part(self) -> bytes | None:
        """The next piece of the answer's body; None at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise httpx.RemoteProtocolError("the connection was closed within an answer")

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self._more())
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error

    async def _more(self) -> bytes:
        with trio.move_on_after(self.read_s_max):
            try:
                return await self.stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise httpx.ReadError(f"the connection broke: {error}") from error
        raise httpx.ReadTimeout(f"no answer, or not the rest of it, in {self.read_s_max:g} s")

    def next(self) -> bool:
        """Make ready for another request; False if this connection cannot take one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True


class _Body(httpx.AsyncByteStream):
    """An answer's body; its end gives the connection back."""

    def __init__(self, transport: PlainTransport, origin: _Origin, connection: _Connection) -> None:
        self._transport = transport
        self._origin = origin
        self._connection = connection
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._connection.part()) is not None:
            yield part

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            await self._transport.done(self._origin, self._connection)


def _seconds(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else timeout_s


def http_client(*, timeout_s: float, connections_max: int = 64) -> httpx.AsyncClient:
    """A client whose plain HTTP goes over `PlainTransport`, and HTTPS over httpx's own."""
    return httpx.AsyncClient(
        timeout=timeout_s,
        trust_env=False,
        mounts={"http://": PlainTransport(connections_max=connections_max)},
    )
