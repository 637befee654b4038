"""When a client may act on a result: what the ledger says of those who signed it.

Soft: `quorum` units that have a stake agree, and what would burn if they lied, less what already
stands behind other results, is at least the value at risk. Hard: each of them has also stated the
result publicly in a state proof, and a whole challenge window has passed since on a final ledger.

Two units with a stake that disagree end it: one of them is wrong, and which one, the ledger will
say. Pure decisions; `aonode.accept.judge` asks the network.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aonode.accept.amounts import tokens
from aonode.verify_result import Evidence, VerifiedReceipt
from protocols.ids import Address, b64url
from protocols.ledger.light import Trusted
from protocols.parameters import SHARE_WHOLE, Parameters
from protocols.wire.outcome import Status
from protocols.wire.proof import Receipt

SHOWN_CHARACTERS_MAX = 500
"""Of an output in JSON."""
CONTEXT_CHARACTERS = 60
"""Of an output on both sides of what is wrong with it, in a warning."""
OUTCOME_BYTES_SHOWN = 1 << 20


class Mode(enum.StrEnum):
    """How sure a client wants to be."""

    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Said:
    """What one unit says: a receipt that it has signed, for the slot that was asked for."""

    url: str
    receipt: Receipt
    evidence: Evidence
    answer: VerifiedReceipt | None
    """None if the rest of its answer does not fit the receipt."""
    flaw: str
    """Why it does not fit."""
    account: Address
    """Whose stake answers for it."""
    stake: int
    """What is bonded there at the client's final checkpoint, not frozen, not on its way out."""

    @property
    def claim(self) -> tuple[bytes, ...]:
        """What must be equal between honest units."""
        receipt = self.receipt
        return receipt.head, receipt.leaf.hash(), receipt.mmr_root, receipt.block_root or b""

    def view(self) -> dict[str, Any]:
        """JSON-ready."""
        leaf = self.receipt.leaf
        output = self.evidence.outcome[: 4 * SHOWN_CHARACTERS_MAX].decode("utf-8", "replace")
        known = leaf.status in set(Status)
        return {
            "unit": b64url(self.receipt.cu),
            "account": b64url(self.account),
            "stake": self.stake,
            "leaf": b64url(leaf.hash()),
            "head": b64url(self.receipt.head),
            "status": Status(leaf.status).name if known else str(leaf.status),
            "output": output[:SHOWN_CHARACTERS_MAX],
            "flaw": self.flaw,
        }


@dataclass(frozen=True, slots=True)
class Public:
    """Where a unit has stated its result to everybody."""

    first: int
    last: int
    tick: int
    """Last final checkpoint when most nodes had heard it; the latest that any of them names."""


@dataclass(slots=True)
class Acceptance:
    """What came of it."""

    mode: Mode
    quorum: int
    value: int
    """Base units at risk."""
    tick: int
    """Final checkpoint at which this was decided."""
    accepted: bool = False
    counted: list[Said] = field(default_factory=list)
    """One per account with a stake: those that agree."""
    at_risk: int = 0
    """Base units that would burn if they lied."""
    exposed: int = 0
    """Of these, what stands behind other results."""
    disagree: list[Said] = field(default_factory=list)
    """Everybody with a stake, where they do not agree."""
    reasons: list[str] = field(default_factory=list)
    """Why it is not accepted."""
    warnings: list[str] = field(default_factory=list)
    hard_tick: int | None = None
    """Checkpoint from which on it is hard; None while that is not known."""
    handed_over: list[dict[str, Any]] = field(default_factory=list)
    """Statements that were given to watchers."""

    @property
    def hopeless(self) -> bool:
        """Whether waiting cannot help."""
        return bool(self.disagree)

    def view(self) -> dict[str, Any]:
        """JSON-ready, as `aonode result --accept --json` prints it."""
        return {
            "mode": str(self.mode),
            "accepted": self.accepted,
            "quorum": self.quorum,
            "tick": self.tick,
            "hard_tick": self.hard_tick,
            "value": self.value,
            "at_risk": self.at_risk,
            "exposed": self.exposed,
            "units": [each.view() for each in self.counted],
            "disagree": [each.view() for each in self.disagree],
            "handed_over": self.handed_over,
            "reasons": self.reasons,
            "warnings": self.warnings,
        }


def burnt_share(stake: int, parameters: Parameters) -> int:
    """What a liar loses for certain of its stake. The rest may come back to it: as its own
    challenger's bounty, or as a signer of the checkpoint under another key."""
    return stake * parameters.slash_burn // SHARE_WHOLE


