"""What a zstd frame says of itself, read without decompressing it (RFC 8878, section 3.1).

Enough to know, before anything is allocated, how large its content is and that nothing in it can
give more.
"""

from __future__ import annotations

from protocols.errors import Invalid, Reason

MAGIC = b"\x28\xb5\x2f\xfd"
WINDOW_BYTES_MAX = 8 << 20
BLOCK_BYTES_MAX = 128 << 10
_RAW, _RLE, _COMPRESSED = 0, 1, 2


def check_frame(frame: bytes, content_bytes: int) -> None:
    """Raise Invalid unless `frame` is one zstd frame that declares exactly `content_bytes`.

    Also refused: windows above 8 MiB, dictionaries, bytes after the frame, blocks that are cut
    short, blocks that together hold more or can hold no more than less than the declared size.
    """
    if frame[:4] != MAGIC or len(frame) < 6:
        raise _malformed("does not begin like a zstd frame")
    descriptor = frame[4]
    if descriptor & 0b00001011:
        raise _malformed("names a dictionary or sets a reserved bit")
    position = 5
    single = bool(descriptor & 0x20)
    window = content_bytes
    if not single:
        exponent, mantissa = frame[5] >> 3, frame[5] & 7
        window = (1 << (10 + exponent)) * (8 + mantissa) // 8
        position = 6
    if window > WINDOW_BYTES_MAX:
        raise Invalid(
            Reason.OVERSIZE, f"a zstd window of {window} bytes, at most {WINDOW_BYTES_MAX}"
        )
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    declared = int.from_bytes(frame[position : position + width], "little")
    if width == 2:
        declared += 256
    position += width
    if not width or declared != content_bytes:
        raise _malformed(f"declares {declared if width else 'no'} bytes, not {content_bytes}")
    position = _check_blocks(frame, position, content_bytes, min(max(window, 1), BLOCK_BYTES_MAX))
    if position + (4 if descriptor & 0x04 else 0) != len(frame):
        raise _malformed(f"does not end after {len(frame)} bytes")


def _check_blocks(frame: bytes, position: int, content_bytes: int, block_bytes_max: int) -> int:
    """Walk the blocks; the position after the last one."""
    least = most = 0
    last = 0
    while not last:
        head = int.from_bytes(frame[position : position + 3], "little")
        position += 3
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if position > len(frame) or size > block_bytes_max or kind > _COMPRESSED:
            raise _malformed(f"has a bad block before byte {position}")
        if kind == _COMPRESSED:
            most += block_bytes_max
        else:
            least += size
            most += size
        position += 1 if kind == _RLE else size
    if position > len(frame) or not least <= content_bytes <= most:
        raise _malformed(f"holds {least} to {most} bytes, {content_bytes} declared")
    return position


def _malformed(why: str) -> Invalid:
    return Invalid(Reason.MALFORMED, f"a witness frame {why}")
