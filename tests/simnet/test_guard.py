"""Inside a simulation the ambient world is closed; afterwards it is as it was."""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import prometheus_client
import pytest
import trio

from simnet import determinism
from simnet.guard import AmbientUse, guarded
from simnet.seed import Seed

# Looked up at the call, after the patch: hence lambdas.
# ruff: noqa: PLW0108
DENIED: dict[str, tuple[Callable[[], Any], str]] = {
    "time": (lambda: time.time(), "Env.now_ms"),
    "time_ns": (lambda: time.time_ns(), "Env.now_ms"),
    "monotonic": (lambda: time.monotonic(), "trio.current_time"),
    "perf_counter": (lambda: time.perf_counter(), "trio.current_time"),
    "sleep": (lambda: time.sleep(0), "trio.sleep"),
    "random": (lambda: random.random(), "Env.entropy"),
    "shuffle": (lambda: random.shuffle([1, 2]), "Env.entropy"),
    "seed": (lambda: random.seed(1), "Env.entropy"),
    "unseeded": (lambda: random.Random(), "Env.entropy"),
    "urandom": (lambda: os.urandom(1), "Env.entropy"),
    "secrets": (lambda: secrets.token_bytes(4), "Env.entropy"),
    "uuid4": (lambda: uuid.uuid4(), "Env.entropy"),
    "thread": (lambda: threading.Thread(target=print).start(), "Env.offload"),
    "socket": (lambda: socket.socket(), "Wire port"),
    "getaddrinfo": (lambda: socket.getaddrinfo("localhost", 1), "Wire port"),
}


@pytest.mark.parametrize("name", DENIED)
def test_denied(name: str) -> None:
    call, advice = DENIED[name]
    with guarded(lambda: 5.0), pytest.raises(AmbientUse, match=advice) as denied:
        call()
    assert "inside a simulation" in str(denied.value)


def test_the_message_names_who_asked() -> None:
    with guarded(lambda: 5.0), pytest.raises(AmbientUse, match=r"time\.time .* by tests\.simnet"):
        time.time()


def test_everything_is_restored() -> None:
    def world() -> list[object]:
        return [
            time.time, time.monotonic, time.sleep, random.random, random.Random.seed, os.urandom,
            vars(random)["_urandom"], threading.Thread.start, socket.socket.__init__,
            socket.getaddrinfo,
        ]  # fmt: skip

    before = world()
    with guarded(lambda: 5.0):
        assert all(old != new for old, new in zip(before, world(), strict=True))
    assert world() == before
    assert time.time() > 1e9
    assert len(os.urandom(3)) == 3
    random.Random().random()


def test_it_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), guarded(lambda: 5.0):
        raise KeyError
    assert time.time() > 1e9


def test_it_does_not_nest() -> None:
    with guarded(lambda: 5.0), pytest.raises(AssertionError, match="does not nest"):
        with guarded(lambda: 5.0):
            raise KeyError


def test_seeded_generators_are_free() -> None:
    with guarded(lambda: 5.0):
        assert random.Random(3).random() == random.Random(3).random()


def test_trio_and_the_libraries_of_a_node_work_inside() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> float:
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.Counter("asked", "how often", registry=registry).inc()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            assert (await client.get("http://node/")).status_code == 204
        with trio.move_on_after(3):
            await trio.sleep_forever()
        return trio.current_time()

    assert determinism.run(main, Seed.root(1)) == 3.0


def test_a_thread_through_trio_is_denied_too() -> None:
    async def main() -> None:
        await trio.to_thread.run_sync(lambda: None)

    with pytest.raises(AmbientUse, match=r"Env\.offload"):
        determinism.run(main, Seed.root(1))


def test_threads_from_before_keep_their_world() -> None:
    """A library's background thread that wakes during a simulation is none of its business."""
    go, seen = threading.Event(), list[float]()

    def background() -> None:
        go.wait()
        seen.append(time.time())

    thread = threading.Thread(target=background)
    thread.start()
    with guarded(lambda: 0.0):
        go.set()
        thread.join()
    assert seen[0] > 1e9
