"""Serves one ASGI application on one port, inside the caller's nursery.

Hypercorn's HTTP/1.1 on trio, with what a port open to strangers needs on top; each correction has
a test that fails without it:

- at most `connections_max` connections; further ones wait in the kernel's backlog;
- no HTTP/2 and no WebSocket: nobody asks for them here, and each is a parser more to attack;
- a peer that does not read its answer loses the connection after `send_s_max` (Hypercorn shields
  that write from cancellation, so one such peer would hold up shutdown for ever);
- a connection whose application has answered before the body was whole ends (Hypercorn would wait
  for ever to hand it the rest);
- headers are bounded however they arrive (h11 counts only those that come in pieces), and what is
  no HTTP gets its answer in words;
- whatever Hypercorn lets out of a connection ends that connection, not the node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr, wrap_app

from aonode.env import TaskStatus
from aonode.http.edge import CORS, App
from aonode.ops import log


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients can hold."""

    connections_max: int = 512
    header_bytes_max: int = 16 << 10
    """Request line and headers; above it 431."""
    idle_s_max: float = 10.0
    """A connection with no request on it, or with headers that do not end; then it is closed."""
    send_s_max: float = 30.0
    """One write of a response."""
    drain_s_max: float = 5.0
    """How long requests may go on after `stop`."""


async def serve(
    app: App,
    *,
    host: str,
    port: int,
    stop: trio.Event,
    limits: Limits | None = None,
    task_status: TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then finish what is under way and return.

    `port` 0 takes any free one; `task_status.started` reports the real one, once it listens.
    Raises OSError where the port cannot be bound.
    """
    limits = limits or Limits()
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=128)
    door = _Door(app, limits)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(door.accept, listener, connections)
            task_status.started(listeners[0].socket.getsockname()[1])
            await stop.wait()
            accepting.cancel_scope.cancel()
        for listener in listeners:
            await listener.aclose()
        # Idle connections end now; each busy one when its response is out.
        await door.context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + limits.drain_s_max


class _Door:
    """Accepts connections, a bounded number at a time."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.context = WorkerContext(None)
        self._app = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]
        self._limits = limits
        self._room = trio.CapacityLimiter(limits.connections_max)
        self._log = log.get("http")
        self._config = Config()
        self._config.errorlog = None
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = limits.header_bytes_max
        self._config.keep_alive_timeout = limits.idle_s_max
        self._config.keep_alive_max_requests = 100_000
        self._config.max_app_queue_size = 2

    async def accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            ticket = object()
            await self._room.acquire_on_behalf_of(ticket)
            try:
                stream = await listener.accept()
            except OSError as error:  # out of file descriptors: wait until some are free
                self._room.release_on_behalf_of(ticket)
                self._log.warning("accept failed", error=str(error))
                await trio.sleep(0.1)
            except trio.Cancelled:
                self._room.release_on_behalf_of(ticket)
                raise
            else:
                connections.start_soon(self._serve, stream, ticket)

    async def _serve(self, stream: trio.SocketStream, ticket: object) -> None:
        connection = _Connection(self._app, self._config, self.context, stream, self._limits)
        try:
            await connection.run()
        except ExceptionGroup as error:
            # What Hypercorn's per-connection nursery let out: this connection's end, not ours.
            self._log.warning("connection failed", error=repr(error.exceptions[0])[:500])
        finally:
            self._room.release_on_behalf_of(ticket)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


class _Connection(TCPServer):
    """One client's connection."""

    protocol: Any
    stream: Any

    def __init__(
        self, app: Any, config: Config, context: WorkerContext, stream: Any, limits: Limits
    ) -> None:
        super().__init__(app, config, context, {}, stream)
        self._limits = limits

    async def run(self) -> None:
        try:
            sock = self.stream.socket
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            async with _Tasks() as tasks:
                self._task_group = tasks
                self.protocol = _Http1(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    ConnectionState({}),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # the client has gone
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.fail_after(self._limits.send_s_max):
                    await self.stream.send_all(event.data)
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: an Upgrade header is ignored, as RFC 9110 section 7.8 allows."""

    _head = b""
    """Head of a response that has not left: its body is about to follow."""

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Head and body leave in one write: each costs a system call and a packet."""
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
            return
        if data := self._head + data:
            self._head = b""
            await self.send(RawData(data))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would switch to HTTP/2 here."""

    async def _send_error_response(self, status_code: int) -> None:
        """Hypercorn's own has no words."""
        most = self.config.h11_max_incomplete_size
        text = {
            400: "this is not an HTTP/1.1 request",
            431: f"request line and headers have more than {most} bytes",
        }.get(status_code, f"HTTP {status_code}")
        body = msgspec.json.encode({"error": text})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *CORS,
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _create_stream(self, request: h11.Request) -> None:
        head = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
        if head > self.config.h11_max_incomplete_size:
            await self._send_error_response(431)
            await self.send(Closed())
            return
        kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=kept,
                http_version=request.http_version,
            )
        )


class _Tasks(TaskGroup):
    """Runs the application of each request; drops what arrives after it has answered."""

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        put, take = trio.open_memory_channel[Any](config.max_app_queue_size)

        async def run(scope: Any, receive: Any, send: Any, *rest: Any) -> None:
            with take:
                await app(scope, receive, send, *rest)

        async def receive() -> Any:
            try:
                return await take.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        async def offer(event: Any) -> None:
            # Hypercorn says "disconnect" from inside the application's own `send`: never wait
            # then for room in the queue.
            if event["type"] == "http.disconnect":
                put.close()
                return
            try:
                await put.send(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

        assert self._nursery is not None, "a request came before its connection was set up"
        self._nursery.start_soon(
            _handle,
            run,
            config,
            scope,
            receive,
            send,
            trio.to_thread.run_sync,
            trio.from_thread.run,
        )
        return offer
