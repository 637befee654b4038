"""Each correction of py-libp2p: what it gives, and what happens without it.

Those of the mesh are in `test_libp2p_mesh`; the kills, the spoof and the forgeries are in
`test_libp2p_kills`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from libp2p.tools.anyio_service.trio_tasks import FunctionTask
from multiaddr import Multiaddr

from aonode.net import libp2p_yamux
from aonode.net.libp2p_corrections import Corrections
from aonode.net.libp2p_keys import id_of_key
from aonode.net.libp2p_router import NodeRouter
from aonode.ports import Verdict
from protocols.errors import Invalid
from protocols.ids import NodeKey
from protocols.wire.topics import Protocol, Topic
from tests.aonode.net import attacker, test_libp2p_kills, test_libp2p_mesh
from tests.aonode.net.corrected import ON, both, hopefully, parts
from tests.aonode.net.world import Heard, gossiping, make_wire, running, until

pytestmark = pytest.mark.slow


def test_every_correction_has_a_test() -> None:
    places = (sys.modules[__name__], test_libp2p_mesh, test_libp2p_kills)
    shown = set(re.findall(r'both\("(\w+)"', "".join(map(inspect.getsource, places))))
    for call in re.findall(r"corrections_off\(([^)]*)\)", inspect.getsource(test_libp2p_kills)):
        shown.add(re.findall(r'"(\w+)"', call)[-1])
    assert shown == {correction.name for correction in dataclasses.fields(Corrections)}


@both("no_spam_limit", "encode_once")
async def test_a_burst_is_not_spam(corrections: Corrections, corrected: bool) -> None:
    async with gossiping(2, corrections=corrections) as ((a, _), (_, at_b)):
        for number in range(30):
            await a.publish(Topic.SLOTS, b"%d" % number)
            await trio.sleep(0.005)
        assert await hopefully(lambda: len(at_b.messages) == 30, corrected) is corrected


@both("direct_dial")
async def test_a_failed_dial_does_not_bar_the_next(
    corrections: Corrections, corrected: bool
) -> None:
    early, late = make_wire(1, corrections=corrections), make_wire(2)
    async with running([late]):
        (address,) = late.addresses()
    async with running([early]):
        early.connect(late.key, [address])
        await until(lambda: early.counts()["dials_failed"] > 0)
        again = make_wire(2, listen=address.partition("/p2p/")[0])
        async with running([again]):
            assert await hopefully(lambda: bool(early.peers()), corrected, 3) is corrected


@both("direct_dial")
async def test_a_dial_does_not_wait_when_it_is_done(
    corrections: Corrections, corrected: bool
) -> None:
    shortest = 60.0
    for _ in range(5):
        a, b = make_wire(1, corrections=corrections), make_wire(2)
        async with running([a, b]):
            begun = trio.current_time()
            a.connect(b.key, b.addresses())
            await until(lambda: bool(a._peers.dials_done))  # noqa: B023
            shortest = min(shortest, trio.current_time() - begun)
        if shortest < 0.25:
            break
    assert (shortest < 0.25) is corrected


@both("verdicts")
async def test_a_door_decides_what_is_forwarded(corrections: Corrections, corrected: bool) -> None:
    wires = [make_wire(number, corrections=corrections) for number in range(3)]
    doors = [Heard(), Heard(Verdict.REJECT), Heard()]
    for wire, door in zip(wires, doors, strict=True):
        wire.subscribe(Topic.SLOTS, door)
    a, b, c = wires
    async with running(wires):
        a.connect(b.key, b.addresses())
        c.connect(b.key, b.addresses())
        await until(lambda: b.mesh(Topic.SLOTS) == 2)
        await a.publish(Topic.SLOTS, b"nonsense")
        await until(lambda: bool(doors[1].messages))
        await trio.sleep(0.2)
        assert (doors[2].messages == []) is corrected


@both("deep_queues")
async def test_a_burst_fits_the_queues(corrections: Corrections, corrected: bool) -> None:
    async with gossiping(2, corrections=corrections) as ((a, _), (_, at_b)):
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(a.publish, Topic.SLOTS, b"%d" % number)
        assert await hopefully(lambda: len(at_b.messages) == 200, corrected) is corrected
        assert (a.counts()["dropped"] == 0) is corrected


@both("lasting_sequence")
async def test_a_restarted_node_is_heard(
    corrections: Corrections, corrected: bool, tmp_path: Path
) -> None:
    listener, door = make_wire(1), Heard()
    listener.subscribe(Topic.SLOTS, door)
    async with running([listener]):
        for life in range(2):
            speaker = make_wire(2, corrections=corrections, sequence_path=tmp_path / "sequence")
            speaker.subscribe(Topic.SLOTS, Heard())
            async with running([speaker]):
                speaker.connect(listener.key, listener.addresses())
                await until(lambda: speaker.mesh(Topic.SLOTS) == 1)  # noqa: B023
                for number in range(40):
                    await speaker.publish(Topic.SLOTS, b"%d in life %d" % (number, life))
                expected = 40 * (life + 1)
                full = await hopefully(lambda: len(door.messages) == expected, corrected)  # noqa: B023
            await until(lambda: listener.peers() == ())
    assert full is corrected


@both("no_autodial")
async def test_nobody_is_dialled_unasked(corrections: Corrections, corrected: bool) -> None:
    a, b = make_wire(1, corrections=corrections), make_wire(2)
    async with running([a, b]):
        swarm = a._swarm
        assert swarm is not None
        address = b.addresses()[0].partition("/p2p/")[0]
        swarm.peerstore.add_addrs(id_of_key(b.key), [Multiaddr(address)], 60)
        with trio.move_on_after(5):
            await swarm.auto_connector.maybe_connect()
        assert (a.peers() == ()) is corrected


@both("inbound_slots")
async def test_an_ended_connection_frees_its_slot(
    corrections: Corrections, corrected: bool
) -> None:
    a, b = make_wire(1, corrections=corrections), make_wire(2)
    async with running([a]):
        async with running([b]):
            b.connect(a.key, a.addresses())
            await until(lambda: bool(a.peers()))
        swarm = a._swarm
        assert swarm is not None
        await until(lambda: not a.peers())
        limiter = swarm._inbound_limiter
        assert await hopefully(lambda: not limiter.borrowed_tokens, corrected) is corrected


@both("own_port")
async def test_a_port_has_one_owner(corrections: Corrections, corrected: bool) -> None:
    first = make_wire(1)
    async with running([first]):
        listen = first.addresses()[0].partition("/p2p/")[0]
        refused = False
        try:
            async with running([make_wire(2, listen=listen, corrections=corrections)]):
                pass
        except ExceptionGroup as error:
            refused = error.subgroup(Invalid) is not None
        assert refused is corrected


@both("no_peer_records")
async def test_peer_records_decide_nothing(corrections: Corrections, corrected: bool) -> None:
    victim, door = make_wire(1, corrections=corrections), Heard()
    victim.subscribe(Topic.SLOTS, door)
    async with running([victim]), attacker.stranger(victim) as host:
        stream = await attacker.gossip_stream(host, victim)
        message = attacker.signed_message(b"hello", 1)
        await stream.write(attacker.rpc_frame(publish=[message], senderRecord=b"junk"))
        assert await hopefully(lambda: door.payloads() == [b"hello"], corrected) is corrected


@both("buffered_reader", "no_peer_records")
async def test_an_rpc_is_read_in_one_piece(
    corrections: Corrections, corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = libp2p_yamux.LeanStream.read

    async def counted(stream: libp2p_yamux.LeanStream, n: int | None = -1) -> bytes:
        data = await read(stream, n)
        sizes.append(len(data))
        return data

    async with gossiping(2, corrections=corrections) as ((a, _), (_, at_b)):
        monkeypatch.setattr(libp2p_yamux.LeanStream, "read", counted)
        for number in range(10):
            await a.publish(Topic.SLOTS, bytes(1000) + b"%d" % number)
        await until(lambda: len(at_b.messages) == 10)
    large = sum(size > 900 for size in sizes)
    assert (large <= 10 and sizes.count(1) == 0) is corrected


@both("lean_yamux")
async def test_a_peer_keeps_to_its_window(
    corrections: Corrections, corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        await trio.sleep_forever()
        yield b""

    victim = make_wire(1, corrections=corrections)
    victim.serve(Protocol.LOG, never)
    held: list[int] = []
    async with running([victim]), attacker.stranger(victim) as host:
        name = next(iter(victim._handlers))
        stream: Any = await host.new_stream(id_of_key(victim.key), [name])  # type: ignore[list-item]
        await stream.write(b"\x01x")
        muxed = stream.muxed_stream
        assert isinstance(muxed, YamuxStream)
        muxed.send_window = 1 << 30
        with contextlib.suppress(Exception), trio.move_on_after(3):
            await stream.write(bytes(4 << 20))
        await trio.sleep(0.2)
        swarm = victim._swarm
        assert swarm is not None
        for connection in swarm.get_connections(id_of_key(attacker.KEY)):
            muxer: Any = connection.muxed_conn
            held += [len(buffer) for buffer in muxer.stream_buffers.values()]
    assert (max(held, default=0) <= 256 << 10) is corrected


@both("lean_yamux")
async def test_cancelling_a_writer_leaves_the_connection_whole(
    corrections: Corrections, corrected: bool
) -> None:
    """A caller gives up while its large request fills the socket; others use the connection."""
    gate = trio.Event()

    async def echo(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
        yield body[:16]

    server, client = make_wire(1, corrections=ON), make_wire(2, corrections=corrections)
    server.serve(Protocol.LOG, echo)
    whole = True
    async with running([server, client]):
        client.connect(server.key, server.addresses())
        await until(lambda: bool(client.peers()))
        swarm = client._swarm
        assert swarm is not None
        muxed: Any = swarm.get_connections()[0].muxed_conn
        raw = muxed.secured_conn
        tcp = raw.conn.read_writer.read_write_closer.stream
        send_all = tcp.stream.send_all

        async def halting(data: bytes) -> None:
            """A socket that takes half, and the rest when there is room."""
            if len(data) > 20_000 and not gate.is_set():
                await send_all(data[: len(data) // 2])
                await gate.wait()
                data = data[len(data) // 2 :]
            await send_all(data)

        tcp.stream.send_all = halting
        with trio.move_on_after(0.1):
            await client.request(server.key, Protocol.LOG, bytes(50_000), frames_max=1)
        gate.set()
        with trio.move_on_after(2) as scope:
            try:
                await client.request(server.key, Protocol.LOG, b"small", frames_max=1)
            except Invalid:
                whole = False
        whole = whole and not scope.cancelled_caught
    assert whole is corrected


@both("flat_tasks")
async def test_a_task_is_not_looked_for(
    corrections: Corrections, corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    walk = FunctionTask.iterate_tasks

    def counted(*tasks: Any) -> Iterable[Any]:
        walks.append(len(tasks))
        return walk(*tasks)

    monkeypatch.setattr(FunctionTask, "iterate_tasks", counted)
    async with gossiping(2, corrections=corrections):
        pass
    assert (not walks) is corrected


@both("seen_first")
async def test_a_duplicate_starts_no_task(corrections: Corrections, corrected: bool) -> None:
    victim, door = make_wire(1, corrections=corrections), Heard()
    victim.subscribe(Topic.SLOTS, door)
    async with running([victim]), attacker.stranger(victim) as host:
        stream = await attacker.gossip_stream(host, victim)
        await until(lambda: bool(victim.peers()))
        await trio.sleep(0.1)
        pubsub, _ = parts(victim)
        tasks = pubsub.manager.stats.tasks.total_count
        message = attacker.signed_message(b"again", 1)
        await stream.write(attacker.rpc_frame(publish=[message] * 50))
        await until(lambda: victim.counts()["duplicates"] == 49)
        started = pubsub.manager.stats.tasks.total_count - tasks
        assert (started < 50) is corrected


@both("seen_without_thread")
async def test_no_thread_is_started(corrections: Corrections, corrected: bool) -> None:
    before = threading.active_count()
    async with running([make_wire(1, corrections=corrections)]) as _:
        assert (threading.active_count() == before) is corrected


@both("no_pending", "encode_once")
async def test_nothing_is_kept_for_who_does_not_listen(
    corrections: Corrections, corrected: bool
) -> None:
    speaker, deaf = make_wire(1, corrections=corrections), make_wire(2)
    speaker.subscribe(Topic.SLOTS, Heard())
    async with running([speaker, deaf]):
        deaf.connect(speaker.key, speaker.addresses())
        pubsub, router = parts(speaker)
        await until(lambda: bool(pubsub.peers))
        for _ in range(20):
            await speaker.publish(Topic.SLOTS, bytes(1000))
        kept = sum(map(len, router._pending_messages.values())) + len(router.equivocation_detection)
        assert (kept == 0) is corrected


@both("encode_once")
async def test_a_message_is_encoded_once_for_all(
    corrections: Corrections, corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[ID] = []
    send_rpc = NodeRouter.send_rpc

    def counted(router: NodeRouter, peer: ID, rpc: rpc_pb2.RPC, priority: bool = False) -> None:
        if rpc.publish:
            copies.append(peer)
        send_rpc(router, peer, rpc, priority)

    async with gossiping(3, corrections=corrections) as ((a, *_), (_, at_b, at_c)):
        monkeypatch.setattr(NodeRouter, "send_rpc", counted)
        await a.publish(Topic.SLOTS, b"one")
        await until(lambda: len(at_b.messages) == len(at_c.messages) == 1)
        await trio.sleep(0.05)
        assert (not copies) is corrected
        assert (not parts(a)[1].recent_message_deliveries) is corrected


@both("dead_streams")
async def test_a_stream_that_was_reset_is_replaced(
    corrections: Corrections, corrected: bool
) -> None:
    async with gossiping(2, corrections=corrections) as ((a, b), (_, at_b)):
        pubsub, _ = parts(a)
        await pubsub.peers[id_of_key(b.key)].reset()
        with trio.move_on_after(4):
            for number in range(40):
                await a.publish(Topic.SLOTS, b"%d" % number)
                await trio.sleep(0.1)
                if at_b.messages:
                    break
        assert bool(at_b.messages) is corrected


async def test_gossip_moves_to_the_connection_that_is_left() -> None:
    a, b = make_wire(1), make_wire(2)
    at_b = Heard()
    a.subscribe(Topic.SLOTS, Heard())
    b.subscribe(Topic.SLOTS, at_b)
    async with running([a, b]):
        swarm = a._swarm
        assert swarm is not None
        peer = id_of_key(b.key)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        await swarm.dial_addr(address, peer)
        await until(lambda: a.mesh(Topic.SLOTS) == 1 == b.mesh(Topic.SLOTS))
        await swarm.dial_addr(address, peer)
        first, _ = swarm.get_connections(peer)
        await first.close()
        await until(lambda: a.mesh(Topic.SLOTS) == 1 == b.mesh(Topic.SLOTS))
        await a.publish(Topic.SLOTS, b"over the second")
        await until(lambda: bool(at_b.messages))
