"""A messenger's items without a slot: offered again when they are lost, not when they wait."""

from __future__ import annotations

from protocols.machine import outbound
from protocols.machine.effects import Send, SetTimer, TimerFired
from protocols.machine.outbound import RESEND_MS, RESEND_MS_MAX
from protocols.wire import batch
from protocols.wire.streams import MessageRequest
from protocols.wire.topics import FRAME_BYTES_MAX, Protocol
from tests.protocols.machine.effects_of import only
from tests.protocols.machine.test_delivery import SU, USER, World
from tests.protocols.machine.world import PARAMETERS, message_item


def test_without_a_slot_it_is_offered_by_stream_with_back_off() -> None:
    world = World()
    process = world.process()
    messages = [message_item(USER, process.id) for _ in range(3)]
    timers = [timer for each in messages for timer in only(world.submit(each), SetTimer)]
    assert len(timers) == 1
    at, waits = timers[0].at_ms, []
    for _ in range(8):
        effects = world.on(TimerFired(outbound.TIMER), at)
        (send,) = only(effects, Send)
        assert (send.peer, send.protocol) == (SU.public, Protocol.MESSAGE)
        assert len(MessageRequest.decode(send.body)) == 3
        (timer,) = only(effects, SetTimer)
        waits.append(timer.at_ms - at)
        at = timer.at_ms
    assert waits[:3] == [4_000, 8_000, 16_000]
    assert waits[-1] == RESEND_MS_MAX
    for each in messages:
        world.schedule(each, at)
    assert world.on(TimerFired(outbound.TIMER), at) == []


def test_who_waits_in_line_is_not_offered_again_but_who_was_overtaken_is() -> None:
    world = World()
    process = world.process()
    first, second, third, fourth = (message_item(USER, process.id) for _ in range(4))
    for each in (first, second, third, fourth):
        world.submit(each)
    world.schedule(first)
    (timer,) = world.on(TimerFired(outbound.TIMER), RESEND_MS)
    assert timer == SetTimer(outbound.TIMER, 2 * RESEND_MS)
    world.schedule(third)
    effects = world.on(TimerFired(outbound.TIMER), 2 * RESEND_MS)
    (send,) = only(effects, Send)
    assert MessageRequest.decode(send.body) == [batch.InlineItem(second.raw)]
    (timer,) = only(effects, SetTimer)
    assert timer == SetTimer(outbound.TIMER, 3 * RESEND_MS)
    (send,) = only(world.on(TimerFired(outbound.TIMER), 3 * RESEND_MS), Send)
    assert MessageRequest.decode(send.body) == [batch.InlineItem(fourth.raw)]


def test_large_items_are_offered_by_name_and_requests_are_bounded() -> None:
    world = World()
    process = world.process()
    size = PARAMETERS.inline_bytes_max - 400
    for _ in range(20):
        world.submit(message_item(USER, process.id, data=bytes(size)))
    world.submit(message_item(USER, process.id, data=bytes(PARAMETERS.inline_bytes_max)))
    sends = only(world.on(TimerFired(outbound.TIMER), RESEND_MS), Send)
    refs = [MessageRequest.decode(send.body) for send in sends]
    assert sum(len(each) for each in refs) == 21
    assert max(len(send.body) for send in sends) <= FRAME_BYTES_MAX
    assert [type(ref) for each in refs for ref in each].count(batch.RemoteItem) == 1
