"""The stream muxer. `LeanYamux` speaks the same yamux as py-libp2p's, for a third of the work.

py-libp2p's takes a dozen locks and formats a dozen log lines per frame, polls for window credit,
lets a peer exceed its window, and leaves half a frame on the wire when a caller is cancelled in a
write. Here one task reads the socket by the chunk and one writes it, so frames that wait together
leave together, and cancelling a caller touches neither.
"""

from __future__ import annotations

import logging
import struct
from typing import Any, cast

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import (
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

log = logging.getLogger("aonode.net.libp2p")

HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)
WINDOW_BYTES = yamux.DEFAULT_WINDOW_SIZE
FRAME_BYTES = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE
CHUNK_BYTES = 64 << 10
NOISE_BYTES_MAX = 65_535 - 16
"""Plaintext of one Noise message."""
OUT_BYTES_MAX = 128 << 10
"""Frames waiting for the socket; a writer with more waits."""
REPLY_BYTES_MAX = 1 << 20
"""Replies to a peer that sends and does not read; with more the connection ends."""
STREAMS_MAX = 512
"""Streams of one connection at a time, both directions."""
WINDOW_WAIT_S = 10.0
KEEPALIVE_S = 20.0
"""A connection that is silent for this long is asked; after twice this it is closed."""
FLUSH_S = 0.5


class LeanStream(YamuxStream):
    """One stream; reads what is there, writes as far as the window reaches."""

    def __init__(self, stream_id: int, conn: LeanYamux, is_initiator: bool) -> None:
        super().__init__(stream_id, conn, is_initiator)
        self._credit = trio.Event()
        self._read = 0

    async def read(self, n: int | None = -1) -> bytes:
        """Up to `n` bytes (-1: all there is), at least one. Raises at the end of the stream."""
        conn = cast(LeanYamux, self.conn)
        while True:
            buffer = conn.stream_buffers.get(self.stream_id)
            if buffer:
                size = len(buffer) if n is None or n < 0 else min(n, len(buffer))
                data = bytes(buffer[:size])
                del buffer[:size]
                await self._give_credit(size)
                return data
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if buffer is None or self.recv_closed or self.closed:
                raise MuxedStreamEOF("the stream has ended")
            event = conn.stream_events[self.stream_id]
            await event.wait()
            if conn.stream_events.get(self.stream_id) is event:
                conn.stream_events[self.stream_id] = trio.Event()

    async def _give_credit(self, size: int) -> None:
        """Return window credit by the half window; forget a stream that is closed and read."""
        if self.closed:
            await self.conn._finalize_stream(self, fully_closed=True)
            return
        self._read += size
        if self._read >= WINDOW_BYTES // 2 and not self.recv_closed:
            credit, self._read = self._read, 0
            self.recv_window += credit
            await self.send_window_update(credit)

    async def write(self, data: bytes) -> None:
        """All of `data`. Raises MuxedStreamError if the peer gives no credit for long."""
        sent = 0
        while sent < len(data):
            if self.send_closed or self.closed:
                raise MuxedStreamError("the stream is closed for writing")
            if self.send_window <= 0:
                await self._wait_for_credit()
                continue
            size = min(self.send_window, FRAME_BYTES, len(data) - sent)
            self.send_window -= size
            header = HEADER.pack(0, yamux.TYPE_DATA, 0, self.stream_id, size)
            await self.conn._write_frame(header + data[sent : sent + size])
            sent += size

    async def _wait_for_credit(self) -> None:
        self._credit = trio.Event()
        with trio.move_on_after(WINDOW_WAIT_S):
            await self._credit.wait()
            return
        raise MuxedStreamError(f"no window credit for {WINDOW_WAIT_S} s")

    def credit(self, size: int) -> None:
        """The peer has read `size` bytes, or the stream has ended: look again."""
        self.send_window += size
        self._credit.set()


