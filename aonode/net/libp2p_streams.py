"""Request and answer on a stream of their own.

    request  = frame(body)
    answer   = frame(part)* frame(empty)

The empty frame tells a whole answer from a stream that was cut: yamux ends both the same way. A
client sends the protocol negotiation and its request in one write and reads what comes back
(multistream-select with optimistic data), so a request costs one round trip.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio
from libp2p.abc import INetStream

from aonode.net.libp2p_framing import ChunkReader, frame
from aonode.net.libp2p_keys import key_of_id
from aonode.ports import StreamHandler
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import FRAME_BYTES_MAX

log = logging.getLogger("aonode.net.libp2p")

T = TypeVar("T")

MULTISTREAM = b"/multistream/1.0.0\n"
LINE_BYTES_MAX = 1024
END = frame(b"")

PER_PEER_MAX = 16
TOTAL_MAX = 256
"""Requests being answered at a time, of one peer and of all."""
REQUEST_DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 120.0
"""Longest time from an accepted stream to its whole request, and to its whole answer."""
LINGER_S = 5.0
"""How long a client may take to close its side after the answer."""


class StreamServer:
    """Answers the streams of one node's protocols, within quotas and deadlines."""

    def __init__(self) -> None:
        self._open: dict[NodeKey, int] = {}
        self._total = 0
        self.answered = 0
        self.refused = 0
        self.failed = 0

    def handler(self, answer: StreamHandler) -> Callable[[INetStream], object]:
        """What py-libp2p calls with each new stream of one protocol."""

        async def take(stream: INetStream) -> None:
            peer = key_of_id(stream.muxed_conn.peer_id)
            if peer is None or not self._enter(peer):
                self.refused += 1
                await stream.reset()
                return
            try:
                await self._serve(peer, stream, answer)
            finally:
                self._leave(peer)

        return take

    def _enter(self, peer: NodeKey) -> bool:
        held = self._open.get(peer, 0)
        if held >= PER_PEER_MAX or self._total >= TOTAL_MAX:
            return False
        self._open[peer] = held + 1
        self._total += 1
        return True

    def _leave(self, peer: NodeKey) -> None:
        self._total -= 1
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]

    async def _serve(self, peer: NodeKey, stream: INetStream, answer: StreamHandler) -> None:
        """One request to its end; whatever goes wrong ends this stream and nothing else."""
        reader = ChunkReader(stream)
        closed = False
        try:
            with trio.move_on_after(ANSWER_DEADLINE_S):
                with trio.fail_after(REQUEST_DEADLINE_S):
                    body = await reader.line(FRAME_BYTES_MAX)
                await self._answer(stream, answer(peer, body))
                self.answered += 1
                with trio.move_on_after(LINGER_S):
                    closed = await reader.frame(0) is None
        except Exception as error:
            self.failed += 1
            log.info("a request of %s ended: %r", peer.hex(), error)
        if not closed:  # its other half would stay open for ever
            await stream.reset()

    async def _answer(self, stream: INetStream, parts: AsyncIterator[bytes]) -> None:
        """Write each part as it comes, the last one together with the end mark."""
        waiting = b""
        async for part in parts:
            assert 0 < len(part) <= FRAME_BYTES_MAX, f"an answer frame of {len(part)} bytes"
            if waiting:
                await stream.write(waiting)
            waiting = frame(part)
        await stream.write(waiting + END)
        await stream.close()


async def ask(stream: INetStream, protocol: str, body: bytes, frames_max: int) -> tuple[bytes, ...]:
    """Client side of one request on a fresh stream, which is used up.

    Raises Invalid(UNAVAILABLE) if the peer does not speak `protocol`, refuses, or cuts the answer
    short; Invalid(OVERSIZE) if it sends more than `frames_max` frames or too large a one.
    """
    whole = False
    try:
        line = protocol.encode() + b"\n"
        await stream.write(frame(MULTISTREAM) + frame(line) + frame(body))
        reader = ChunkReader(stream)
        if await reader.line(LINE_BYTES_MAX) != MULTISTREAM:
            raise Invalid(Reason.UNAVAILABLE, "the peer does not speak multistream-select 1.0")
        if await reader.line(LINE_BYTES_MAX) != line:
            raise Invalid(Reason.UNAVAILABLE, f"the peer does not serve {protocol}")
        parts: list[bytes] = []
        while part := await reader.line(FRAME_BYTES_MAX):
            if len(parts) == frames_max:
                raise Invalid(Reason.OVERSIZE, f"an answer of more than {frames_max} frames")
            parts.append(part)
        whole = True
        return tuple(parts)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await (stream.close() if whole else stream.reset())
