"""A real aos process in tests: messages as AO's compute unit writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session, SlotResult
from aonode.processes.npm import MODULES, default_cache_dir, fetch_module
from protocols.ids import ItemId, ProcessId

VECTORS = Path(__file__).parent / "vectors"
MESSAGES: dict[str, Any] = json.loads((VECTORS / "aos_messages.json").read_text("utf-8"))
OWNER = "O" * 42 + "A"
PROCESS = "P" * 42 + "A"


def encode(value: Any) -> bytes:
    """JSON as `JSON.stringify` writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def make_aos_engine(*, fuel_max: int = 5_000_000_000) -> WasmEngine:
    """An engine with the limits of a default network, and a cache shared by all test runs."""
    return WasmEngine(
        fuel_max=fuel_max,
        memory_max=2 << 30,
        output_bytes_max=1 << 20,
        outbox_max=256,
        cache_dir=default_cache_dir().parent / "test-code",
    )


def open_module(engine: WasmEngine, name: str, memory_max: int = 1 << 30) -> Session:
    """A process of a real module at genesis."""
    module = ModuleSpec(ItemId(b"m" * 32), fetch_module(name), MODULES[name].format)
    return engine.open(ProcessId(b"p" * 32), module, encode(MESSAGES["env"]), memory_max)


class Aos:
    """A booted process and its log."""

    def __init__(self, engine: WasmEngine, name: str, memory_max: int = 1 << 30) -> None:
        self.session = open_module(engine, name, memory_max)
        self.nonce = 0
        self.boot = self.session.run_slot(encode(MESSAGES["cases"][0]["message"]))

    def message(self, action: str, data: str = "", **more: Any) -> bytes:
        """The next message of the owner."""
        self.nonce += 1
        return encode(
            {
                "Id": str(self.nonce).ljust(42, "I") + "A",
                "Signature": "sig",
                "Data": data,
                "Owner": OWNER,
                "From": OWNER,
                "Tags": [{"name": "Action", "value": action}],
                "Target": PROCESS,
                "Epoch": 0,
                "Nonce": self.nonce,
                "Timestamp": 1_700_000_000_000 + self.nonce,
                "Block-Height": 1,
                "Hash-Chain": "h",
                "Cron": False,
                "Read-Only": False,
                **more,
            }
        )

    def send(self, action: str, data: str = "") -> SlotResult:
        """One slot."""
        return self.session.run_slot(self.message(action, data))

    def lua(self, source: str) -> str:
        """What `source` evaluates to; the process's error text if it fails."""
        result = self.send("Eval", source)
        assert result.raw, result
        response = json.loads(result.raw)["response"]
        if "Error" in response:
            return str(response["Error"])
        data = response["Output"]["data"]
        text = str(data["output"] if isinstance(data, dict) else data)
        # After a failed slot some versions put a warning about the nonce in front.
        return text.rsplit("\n\n", 1)[-1]


def loader_result(raw: bytes) -> dict[str, Any]:
    """What AO's loader would return of an output (it adds Patches and GasUsed)."""
    response = json.loads(raw)["response"]
    names = ("Error", "Output", "Messages", "Spawns", "Assignments")
    found = {name: response[name] for name in names if name in response}
    return {**found, "Patches": response.get("Patches", []), "GasUsed": 0}
