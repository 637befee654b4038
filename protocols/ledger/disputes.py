"""Evidence on the ledger: committed, sent in parts, revealed, judged."""

from __future__ import annotations

from dataclasses import replace

from protocols.court import Finding, Judgement, Segment
from protocols.faults import SHARES, Fault
from protocols.ids import Address, ItemId, NodeKey, b64url
from protocols.ledger.clock import drop_commit
from protocols.ledger.draft import Draft, NoteKind, refused
from protocols.ledger.entries import AnchorEntry, Case, Commit, Fact, Fine, Part
from protocols.ledger.penalties import fine, freeze, offence, reason_of, unhost
from protocols.parameters import SHARE_WHOLE, Parameters
from protocols.verdict import verdict
from protocols.wire.evidence import commitment, evidence_bytes_max, evidence_hash
from protocols.wire.ledger_tx import PARTS_MAX, CommitEvidence, EvidencePart, RevealEvidence

MIB = 1 << 20


def evidence_bond(size: int, parameters: Parameters) -> int:
    """Bond of evidence of `size` bytes: a base, and more for every MiB begun."""
    return parameters.evidence_bond + parameters.evidence_bond_mib * -(-size // MIB)


def commit_evidence(draft: Draft, sender: Address, tx: CommitEvidence, id: ItemId) -> None:
    """Take the bond of evidence to come. `id` is the item's. Raises Invalid."""
    parameters = draft.rules.parameters
    if tx.size > evidence_bytes_max(parameters):
        raise refused(f"evidence of {tx.size} bytes, at most {evidence_bytes_max(parameters)}")
    bond = evidence_bond(tx.size, parameters)
    draft.spend(sender, tx.sequence, bond)
    deadline = draft.totals.tick + parameters.challenge_window
    draft.put(Commit(sender, tx.hash, tx.size, tx.size, 0, bond, draft.totals.slot, deadline), id)
    draft.remind(deadline, Commit, id)


def evidence_part(draft: Draft, sender: Address, tx: EvidencePart, id: ItemId) -> None:
    """Note that a part of it is in the log. Raises Invalid."""
    commit = _commit(draft, sender, tx.commit)
    if draft.get(Part, tx.commit, id) is not None:
        raise refused("the part is there already")
    if commit.parts >= PARTS_MAX:
        raise refused(f"evidence comes in at most {PARTS_MAX} parts")
    if len(tx.data) > commit.left:
        raise refused(f"{len(tx.data)} bytes more than the {commit.left} left to send")
    draft.put(Part(len(tx.data)), tx.commit, id)
    draft.put(replace(commit, left=commit.left - len(tx.data), parts=commit.parts + 1), tx.commit)


def reveal_evidence(draft: Draft, sender: Address, tx: RevealEvidence) -> None:
    """Judge it. Raises Invalid, and whatever `Facts` raises."""
    commit = _commit(draft, sender, tx.commit)
    parts = [draft.get(Part, tx.commit, id) for id in tx.parts]
    if any(part is None for part in parts) or len(set(tx.parts)) != len(tx.parts):
        raise refused("a part is not in the log, or named twice")
    blob = b"".join(draft.facts.part(id) for id in tx.parts)
    hash = evidence_hash(blob)
    if commitment(tx.salt, hash, sender) != commit.hash:
        raise refused("these parts are not what was committed")
    trial = _Trial(draft, commit)
    judgement = verdict(blob, trial.run, draft.court_with(trial.answerable))
    drop_commit(draft, tx.commit)
    draft.note(NoteKind.VERDICT, f"{judgement.finding}: {judgement.reason}", hash)
    if judgement.fact is not None:
        _remember(draft, *judgement.fact)
    # What a challenger who was too late gets back: it cost the others the bytes, and no run.
    sent = commit.size - commit.left
    late = commit.bond - draft.rules.parameters.evidence_bond_mib * -(-sent // MIB)
    refund = 0
    if judgement.finding is Finding.GUILTY:
        refund = _punish(draft, judgement, hash, commit, late)
    elif trial.too_late:
        refund = late
    draft.credit(sender, refund)
    draft.burn(commit.bond - refund)


class _Trial:
    """What the verdict on one commit's evidence may ask."""

    def __init__(self, draft: Draft, commit: Commit) -> None:
        self._draft = draft
        self._commit = commit
        self.too_late = False
        """Somebody else was first, so it was not judged."""

    def answerable(self, key: NodeKey) -> None:
        account = self._draft.account_of(key)
        case = self._draft.get(Case, account)
        if case is not None:
            first = case.commit_slot
            if case.burnt_tick is not None or first is None or first <= self._commit.slot:
                self.too_late = True
                raise refused("the accused has lost its stake to somebody else's evidence")
        elif not self._draft.at_stake(account):
            self.too_late = any(True for _ in self._draft.all(Fine, account))
            raise refused("nothing is at stake behind the accused")

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        """A look-up where the state knows the fact; else what running it gives."""
        fact = self._draft.get(Fact, segment.fact)
        if fact is not None:
            return tuple(fact.leaves[at : at + 32] for at in range(0, len(fact.leaves), 32))
        if not segment.slots or (segment.witness is None and segment.root_before is not None):
            return None
        return self._draft.facts.run(segment)


def _commit(draft: Draft, sender: Address, id: ItemId) -> Commit:
    commit = draft.get(Commit, id)
    if commit is None or commit.accuser != sender:
        raise refused(f"the sender has no commit {b64url(id)}")
    return commit


def _remember(draft: Draft, key: bytes, leaves: tuple[bytes, ...]) -> None:
    tick = draft.totals.tick
    if draft.get(Fact, key) is None:
        draft.remind(tick + draft.rules.parameters.unbonding, Fact, key)
    draft.put(Fact(b"".join(leaves), tick), key)


def _punish(draft: Draft, judgement: Judgement, hash: bytes, commit: Commit, late: int) -> int:
    """Take what the guilty one loses; what the challenger gets of its bond back.

    Of several challengers the first to commit has the bounty, whoever revealed first. One who
    takes it over pays its bond, which is less: else one lost stake would let its owner have any
    number of segments run for nothing. For the same reason nobody is paid by a stake that is
    gone: who has a forked log decided then pays the bond.
    """
    if judgement.anchor is not None:
        entry = draft.get(AnchorEntry, judgement.anchor)
        assert entry is not None, "a judged anchor is in the ledger"
        draft.put(replace(entry, refuted=True), judgement.anchor)
        return commit.bond
    assert judgement.accused is not None, "somebody or something is guilty"
    account, fault, place = draft.account_of(judgement.accused), judgement.fault, judgement.place
    news = False
    if fault is Fault.TWO_ASSIGNMENTS:
        assert place is not None, "a scheduler's fault is somewhere"
        news = unhost(draft, account, fault, place.process, place)
    case = draft.get(Case, account)
    if SHARES[fault] < SHARE_WHOLE:
        assert place is not None, "a scheduler's fault is somewhere"
        id = offence(fault, place.process, place.slot)
        found, key = draft.get(Fine, account, id), (account, id)
        if found is None:
            reason = reason_of(fault, judgement.reason)
            new = Fine(draft.totals.slot, reason, hash, commit.accuser, commit.slot, 0, None)
            fine(draft, account, id, fault, new)
            return commit.bond
        return 0 if _take_over(draft, found, key, hash, commit) else late
    if case is not None:
        return 0 if _take_over(draft, case, (account,), hash, commit) or news else late
    if not draft.at_stake(account):
        return 0 if news else late
    reason = reason_of(fault, judgement.reason)
    new_case = Case(draft.totals.slot, reason, hash, commit.accuser, commit.slot, 0, None)
    freeze(draft, account, new_case)
    return commit.bond


def _take_over(
    draft: Draft, found: Case | Fine, key: tuple[bytes, ...], hash: bytes, commit: Commit
) -> bool:
    """Give the bounty to this commit if it came first, and nobody has the bounty yet."""
    if found.burnt_tick is not None or found.commit_slot is None:
        return False
    if found.commit_slot <= commit.slot:
        return False
    draft.put(
        replace(found, challenger=commit.accuser, commit_slot=commit.slot, evidence=hash), *key
    )
    return True
