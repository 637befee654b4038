"""A real aos process in benches: its log, as slots, and the workloads that it runs.

The calls are what a compute unit gives the module: `abi.call_for` of signed slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aonode.crypto.signers import sign_item
from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session
from aonode.processes.npm import MODULES, default_cache_dir, fetch_module
from protocols import abi
from protocols.ids import ProcessId
from protocols.network import default_parameters
from protocols.wire.assignment import Chain, Slot
from protocols.wire.item import Item
from protocols.wire.process import ProcessInfo, memory_bytes, process_info
from tests.protocols.wire.sample import START_MS, USER, extend, message_item, process_item, tags

MODULE_NAME = "aos2_0_6"
FORMAT = MODULES[MODULE_NAME].format
PARAMETERS = default_parameters()

_HANDLERS = (
    """Counter = 0
Handlers.add("Inc", "Inc", function(msg)
  Counter = Counter + 1
  msg.reply({ Data = tostring(Counter) })
end)""",
    """Balances = Balances or {}
Balances[Owner] = 1000000000
Handlers.add("Transfer", "Transfer", function(msg)
  local to, quantity = msg.Tags.Recipient, tonumber(msg.Tags.Quantity)
  assert(type(to) == "string", "Recipient")
  assert(quantity and quantity > 0, "Quantity")
  Balances[msg.From] = Balances[msg.From] or 0
  if Balances[msg.From] >= quantity then
    Balances[msg.From] = Balances[msg.From] - quantity
    Balances[to] = (Balances[to] or 0) + quantity
    msg.reply({ Action = "Debit-Notice", Recipient = to, Quantity = tostring(quantity),
      Data = "You transferred " .. quantity .. " to " .. to })
    Send({ Target = to, Action = "Credit-Notice", Sender = msg.From,
      Quantity = tostring(quantity), Data = "You received " .. quantity .. " from " .. msg.From })
  else
    msg.reply({ Action = "Transfer-Error", ["Message-Id"] = msg.Id,
      Error = "Insufficient Balance!" })
  end
end)""",
    """Handlers.add("Loop", "Loop", function(msg)
  local s, t = 0, {}
  for i = 1, 10000 do s = s + (i * i) % 7; t[i % 64 + 1] = s end
  msg.reply({ Data = tostring(s) })
end)
Handlers.add("Format", "Format", function(msg)
  local t = {}
  for i = 1, 2000 do t[#t + 1] = string.format("%d:%s", i, ("x"):rep(i % 13)) end
  msg.reply({ Data = tostring(#table.concat(t, ",")) })
end)
Handlers.add("Pcall", "Pcall", function(msg)
  local c = 0
  for i = 1, 1000 do if not pcall(error, "x") then c = c + 1 end end
  msg.reply({ Data = tostring(c) })
end)""",
)
_ACTIONS = {
    "counter": "Inc",
    "transfer": "Transfer",
    "loop10k": "Loop",
    "format": "Format",
    "pcall": "Pcall",
}
WORKLOADS = tuple(_ACTIONS)
"""counter: adds 1 and replies. transfer: a ledger, two notices. loop10k: 10 000 rounds of
arithmetic and table writes. format: 2 000 string.format and a concat. pcall: 1 000 caught errors.
"""


@dataclass
class AosLog:
    """The log of one process, growing."""

    module: Item
    process: Item
    chain: Chain
    slots: list[Slot] = field(default_factory=list)

    @classmethod
    def start(cls, number: int = 0) -> AosLog:
        """A process with all handlers in place: slot 0 and the owner's Evals."""
        module = sign_item(
            USER,
            tags=tags(("Data-Protocol", "ao"), ("Type", "Module"), ("Module-Format", FORMAT)),
            data=fetch_module(MODULE_NAME),
        )
        process = process_item(("Name", "Bench"), ("Number", str(number)))
        log = cls(module, process, Chain.genesis(ProcessId(process.id)))
        log._add(process)
        for source in _HANDLERS:
            log._add(log._message(("Action", "Eval"), data=source.encode()))
        return log

    def extend(self, workload: str, count: int) -> list[Slot]:
        """The next `count` slots of a workload."""
        more = (self._message(*self._tags(workload)) for _ in range(count))
        return [self._add(item) for item in more]

    @property
    def handlers(self) -> list[Slot]:
        """Slot 0 and the Evals: what stands before any workload."""
        return self.slots[: 1 + len(_HANDLERS)]

    def info(self) -> ProcessInfo:
        return process_info(self.process)

    def env(self) -> bytes:
        """The environment the module is given."""
        return abi.env_for(FORMAT, self.info(), self.module)

    def call(self, slot: Slot) -> bytes:
        """The exact bytes of one slot."""
        return abi.call_for(FORMAT, slot, self.info())

    def open(self, engine: WasmEngine) -> Session:
        """The process at genesis."""
        spec = ModuleSpec(self.module.id, self.module.data, FORMAT)
        info = self.info()
        limit = memory_bytes(info, self.module, PARAMETERS)
        return engine.open(info.id, spec, self.env(), limit)

    def _tags(self, workload: str) -> list[tuple[str, str]]:
        number = self.chain.nonce
        more = []
        if workload == "transfer":
            more = [("Recipient", f"R{number % 50:042}"), ("Quantity", str(1 + number % 9))]
        return [("Action", _ACTIONS[workload]), *more]

    def _message(self, *pairs: tuple[str, str], data: bytes = b" ") -> Item:
        return message_item(self.process.id, *pairs, data=data, number=self.chain.nonce)

    def _add(self, item: Item) -> Slot:
        slot = extend(self.chain, item, START_MS + 1000 * self.chain.nonce)
        self.chain = self.chain.next(slot)
        self.slots.append(slot)
        return slot


def make_engine() -> WasmEngine:
    """The engine of a node with default parameters."""
    return WasmEngine(
        fuel_max=PARAMETERS.fuel_max,
        memory_max=PARAMETERS.memory_max,
        output_bytes_max=PARAMETERS.output_bytes_max,
        outbox_max=PARAMETERS.outbox_max,
        cache_dir=default_cache_dir().parent / "test-code",
    )
