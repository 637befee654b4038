"""The hash covers every byte, its place, its node and its time."""

from __future__ import annotations

from simnet.trace import Trace


def _hash(*acts: tuple[str, str, bytes | str | int], at_s: float = 0.0) -> str:
    trace = Trace(now_s=lambda: at_s)
    for node, kind, part in acts:
        trace.record(node, kind, part)
    return trace.hex()


def test_everything_counts() -> None:
    hashes = [
        _hash(),
        _hash(("a", "write", b"x")),
        _hash(("a", "write", b"y")),
        _hash(("a", "write", "x")),
        _hash(("b", "write", b"x")),
        _hash(("a", "sync", b"x")),
        _hash(("a", "write", b"x"), ("a", "write", b"x")),
        _hash(("a", "write", b"x"), at_s=1.0),
        _hash(("a", "write", 1)),
    ]
    assert len(hashes) == len({*hashes})
    assert _hash(("a", "write", b"x")) == hashes[1]


def test_the_ring_is_bounded_in_count_and_bytes() -> None:
    trace = Trace(events_kept_max=3, now_s=lambda: 1.5)
    for number in range(5):
        trace.record("node", "publish", number, bytes(1000))
    assert trace.count == 5
    assert [event.number for event in trace.events] == [2, 3, 4]
    assert str(trace.events[0]) == (
        "      2     1.500000 node         publish        2 " + "00" * 24 + b"+976".hex()
    )
