"""When a staker signs which state of the ledger, so that two thirds sign the same. Part of
`ledger`.

Rule 1: one vote per tick, for ever, and ticks ascend: a new vote is durable before anybody sees
        it, and only for a tick above those of all votes in the table.
Rule 2: a vote is for a state this node has folded itself.
Rule 3: between two own votes pass at least four fifths of `tick_ms`, and nobody can talk this
        node into a tick that its own clock has not reached: stakers with less than a third
        cannot make the ledger's clock run faster than that.

    own turn (`rank` 0 at this tick) --tick_ms after the last vote--> vote for the newest slot
    a vote of a staker is heard -----> vote for the same, if it is what was folded here
    none is heard -------------------> each rank a quarter of a tick later votes in its stead
    two thirds agree ----------------> the first in rank brings the checkpoint into the log

A tick in which votes split, so that none can reach two thirds any more, is left for the next. An
attempt that only lacks votes is repeated until those who are away come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, NodeKey, ProcessId, address_of, b64url
from protocols.ledger.draft import Draft
from protocols.ledger.entries import PAST_SLOTS, Bond
from protocols.ledger.process import transaction_item
from protocols.ledger.state import State
from protocols.machine.effects import Alarm, Effect, Persist, Publish, SetTimer, Table
from protocols.machine.recent import Recent
from protocols.wire.item import Item
from protocols.wire.ledger_tx import VOTES_MAX, Checkpoint
from protocols.wire.topics import Topic
from protocols.wire.vote import VOTE_BYTES_MAX, Vote

AHEAD_TICKS_MAX = 64
"""Votes for ticks further ahead are not kept."""
ROUND_VOTES_MAX = 1 << 15
"""Votes kept, of all ticks together."""
LATEST_MAX = 1 << 14
"""Stakers whose latest vote is remembered, for when they lose their own table."""
OWN_ROWS_MAX = 64
"""Own votes kept. The highest one alone keeps this node from contradicting itself."""
PATIENCE_TICKS = 16
"""An attempt is given up after this long, whatever was heard."""
REPEAT_TICKS_MAX = 8
OLD_SLOTS = PAST_SLOTS - 64
"""A vote under a slot this far back cannot become a checkpoint in time."""
TOLD_MAX = 256
YIELD_TICKS = 64
"""A key that has voted this lately votes for its account; the others of that account do not."""

TIMER = ("vote",)

Content = tuple[int, bytes, bytes]
"""What a vote is for: slot, head, root."""


def content_of(vote: Vote) -> Content:
    """What it is for."""
    return vote.slot, vote.head, vote.root


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the ledger is folded here."""

    draft: Draft
    """On the newest state; for reading."""
    past: Mapping[int, tuple[bytes, State]]
    """Head and state after each slot from the last final one on."""
    behind: bool
    """There are slots that could be folded and are not yet."""


@dataclass(slots=True)
class _Round:
    """The votes for one tick: the first of each account."""

    votes: dict[Address, Vote] = field(default_factory=dict)
    weights: dict[Content, int] = field(default_factory=dict)
    enough_at: int | None = None
    """When two thirds agreed."""
    brought: ItemId | None = None
    brought_votes: int = 0
    brought_at: int = 0

    def count(self, weight: Callable[[Address], int]) -> None:
        self.weights = {}
        for account, vote in self.votes.items():
            content = content_of(vote)
            self.weights[content] = self.weights.get(content, 0) + weight(account)

    def best(self) -> tuple[Content, int] | None:
        if not self.weights:
            return None
        content = max(self.weights, key=lambda each: (self.weights[each], each))
        return content, self.weights[content]


