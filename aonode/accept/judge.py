"""Asks several units and nodes what it takes to accept a result (`aonode.accept.decision`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from aonode.accept.decision import Acceptance, Mode, Public, Said, count, harden, weigh
from aonode.accept.exposure import Entry, ExposureFile
from aonode.accept.ledger_client import LedgerClient
from aonode.accept.light_client import Final, follow
from aonode.client import Client
from aonode.crypto.verify import verify_ed25519
from aonode.verify_result import Evidence, VerifiedReceipt, VerifiedResult
from protocols.accumulator import Mmr
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NodeKey, ProcessId, b64url, parse_id, unb64url
from protocols.ledger.entries import Demanded
from protocols.ledger.light import Trusted
from protocols.network import Network
from protocols.wire.evidence import CLAIM_SLOTS_MAX
from protocols.wire.proof import Receipt, StateProof

ANSWERS_S_MAX = 25.0
"""How long all units have: more than the ten seconds one waits for a slot, and as many for its
evaluation."""
DEMANDS_MAX = 64
"""Open demands looked at for one result."""


class Staked:
    """The keys whose receipts are looked at: listed ones, and those with a stake."""

    def __init__(self, network: Network, trusted: Trusted) -> None:
        self.trusted = trusted
        self._listed = frozenset(unit.key for unit in network.units if "compute" in unit.roles)

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes), "keys are bytes"
        stake = self.trusted.stake(self.trusted.account_of(NodeKey(key)))
        return key in self._listed or stake > 0


@dataclass(slots=True)
class Answers:
    """What the units of one process say about one message."""

    said: list[Said] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    """Why a unit says nothing that can be used, by its address."""

    @property
    def verified(self) -> list[VerifiedReceipt]:
        """Answers in which everything fits."""
        return [each.answer for each in self.said if each.answer is not None]


class Accepting:
    """Judges results for one client."""

    def __init__(
        self, client: Client, ledger: LedgerClient, trusted: Trusted, exposures: ExposureFile
    ) -> None:
        """`client` asks the compute units; its verifier is told whose word counts here."""
        self.network = client.network
        self.trusted = trusted
        """As of the last question; to be saved by whoever gave it."""
        self.answers = Answers()
        self.final: Final | None = None
        self._client = client
        self._ledger = ledger
        self._exposures = exposures
        self._staked = Staked(client.network, trusted)
        client.verifier.cu_keys = self._staked
        self._included: dict[tuple[bytes, bytes], bool] = {}
        self._handed: dict[bytes, dict[str, Any]] = {}

    async def judge(
        self, process: ProcessId, message: ItemId, mode: Mode, *, quorum: int, value: int
    ) -> tuple[Acceptance, VerifiedResult | None]:
        """Whether the result may be accepted now; the result, if it may.

        A soft acceptance is written down. Statements that contradict each other are handed to
        every watcher known. Raises Invalid where the ledger or all units cannot be asked.
        """
        await self._follow(())
        self.answers = await self._ask(process, message)
        acceptance = Acceptance(mode, quorum, value, self.trusted.tick)
        if self.final is not None and self.final.old:
            acceptance.warnings.append(
                "the stakes known before are older than the unbonding time: who has signed the "
                "checkpoint may have withdrawn long ago; compare it with somebody you trust"
            )
        acceptance.warnings += [each.flaw for each in self.answers.said if each.flaw]
        count(acceptance, self.answers.said, self.trusted)
        await self._hand_over(acceptance)
        if acceptance.disagree:
            return acceptance, None
        if not self.answers.verified:
            raise Invalid(
                Reason.UNAVAILABLE,
                f"no unit has a result of message {b64url(message)} that verifies: "
                f"{'; '.join(self.answers.silent.values())[:1000]}",
            )
        if mode is Mode.HARD:
            await self._hard(acceptance, process)
        else:
            self._soft(acceptance, process, message)
        acceptance.accepted = not acceptance.reasons
        if not acceptance.accepted:
            return acceptance, None
        chosen = [each.answer for each in acceptance.counted if each.answer is not None]
        return acceptance, self._client.verifier.agree(chosen, quorum=quorum)

    async def _follow(self, wanted: Sequence[bytes]) -> Final:
        """The newest final checkpoint, and what it says of demands with these ids."""
        final = await follow(self._ledger, self.trusted, [(Demanded, id) for id in wanted])
        self.final, self.trusted, self._staked.trusted = final, final.trusted, final.trusted
        return final

    # Units

    async def _ask(self, process: ProcessId, message: ItemId) -> Answers:
        """Every unit's answer, all asked at once."""
        answers = Answers()
        await self._client.know(process)

        async def ask(url: str) -> None:
            try:
                edge = await self._client.asker.get(f"{url}/proof/{b64url(message)}")
                evidence = Evidence.of_json(edge)
            except Invalid as error:
                answers.silent[url] = error.detail
                return
            try:
                answer = self._client.verifier.check(process, evidence, message=message)
            except Invalid as error:
                answers.silent[url] = error.detail
                self._flawed(answers, url, evidence, error.detail)
                return
            answers.said.append(self._said(url, evidence, answer.receipt, answer))

        with trio.move_on_after(ANSWERS_S_MAX):
            async with trio.open_nursery() as nursery:
                for url in self._client.cu_urls:
                    nursery.start_soon(ask, url)
        slots = {each.receipt.slot for each in answers.verified}
        order = {url: place for place, url in enumerate(self._client.cu_urls)}
        # What is signed about another slot contradicts nobody here.
        answers.said = sorted(
            (
                each
                for each in answers.said
                if each.receipt.process == process and each.receipt.slot in slots
            ),
            key=lambda each: order[each.url],
        )
        return answers

    def _flawed(self, answers: Answers, url: str, evidence: Evidence, why: str) -> None:
        """Something does not fit; but a signed receipt is a word that is given."""
        try:
            receipt = Receipt.decode(evidence.receipt)
        except Invalid:
            return
        network = (receipt.network, receipt.profile) == (self.network.id, self.network.profile)
        message = receipt.signing_bytes()
        if network and verify_ed25519(receipt.cu, message, receipt.signature):
            answers.said.append(self._said(url, evidence, receipt, None, why))

    def _said(
        self,
        url: str,
        evidence: Evidence,
        receipt: Receipt,
        answer: VerifiedReceipt | None,
        flaw: str = "",
    ) -> Said:
        account = self.trusted.account_of(receipt.cu)
        return Said(url, receipt, evidence, answer, flaw, account, self.trusted.stake(account))

    async def _hand_over(self, acceptance: Acceptance) -> None:
        """Give watchers what is wrong: each statement once."""
        right = {each.claim for each in acceptance.counted}
        wrong = [*acceptance.disagree] + [
            each for each in self.answers.said if right and each.claim not in right
        ]
        for each in wrong:
            raw = each.evidence.receipt
            if raw not in self._handed:
                (self._handed[raw],) = await self._ledger.accuse([raw])
        acceptance.handed_over = list(self._handed.values())

    # Soft

    def _soft(self, acceptance: Acceptance, process: ProcessId, message: ItemId) -> None:
        accounts = [each.account for each in acceptance.counted]
        tick = acceptance.tick
        with self._exposures.locked():
            exposed = self._exposures.read(tick).behind(accounts, process, message)
            weigh(acceptance, exposed, self.network.parameters)
            if acceptance.reasons or not acceptance.value:
                return
            until = tick + 1 + self.network.parameters.challenge_window
            names = tuple(b64url(account) for account in accounts)
            entry = Entry(b64url(process), b64url(message), acceptance.value, tick, until, names)
            self._exposures.add(entry, tick)

    # Hard

    async def _hard(self, acceptance: Acceptance, process: ProcessId) -> None:
        weigh(acceptance, 0, self.network.parameters)
        if acceptance.reasons:
            return
        heard = await self._heard(process, acceptance.counted[0].receipt.slot)
        public = [await self._public(each, heard) for each in acceptance.counted]
        demanded = await self._demanded({each.account for each in acceptance.counted})
        acceptance.tick = self.trusted.tick
        harden(acceptance, public, demanded, self.network.parameters)

    async def _heard(
        self, process: ProcessId, slot: int
    ) -> list[tuple[bytes, list[tuple[StateProof, int]]]]:
        """For each node that answers its key, and the state proofs over `slot` it has heard,
        with the tick when it did. What it says of itself is taken as it is."""
        path, query = f"/proofs/{b64url(process)}", {"from": slot}
        nodes = []
        for _, answer in await self._ledger.ask_all(path, query):
            try:
                key = parse_id(str(answer.get("key")), "node key")
                rows = [_heard_row(row) for row in answer["proofs"]]
            except (Invalid, KeyError, TypeError):
                continue  # a node that answers nonsense counts as one that does not answer
            nodes.append((key, [row for row in rows if row[0].first <= slot <= row[0].last]))
        return nodes

    async def _public(
        self, said: Said, heard: Sequence[tuple[bytes, Sequence[tuple[StateProof, int]]]]
    ) -> Public | None:
        """The earliest state proof of the unit that holds its result and that most nodes, the
        unit itself left out, have heard."""
        unit = said.receipt.cu
        others = [rows for key, rows in heard if key != unit]
        ticks: dict[StateProof, list[int]] = {}
        for rows in others:
            for proof, tick in rows:
                if proof.cu == unit and proof.process == said.receipt.process:
                    ticks.setdefault(proof, []).append(tick)
        found = []
        for proof, each in ticks.items():
            if 2 * len(each) > len(others) and await self._holds(proof, said.receipt):
                found.append(Public(proof.first, proof.last, max(each)))
        return min(found, key=lambda public: public.tick, default=None)

    async def _holds(self, proof: StateProof, receipt: Receipt) -> bool:
        """Whether a state proof is one of this network and states the receipt's leaf."""
        key = (proof.signature, receipt.leaf.hash())
        if key not in self._included:
            parameters = self.network.parameters
            try:
                proof.check(parameters)
            except Invalid:
                return False
            signed = verify_ed25519(proof.cu, proof.signing_bytes(), proof.signature)
            ours = (proof.network, proof.profile) == (self.network.id, self.network.profile)
            if not signed or not ours:
                return False
            if not await self._leads_to(proof, receipt):
                return False
            self._included[key] = True
        return True

    async def _leads_to(self, proof: StateProof, receipt: Receipt) -> bool:
        """Whether some unit knows leaves, the receipt's among them, that give the proof's roots."""
        if proof.last == receipt.slot:
            return proof.mmr_root == receipt.mmr_root
        query = {"from": proof.first, "to": proof.last}
        for url in self._client.cu_urls:
            try:
                path = f"{url}/leaves/{b64url(proof.process)}"
                answer = await self._client.asker.get(path, query)
                if holds_leaf(answer, proof, receipt):
                    return True
            except Invalid:
                continue  # another unit may know them
        return False

    async def _demanded(self, accounts: Collection[Address]) -> list[Address]:
        """Those against whom a demand is open, by the final ledger: whoever names one must have it
        proved, so nobody can invent one."""
        named: dict[bytes, None] = {}
        names = {b64url(account) for account in accounts}
        for _, answer in await self._ledger.ask_all("/ledger/demands"):
            rows = answer.get("demands")
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict) and str(row.get("accused")) in names:
                    named[parse_id(str(row.get("id")), "demand id")] = None
        ids = list(named)[:DEMANDS_MAX]
        final = await self._follow(ids)
        found = [final.entry(Demanded, id) for id in ids]
        return [each.accused for each in found if each is not None and not each.answered]


