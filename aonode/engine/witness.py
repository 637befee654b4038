"""A process's state as bytes that others can start from, and a state made of such bytes.

What is taken is what the state root covers: memory size, pages that are not zero, mutable
globals. What is put may come from anybody: it is bounded before it is unpacked, unpacked page by
page into the place where it belongs, and its root says whether it is the state it claims to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import zstandard

from aonode.engine.calls import NUMBER_BYTES, memcmp, memset
from aonode.engine.instance import Instance
from aonode.engine.pages import touched
from aonode.engine.state_root import TYPE_CODES, ZERO_PAGE
from protocols.errors import Invalid, Reason
from protocols.limits import PAGE_BYTES
from protocols.wire.evidence import GLOBALS_MAX, RUNS_MAX, Witness
from protocols.wire.zstd import WINDOW_BYTES_MAX, check_frame

LEVEL = 9
"""Of zstd: 60 MB/s. What it gives is not compared with anything: any frame of the pages will do."""
_WINDOW_LOG = WINDOW_BYTES_MAX.bit_length() - 1


def take(
    instance: Instance, mutable: Sequence[tuple[int, str]], image_pages: int, bytes_max: int
) -> Witness:
    """The state of a settled instance. Raises Invalid(OVERSIZE) if it has more mutable globals, or
    its frame more bytes, than a witness may have."""
    if len(mutable) > GLOBALS_MAX:
        raise _oversize(f"{len(mutable)} mutable globals, at most {GLOBALS_MAX}")
    pages = instance.size() // PAGE_BYTES
    candidates = {*touched(instance.base, pages, instance.dead), *range(min(image_pages, pages))}
    live = [
        number
        for number in sorted(candidates)
        if memcmp(instance.base + number * PAGE_BYTES, ZERO_PAGE, PAGE_BYTES)
    ]
    runs = _runs(live)
    if len(runs) > RUNS_MAX:
        runs = [(live[0], live[-1] - live[0] + 1)]
    numbers = tuple(
        (index, TYPE_CODES[kind], value)
        for (index, kind), value in zip(mutable, instance.globals(), strict=True)
    )
    return Witness(pages, tuple(runs), numbers, _pack(instance, runs, bytes_max))


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """(first, count) of the rows of consecutive numbers among ascending ones."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _page_numbers(runs: Iterable[tuple[int, int]]) -> Iterator[int]:
    return (number for first, count in runs for number in range(first, first + count))


def _pack(instance: Instance, runs: Sequence[tuple[int, int]], bytes_max: int) -> bytes:
    """The pages as one zstd frame that says how much it holds."""
    content = PAGE_BYTES * sum(count for _, count in runs)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=content, window_log=min(_WINDOW_LOG, max(10, content.bit_length()))
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=content)
    parts, size = [], 0
    for number in _page_numbers(runs):
        start = number * PAGE_BYTES
        parts.append(packer.compress(instance.view[start : start + PAGE_BYTES]))
        size += len(parts[-1])
        if size > bytes_max:
            break
    parts.append(packer.flush() if size <= bytes_max else b"")
    if size + len(parts[-1]) > bytes_max:
        raise _oversize(f"a state of {content} bytes, which pack into more than {bytes_max}")
    return b"".join(parts)


def can_be(
    witness: Witness, mutable: Sequence[tuple[int, str]], *, pages_min: int, pages_max: int
) -> bool:
    """Whether this can be a state of a module with these globals and these bounds of memory."""
    kinds = [(index, TYPE_CODES[kind], NUMBER_BYTES[kind]) for index, kind in mutable]
    given = [(index, code, len(value)) for index, code, value in witness.globals]
    return kinds == given and pages_min <= witness.pages <= pages_max


def put(instance: Instance, witness: Witness, image_pages: int) -> None:
    """Make a fresh instance, whose constructors have not run, the witness's state.

    `can_be` has said yes. Raises Invalid(MALFORMED, OVERSIZE) for runs or a frame that are not
    what they say, WasmtimeError if there is no memory.
    """
    end = -1
    for first, count in witness.runs:
        if first <= end or not 0 < count <= witness.pages - first:
            raise Invalid(Reason.MALFORMED, f"witness pages {first}, {count} more, do not ascend")
        end = first + count
    check_frame(witness.frame, witness.content_bytes())
    instance.grow_to(witness.pages * PAGE_BYTES)
    memset(instance.base, 0, min(image_pages, witness.pages) * PAGE_BYTES)
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    try:
        with unpacker.stream_reader(witness.frame) as reader:
            for number in _page_numbers(witness.runs):
                start = number * PAGE_BYTES
                _read_into(reader, instance.view[start : start + PAGE_BYTES])
            if reader.read(1):
                raise Invalid(Reason.MALFORMED, "a witness frame gives more than it declares")
    except zstandard.ZstdError as error:
        raise Invalid(Reason.MALFORMED, f"a witness frame does not unpack: {error}") from None
    instance.set_globals(tuple(value for _, _, value in witness.globals))


def _read_into(reader: zstandard.ZstdDecompressionReader, room: memoryview) -> None:
    """Fill `room`; nothing is held beside it but zstd's window."""
    at = 0
    while at < len(room):
        count = reader.readinto(room[at:])
        if not count:
            raise Invalid(Reason.MALFORMED, "a witness frame gives less than it declares")
        at += count


def _oversize(why: str) -> Invalid:
    return Invalid(Reason.OVERSIZE, f"no witness can be made: {why}; shrink the process's state")
