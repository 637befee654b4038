"""From evidence to a burnt stake: bond, parts, reveal, verdict. Part of `watching`.

    PROVED --own turn, bond affordable, nobody was first--> COMMITTED --stands in the log--> SENT,
    all parts --they stand there--> REVEALED --judged--> FROZEN --final--> BURNT, or VERDICT

Each step is durable before its transaction is posted, and every transaction is a pure function of
the row, so that a crash repeats a step and never takes another one.
"""

from __future__ import annotations

from protocols.codec import digest, signing_bytes
from protocols.domains import EVIDENCE_SALT, SIGN_SALT
from protocols.ids import Address, ItemId, b64url
from protocols.ledger.disputes import evidence_bond
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import Case as LedgerCase
from protocols.ledger.entries import Commit, Fine, Part
from protocols.machine.case import POSTED, Case, Stage
from protocols.machine.effects import Effect, SetTimer
from protocols.machine.events import FoldedSlot
from protocols.machine.turns import wait_ms
from protocols.machine.watch import Watch, evidence_hash
from protocols.wire.evidence import commitment
from protocols.wire.ledger_tx import (
    PART_BYTES_MAX,
    CommitEvidence,
    EvidencePart,
    RevealEvidence,
)

TIMER = "commit"
CASES_KEPT = 32
"""Cases whose ids are remembered."""
COMMITS_MAX = 3
"""Commits of one case that the ledger may refuse or let expire."""
PART_OVERHEAD_BYTES = 4096
"""Of an item around a part."""


