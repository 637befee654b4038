"""A frame's bounds are known before it is decompressed."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Invalid
from protocols.wire.zstd import MAGIC, check_frame

PAGE = bytes(range(256)) * 256


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000), st.booleans(), st.integers(1, 6))
def test_real_frames_pass(seed: bytes, times: int, checksum: bool, level: int) -> None:
    content = seed * times
    frame = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(content)
    check_frame(frame, len(content))
    for wrong in (len(content) + 1, len(content) - 1):
        with pytest.raises(Invalid):
            check_frame(frame, wrong)


def refuse(frame: bytes, size: int, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check_frame(frame, size)


def test_frames_that_hide_something_are_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(PAGE)
    size = len(PAGE)
    check_frame(frame, size)
    refuse(frame + b"\0", size, "does not end")
    refuse(frame + frame, size, "does not end")
    refuse(frame[:-1], size, "holds|block")
    refuse(b"", 0, "begin")
    refuse(b"\x50\x2a\x4d\x18" + bytes(8), 0, "begin")
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(PAGE)
    refuse(streamed, size, "declares no")


def test_large_windows_and_dictionaries_are_refused() -> None:
    content = bytes(9 << 20)
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(content)
    refuse(frame, len(content), "window")
    parameters = zstandard.ZstdCompressionParameters(window_log=23)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(content)
    check_frame(frame, len(content))
    refuse(MAGIC + b"\x21\x07\x00" + bytes(8), 0, "dictionary")
    refuse(MAGIC + b"\x28\x00" + bytes(8), 0, "reserved")


def test_a_bomb_cannot_declare_less_than_it_holds() -> None:
    run_of_zeros = (128 << 10) << 3 | 1 << 1
    blocks = b"".join((run_of_zeros | last).to_bytes(3, "little") + b"\0" for last in (0, 0, 1))
    header = MAGIC + b"\x80\x68"  # four bytes of content size, a window of 8 MiB
    check_frame(header + (3 * (128 << 10)).to_bytes(4, "little") + blocks, 3 * (128 << 10))
    refuse(header + (65536).to_bytes(4, "little") + blocks, 65536, "holds")
    refuse(header + (1 << 30).to_bytes(4, "little") + blocks, 1 << 30, "holds")
    refuse(header + (65536).to_bytes(4, "little") + b"\x07\0\0", 65536, "bad block")
    refuse(header + (65536).to_bytes(4, "little"), 65536, "bad block")