def holds_leaf(answer: dict[str, Any], proof: StateProof, receipt: Receipt) -> bool:
    """Whether the JSON of `/leaves` gives a state proof's roots with the receipt's leaf in it.
    Raises Invalid for what is no such JSON."""
    peaks, text = answer.get("peaks"), answer.get("leaves")
    if not isinstance(peaks, list) or not isinstance(text, str):
        raise Invalid(Reason.MALFORMED, "the answer has no peaks and leaves")
    blob = unb64url(text)
    leaves = [blob[at : at + 32] for at in range(0, len(blob), 32)]
    count = proof.last - proof.first + 1
    if len(blob) % 32 or len(leaves) != count or count > CLAIM_SLOTS_MAX:
        return False
    before = Mmr.of_value([proof.first, [parse_id(str(peak), "peak") for peak in peaks]])
    return (
        before.root() == proof.mmr_before
        and before.extend(leaves).root() == proof.mmr_root
        and leaves[receipt.slot - proof.first] == receipt.leaf.hash()
    )


def _heard_row(row: Any) -> tuple[StateProof, int]:
    tick = row["tick"]
    if not isinstance(tick, int) or tick < 0:
        raise Invalid(Reason.MALFORMED, f"{tick!r} is no tick")
    return StateProof.decode(unb64url(str(row["proof"]))), tick
