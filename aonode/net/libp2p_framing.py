"""Length-prefixed frames on a libp2p stream, read by the chunk instead of by the byte."""

from __future__ import annotations

from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils.varint import encode_uvarint

from protocols.errors import Invalid, Reason

CHUNK_BYTES = 64 << 10
VARINT_BYTES_MAX = 5


class ChunkReader:
    """Frames of a varint length and that many bytes."""

    def __init__(self, stream: INetStream) -> None:
        # The muxed stream itself: `NetStream` adds two locks to each read and write.
        self._stream = getattr(stream, "muxed_stream", stream)
        self._buffer = bytearray()

    async def frame(self, size_max: int) -> bytes | None:
        """The next frame, or None where the stream ends between two frames.

        Raises Invalid(OVERSIZE), or Invalid(MALFORMED) where the stream ends inside of one.
        """
        while True:
            taken = self._take(size_max)
            if taken is not None:
                return taken
            try:
                chunk: bytes = await self._stream.read(CHUNK_BYTES)
            except (StreamEOF, MuxedStreamEOF):
                chunk = b""
            if not chunk:
                if self._buffer:
                    detail = f"the stream ended {len(self._buffer)} bytes into a frame"
                    raise Invalid(Reason.MALFORMED, detail)
                return None
            self._buffer += chunk

    async def line(self, size_max: int) -> bytes:
        """A frame that must be there. Raises Invalid."""
        taken = await self.frame(size_max)
        if taken is None:
            raise Invalid(Reason.UNAVAILABLE, "the peer closed the stream without an answer")
        return taken

    def _take(self, size_max: int) -> bytes | None:
        buffer = self._buffer
        size = 0
        for index in range(min(len(buffer), VARINT_BYTES_MAX)):
            byte = buffer[index]
            size |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if size > size_max:
                    raise Invalid(Reason.OVERSIZE, f"a frame of {size} bytes; at most {size_max}")
                start = index + 1
                if len(buffer) < start + size:
                    return None
                taken = bytes(buffer[start : start + size])
                del buffer[: start + size]
                return taken
        if len(buffer) >= VARINT_BYTES_MAX:
            raise Invalid(Reason.MALFORMED, "a frame length of more than 5 bytes")
        return None


def frame(body: bytes) -> bytes:
    """`body` behind its varint length."""
    return encode_uvarint(len(body)) + body
