"""What a guilty account loses: its whole stake, or a share of it; and logs that lose their host.

Coins are taken out of everything at the verdict and burnt when a checkpoint that holds the verdict
is final. A whole stake stays where it is, frozen for ever. A share moves out of the stake at once,
so the rest goes on as it was.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.codec import digest
from protocols.court import Place
from protocols.domains import OFFENCE
from protocols.faults import SHARES, Fault
from protocols.ids import Address, ProcessId, b64url
from protocols.ledger.draft import Draft, NoteKind
from protocols.ledger.entries import Bond, Case, Fine, Held, Pending, Unbonding, Unhosted
from protocols.parameters import SHARE_WHOLE

REASON_BYTES_MAX = 200
SILENCE = "a demand was not answered"


def reason_of(fault: Fault, why: str) -> str:
    """What a `Case` or `Fine` says."""
    return f"{fault}: {why}".encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore")


def offence(fault: Fault, process: ProcessId, slot: int | None) -> bytes:
    """What costs a share once: a wrong assignment by its slot, everything else by its log, so that
    one long outage is one offence."""
    return digest(OFFENCE, fault.value, process, slot)


# Whole stakes


def freeze(draft: Draft, account: Address, case: Case) -> None:
    """Take a stake, and what is unbonding of it, out of everything, for ever."""
    bond = draft.bond(account)
    assert not bond.frozen, "a stake is frozen once"
    amount = draft.at_stake(account)
    draft.put(replace(bond, frozen=True), account)
    draft.add(bonded=-bond.amount)
    draft.put(replace(case, amount=amount), account)
    draft.put(Pending(), account)
    draft.note(NoteKind.FROZEN, f"{b64url(account)}: {amount}, {case.reason}", account)


# Shares


def fine(draft: Draft, account: Address, offence: bytes, fault: Fault, fine: Fine) -> None:
    """Take this fault's share of a stake that is not frozen.

    The share is of what was at stake before the fines that are not burnt yet, so faults found
    together add up, in any order; and never more than is there. What leaves anyway is taken
    first: the stake that stays is what the network is secured by.
    """
    assert not draft.bond(account).frozen, "nothing of a frozen stake is left to take"
    there = draft.at_stake(account)
    base = there + sum(held.amount for _, held in draft.all(Held, account))
    amount = min(there, -(-base * SHARES[fault] // SHARE_WHOLE))
    rest = amount
    for tick, each in draft.unbonding(account):
        taken = min(each, rest)
        rest -= taken
        if taken == each:
            draft.drop(Unbonding, account, tick)
        elif taken:
            draft.put(Unbonding(each - taken), account, tick)
    if rest:
        draft.change_bond(account, -rest)
    draft.put(replace(fine, amount=amount), account, offence)
    draft.put(Held(amount), account, offence)
    draft.note(NoteKind.FROZEN, f"{b64url(account)}: {amount}, {fine.reason}", account)


def silent(draft: Draft, accused: Address, fault: Fault, demand: bytes) -> None:
    """Nobody answered for what costs the whole stake. All of it will be burnt."""
    if draft.bond(accused).frozen or not draft.at_stake(accused):
        return
    reason = reason_of(fault, SILENCE)
    freeze(draft, accused, Case(draft.totals.slot, reason, demand, None, None, 0, None))


def silent_host(
    draft: Draft, accused: Address, fault: Fault, demand: bytes, process: ProcessId
) -> None:
    """A scheduler did not answer for a log. All of the share will be burnt."""
    unhost(draft, accused, fault, process, None)
    id = offence(fault, process, None)
    if draft.bond(accused).frozen or draft.get(Fine, accused, id) or not draft.at_stake(accused):
        return
    reason = reason_of(fault, SILENCE)
    fine(draft, accused, id, fault, Fine(draft.totals.slot, reason, demand, None, None, 0, None))


# Logs


def unhost(
    draft: Draft, scheduler: Address, fault: Fault, process: ProcessId, place: Place | None
) -> bool:
    """Note that a log has lost its host, and which assignment of a slot given twice holds; whether
    that was news. What was noted first stays."""
    old = draft.get(Unhosted, process)
    if old is not None and (old.slot is not None or place is None):
        return False
    new = old or Unhosted(scheduler, fault.value, draft.totals.slot, None, None)
    if place is not None:
        new = replace(new, slot=place.slot, assignment=place.assignment)
    draft.put(new, process)
    draft.note(NoteKind.UNHOSTED, f"{b64url(process)}: {fault}", process)
    return True


# Burning


def burn_final(draft: Draft, signers: list[Address]) -> None:
    """Burn what was taken by verdicts under the checkpoint that has become final."""
    for key, _ in draft.all(Pending):
        account = Address(key)
        case = draft.get(Case, account)
        assert case is not None, "a frozen stake has a case"
        if case.slot <= draft.totals.final:
            _burn_stake(draft, account, case, signers)
    for key, held in draft.all(Held):
        account = Address(key[:32])
        record = draft.get(Fine, key)
        assert record is not None, "held coins are those of a fine"
        if record.slot <= draft.totals.final:
            draft.drop(Held, key)
            _split(draft, account, held.amount, record.challenger, signers)
            draft.put(replace(record, burnt_tick=draft.totals.tick), key)


def _burn_stake(draft: Draft, account: Address, case: Case, signers: list[Address]) -> None:
    bond = draft.bond(account)
    amount = bond.amount
    for tick, each in draft.unbonding(account):
        draft.drop(Unbonding, account, tick)
        amount += each
    assert amount == case.amount, "a frozen stake does not move"
    _split(draft, account, amount, case.challenger, signers)
    draft.put(Bond(0, bond.sessions, True), account)
    draft.put(replace(case, burnt_tick=draft.totals.tick), account)
    draft.drop(Pending, account)


def _split(
    draft: Draft, account: Address, amount: int, challenger: Address | None, signers: list[Address]
) -> None:
    """Pay the challenger and the checkpoint's signers; the rest, or all of it if a demand was not
    answered, is nowhere."""
    parameters = draft.rules.parameters
    bounty = shared = 0
    if challenger is not None:
        bounty = amount * parameters.slash_challenger // SHARE_WHOLE
        draft.credit(challenger, bounty)
        each = amount * parameters.slash_signers // SHARE_WHOLE // len(signers)
        for signer in signers:
            draft.credit(signer, each)
        shared = each * len(signers)
    draft.burn(amount - bounty - shared)
    draft.note(NoteKind.BURNT, f"{b64url(account)}: {amount - bounty - shared}", account)
