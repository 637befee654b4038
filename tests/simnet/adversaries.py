"""Nodes that break one rule each, for tests of what it costs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aonode.api import ComputeApi, EvaluatedSlot
from aonode.crypto.signers import Ed25519Signer
from aonode.node import Adversary
from aonode.roles.runner import Machine
from protocols.errors import Reason
from protocols.machine.effects import Effect, Event, Publish, Refusal, Reply
from protocols.machine.events import Offered
from protocols.network import Network
from protocols.wire.proof import Receipt, StateProof
from protocols.wire.topics import Topic


class Machinelike:
    """A machine around another one."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def on(self, event: Event, now: int) -> list[Effect]:
        return self._machine.on(event, now)

    def status(self) -> dict[str, Any]:
        return self._machine.status()


class TwoWords(Adversary):
    """A compute unit that swears something else to every second client, and knows a right answer.
    No engine is needed to show it."""

    def __init__(self, network: Network, signer: Ed25519Signer) -> None:
        self._signer = signer
        self._asked = 0

    def compute(self, api: ComputeApi) -> ComputeApi:
        adversary = self

        class Bent:
            async def result(self, *arguments: Any) -> EvaluatedSlot:
                row = await api.result(*arguments)
                adversary._asked += 1
                return row if adversary._asked % 2 else adversary._other(row)

            def __getattr__(self, name: str) -> Any:
                return getattr(api, name)

        return Bent()

    def _other(self, row: EvaluatedSlot) -> EvaluatedSlot:
        true = Receipt.decode(row.receipt)
        draft = replace(true, leaf=replace(true.leaf, outcome_hash=b"o" * 32), mmr_root=b"m" * 32)
        signed = draft.signed(self._signer.sign(draft.signing_bytes()))
        return replace(row, receipt=signed.encode())


class Inventor(Adversary):
    """A compute unit whose state proofs are about a log that no scheduler has signed."""

    def __init__(self, network: Network, signer: Ed25519Signer) -> None:
        self._signer = signer

    def machine(self, name: str, machine: Machine) -> Machine:
        signer = self._signer

        class Bent(Machinelike):
            def on(self, event: Event, now: int) -> list[Effect]:
                return [_invent(effect, signer) for effect in self._machine.on(event, now)]

        return Bent(machine) if name == "compute" else machine


def _invent(effect: Effect, signer: Ed25519Signer) -> Effect:
    if not isinstance(effect, Publish) or effect.topic is not Topic.PROOFS:
        return effect
    draft = replace(StateProof.decode(effect.entry), head=b"i" * 32)
    return replace(effect, entry=draft.signed(signer.sign(draft.signing_bytes())).encode())


class Censor(Adversary):
    """A scheduler that takes nothing from one sender: not by gossip, not by stream, and not when
    the ledger demands it."""

    owner = b""
    """Public key of the sender."""

    def __init__(self, network: Network, signer: Ed25519Signer) -> None:
        self.refused = 0

    def machine(self, name: str, machine: Machine) -> Machine:
        adversary = self

        class Bent(Machinelike):
            def on(self, event: Event, now: int) -> list[Effect]:
                if isinstance(event, Offered) and event.item.value.owner == adversary.owner:
                    adversary.refused += 1
                    refusal = Refusal(Reason.UNAVAILABLE, "not from you")
                    return [] if event.ticket is None else [Reply(event.ticket, refusal)]
                return self._machine.on(event, now)

        return Bent(machine) if name == "scheduler" else machine


__all__ = ["Censor", "Inventor", "TwoWords"]
