"""The calendar shims against Python's own calendar."""

from __future__ import annotations

import calendar as python_calendar
import struct
from datetime import UTC, datetime, timedelta

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode.engine.config import make_engine
from aonode.engine.shim_time import SECONDS_MAX, calendar, strftime

FORMATS = "aAbBCdDeFgGhHIjmMnprRStTuUVwWxXyYz%"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.integers(-62_135_596_800, 253_402_300_799)
"""Seconds that Python's datetime can hold: years 1 to 9999."""


class Clib:
    """The shims of one pointer width in a module of their own."""

    def __init__(self, pointer: str) -> None:
        engine = make_engine()
        index = "i64 " if pointer == "i64" else ""
        names = ("gmtime", "localtime", "mktime", "strftime")
        exports = "".join(f'(export "{name}" (func ${name}))' for name in names)
        text = (
            f'(module (memory (export "memory") {index}1)'
            f"{calendar(pointer)}{strftime(pointer)}{exports})"
        )
        self.store = wasmtime.Store(engine)
        module = wasmtime.Module(engine, text)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.wide = pointer == "i64"

    def call(self, name: str, *arguments: int) -> int:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        result = function(self.store, *arguments)
        return int(result) if result is not None else 0

    def memory(self) -> wasmtime.Memory:
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def write(self, at: int, raw: bytes) -> None:
        self.memory().write(self.store, raw, at)

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.memory().read(self.store, at, at + size))

    def gmtime(self, seconds: int) -> tuple[int, ...]:
        self.call("localtime", seconds, 1024)
        return struct.unpack("<9i", self.read(1024, 36))

    def strftime(self, text: str, room: int = 500) -> str | None:
        self.write(4096, text.encode() + b"\0")
        size = self.call("strftime", 2048, room, 4096, 1024)
        return self.read(2048, size).decode() if size else None


CLIBS = {pointer: Clib(pointer) for pointer in ("i32", "i64")}


@pytest.fixture(params=("i32", "i64"))
def clib(request: pytest.FixtureRequest) -> Clib:
    return CLIBS[request.param]


def fields(moment: datetime) -> tuple[int, ...]:
    when = moment.timetuple()
    return (
        *(when.tm_sec, when.tm_min, when.tm_hour, when.tm_mday, when.tm_mon - 1),
        *(when.tm_year - 1900, (when.tm_wday + 1) % 7, when.tm_yday - 1, 0),
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TIMES, st.sampled_from(["i32", "i64"]))
def test_gmtime_and_back(seconds: int, pointer: str) -> None:
    clib = CLIBS[pointer]
    moment = EPOCH + timedelta(seconds=seconds)
    assert clib.gmtime(seconds) == fields(moment)
    if moment.year >= 100:
        assert clib.call("mktime", 1024) == seconds


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(TIMES.filter(lambda seconds: seconds > -30_000_000_000))
def test_strftime(seconds: int) -> None:
    clib = CLIBS["i64" if seconds & 1 else "i32"]
    clib.gmtime(seconds)
    moment = EPOCH + timedelta(seconds=seconds)
    for letter in FORMATS:
        if letter in "gG":
            wanted = str(moment.isocalendar()[0])[-2 if letter == "g" else 0 :]
        elif letter in "rRDFeChntT":
            continue
        else:
            wanted = moment.strftime(f"%{letter}")
        if letter == "Y":
            wanted = str(moment.year)
        if letter == "x":
            wanted = moment.strftime("%m/%d/%y")
        assert clib.strftime(f"<%{letter}>") == f"<{wanted}>", letter


def test_strftime_composites_and_unknown(clib: Clib) -> None:
    clib.gmtime(1_700_000_009)
    assert clib.strftime("%c|%D|%F|%r|%R|%T|%e|%C|%h|%n%t") == (
        "Tue Nov 14 22:13:29 2023|11/14/23|2023-11-14|10:13:29 PM|22:13|22:13:29|14|20|Nov|\n\t"
    )
    assert clib.strftime("%Ex %Od %k %Q") == "11/14/23 14 %k %Q"
    assert clib.strftime("100%") == "100%"
    clib.gmtime(1_700_000_009 - 11 * 86400)
    assert clib.strftime("%e") == " 3"


def test_strftime_zone_and_room(clib: Clib) -> None:
    clib.gmtime(0)
    clib.write(512, b"UTC\0")
    clib.write(1024 + (48 if clib.wide else 40), struct.pack("<Q" if clib.wide else "<I", 512))
    assert clib.strftime("%Z%z") == "UTC+0000"
    assert clib.strftime("%Y", room=5) == "1970"
    assert clib.strftime("%Y", room=4) is None
    assert clib.strftime("%Y", room=0) is None


def test_mktime_normalises(clib: Clib) -> None:
    clib.write(1024, struct.pack("<9i", 70, -1, 25, 32, 13, 99, 0, 0, 0))
    seconds = clib.call("mktime", 1024)
    assert seconds == python_calendar.timegm((2000, 2, 1, 0, 0, 0)) + 86400 * 31 + 86400 + 3600 + 10
    assert clib.gmtime(seconds) == struct.unpack("<9i", clib.read(1024, 36))


def test_out_of_range(clib: Clib) -> None:
    assert clib.gmtime(SECONDS_MAX)[5] == 275760 - 1900
    for seconds in (SECONDS_MAX + 1, -SECONDS_MAX - 1, 2**63 - 1, -(2**63)):
        clib.write(1024, b"\xff" * 48)
        assert clib.gmtime(seconds)[:8] == (0,) * 8
    clib.write(1024, struct.pack("<9i", 0, 0, 0, 0, 0, 2**31 - 1, 0, 0, 0))
    assert clib.call("mktime", 1024) == -1