class LeanYamux(Yamux):
    """One connection over a Noise session of py-libp2p."""

    def __init__(self, secured_conn: Any, peer_id: Any, *args: Any, **options: Any) -> None:
        super().__init__(secured_conn, peer_id, *args, **options)
        self._plain = bytearray()
        self._sealed = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._out_filled = trio.Event()
        self._out_taken = trio.Event()
        self._heard = trio.current_time()

    async def start(self) -> None:
        """Run the connection until it ends."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write_loop)
            nursery.start_soon(self._keep_alive)
            nursery.start_soon(self._stale_stream_sweeper)
            self._established = True
            self.event_started.set()
            await self.handle_incoming()
            nursery.cancel_scope.cancel()
        self.new_stream_send_channel.close()

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        """Say goodbye, give it a moment to leave, close."""
        if not self.event_shutting_down.is_set():
            self._post(HEADER.pack(0, yamux.TYPE_GO_AWAY, 0, 0, error_code))
            with trio.move_on_after(FLUSH_S):
                while self._out_bytes and not self.event_shutting_down.is_set():
                    await self._out_taken.wait()
        await super().close(error_code)

    async def open_stream(self) -> YamuxStream:
        """A stream of ours; its SYN leaves with its first data."""
        if self.event_shutting_down.is_set():
            raise MuxedStreamError("the connection is closing")
        await self.stream_backlog_semaphore.acquire()
        stream = LeanStream(self.next_stream_id, self, True)
        self.next_stream_id += 2
        stream._owns_backlog_slot = True
        self._add(stream)
        self._post(HEADER.pack(0, yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, stream.stream_id, 0))
        return stream

    def _add(self, stream: LeanStream) -> None:
        self.streams[stream.stream_id] = stream
        self.stream_buffers[stream.stream_id] = bytearray()
        self.stream_events[stream.stream_id] = trio.Event()

    # Writing.

    def _post(self, data: bytes) -> None:
        """Put a frame in line for the socket without waiting."""
        self._out.append(data)
        self._out_bytes += len(data)
        self._out_filled.set()

    async def _write_frame(self, data: bytes) -> None:
        """Put a frame in line, and wait while the line is long."""
        if self.event_shutting_down.is_set():
            raise ConnectionClosedError("the connection is closed", transport="tcp")
        self._post(data)
        while self._out_bytes > OUT_BYTES_MAX and not self.event_shutting_down.is_set():
            await self._out_taken.wait()

    async def _write_loop(self) -> None:
        """All that waits, in as few Noise messages and system calls as it takes."""
        noise = cast(Any, self.secured_conn).conn
        try:
            while True:
                if not self._out:
                    self._out_filled = trio.Event()
                    await self._out_filled.wait()
                data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
                self._out.clear()
                await noise.read_writer.read_write_closer.write(self._seal(noise, data))
                self._out_bytes -= len(data)
                self._out_taken.set()
                self._out_taken = trio.Event()
        except Exception as error:
            log.debug("writing to %s ended: %r", self.peer_id, error)
            await self._cleanup_on_error()

    def _seal(self, noise: Any, data: bytes) -> bytes:
        parts = []
        for start in range(0, len(data), NOISE_BYTES_MAX):
            sealed = noise.encrypt(data[start : start + NOISE_BYTES_MAX])
            parts.append(len(sealed).to_bytes(2, "big"))
            parts.append(sealed)
        return b"".join(parts)

    async def _keep_alive(self) -> None:
        """Ask a silent peer; close the connection when it stays silent."""
        while True:
            await trio.sleep(KEEPALIVE_S)
            silent_s = trio.current_time() - self._heard
            if silent_s >= 2 * KEEPALIVE_S:
                log.info("%s has been silent for %d s", self.peer_id, silent_s)
                await self._cleanup_on_error()
            elif silent_s >= KEEPALIVE_S / 2:
                self._post(HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, 1))

    # Reading.

    async def handle_incoming(self) -> None:
        """Take frames until the connection ends, by either side or by a fault of the peer."""
        session = cast(Any, self.secured_conn)
        self._plain += session._drain(None)
        raw = session.conn.read_writer.read_write_closer
        try:
            await self._take_frames()
            while not self.event_shutting_down.is_set():
                chunk = await raw.read(CHUNK_BYTES)
                if not chunk:
                    break
                self._heard = trio.current_time()
                self._unseal(session.conn, chunk)
                await self._take_frames()
        except Exception as error:
            log.debug("reading from %s ended: %r", self.peer_id, error)
        await self._cleanup_on_error()

    def _unseal(self, noise: Any, chunk: bytes) -> None:
        """Decrypt the whole Noise messages that have arrived."""
        sealed = self._sealed
        sealed += chunk
        start = 0
        while len(sealed) - start >= 2:
            stop = start + 2 + int.from_bytes(sealed[start : start + 2], "big")
            if len(sealed) < stop:
                break
            self._plain += noise.decrypt(bytes(sealed[start + 2 : stop]))
            start = stop
        del sealed[:start]

    async def _take_frames(self) -> None:
        """Handle every whole frame that has arrived."""
        plain = self._plain
        start = 0
        while len(plain) - start >= HEADER.size:
            version, kind, flags, number, length = HEADER.unpack_from(plain, start)
            data = b""
            stop = start + HEADER.size
            if kind == yamux.TYPE_DATA:
                if version != 0 or length > WINDOW_BYTES:
                    raise MuxedStreamError(f"a frame of version {version}, {length} bytes")
                stop += length
                if len(plain) < stop:
                    break
                data = bytes(plain[stop - length : stop])
            start = stop
            if kind == yamux.TYPE_PING:
                self._answer_ping(flags, length)
            elif kind == yamux.TYPE_GO_AWAY:
                raise MuxedStreamEOF(f"goodbye, code {length}")
            else:
                await self._on_stream(kind, flags, number, length, data)
        del plain[:start]
        if self._out_bytes > REPLY_BYTES_MAX:
            raise MuxedStreamError("the peer sends and does not read")

    def _answer_ping(self, flags: int, value: int) -> None:
        if flags & yamux.FLAG_SYN:
            self._post(HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_ACK, 0, value))

    async def _on_stream(
        self, kind: int, flags: int, number: int, length: int, data: bytes
    ) -> None:
        if flags & yamux.FLAG_SYN:
            await self._accept(number)
        stream = self.streams.get(number)
        if not isinstance(stream, LeanStream):
            return
        if kind == yamux.TYPE_WINDOW_UPDATE:
            stream.credit(length)
        elif data:
            stream.recv_window -= length
            if stream.recv_window < 0:
                raise MuxedStreamError(f"stream {number} exceeds its window")
            self.stream_buffers[number] += data
        if flags & yamux.FLAG_RST:
            stream.closed = stream.send_closed = stream.recv_closed = stream.reset_received = True
        elif flags & yamux.FLAG_FIN:
            stream.recv_closed = True
            stream.closed = stream.send_closed
        if data or flags & (yamux.FLAG_FIN | yamux.FLAG_RST):
            self.stream_events[number].set()
        if stream.closed:
            stream.credit(0)
            self._finalize_stream_locked(stream, fully_closed=True)

    async def _accept(self, number: int) -> None:
        """A new stream of the peer's, refused where it has too many."""
        ours = number % 2 == self.next_stream_id % 2
        if ours or number == 0 or number in self.streams:
            raise MuxedStreamError(f"SYN for stream {number}")
        update = yamux.TYPE_WINDOW_UPDATE
        if len(self.streams) >= STREAMS_MAX:
            self._post(HEADER.pack(0, update, yamux.FLAG_RST, number, 0))
            return
        stream = LeanStream(number, self, False)
        self._add(stream)
        self._post(HEADER.pack(0, update, yamux.FLAG_ACK, number, 0))
        await self.new_stream_send_channel.send(stream)

    async def _cleanup_on_error(self) -> None:
        """The connection has ended: wake everybody who waits on it."""
        if self.event_closed.is_set():
            return
        streams = [stream for stream in self.streams.values() if isinstance(stream, LeanStream)]
        self.event_shutting_down.set()
        self._out_taken.set()
        await super()._cleanup_on_error()
        for stream in streams:
            stream.credit(0)
