"""Checks a saved result offline, step by step: what it shows, and what it does not.

Nothing is asked of anybody. What is trusted is the network file alone: its id, its units, and the
stakes that it states at genesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aonode.accept.amounts import tokens
from aonode.accept.light_client import CHECKPOINT_BYTES_MAX
from aonode.accept.saved import results_in
from aonode.crypto.verify import verify_ed25519, verify_item
from aonode.verify_result import Evidence, VerifiedReceipt, Verifier
from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey, ProcessId, b64url, parse_id, unb64url
from protocols.ledger.light import STAKES_MAX, Trusted, advance, at_genesis
from protocols.ledger.trie import EntryProof
from protocols.network import Network
from protocols.wire.item import decode_item
from protocols.wire.ledger_tx import Checkpoint, transaction_of
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at."""

    what: str
    holds: bool | None
    """None where the file does not show it, one way or the other."""
    detail: str

    def view(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"step": self.what, "holds": self.holds, "detail": self.detail}


class _Anybody:
    """Whether a unit may sign is a step of its own here."""

    def __contains__(self, key: object) -> bool:
        return True


class Prover:
    """Goes through one file."""

    def __init__(self, network: Network) -> None:
        self.steps: list[Step] = []
        self._network = network
        self._verifier = Verifier(network, _Anybody())
        self._checked: list[VerifiedReceipt] = []
        self._process = ProcessId(b"")

    @property
    def holds(self) -> bool:
        """Nothing is wrong, and at least one result is shown."""
        return bool(self._checked) and all(step.holds is not False for step in self.steps)

    def check(self, document: Mapping[str, Any]) -> None:
        """Fill in `steps`. Raises Invalid for a file that holds no result at all."""
        rows = results_in(document)
        self._process = ProcessId(parse_id(str(document.get("process")), "the file's process"))
        named = document.get("network")
        if named is not None:
            self._step("network", lambda: self._same_network(str(named)))
        if not self._know(document):
            return
        for row in rows:
            self._result(row)
        if len(self._checked) > 1:
            self._step("agreement", self._agreement)
        self._units(document)

    def _step(self, what: str, look: Callable[[], str]) -> bool:
        try:
            self.steps.append(Step(what, True, look()))
        except Invalid as error:
            self.steps.append(Step(what, False, error.detail or str(error.reason)))
        return bool(self.steps[-1].holds)

    def _open(self, what: str, detail: str) -> None:
        self.steps.append(Step(what, None, detail))

    def _same_network(self, named: str) -> str:
        if named != b64url(self._network.id):
            raise Invalid(
                Reason.WRONG_NETWORK,
                f"the file is of network {named[:64]}, the network file is of "
                f"{b64url(self._network.id)}; name the right one with --network",
            )
        return f"{self._network.name}, {named}"

    def _know(self, document: Mapping[str, Any]) -> bool:
        text = document.get("process_item")
        if not isinstance(text, str):
            self._open(
                "process",
                "the file lacks the process item, without which nobody knows who may schedule its "
                "messages; save with 'aonode result --save', or ask for /proof/ID?process=1",
            )
            return False

        def look() -> str:
            size_max = self._network.parameters.item_bytes_max
            item = decode_item(unb64url(text), size_max=size_max)
            if bytes(item.id) != self._process:
                raise Invalid(Reason.MISMATCH, f"the process item is that of {b64url(item.id)}")
            self._verifier.know_process(item, str(document.get("format", "")))
            return f"{b64url(item.id)}, signed by {b64url(item.owner_address)}"

        return self._step("process", look)

    def _result(self, row: Mapping[str, Any]) -> None:
        """Message, assignment, receipt, outcome: each rests on the one before."""
        parameters = self._network.parameters
        try:
            evidence = Evidence.of_json(row)
            receipt = Receipt.decode(evidence.receipt)
        except Invalid as error:
            self.steps.append(Step("receipt", False, error.detail or str(error.reason)))
            return

        def message() -> str:
            item = decode_item(evidence.message, size_max=parameters.item_bytes_max)
            verify_item(item)
            return f"{b64url(item.id)}, signed by {b64url(item.owner_address)}"

        def assignment() -> str:
            slot = self._verifier.check_slot(self._process, evidence)
            owner = slot.assignment.item.owner_address
            return f"slot {slot.nonce}, given by the process's scheduler {b64url(owner)}"

        def signed() -> str:
            slot = self._verifier.check_slot(self._process, evidence)
            self._verifier.check_receipt(self._process, receipt, slot)
            return f"unit {b64url(receipt.cu)} has signed the leaf {b64url(receipt.leaf.hash())}"

        def outcome() -> str:
            self._verifier.check_outcome(self._process, receipt, evidence.outcome)
            leaf = receipt.leaf
            size = len(evidence.outcome)
            return f"{Status(leaf.status).name}, {leaf.fuel} fuel, {size} bytes are what it signed"

        steps = {
            "message": message,
            "assignment": assignment,
            "receipt": signed,
            "outcome": outcome,
        }
        if all(self._step(what, look) for what, look in steps.items()):
            slot = self._verifier.check_slot(self._process, evidence)
            self._checked.append(VerifiedReceipt(receipt, slot, evidence.outcome))

    def _agreement(self) -> str:
        self._verifier.agree(self._checked, quorum=1)
        units = {each.cu for each in self._checked}
        return f"{len(units)} units say the same"

    # Who the units are

    def _units(self, document: Mapping[str, Any]) -> None:
        trusted = self._stakes(document)
        listed = {unit.key for unit in self._network.units if "compute" in unit.roles}
        for key in dict.fromkeys(each.cu for each in self._checked):
            self._unit(key, key in listed, trusted)

    def _unit(self, key: NodeKey, listed: bool, trusted: Trusted | None) -> None:
        name = b64url(key)
        stake = 0 if trusted is None else trusted.stake(trusted.account_of(key))
        if trusted is not None and stake:
            amount = tokens(stake, self._network.parameters)
            at = f"at checkpoint {trusted.tick}" if trusted.tick else "at genesis"
            self.steps.append(Step("stake", True, f"unit {name} had {amount} tokens at stake {at}"))
        elif listed:
            self._open("stake", f"unit {name} is in the network file, but no stake is shown")
        else:
            detail = f"unit {name} is in no network file and has no stake that is shown"
            self.steps.append(Step("stake", False, detail))

    def _stakes(self, document: Mapping[str, Any]) -> Trusted | None:
        """Stakes under the file's checkpoint, if the network file's own stakers have signed it;
        at genesis where the file has none."""
        if self._network.ledger is None:
            return None
        trusted = at_genesis(self._network)
        text, rows = document.get("checkpoint"), document.get("stakes")
        if not isinstance(text, str) or not isinstance(rows, list) or len(rows) > 2 * STAKES_MAX:
            return trusted

        def look() -> str:
            nonlocal trusted
            tx = transaction_of(decode_item(unb64url(text), size_max=CHECKPOINT_BYTES_MAX))
            if not isinstance(tx, Checkpoint):
                raise Invalid(Reason.MALFORMED, f"a {tx.ACTION} transaction is no checkpoint")
            proofs = [EntryProof.decode(unb64url(str(row))) for row in rows]
            trusted = advance(trusted, tx, proofs, verify_ed25519)
            return f"{tx.tick} under ledger slot {tx.slot}, by two thirds of the stake at genesis"

        try:
            self.steps.append(Step("checkpoint", True, look()))
        except Invalid as error:
            if error.reason is not Reason.INADMISSIBLE:
                self.steps.append(Step("checkpoint", False, error.detail))
                return None
            # Stakes change: votes of others than at genesis prove nothing here, nor are they wrong.
            self._open("checkpoint", error.detail)
            return None
        return trusted
