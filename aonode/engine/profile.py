"""The profile: everything that decides what a slot gives and costs, as one 32-byte id.

In: the fuel rules, the proposals that are on, the validator, patch and shims, the limits. Out:
the wasmtime version (a conformance suite shows that a version keeps the profile) and whatever
only costs time.
"""

from __future__ import annotations

from collections.abc import Sequence

from aonode.engine.config import SEMANTICS, WASM_STACK_BYTES
from aonode.engine.fuel import FUEL_RULES
from aonode.engine.patch import PATCH_ID
from aonode.engine.rewrite import NARROW_ID, TOLL
from aonode.engine.validator import VALIDATOR_ID
from protocols.codec import Value, digest
from protocols.domains import PROFILE


def profile_id(
    *,
    fuel_max: int,
    memory_max: int,
    output_bytes_max: int,
    outbox_max: int,
    shims: Sequence[str],
) -> bytes:
    """32-byte id. `shims`: the id of each convention's host, in a fixed order."""
    proposals: list[Value] = [[name, enabled] for name, enabled in SEMANTICS]
    return digest(
        PROFILE,
        FUEL_RULES,
        TOLL,
        "nan-canonical",
        proposals,
        WASM_STACK_BYTES,
        VALIDATOR_ID,
        PATCH_ID,
        NARROW_ID,
        list(shims),
        fuel_max,
        memory_max,
        output_bytes_max,
        outbox_max,
    )
