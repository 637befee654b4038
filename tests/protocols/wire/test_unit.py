from __future__ import annotations

from dataclasses import replace

import pytest

from aonode.crypto.verify import verify_ed25519
from protocols.errors import Invalid
from protocols.ids import NetworkId, NodeKey
from protocols.wire.unit import UnitAnnouncement, UnsignedUnit
from tests.protocols.wire.sample import SCHEDULER

NETWORK = NetworkId(bytes(32))
UNSIGNED = UnsignedUnit(
    key=NodeKey(SCHEDULER.key),
    roles=("scheduler",),
    addresses=("/ip4/127.0.0.1/tcp/4001",),
    urls=(("scheduler", "http://127.0.0.1:9000"),),
    expiry_ms=5,
    sequence=1,
)
UNIT = UNSIGNED.signed(SCHEDULER.sign(UNSIGNED.message(NETWORK)))


def test_an_announcement_verifies_in_its_network_only() -> None:
    read = UnitAnnouncement.decode(UNIT.encode())
    assert read == UNIT
    assert verify_ed25519(read.key, read.message(NETWORK), read.signature)
    other = NetworkId(bytes([1]) * 32)
    assert not verify_ed25519(read.key, read.message(other), read.signature)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(UNIT, roles=("compute", "scheduler")),
        replace(UNIT, roles=("scheduler", "scheduler")),
        replace(UNIT, roles=("oracle",)),
        replace(UNIT, addresses=("",)),
        replace(UNIT, addresses=("x" * 257,)),
        replace(UNIT, addresses=("x",) * 9),
        replace(UNIT, addresses=("x" * 256,) * 8),
        replace(UNIT, urls=(("oracle", "http://x"),)),
        replace(UNIT, urls=(("scheduler", "http://x", "y"),)),  # type: ignore[arg-type]
        replace(UNIT, expiry_ms=-1),
        replace(UNIT, sequence=1 << 63),
        replace(UNIT, signature=bytes(63)),
        replace(UNIT, key=NodeKey(bytes(31))),
    ],
)
def test_other_announcements_are_refused(wrong: UnitAnnouncement) -> None:
    with pytest.raises(Invalid):
        UnitAnnouncement.decode(wrong.encode())
