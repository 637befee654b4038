"""What the demo sends and what must come out: a token of ours, or a ledger in a real aos.

Whoever runs the demo can work out the balances in advance: every client is funded first, with
more than it will ever spend, so they do not depend on the order in which transfers are scheduled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aonode.client import Tags
from aonode.processes import token_wasm
from aonode.verify_result import VerifiedResult
from protocols.errors import Invalid, Reason
from protocols.outbox import FORMAT_CBOR

SUPPLY = 1_000_000
FUNDS = 10_000
"""What the owner gives each other client at first."""
QUANTITY_MAX = 9


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer between clients, by their numbers; client 0 owns the process."""

    sender: int
    recipient: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A process of which the demo knows how to ask and what to expect."""

    name: str
    format: str
    module: Callable[[], bytes]
    """Its wasm; may have to fetch it, for seconds."""
    spawn_tags: Tags
    setup: tuple[tuple[Tags, bytes], ...]
    """Messages of the owner before the first transfer."""

    def transfer(self, recipient: str, quantity: int) -> Tags:
        """Tags of a transfer message."""
        return {"Action": "Transfer", "Recipient": recipient, "Quantity": str(quantity)}

    @property
    def balances(self) -> Tags:
        """Tags of the message that asks for all balances."""
        return {"Action": "Balances"}


def plan(messages: int, clients: int) -> list[Transfer]:
    """`messages` transfers: first the owner funds the others, then everybody pays somebody."""
    assert clients > 1, "a transfer needs two"
    transfers = [Transfer(0, client, FUNDS) for client in range(1, clients)][:messages]
    for number in range(messages - len(transfers)):
        sender = number % clients
        step = 1 + number // clients % (clients - 1)
        quantity = 1 + number % QUANTITY_MAX
        transfers.append(Transfer(sender, (sender + step) % clients, quantity))
    return transfers


def expected(transfers: Sequence[Transfer], addresses: Sequence[str]) -> dict[str, int]:
    """Balances after `transfers`, by address; accounts that never held anything are left out."""
    balances = {addresses[0]: SUPPLY}
    for transfer in transfers:
        sender, recipient = addresses[transfer.sender], addresses[transfer.recipient]
        balances[sender] -= transfer.quantity
        balances[recipient] = balances.get(recipient, 0) + transfer.quantity
    return balances


def balances_of(result: VerifiedResult) -> dict[str, int]:
    """Balances in the answer to the last question. Raises Invalid if it holds none."""
    try:
        listed = json.loads(result.outbox.messages[0].data)
        return {str(account): int(amount) for account, amount in listed.items()}
    except (IndexError, ValueError, AttributeError, TypeError, RecursionError):
        raise Invalid(
            Reason.MISMATCH, f"the process answers {result.public[:200]} where balances belong"
        ) from None


def token() -> Workload:
    """The bundled token."""
    return Workload(
        name="token",
        format=FORMAT_CBOR,
        module=token_wasm,
        spawn_tags={"Name": "Demo", "Ticker": "DEMO", "Supply": str(SUPPLY)},
        setup=(),
    )


LEDGER_LUA = """
local json = require("json")
Balances = Balances or { [Owner] = %d }
Handlers.add("transfer", Handlers.utils.hasMatchingTag("Action", "Transfer"), function(msg)
  local quantity = math.tointeger(tonumber(msg.Tags.Quantity))
  local recipient = msg.Tags.Recipient
  assert(quantity and quantity > 0, "Quantity is not a positive integer")
  assert((Balances[msg.From] or 0) >= quantity, "insufficient balance")
  Balances[msg.From] = Balances[msg.From] - quantity
  Balances[recipient] = (Balances[recipient] or 0) + quantity
  ao.send({ Target = msg.From, Action = "Debit-Notice", Quantity = tostring(quantity) })
end)
Handlers.add("balances", Handlers.utils.hasMatchingTag("Action", "Balances"), function(msg)
  local listed = {}
  for account, amount in pairs(Balances) do listed[account] = tostring(amount) end
  ao.send({ Target = msg.From, Action = "Balances-Notice", Data = json.encode(listed) })
end)
return "ledger ready"
"""
"""A ledger in aos, sent as one Eval by the owner."""

AOS_MODULE = "aos2_0_6"


def aos() -> Workload:
    """A real aos module, unmodified, with a ledger that the demo writes into it."""
    from aonode.processes.npm import MODULES, fetch_module

    return Workload(
        name="aos",
        format=MODULES[AOS_MODULE].format,
        module=lambda: fetch_module(AOS_MODULE),
        spawn_tags={"Name": "Demo"},
        setup=(({"Action": "Eval"}, (LEDGER_LUA % SUPPLY).encode()),),
    )
