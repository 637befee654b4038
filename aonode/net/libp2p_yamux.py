"""The stream muxer. `LeanYamux` corrects py-libp2p's; `StockYamux` is py-libp2p's."""

from __future__ import annotations

from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream


class StockYamux(Yamux):
    """py-libp2p's own, for tests."""


class LeanYamux(Yamux):
    """Window updates by the half window."""


_stock_tune = YamuxStream._auto_tune_and_send_window_update


async def _sparse_updates(stream: YamuxStream, *, bytes_read: int = 0) -> None:
    """Give credit back when half of the window has been read, instead of after every read."""
    if not isinstance(stream.conn, LeanYamux):
        await _stock_tune(stream, bytes_read=bytes_read)
        return
    stream._pending_recv_release += bytes_read
    if stream._pending_recv_release >= yamux.DEFAULT_WINDOW_SIZE // 2:
        credit, stream._pending_recv_release = stream._pending_recv_release, 0
        stream.recv_window += credit
        await stream.send_window_update(credit)


YamuxStream._auto_tune_and_send_window_update = _sparse_updates  # type: ignore[method-assign, assignment]
