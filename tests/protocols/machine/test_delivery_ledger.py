"""A messenger and the ledger: a transaction is delivered with its slot; no process sends any."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.ids import ItemId, ProcessId, b64url
from protocols.machine.delivery import Delivery
from protocols.machine.effects import Effect, Send, Started
from protocols.machine.events import Undeliverable
from protocols.network import Unit
from protocols.wire.item import Item
from protocols.wire.topics import Protocol
from tests.protocols.machine.effects_of import notices, only
from tests.protocols.machine.outcomes import out_message, output
from tests.protocols.machine.test_delivery import CUS, MU, SU, USER, World, results
from tests.protocols.machine.world import PARAMETERS, message_item, process_item

UNITS = (
    Unit(SU.public, ("scheduler",), ()),
    *(Unit(cu.public, ("compute",), ()) for cu in CUS),
)


class LedgerWorld(World):
    """One of the logs is the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Item = process_item(USER, SU)
        self.machine = self.made()
        self.on(Started(), 0)
        self.schedule(self.ledger)

    def made(self) -> Delivery:
        """The machine as it starts."""
        return Delivery(
            key=MU.public,
            parameters=PARAMETERS,
            sign=MU.sign,
            units=UNITS,
            ledger=ProcessId(self.ledger.id),
        )


def asked(effects: Sequence[Effect]) -> list[Send]:
    return [send for send in only(effects, Send) if send.protocol is Protocol.RESULT]


def test_a_transaction_is_delivered_once_it_has_its_slot() -> None:
    world = LedgerWorld()
    tx = message_item(USER, world.ledger.id)
    world.submit(tx)
    assert [row.id for row in world.rows()] == [tx.id]
    effects = world.schedule(tx)
    assert not asked(effects), "nobody evaluates it"
    assert world.rows() == []
    assert world.machine.status()["waiting_for_outcome"] == 0


def test_also_if_the_slot_came_while_the_messenger_was_down() -> None:
    world = LedgerWorld()
    tx = message_item(USER, world.ledger.id)
    world.submit(tx)
    world.machine = world.made()
    place = (ProcessId(world.ledger.id), 1)
    find = {ItemId(tx.id): place}
    world.machine.recover([tx], [], find.get)
    effects = world.on(Started(), 0)
    assert not asked(effects)
    assert world.rows() == []


def test_a_process_sends_nothing_to_the_ledger() -> None:
    world = LedgerWorld()
    process = world.process()
    message = message_item(USER, process.id)
    world.submit(message)
    sends = results(world.schedule(message))
    sent = out_message(b64url(world.ledger.id), ("Action", "Transfer"))
    told = world.outcome(sends, output([sent]))
    (lost,) = notices(told, Undeliverable)
    assert "no account on the ledger" in lost.detail
    assert world.rows() == [], "and the message itself is done with"
