"""One request and its answer between two simulated nodes.

Packets of a stream keep their order and are never lost, only late; when the two ends no longer
reach each other they stop coming, and the client gives up after some silence.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol
from simnet.fabric import Fabric

DIAL_S_MAX = 1.0
"""After this a dial to a node that does not answer is given up."""
SILENCE_S_MAX = 10.0
"""After this much silence inside an answer the stream is given up."""
OVERHEAD_BYTES = 64
"""What framing and encryption add to one packet, roughly."""


class Stream:
    """Client side and server side of one request."""

    def __init__(
        self, fabric: Fabric, client: NodeKey, server: NodeKey, protocol: Protocol, frames_max: int
    ) -> None:
        self.client = client
        self.protocol = protocol
        self.frames_max = frames_max
        self.abandoned = False
        """The client is gone; the server may stop."""
        self._fabric = fabric
        self._server = server
        self._arrives_s = 0.0
        # The server stops at one frame too many; then comes the end.
        self._put, self._get = trio.open_memory_channel[bytes | None](frames_max + 2)

    def open(self, body: bytes, accept: Callable[[], None]) -> None:
        """Send the request; `accept` is called on arrival."""
        size = len(body) + OVERHEAD_BYTES
        self._fabric.send(self.client, self._server, size, accept, not_before_s=0.0)

    def reply(self, frame: bytes | None) -> None:
        """Send one frame of the answer; an empty one ends it, None resets the stream."""
        size = OVERHEAD_BYTES + len(frame or b"")
        self._arrives_s = self._fabric.send(
            self._server,
            self.client,
            size,
            lambda: self._put.send_nowait(frame),
            not_before_s=self._arrives_s,
        )

    async def answer(self) -> tuple[bytes, ...]:
        """Collect the answer. Raises Invalid(UNAVAILABLE, OVERSIZE)."""
        frames: list[bytes] = []
        while True:
            try:
                with trio.fail_after(SILENCE_S_MAX):
                    frame = await self._get.receive()
            except trio.TooSlowError:
                raise self.unavailable("it fell silent") from None
            if frame is None:
                raise self.unavailable("it reset the stream")
            if not frame:
                return tuple(frames)
            if len(frames) == self.frames_max:
                raise Invalid(Reason.OVERSIZE, f"an answer of more than {self.frames_max} frames")
            frames.append(frame)

    def unavailable(self, why: str) -> Invalid:
        """The refusal a client sees when there is no answer."""
        detail = f"{self._server.hex()} did not answer {self.protocol.value}: {why}"
        return Invalid(Reason.UNAVAILABLE, detail)
