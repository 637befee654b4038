"""Outputs of a toy module, and the receipts compute units would give for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from protocols.ids import NetworkId
from protocols.outbox import Bounds, derive
from protocols.trust import Verified
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import Leaf, Receipt
from tests.protocols.machine.world import PARAMETERS, Key

NETWORK = NetworkId(b"n" * 32)
BOUNDS = Bounds(PARAMETERS.output_bytes_max, PARAMETERS.outbox_max)


def out_message(target: str, *tags: tuple[str, str], data: str = "pushed") -> Mapping[str, Any]:
    return {
        "Target": target,
        "Anchor": "0" * 31 + "1",
        "Tags": [{"name": name, "value": value} for name, value in tags],
        "Data": data,
    }


def out_spawn(*tags: tuple[str, str]) -> Mapping[str, Any]:
    return {"Tags": [{"name": name, "value": value} for name, value in tags], "Data": "child"}


def output(
    messages: Sequence[Mapping[str, Any]] = (),
    spawns: Sequence[Mapping[str, Any]] = (),
    assignments: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """A JSON-1 output with this outbox."""
    response = {
        "Messages": list(messages),
        "Spawns": list(spawns),
        "Assignments": list(assignments),
        "Output": "",
    }
    return json.dumps({"ok": True, "response": response}).encode()


def leaf_of(slot: Slot, raw: bytes, *, fuel: int = 1) -> Leaf:
    """What an honest unit says of a slot that gave `raw`."""
    derived = derive("JSON-1", Status.OK, raw, BOUNDS)
    kept = raw if derived.status.has_output else b""
    return Leaf(
        slot.process,
        slot.nonce,
        slot.assignment.id,
        None,
        outcome_hash(kept, derived.outbox.root()),
        fuel,
        derived.status,
    )


def receipt(cu: Key, leaf: Leaf) -> Verified[Receipt]:
    """Signed by `cu`; heads and trees are not looked at by a messenger."""
    zero = bytes(32)
    draft = Receipt(NETWORK, leaf.process, leaf.slot, zero, leaf, zero, None, zero, cu.public)
    return Verified(draft.signed(cu.sign(draft.signing_bytes())))