def count(acceptance: Acceptance, said: Sequence[Said], trusted: Trusted) -> None:
    """Sort out who counts, and who contradicts whom. Fills in `counted` and `disagree`."""
    staked = [each for each in said if each.stake]
    acceptance.warnings += [
        f"unit {b64url(each.receipt.cu)} answers, but has no stake at checkpoint {trusted.tick} "
        "that could be lost: it does not count"
        for each in said
        if not each.stake
    ]
    if len({each.claim for each in staked}) > 1:
        acceptance.disagree = staked
        acceptance.reasons.append(disagreement(staked))
        return
    by_account: dict[Address, Said] = {}
    for each in staked:
        if each.answer is not None:
            by_account.setdefault(each.account, each)
    acceptance.counted = list(by_account.values())
    acceptance.warnings += [
        f"unit {b64url(each.receipt.cu)}, which has no stake, says something else: "
        f"{_shown(each, staked[0])}"
        for each in said
        if staked and not each.stake and each.claim != staked[0].claim
    ]


def disagreement(staked: Sequence[Said]) -> str:
    """The warning that names units and what each says."""
    one = staked[0]
    other = next(each for each in staked if each.claim != one.claim)
    units = f"units {b64url(one.receipt.cu)} and {b64url(other.receipt.cu)}"
    slot = one.receipt.slot
    if one.receipt.head != other.receipt.head:
        return (
            f"do not rely on this result: {units} speak of different logs; the scheduler gave "
            f"slot {slot} or one before it twice"
        )
    if one.receipt.leaf == other.receipt.leaf:
        return (
            f"do not rely on this result: {units} agree on slot {slot} but not on what came "
            "before it; one of them is lying"
        )
    return (
        f"do not rely on this result: {units} signed different results for slot {slot}; one of "
        f"them is lying. The first says: {_shown(one, other)}. The second says: "
        f"{_shown(other, one)}"
    )


def _shown(said: Said, other: Said) -> str:
    """Status and output, around the first place where it differs from the other's."""
    text, others = (_printable(each.evidence.outcome) for each in (said, other))
    pairs = enumerate(zip(text, others, strict=False))
    same = min(len(text), len(others)) if text != others else 0
    at = next((at for at, (mine, its) in pairs if mine != its), same)
    first = max(0, at - CONTEXT_CHARACTERS)
    excerpt = text[first : at + CONTEXT_CHARACTERS]
    before = "…" if first else ""
    after = "…" if at + CONTEXT_CHARACTERS < len(text) else ""
    flaw = " (its answer does not even verify)" if said.flaw else ""
    return f"{said.view()['status']} '{before}{excerpt}{after}'{flaw}"


def _printable(outcome: bytes) -> str:
    text = outcome[:OUTCOME_BYTES_SHOWN].decode("utf-8", "replace")
    return "".join(each if each.isprintable() and each != "\ufffd" else "·" for each in text)


def weigh(acceptance: Acceptance, exposed: int, parameters: Parameters) -> None:
    """Whether quorum and stake are enough. Fills in `at_risk`, `exposed` and `reasons`."""
    stake = sum(each.stake for each in acceptance.counted)
    acceptance.at_risk = burnt_share(stake, parameters)
    acceptance.exposed = exposed
    units = len(acceptance.counted)
    if units < acceptance.quorum:
        acceptance.reasons.append(
            f"{units} units with a stake answered, {acceptance.quorum} are asked for; give more "
            "--cu addresses, or a smaller --quorum"
        )
    free = acceptance.at_risk - exposed
    if acceptance.mode is Mode.SOFT and free < acceptance.value:
        acceptance.reasons.append(
            f"{tokens(acceptance.value, parameters)} tokens are at risk, but those who signed "
            f"would lose only {tokens(acceptance.at_risk, parameters)}"
            + (f", {tokens(exposed, parameters)} of it behind other results" if exposed else "")
            + "; ask more units, or accept hard"
        )


def harden(
    acceptance: Acceptance,
    public: Sequence[Public | None],
    demanded: Sequence[Address],
    parameters: Parameters,
) -> None:
    """Whether the challenge window is over for all who count. `public` is in their order."""
    ready, missing = [], []
    for each, stated in zip(acceptance.counted, public, strict=True):
        if stated is None:
            missing.append(
                f"most nodes have not heard a state proof of unit {b64url(each.receipt.cu)} that "
                "holds this result yet"
            )
        elif each.account in demanded:
            missing.append(f"a demand against {b64url(each.account)} is open; wait for the answer")
        else:
            ready.append(stated.tick + 1 + parameters.challenge_window)
    if len(ready) < acceptance.quorum:
        acceptance.reasons += missing
        return
    acceptance.hard_tick = sorted(ready)[acceptance.quorum - 1]
    if acceptance.tick < acceptance.hard_tick:
        acceptance.reasons.append(
            f"the challenge window is over at checkpoint {acceptance.hard_tick}; now "
            f"{acceptance.tick} is final"
        )