class Accusing:
    """All cases from PROVED on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._ids: dict[tuple[bytes, int], tuple[ItemId, tuple[ItemId, ...]]] = {}
        """By case and sequence: ids of the commit and of the parts, which take a while to make."""
        self._verdicts: dict[bytes, str] = {}
        """By evidence hash: what the ledger said, of slots that have just been folded."""

    def folded(self, slots: tuple[FoldedSlot, ...]) -> None:
        """Remember the verdicts of these slots."""
        self._verdicts = {
            note.subject: note.detail
            for slot in slots
            for note in slot.notes
            if note.kind is NoteKind.VERDICT
        }

    def proceed(self, case: Case, now: int, *, busy: bool) -> list[Effect]:
        """Do what the ledger's state allows now. `busy`: another case against the same account
        has a bond under way."""
        match case.stage:
            case Stage.PROVED:
                return [] if busy else self._commit(case, now)
            case Stage.COMMITTED:
                return self._committed(case, now)
            case Stage.SENT:
                return self._sent(case, now)
            case Stage.REVEALED:
                return self._revealed(case, now)
        return []

    def post_again(self, case: Case) -> list[Effect]:
        """After a restart: what may not have been posted."""
        match case.stage:
            case Stage.COMMITTED:
                return self._watch.post(self._tx(case), sequenced=True)
            case Stage.SENT:
                return self._post_parts(case)
            case Stage.REVEALED:
                return self._watch.post(self._reveal(case))
        return []

    def settle(self, case: Case, now: int) -> list[Effect]:
        """What became of the accused's stake, whoever was first. Bonds are not left behind: what
        was committed is revealed."""
        watch = self._watch
        if case.is_over:
            return []
        account = watch.account_of(case.unit)
        frozen = watch.punishment(account, case.evidence)
        if frozen is None:
            return []
        if case.stage is Stage.FROZEN:
            if frozen.burnt_tick is None:
                return []
            why = f"{case.why}; burnt at checkpoint {frozen.burnt_tick}"
            return watch.move(case, Stage.BURNT, why, now)
        if case.stage in POSTED and not self._is_judged(case):
            return []
        return watch.move(case, Stage.FROZEN, f"{frozen.reason} ({_shown_by(frozen, case)})", now)

    # Transactions

    def _tx(self, case: Case) -> CommitEvidence:
        assert case.sequence is not None, "a commit has a sequence"
        hash = evidence_hash(case.evidence)
        sealed = commitment(self._salt(hash), hash, self._watch.address)
        return CommitEvidence(case.sequence, sealed, len(case.evidence))

    def _salt(self, hash: bytes) -> bytes:
        """What nobody can guess before the reveal, and this node can always make again."""
        message = signing_bytes(SIGN_SALT, self._watch.network.id, [hash])
        return digest(EVIDENCE_SALT, self._watch.sign(message))

    def _made(self, case: Case) -> tuple[ItemId, tuple[ItemId, ...]]:
        """Ids of the commit and of the parts."""
        assert case.sequence is not None, "a commit has a sequence"
        key = case.id, case.sequence
        if key not in self._ids:
            commit = self._watch.item(self._tx(case)).id
            parts = self._cut(commit, case.evidence)
            self._ids = dict([*self._ids.items()][-CASES_KEPT:])
            self._ids[key] = commit, tuple(self._watch.item(part).id for part in parts)
        return self._ids[key]

    def _cut(self, commit: ItemId, blob: bytes) -> list[EvidencePart]:
        size = min(PART_BYTES_MAX, self._watch.parameters.item_bytes_max - PART_OVERHEAD_BYTES)
        return [EvidencePart(commit, blob[at : at + size]) for at in range(0, len(blob), size)]

    def _commit_id(self, case: Case) -> ItemId:
        return self._made(case)[0]

    def _post_parts(self, case: Case) -> list[Effect]:
        parts = self._cut(self._commit_id(case), case.evidence)
        return [effect for part in parts for effect in self._watch.post(part)]

    def _reveal(self, case: Case) -> RevealEvidence:
        commit, parts = self._made(case)
        return RevealEvidence(commit, self._salt(evidence_hash(case.evidence)), parts)

    # Steps

    def _commit(self, case: Case, now: int) -> list[Effect]:
        watch = self._watch
        if not self._can_lose(case):
            return watch.hold(case, "nothing is at stake behind it", now)
        if case.sequence is not None and case.tries >= COMMITS_MAX:
            return watch.move(case, Stage.DROPPED, "the ledger takes no commit of it", now)
        bond = evidence_bond(len(case.evidence), watch.parameters)
        if watch.balance() < bond:
            why = f"its bond is {bond}, the balance {watch.balance()}; fund {b64url(watch.address)}"
            return watch.hold(case, why, now)
        if case.commit_ms is None:
            case.commit_ms = now + wait_ms(watch, case.unit)
            if now < case.commit_ms:
                return [SetTimer((TIMER, case.id), case.commit_ms)]
        if now < case.commit_ms or not watch.is_free():
            return []
        case.sequence = watch.sequence(now)
        effects = watch.move(case, Stage.COMMITTED, f"bond {bond}", now)
        return effects + watch.post(self._tx(case), sequenced=True)

    def _can_lose(self, case: Case) -> bool:
        account: Address = self._watch.account_of(case.unit)
        return self._watch.at_stake(account) > 0

    def _committed(self, case: Case, now: int) -> list[Effect]:
        watch = self._watch
        id = self._commit_id(case)
        if watch.state.get(Commit, id) is not None:
            effects = watch.move(case, Stage.SENT, case.why, now)
            return effects + self._post_parts(case) + self._sent(case, now)
        if not watch.has_landed(id):
            return []
        case.tries += 1
        return watch.move(case, Stage.PROVED, "its commit was refused or is over", now)

    def _sent(self, case: Case, now: int) -> list[Effect]:
        watch = self._watch
        id, parts = self._made(case)
        if watch.state.get(Commit, id) is None:
            case.tries += 1
            return watch.move(case, Stage.PROVED, "its commit was over before all parts came", now)
        if any(watch.state.get(Part, id, part) is None for part in parts):
            return []
        effects = watch.move(case, Stage.REVEALED, case.why, now)
        return effects + watch.post(self._reveal(case))

    def _is_judged(self, case: Case) -> bool:
        """Whether the reveal has been folded."""
        if case.stage is not Stage.REVEALED:
            return False
        return self._watch.state.get(Commit, self._commit_id(case)) is None

    def _revealed(self, case: Case, now: int) -> list[Effect]:
        """Judged, and `settle` has found no frozen stake."""
        watch = self._watch
        if not self._is_judged(case):
            if watch.has_landed(watch.item(self._reveal(case)).id):
                return watch.move(case, Stage.DROPPED, "its reveal was refused", now)
            return []
        said = self._verdicts.get(evidence_hash(case.evidence), "judged, or expired")
        return watch.move(case, Stage.VERDICT, said, now)


def _shown_by(taken: LedgerCase | Fine, case: Case) -> str:
    """What a stake was taken for: this case, or another one."""
    if taken.challenger is None:
        return "by silence to a demand"
    own = bool(case.evidence) and evidence_hash(case.evidence) == taken.evidence
    return "by this evidence" if own else "by other evidence"
