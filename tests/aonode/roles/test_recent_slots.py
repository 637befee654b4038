"""Recently added slots are kept within bounds."""

from __future__ import annotations

import pytest

from aonode.roles import recent_slots
from aonode.roles.recent_slots import RecentSlots
from tests.protocols.machine.world import Key, log, message_item, process_item

SU, USER = Key.of("su"), Key.of("user")
PROCESS = process_item(USER, SU)
SLOTS = log(SU, [PROCESS, *(message_item(USER, PROCESS.id) for _ in range(4))])


def kept(recent: RecentSlots) -> list[int]:
    return [slot.nonce for slot in SLOTS if recent.get(slot.process, slot.nonce) is slot]


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_slots, "SLOTS_MAX", 2)
    recent = RecentSlots()
    for slot in SLOTS:
        recent.put(slot)
    assert kept(recent) == [3, 4]


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(recent_slots._size(slot) for slot in SLOTS)
    monkeypatch.setattr(recent_slots, "BYTES_MAX", 2 * size)
    recent = RecentSlots()
    for slot in SLOTS:
        recent.put(slot)
    assert kept(recent) == [3, 4]
    monkeypatch.setattr(recent_slots, "BYTES_MAX", size // 2)
    recent.put(SLOTS[0])
    assert kept(recent) == []