class Voting:
    """One staker's votes, and those it has heard."""

    def __init__(
        self,
        *,
        network: NetworkId,
        ledger: ProcessId,
        tick_ms: int,
        key: NodeKey,
        sign: Callable[[bytes], bytes],
        post: Callable[[Item, int], list[Effect]],
        forget: Callable[[ItemId], list[Effect]],
    ) -> None:
        """`post` and `forget` bring a transaction into the ledger's log, and give it up."""
        self._network = network
        self._ledger = ledger
        self._tick_ms = tick_ms
        self._pace_ms = max(1, tick_ms * 4 // 5)
        self._key = key
        self._sign = sign
        self._post = post
        self._forget = forget
        self._own: dict[int, Vote] = {}
        self._rounds: dict[int, _Round] = {}
        self._latest: Recent[NodeKey, Vote] = Recent(LATEST_MAX)
        self._told: Recent[Address, bool] = Recent(TOLD_MAX)
        self._standing: Standing | None = None
        self._tick = 0
        self._tick_at = self._cast_at = self._due = 0
        self._repeat_at, self._repeats = 0, 0
        self._ranks: tuple[tuple[int, int], dict[Address, int]] = ((-1, -1), {})
        self._wake_at: int | None = None
        self._armed: int | None = None
        self._restored = 0
        self._other_key_at: int | None = None
        """Tick of the newest vote by another key of this account that goes before this one."""
        self.stopped = ""
        """Why this node votes no more; empty while it may."""
        self.recalling = True
        """Peers are still asked for own votes."""

    def recover(self, rows: Iterable[bytes]) -> None:
        """Take up the durable votes. Raises Invalid for rows no staker wrote."""
        for row in rows:
            vote = Vote.decode(row, size_max=VOTE_BYTES_MAX)
            self._own[vote.tick] = vote
        self._own = dict(sorted(self._own.items()))

    def start(self, standing: Standing, now: int) -> None:
        """The ledger is folded as far as it was when this node stopped."""
        self._tick_at = self._cast_at = now
        self._due = now + self._tick_ms
        self.moved(standing, now)

    def status(self) -> dict[str, Any]:
        standing = self._standing
        draft = None if standing is None else standing.draft
        rounds = self._rounds.values()
        return {
            "weight": 0 if draft is None else draft.voting(draft.account_of(self._key)),
            "last_tick": self.last_tick(),
            "heard": sum(len(each.votes) for each in rounds),
            "silent": self.silent,
        }

    @property
    def silent(self) -> str:
        """Why this node casts no new vote, beyond having nothing at stake; empty while it may."""
        if self.stopped:
            return self.stopped
        if self.recalling:
            return "peers are asked for the votes of this node"
        if self._yields():
            return "another key of this account votes, and two might contradict each other"
        if self._tick < self._restored == self.last_tick():
            return (
                f"the table of own votes is old: peers hold one for tick {self._restored}, and "
                f"{self._tick} is the last final one"
            )
        return ""

    def _yields(self) -> bool:
        at = self._other_key_at
        return at is not None and self._tick - at < YIELD_TICKS

    def last_tick(self) -> int:
        """Tick of the newest own vote; 0 for none."""
        return max(self._own, default=0)

    def votes_of(self, key: NodeKey) -> list[Vote]:
        """What this node remembers of a staker's votes; of itself, all that is in the table."""
        if key == self._key:
            return list(self._own.values())
        latest = self._latest.get(key)
        return [] if latest is None else [latest]

    def restore(self, vote: Vote, now: int) -> list[Effect]:
        """Take an own vote over that the table has lost, and peers have not. It counts, and is
        repeated, as if it had never been lost; the next one is for a later tick."""
        if vote.key != self._key or vote.tick <= self.last_tick():
            return []
        self._own[vote.tick] = vote
        self._restored = vote.tick
        detail = (
            f"the table of own votes is old: a peer holds one for tick {vote.tick} that is not in "
            "it. Nothing is signed for that tick or an earlier one"
        )
        counted = [] if self._standing is None else self.heard(vote, now)
        return [_row(vote), Alarm(Reason.STORAGE, self._ledger, detail), *counted]

    # What happens

    def moved(self, standing: Standing, now: int) -> list[Effect]:
        """The ledger was folded further."""
        self._standing = standing
        effects: list[Effect] = []
        tick = standing.draft.totals.tick
        if tick > self._tick:
            if tick not in self._own:
                self._due = max(self._due, now + self._pace_ms)
            self._tick, self._tick_at = tick, now
            for old in [each for each in self._rounds if each <= tick]:
                brought = self._rounds.pop(old).brought
                effects += [] if brought is None else self._forget(brought)
        for each in self._rounds.values():
            each.count(standing.draft.voting)
        return effects

    def heard(self, vote: Vote, now: int) -> list[Effect]:
        """A vote whose signature verifies; those of nobody with a stake are passed over."""
        standing = self._standing
        if standing is None:
            return []
        account = standing.draft.account_of(vote.key)
        weight = standing.draft.voting(account)
        if not weight:
            return []
        latest = self._latest.get(vote.key)
        if latest is None or latest.tick < vote.tick:
            self._latest.put(vote.key, vote)
        if vote.key != self._key and account == standing.draft.account_of(self._key):
            self._hear_own_account(vote, account)
        if self._tick < vote.tick <= self._tick + AHEAD_TICKS_MAX:
            self._take(vote, account, weight)
        return self._tell(vote, account, standing)

    def _hear_own_account(self, vote: Vote, account: Address) -> None:
        """Another key signs for this stake. The account's own key goes before all, and of session
        keys the lower one, so that one of them goes on."""
        is_main = address_of(self._key) == account
        if address_of(vote.key) == account or (not is_main and vote.key < self._key):
            self._other_key_at = max(vote.tick, self._other_key_at or 0)

    def _take(self, vote: Vote, account: Address, weight: int) -> None:
        if sum(len(each.votes) for each in self._rounds.values()) >= ROUND_VOTES_MAX:
            return
        round = self._rounds.setdefault(vote.tick, _Round())
        if account not in round.votes:
            round.votes[account] = vote
            content = content_of(vote)
            round.weights[content] = round.weights.get(content, 0) + weight

    def _tell(self, vote: Vote, account: Address, standing: Standing) -> list[Effect]:
        """Somebody with a stake has another state under a slot than was folded here."""
        past = standing.past.get(vote.slot)
        if past is None or self._told.get(account):
            return []
        head, state = past
        if (vote.head, vote.root) == (head, state.root()):
            return []
        self._told.put(account, True)
        what = "root" if vote.head == head else "log head"
        detail = (
            f"{b64url(account)} votes for another {what} under ledger slot {vote.slot} than was "
            "folded here; one of the two is wrong"
        )
        return [Alarm(Reason.MISMATCH, self._ledger, detail)]

    # What to do about it

    def step(self, now: int) -> list[Effect]:
        """Vote, repeat, bring a checkpoint: whatever is due."""
        standing = self._standing
        if standing is None or self.stopped or self.recalling or self._yields():
            return []
        account = standing.draft.account_of(self._key)
        if not standing.draft.voting(account):
            return []
        self._wake_at = None
        effects: list[Effect] = []
        tick = self._attempt(now)
        if tick not in self._own:
            effects += self._consider(tick, account, standing, now)
        effects += self._repeat(now)
        effects += self._bring(account, standing, now)
        return effects + self._arm(now)

    def _attempt(self, now: int) -> int:
        """The tick to vote for now."""
        own = self.last_tick()
        tick = max(self._tick + 1, own + 1 if self._is_over(own, now) else own)
        reached = self._tick + 1 + (now - self._tick_at) // self._pace_ms
        return max([tick, *(each for each in self._rounds if each <= reached)])

    def _is_over(self, tick: int, now: int) -> bool:
        """Whether an own vote cannot become part of a checkpoint any more."""
        vote, standing = self._own.get(tick), self._standing
        if vote is None or standing is None:
            return False
        totals = standing.draft.totals
        if vote.slot <= totals.final or vote.slot < totals.slot - OLD_SLOTS:
            return True
        if now >= self._cast_at + PATIENCE_TICKS * self._tick_ms:
            return True
        weights = self._rounds[tick].weights if tick in self._rounds else {}
        missing = totals.bonded - sum(weights.values())
        return 3 * (max(weights.values(), default=0) + missing) < 2 * totals.bonded

    def _rank(self, account: Address, tick: int) -> int:
        """Place in the order of this tick: 0 begins, each next one a quarter of a tick later."""
        assert self._standing is not None, "asked by whoever stands somewhere"
        draft = self._standing.draft
        key = (self._tick, draft.totals.bonded)
        if self._ranks[0] != key:
            bonded = [Address(each) for each, _ in draft.all(Bond)]
            staked = [each for each in bonded if draft.voting(each)]
            self._ranks = key, {each: number for number, each in enumerate(staked)}
        ranks = self._ranks[1]
        return (ranks.get(account, 0) - tick) % len(ranks) if ranks else 0

    def _consider(self, tick: int, account: Address, standing: Standing, now: int) -> list[Effect]:
        content = self._acceptable(tick, standing)
        at = self._cast_at + self._pace_ms
        signed = self._rounds[tick].votes.get(account) if tick in self._rounds else None
        if signed is not None and content != content_of(signed):
            return []  # another key of this account has signed something else
        if content is None:
            totals = standing.draft.totals
            if standing.behind or totals.slot <= totals.final or totals.slot not in standing.past:
                return []
            at = max(at, self._due + self._rank(account, tick) * self._tick_ms // 4)
            head, state = standing.past[totals.slot]
            content = totals.slot, head, state.root()
        if now < at:
            self._wake(at)
            return []
        return self._cast(tick, content, now)

    def _acceptable(self, tick: int, standing: Standing) -> Content | None:
        """What others vote for at this tick, if it is what was folded here: most stake first."""
        round = self._rounds.get(tick)
        if round is None:
            return None
        final = standing.draft.totals.final
        order = sorted(round.weights, key=lambda each: (-round.weights[each], each))
        return next((each for each in order if self._is_folded(each, final, standing)), None)

    def _is_folded(self, content: Content, final: int, standing: Standing) -> bool:
        slot, head, root = content
        past = standing.past.get(slot)
        return past is not None and slot > final and (head, root) == (past[0], past[1].root())

    def _cast(self, tick: int, content: Content, now: int) -> list[Effect]:
        assert tick > self.last_tick(), "one vote per tick, and ticks ascend"
        assert self._standing is not None, "a vote is for what was folded"
        draft = Vote(self._network, tick, *content, self._key)
        vote = self._own[tick] = draft.signed(self._sign(draft.signing_bytes()))
        account = self._standing.draft.account_of(self._key)
        self._take(vote, account, self._standing.draft.voting(account))
        on_time = now - self._due < self._tick_ms // 4
        self._due = (min(self._due, now) if on_time else now) + self._tick_ms
        self._cast_at = now
        self._repeats, self._repeat_at = 0, now + self._tick_ms
        effects: list[Effect] = [_row(vote), self._publish(vote)]
        while len(self._own) > OWN_ROWS_MAX:
            oldest = next(iter(self._own))
            del self._own[oldest]
            effects.append(Persist(Table.SIGN_ONCE, keyspace.vote_key(oldest), None))
        return effects

    def _publish(self, vote: Vote) -> Publish:
        return Publish(Topic.VOTES, self._ledger, vote.encode())

    def _repeat(self, now: int) -> list[Effect]:
        """Say the newest vote again while it can still count: gossip has no memory."""
        tick = self.last_tick()
        if tick <= self._tick or self._is_over(tick, now):
            return []
        if now < self._repeat_at:
            self._wake(self._repeat_at)
            return []
        self._repeats += 1
        wait = self._tick_ms * min(1 << min(self._repeats, 8), REPEAT_TICKS_MAX)
        self._repeat_at = now + wait
        self._wake(self._repeat_at)
        return [self._publish(self._own[tick])]

    def say_again(self, now: int) -> None:
        """Somebody new is connected, who has not heard the newest vote."""
        self._repeats, self._repeat_at = 0, min(self._repeat_at, now)

    # Checkpoints

    def _bring(self, account: Address, standing: Standing, now: int) -> list[Effect]:
        """Bring votes of two thirds into the log, in the order of rank."""
        totals = standing.draft.totals
        for tick in sorted(self._rounds):
            round = self._rounds[tick]
            best = round.best()
            if best is None or not totals.bonded or 3 * best[1] < 2 * totals.bonded:
                continue
            if not self._is_folded(best[0], totals.final, standing):
                continue
            round.enough_at = now if round.enough_at is None else round.enough_at
            at = round.enough_at + self._rank(account, tick) * self._tick_ms // 4
            if round.brought is not None:
                if len(round.votes) == round.brought_votes:
                    continue
                at = round.brought_at + 4 * self._tick_ms  # it was refused, or is on its way
            if now < at:
                self._wake(at)
                continue
            return self._bring_round(tick, round, best[0], now)
        return []

    def _bring_round(self, tick: int, round: _Round, content: Content, now: int) -> list[Effect]:
        votes = sorted(
            (vote.key, vote.signature)
            for vote in round.votes.values()
            if content_of(vote) == content
        )
        tx = Checkpoint(tick, *content, tuple(votes[:VOTES_MAX]))
        item = transaction_item(self._ledger, tx, self._key, self._sign)
        round.brought_at, round.brought_votes = now, len(round.votes)
        try:
            effects = self._post(item, now)
        except Invalid as error:
            return [Alarm(error.reason, self._ledger, error.detail)]
        before, round.brought = round.brought, item.id
        return effects + ([] if before is None else self._forget(before))

    # Time

    def _wake(self, at: int) -> None:
        self._wake_at = at if self._wake_at is None else min(at, self._wake_at)

    def _arm(self, now: int) -> list[Effect]:
        if self._wake_at is None:
            return []
        at = max(self._wake_at, now + 1)
        if self._armed is not None and now < self._armed <= at:
            return []
        self._armed = at
        return [SetTimer(TIMER, at)]


def _row(vote: Vote) -> Persist:
    return Persist(Table.SIGN_ONCE, keyspace.vote_key(vote.tick), vote.encode())
