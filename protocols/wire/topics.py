"""Names on the wire: gossip topics and stream protocols of one network."""

from __future__ import annotations

import enum

from protocols.ids import NetworkId, b64url


class Topic(enum.StrEnum):
    """Gossip topics. The value is the middle of the topic name."""

    MESSAGES = "messages"
    SLOTS = "slots"
    PROOFS = "proofs"
    VOTES = "votes"
    ALARMS = "alarms"
    UNITS = "units"


class Protocol(enum.StrEnum):
    """Stream protocols: one request, one answer of bounded frames."""

    MESSAGE = "/ao/message/1"
    """Hand items to a scheduler directly; answer: their slots, where known."""
    ITEM = "/ao/item/1"
    LOG = "/ao/log/1"
    HEADS = "/ao/heads/1"
    RESULT = "/ao/result/1"
    MODULE = "/ao/module/1"
    ASSIGN = "/ao/assign/1"
    """Have an existing item assigned to a log by id; answer: the assignment, or why not."""

    LEAVES = "/ao/leaves/1"
    """Leaf hashes behind a compute unit's statements."""
    PROOFS = "/ao/proofs/1"
    """State proofs and votes this node has heard: of a process, or of one unit."""


SHARDED = frozenset({Topic.MESSAGES, Topic.SLOTS, Topic.PROOFS})
"""Topics that are split by the leading bits of the process id."""

TOPIC_BYTES_MAX: dict[Topic, int] = {
    Topic.MESSAGES: 256 << 10,
    Topic.SLOTS: 256 << 10,
    Topic.PROOFS: 2 << 10,
    Topic.VOTES: 2 << 10,
    Topic.ALARMS: 2 << 10,
    Topic.UNITS: 2 << 10,
}
"""Largest payload of one gossip message, in bytes (design table, section 5)."""

FRAME_BYTES_MAX = 1 << 20
"""Largest stream frame: a varint length and that many bytes of CBOR."""


def topic_name(topic: Topic, network: NetworkId, shard: int = 0) -> str:
    """Full gossip topic: `/ao/1/<network>/<topic>[/<shard>]`."""
    name = f"/ao/1/{b64url(network)}/{topic.value}"
    return f"{name}/{shard}" if topic in SHARDED else name


def protocol_name(protocol: Protocol, network: NetworkId) -> str:
    """Full stream protocol id; it ends in the network id, so a stranger cannot open it."""
    return f"{protocol.value}/{b64url(network)}"


def shard_of(process: bytes, shards: int) -> int:
    """Shard of a process: the leading bits of its id. `shards` is a power of two up to 256."""
    return process[0] * shards >> 8
