"""Corrections of the mesh: a router among peers of our invention, with each and without."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from aonode.net.libp2p_corrections import Corrections
from aonode.net.libp2p_router import BACKOFF_S_MAX, DEGREE, DEGREE_HIGH
from protocols.wire.topics import Topic
from tests.aonode.net import attacker
from tests.aonode.net.corrected import TOPIC, both, crowd, parts
from tests.aonode.net.world import Heard, make_wire, running

pytestmark = pytest.mark.slow


@both("no_opportunistic_graft")
async def test_a_mesh_of_the_right_size_is_left_alone(
    corrections: Corrections, corrected: bool
) -> None:
    async with crowd(corrections, 40) as (router, peers, _):
        router.mesh[TOPIC] = set(peers[:DEGREE])
        for _ in range(8):
            router.mesh_heartbeat()
        assert (router.mesh[TOPIC] == set(peers[:DEGREE])) is corrected


@both("steady_heartbeat", "no_opportunistic_graft")
async def test_the_heartbeat_keeps_its_rate(corrections: Corrections, corrected: bool) -> None:
    wire = make_wire(1, corrections=corrections, heartbeat_s=0.01)
    wire.subscribe(Topic.SLOTS, Heard())
    async with running([wire]):
        _, router = parts(wire)
        router.last_health_update -= 3600
        await trio.sleep(0.3)
        assert (router.heartbeat_interval == 0.01) is corrected


@both("mesh_backoff")
async def test_a_pruner_keeps_and_sends_the_backoff(
    corrections: Corrections, corrected: bool
) -> None:
    async with crowd(corrections, 20) as (router, peers, said):
        router.mesh[TOPIC] = set(peers)
        graft, prune = router.mesh_heartbeat()
        assert len(prune) == 20 - DEGREE
        await router._emit_control_msgs(graft, prune, {})
        pruned = [control.prune[0] for _, control in said]
        assert len(pruned) == len(prune)
        assert all(one.backoff == router.prune_back_off for one in pruned) is corrected
        assert all(router._check_back_off(peer, TOPIC) for peer in prune) is corrected


@both("mesh_backoff")
async def test_grafts_go_to_whom_they_are_for(corrections: Corrections, corrected: bool) -> None:
    async with crowd(corrections, 3) as (router, peers, said):
        await router._emit_control_msgs({peers[0]: ["A"], peers[1]: ["B"]}, {}, {})
        topics = [[graft.topicID for graft in control.graft] for _, control in said]
        assert (topics == [["A"], ["B"]]) is corrected


@both("mesh_backoff")
async def test_a_peer_in_backoff_hears_of_messages(
    corrections: Corrections, corrected: bool
) -> None:
    async with crowd(corrections, 3) as (router, peers, _):
        router.mesh[TOPIC] = set()
        for peer in peers:
            router._add_back_off(peer, TOPIC, False)
        router.mcache.put(attacker.signed_message(b"news", 1))
        assert (set(router.gossip_heartbeat()) == set(peers)) is corrected


@both("graft_limit")
async def test_a_full_mesh_takes_nobody(corrections: Corrections, corrected: bool) -> None:
    async with crowd(corrections, 40) as (router, peers, said):
        router.mesh[TOPIC] = set(peers[:DEGREE_HIGH])
        await router.handle_graft(rpc_pb2.ControlGraft(topicID=TOPIC), peers[30])
        assert (peers[30] not in router.mesh[TOPIC]) is corrected
        assert bool(said and said[0][1].prune) is corrected


@both("iwant_once")
async def test_a_message_is_asked_of_one_peer(corrections: Corrections, corrected: bool) -> None:
    async with crowd(corrections, 3) as (router, peers, said):
        for peer in peers:
            offer = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"\x00unheard"])
            await router.handle_ihave(offer, peer)
        asked = [peer for peer, control in said if control.iwant]
        assert (asked == peers[:1]) is corrected


@both("no_peer_exchange")
async def test_a_prune_may_not_ask_for_much(corrections: Corrections, corrected: bool) -> None:
    async with crowd(corrections, 3) as (router, peers, _):
        dialled: list[Any] = []

        async def dial(strange: list[Any]) -> None:
            dialled.extend(strange)

        router._do_px = dial
        strange = [rpc_pb2.PeerInfo(peerID=bytes(34))]
        prune = rpc_pb2.ControlPrune(topicID=TOPIC, backoff=1 << 40, peers=strange)
        await router.handle_prune(prune, peers[0])
        backoff = router.back_off[TOPIC][peers[0]] - time.time()
        assert (backoff <= BACKOFF_S_MAX) is corrected
        assert (not dialled) is corrected
