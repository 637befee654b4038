"""How fast this machine burns fuel, and how fast it takes up a state from a witness."""

from __future__ import annotations

import time

import zstandard

from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec
from protocols.ids import ItemId
from protocols.limits import PAGE_BYTES
from protocols.parameters import default_parameters
from protocols.wire.evidence import Witness
from tests.aonode.engine.guests import PROCESS, small

LOOP = "(loop $l (br $l))"
PAGES, PAGES_QUICK = 2048, 64
FUEL, FUEL_QUICK = 1_000_000_000, 10_000_000


def _engine(fuel_max: int) -> WasmEngine:
    bounds = default_parameters()
    return WasmEngine(
        fuel_max=fuel_max,
        memory_max=bounds.memory_max,
        output_bytes_max=bounds.output_bytes_max,
        outbox_max=bounds.outbox_max,
    )


def _spec(binary: bytes) -> ModuleSpec:
    return ModuleSpec(ItemId(b"m" * 32), binary, "ao-cbor-1")


def burnt_fuel_per_s(*, quick: bool) -> int:
    """Fuel per second of processor time, in a loop that does nothing."""
    fuel = FUEL_QUICK if quick else FUEL
    session = _engine(fuel).open(PROCESS, _spec(small(LOOP)), b"", 1 << 24)
    start = time.process_time()
    result = session.run_slot(b"x")
    spent = time.process_time() - start
    session.close()
    assert result.fuel == fuel, "the slot's whole limit is burnt"
    return int(fuel / spent)


def restore_s_per_mib(*, quick: bool) -> float:
    """Seconds per MiB of state to unpack a witness, put it in place and hash it."""
    pages = PAGES_QUICK if quick else PAGES
    content = b"".join(n.to_bytes(64, "big") + bytes(PAGE_BYTES - 64) for n in range(1, pages + 1))
    frame = zstandard.ZstdCompressor(level=3).compress(content)
    witness = Witness(pages, ((0, pages),), (), frame)
    engine, spec = _engine(FUEL), _spec(small("", memory=str(pages)))
    engine.open(PROCESS, spec, b"", len(content)).close()  # compiled
    start = time.process_time()
    session = engine.restore(PROCESS, spec, b"", len(content), witness)
    assert session is not None
    session.state_root()
    spent = time.process_time() - start
    session.close()
    return spent * (1 << 20) / len(content)
