"""Compute units that lie: what the demo shows being caught, and the tests of every fault.

    balance   a wrong balance, stated to all, and a wrong state from then on
    undo      a wrong output in the middle of a segment; the state is right again at its border
    receipt   a signed wrong result for whoever asks for it, and no state proof at all
    withhold  as balance, in state proofs only: it gives nobody a receipt or a leaf hash
    refused   a slot it does not care to run, signed with a status that is none

Every lie is about messages with the Action Balance or Balances: of all others it tells the truth.
`python -m aonode.cli.liar --lie balance --config FILE` runs such a node.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from aonode.api import ComputeApi, EvaluatedSlot
from aonode.demo import LIES
from aonode.demo.forger import Forger
from aonode.node import Adversary, Parts
from aonode.ports import Signer, Wire
from aonode.roles.runner import Machine
from protocols import domains
from protocols.codec import digest
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId
from protocols.machine.effects import Effect, Event, Publish
from protocols.network import Network
from protocols.outbox import EMPTY, FORMAT_CBOR, Bounds, derive
from protocols.wire.assignment import Slot
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.proof import Leaf, Receipt
from protocols.wire.topics import Protocol, Topic

QUESTIONS = ("Balance", "Balances")
SKIPPED = 6
"""What the REFUSED of an engine would be, were it a status."""

_AMOUNT = re.compile(rb'([\w-]{43}\\*":\\*"?)([1-9])')
"""An account and the leading digit of what it holds, in JSON as such or inside a JSON string."""


def wrong_balances(leaf: Leaf, raw: bytes, bounds: Bounds) -> tuple[Leaf, bytes]:
    """The same answer with another amount in it; unchanged if it holds none."""
    if leaf.status != Status.OK:
        return leaf, raw
    lie = _AMOUNT.sub(lambda found: found[1] + _other(found[2]), raw, count=1)
    for format in (FORMAT_CBOR, "JSON-1"):
        true = derive(format, Status.OK, raw, bounds)
        if outcome_hash(raw, true.outbox.root()) == leaf.outcome_hash:
            outbox = derive(format, Status.OK, lie, bounds).outbox
            return replace(leaf, outcome_hash=outcome_hash(lie, outbox.root())), lie
    return leaf, raw


def _other(digit: bytes) -> bytes:
    return b"%d" % (int(digit) % 9 + 1)


class Liar(Adversary):
    """A compute unit with one of the `LIES`."""

    def __init__(self, lie: str, network: Network, signer: Signer) -> None:
        assert lie in LIES, f"{lie} is none of {LIES}"
        self._lie = lie
        self._signer = signer
        self._parameters = network.parameters
        self._bounds = Bounds(network.parameters.output_bytes_max, network.parameters.outbox_max)
        self._corrupt: set[ProcessId] = set()
        self._forger: Forger | None = None

    def parts(self, parts: Parts) -> Parts:
        """Peers get neither leaf hashes nor receipts of who withholds them."""
        return replace(parts, wire=_Silent(parts.wire)) if self._lie == "withhold" else parts

    def machine(self, name: str, machine: Machine) -> Machine:
        """States wrong leaves, and accuses and answers nobody."""
        if name == "watcher":
            return _Mute(machine)
        if name != "compute":
            return machine
        if self._lie == "receipt":
            machine = _WithoutProofs(machine)
        self._forger = Forger(machine, self._signer, self._bend, self._parameters)
        return self._forger

    def compute(self, api: ComputeApi) -> ComputeApi:
        """The lie that only those hear who ask; or nothing for anybody."""
        if self._lie == "receipt":
            return _TwoFaced(api, self._private)
        return _TwoFaced(api, _kept_back) if self._lie == "withhold" else api

    def _bend(self, slot: Slot, leaf: Leaf, raw: bytes) -> tuple[Leaf, bytes]:
        asked = slot.message.first("Action") in QUESTIONS
        if self._lie in ("balance", "withhold"):
            if asked:
                self._corrupt.add(slot.process)
                leaf, raw = wrong_balances(leaf, raw, self._bounds)
            if leaf.root is not None and slot.process in self._corrupt:
                leaf = replace(leaf, root=digest(domains.STATE_ROOT, leaf.root))
        elif self._lie == "undo" and asked and leaf.root is None:
            leaf, raw = wrong_balances(leaf, raw, self._bounds)
        elif self._lie == "refused" and asked:
            nothing = outcome_hash(b"", EMPTY.root())
            leaf, raw = replace(leaf, status=SKIPPED, fuel=0, outcome_hash=nothing), b""
        return leaf, raw

    def _private(self, row: EvaluatedSlot) -> EvaluatedSlot:
        """A wrong answer in a receipt of its own, consistent with all that was said before."""
        receipt = Receipt.decode(row.receipt)
        leaf, raw = wrong_balances(receipt.leaf, row.raw, self._bounds)
        if leaf == receipt.leaf or self._forger is None:
            return row
        before = self._forger.ranges[receipt.process][receipt.slot]
        draft = replace(receipt, leaf=leaf, mmr_root=before.append(leaf.hash()).root())
        signed = draft.signed(self._signer.sign(draft.signing_bytes()))
        return replace(row, raw=raw, receipt=signed.encode())


def _kept_back(row: EvaluatedSlot) -> EvaluatedSlot:
    raise Invalid(Reason.UNAVAILABLE, f"slot {row.nonce} is nobody's business")


class _Mute:
    """A machine that hears everything and does nothing."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def on(self, event: Event, now: int) -> list[Effect]:
        return []

    def status(self) -> dict[str, Any]:
        return self._machine.status()


class _WithoutProofs(_Mute):
    """A compute unit that gossips no state proof."""

    def on(self, event: Event, now: int) -> list[Effect]:
        effects = self._machine.on(event, now)
        return [
            each
            for each in effects
            if not (isinstance(each, Publish) and each.topic is Topic.PROOFS)
        ]


class _TwoFaced:
    """What the HTTP port serves: `result` is bent, everything else is the unit's own."""

    def __init__(self, api: ComputeApi, bend: Callable[[EvaluatedSlot], EvaluatedSlot]) -> None:
        self._api = api
        self._bend = bend

    async def result(self, process: ProcessId, nonce: int, timeout_s: float) -> EvaluatedSlot:
        return self._bend(await self._api.result(process, nonce, timeout_s))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class _Silent:
    """A wire that answers requests for leaf hashes and receipts with nothing."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def serve(self, protocol: Protocol, handler: Any) -> None:
        withheld = protocol in (Protocol.LEAVES, Protocol.RESULT)
        self._wire.serve(protocol, _nothing if withheld else handler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


async def _nothing(peer: NodeKey, body: bytes) -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for frame in nothing:
        yield frame
