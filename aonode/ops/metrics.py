"""Every metric of a node: name, unit, labels. One registry per node, labels from closed sets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """Prefix `aonode_`, base units, `_total` for counters (Prometheus naming rules)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.commits = Counter(
            "aonode_commits", "Groups of events made durable", ["machine"], registry=registry
        )
        self.dropped = Counter(
            "aonode_dropped", "Events refused by a full queue", ["queue"], registry=registry
        )
        self.gossip = Counter(
            "aonode_gossip_messages",
            "Gossip payloads by verdict",
            ["topic", "verdict"],
            registry=registry,
        )
        self.invalid = Counter(
            "aonode_invalid", "Inputs refused, by reason", ["reason"], registry=registry
        )
        self.alarms = Counter("aonode_alarms", "Alarms raised", ["reason"], registry=registry)
        self.slots_assigned = Counter(
            "aonode_scheduler_slots", "Slots this scheduler assigned", registry=registry
        )
        self.slots_followed = Counter(
            "aonode_replica_slots", "Slots added to the local replica", registry=registry
        )
        self.slots_evaluated = Counter(
            "aonode_engine_slots", "Slots evaluated, by status", ["status"], registry=registry
        )
        self.fuel = Counter("aonode_engine_fuel", "Fuel used by evaluations", registry=registry)
        self.engine_seconds = Histogram(
            "aonode_engine_seconds",
            "Duration of one run of slots",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.http_requests = Counter(
            "aonode_http_requests", "HTTP requests by status code", ["code"], registry=registry
        )
        self.peers = Gauge("aonode_peers", "Connected peers", registry=registry)
        self.queue_depth = Gauge(
            "aonode_queue_depth", "Events waiting in a queue", ["queue"], registry=registry
        )

    def text(self) -> bytes:
        """Prometheus text exposition."""
        return generate_latest(self.registry)
