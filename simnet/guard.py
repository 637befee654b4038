"""Inside a simulation, asking the machine for time, entropy, threads or sockets raises.

What a library may still ask for is listed, with the answer it gets: virtual time. Nobody gets
entropy: it must come from the seed, through `Env`. What was imported by name before
(`from time import monotonic`) is out of reach here; `tests/tidy` forbids it in our own code.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

CLOCK_READERS = (
    "trio",  # its own clocks
    "prometheus_client",  # `_created` of a metric; never leaves the registry
    "httpx",  # `Response.elapsed`
    "http",  # expiry of cookies, for httpx
    "logging",  # LogRecord.created
    "structlog",
    "threading",  # deadlines of locks; a wait on one would block the run in any case
    "hypothesis",
    "_pytest",
    "pytest_timeout",
)
"""Packages whose reading of a clock cannot change what a node does."""

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
DRAWS = (
    "random", "uniform", "randint", "randrange", "getrandbits", "randbytes", "choice", "choices",
    "sample", "shuffle", "gauss", "normalvariate", "expovariate", "seed",
)  # fmt: skip
"""Functions of the `random` module that share one hidden generator."""


class AmbientUse(AssertionError):
    """Code inside a simulation reached around `Env`. A bug of ours, hence an assertion."""


@contextlib.contextmanager
def guarded(now_s: Callable[[], float]) -> Iterator[None]:
    """Deny the ambient world until the block ends; `now_s` is what listed packages are told.

    Enter it inside `trio.run`: trio opens a socket pair before and closes it after.
    """
    assert not _is_guarded(), "guarded() does not nest: one simulation at a time"
    patches = _Patches()
    try:
        for name in CLOCKS:
            patches.put(time, name, _clock(name, now_s))
        patches.put(time, "sleep", _denied("time.sleep", "wait with trio.sleep"))
        for name in DRAWS:
            patches.put(random, name, _denied(f"random.{name}", "use Env.entropy"))
        patches.put(random.Random, "seed", _seed_of_its_own(random.Random.seed))
        entropy = _denied("os.urandom", "use Env.entropy")
        patches.put(os, "urandom", entropy)
        patches.put(random, "_urandom", entropy)  # SystemRandom, hence secrets and uuid
        patches.put(os, "getrandom", entropy)
        patches.put(threading.Thread, "start", _denied("a thread", "use Env.offload"))
        patches.put(socket.socket, "__init__", _denied("a socket", "use the Wire port"))
        patches.put(socket, "getaddrinfo", _denied("name resolution", "use the Wire port"))
        yield
    finally:
        patches.restore()


class _Patches:
    def __init__(self) -> None:
        self._saved: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        self._saved.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, _in_this_thread(value, getattr(owner, name)))

    def restore(self) -> None:
        while self._saved:
            owner, name, value = self._saved.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _in_this_thread(substitute: Any, original: Any) -> Callable[..., Any]:
    """Threads that some library started before the simulation keep the world they know."""
    simulation = threading.get_ident()

    def choose(*args: Any, **kwargs: Any) -> Any:
        inside = threading.get_ident() == simulation
        return (substitute if inside else original)(*args, **kwargs)

    setattr(choose, _MARK, hasattr(substitute, _MARK))
    return choose


_ABSENT = object()
_MARK = "_simnet_guard"


def _is_guarded() -> bool:
    return getattr(os.urandom, _MARK, False) is True


def _denied(what: str, advice: str) -> Callable[..., Any]:
    def deny(*_: Any, **__: Any) -> Any:
        raise AmbientUse(f"{what} used inside a simulation by {_caller(3)}; {advice}")

    setattr(deny, _MARK, True)
    return deny


def _clock(name: str, now_s: Callable[[], float]) -> Callable[[], float | int]:
    advice = "take wall time from Env.now_ms, measure with trio.current_time"

    def read() -> float | int:
        caller = _caller(3)
        if caller.partition(".")[0] not in CLOCK_READERS:
            raise AmbientUse(f"time.{name} used inside a simulation by {caller}; {advice}")
        return int(now_s() * 1e9) if name.endswith("_ns") else now_s()

    return read


def _seed_of_its_own(seed: Callable[..., None]) -> Callable[..., None]:
    def checked(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            raise AmbientUse(
                f"random.Random() without a seed inside a simulation by {_caller(4)}; "
                "derive one with Env.entropy"
            )
        seed(self, a, version)

    return checked


def _caller(depth: int) -> str:
    """Module that called the patched function; `depth` frames up from here."""
    return str(sys._getframe(depth).f_globals.get("__name__", "?"))
