"""The demo of a lie: from a wrong answer, by way of evidence on the ledger, to a burnt stake.

One of the compute units is run by `aonode.demo.liar`. Everything that is told here is read from
the nodes' own ports; nothing of it is decided by the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from aonode.asking import Asker
from aonode.client import Client
from aonode.crypto.signers import Ed25519Signer
from aonode.demo.show import Show
from aonode.demo.workload import Workload, balances_of
from aonode.env import Env
from aonode.http_transport import http_client
from aonode.local_network import LocalNetwork
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, address_of, b64url, unb64url
from protocols.wire.item import Item
from protocols.wire.outcome import Status

POLL_S = 0.1
DEADLINE_S = 240.0
"""Longest from the lie to the burnt stake on every node: a demand window and its checkpoints."""
FUNDED = 5
QUESTIONS = 3
"""Asked one after another, so that one at least is not the last slot of its segment."""
BUNDLE_ITEMS = 16
TOLD = ("verdict", "frozen", "burnt", "expired")
"""Notes of the ledger worth a line."""
STEPS = ("Evidence-Commit", "Evidence-Part", "Evidence-Reveal", "Demand", "Reply")


@dataclass(slots=True)
class Caught:
    """What `--json` prints."""

    lie: str
    warned: bool = False
    """A client that asked all units was told that they disagree, or that one says nonsense."""
    detected: bool = False
    """A watcher holds the statement against the unit."""
    slashed_units: list[str] = field(default_factory=list)
    """Names of the nodes whose stake is burnt."""
    honest_slashed: int = 0
    verdicts_equal: bool = False
    """Every node's port shows the same cases, under the same ledger root."""
    ledger_roots: dict[str, str] = field(default_factory=dict)
    """By node, all after the same slot."""
    seconds_to_freeze: float = 0.0
    """From the first wrong answer to the frozen stake."""
    seconds_to_burn: float = 0.0
    evidence_bytes: int = 0
    burnt: int = 0
    """Base units that the liar lost."""

    @property
    def passed(self) -> bool:
        """Whether the liar, and nobody else, was caught."""
        honest = not self.honest_slashed and self.verdicts_equal
        return self.warned and self.detected and honest and len(self.slashed_units) == 1


class LiarDemo:
    """One run against a network in which the node `liar` lies."""

    def __init__(
        self,
        local: LocalNetwork,
        workload: Workload,
        show: Show,
        env: Env,
        *,
        liar: str,
        lie: str,
        signer: Ed25519Signer,
        module: Item,
    ) -> None:
        self._local = local
        self._workload = workload
        self._show = show
        self._module = module
        self._signer = signer
        self._env = env
        self._liar = liar
        self._http = http_client(timeout_s=30.0)
        self._asker = Asker(self._http)
        self._urls = {name: next(iter(node.urls.values())) for name, node in local.nodes.items()}
        cus = {node.name: node.urls["compute"] for node in local.of("compute")}
        self._watchers = {name: url for name, url in cus.items() if name != liar}
        self._honest = self._client(list(self._watchers.values()))
        self._fooled = self._client([cus[liar]])
        self._careful = self._client(list(cus.values()))
        self._start = 0.0
        self._told: set[tuple[Any, ...]] = set()
        self.caught = Caught(lie)

    def _client(self, cu_urls: Sequence[str]) -> Client:
        return Client(
            self._local.network,
            signer=self._signer,
            env=self._env,
            mu_url=self._local.urls("messenger")[0],
            su_url=self._local.urls("scheduler")[0],
            cu_urls=cu_urls,
            http=self._http,
        )

    async def run(self) -> Caught:
        """Raises Invalid if something is wrong that is not the lie, or nothing comes of it."""
        async with self._http:
            process = await self._spawn()
            for _ in range(QUESTIONS):
                await self._ask(process)
            await self._fill_block(process)
            with trio.move_on_after(DEADLINE_S) as deadline:
                await self._watch()
                await self._compare()
            if deadline.cancelled_caught:
                raise Invalid(
                    Reason.TIMEOUT, f"the lie is not punished after {DEADLINE_S:g} s; {self._told}"
                )
        return self.caught

    # The lie

    async def _spawn(self) -> ProcessId:
        self._show.title(f"Spawn: {self._workload.name}, as every unit sees it")
        honest = self._honest
        module = await honest.publish(self._module)
        process = await honest.spawn(module, self._workload.spawn_tags)
        boot = await honest.result(process, ItemId(process), quorum=len(self._watchers))
        self._expect_ok(boot.status, boot.error)
        for tags, data in self._workload.setup:
            message = await honest.send(process, tags, data)
            result = await honest.result(process, message, quorum=len(self._watchers))
            self._expect_ok(result.status, result.error)
        for number in range(FUNDED):
            recipient = b64url(address_of(b"account %d" % number))
            await honest.send(process, self._workload.transfer(recipient, 1000 + number))
        self._show.say(f"  process {b64url(process)}: {FUNDED} accounts funded")
        return process

    def _expect_ok(self, status: Status, error: str) -> None:
        if status is not Status.OK:
            raise Invalid(Reason.MISMATCH, f"the set-up ended as {status.name}: {error}")

    async def _ask(self, process: ProcessId) -> None:
        """One question for all balances: what the honest units say, what the liar says, and what
        a client hears that asks them all."""
        message = await self._honest.send(process, self._workload.balances)
        right = await self._honest.result(process, message, quorum=len(self._watchers))
        self._start = self._start or trio.current_time()
        self._show.title(f"Slot {right.nonce}: what are the balances?")
        names = " and ".join(self._watchers)
        self._show.say(f"  {names:12} {_held(balances_of(right))}")
        try:
            told = await self._fooled.result(process, message)
            self._show.say(f"  {self._liar:12} {_held(balances_of(told))}")
            said = told.raw != right.raw
        except Invalid as refused:
            self._show.say(f"  {self._liar:12} does not verify: {refused.detail}")
            said = True
        if not said:
            return
        try:
            await self._careful.result(process, message, quorum=len(self._watchers) + 1)
        except Invalid as refused:
            self.caught.warned = True
            self._show.say(f"  a client that asks all is warned: {refused.detail}")
        await self._hand_over(message)

    async def _hand_over(self, message: ItemId) -> None:
        """The client gives the liar's receipt to those who watch: it may be all there is."""
        answer = await self._asker.get(f"{self._fooled.cu_urls[0]}/proof/{b64url(message)}")
        statement = unb64url(str(answer["receipt"]))
        for name, url in self._watchers.items():
            told = await self._asker.post(f"{url}/challenges", statement)
            self._show.say(f"  the client hands its receipt to {name}: {told['kind']} taken")

    async def _fill_block(self, process: ProcessId) -> None:
        """Reach the end of a proof block, where units state all its slots with one signature."""
        recipient = b64url(address_of(b"account 0"))
        tags = self._workload.transfer(recipient, 1)
        count = self._local.network.parameters.proof_every
        self._show.title(f"{count} more transfers: the units seal a proof block")
        for start in range(0, count, BUNDLE_ITEMS):
            items = [
                self._honest.message(process, tags) for _ in range(start, start + BUNDLE_ITEMS)
            ]
            await self._honest.submit_many(items)

    # What becomes of it

    async def _watch(self) -> None:
        """Tell what watchers and ledger say, until the liar's stake is burnt."""
        self._show.title("What becomes of it; seconds since the wrong answer")
        address = b64url(address_of(self._local.nodes[self._liar].key))
        slot = 0
        while True:
            for name, url in self._watchers.items():
                for case in (await self._asker.get(f"{url}/challenges"))["challenges"]:
                    self._tell_case(name, case)
            page = await self._asker.get(f"{self._urls['mu']}/ledger/slots?from={slot}")
            for row in page["slots"]:
                slot = row["slot"] + 1
                self._tell_slot(row)
            cases = (await self._asker.get(f"{self._urls['mu']}/ledger/cases"))["cases"]
            mine = [case for case in cases if case["account"] == address]
            if mine and not self.caught.seconds_to_freeze:
                self.caught.seconds_to_freeze = self._since()
            if mine and mine[0]["burnt_tick"] is not None:
                self.caught.seconds_to_burn = self._since()
                self.caught.burnt = mine[0]["amount"]
                return
            await trio.sleep(POLL_S)

    def _tell_case(self, name: str, case: dict[str, Any]) -> None:
        self.caught.detected = True
        size = int(case.get("evidence_bytes") or 0)
        self.caught.evidence_bytes = max(self.caught.evidence_bytes, size)
        key = (name, case["statement"], case["stage"])
        if key not in self._told:
            self._told.add(key)
            shown = f", {size} bytes of evidence" if size else ""
            self._say(name, f"{case['stage']}{shown}: {case.get('reason', '')}")

    def _tell_slot(self, row: dict[str, Any]) -> None:
        notes = [note for note in row["notes"] if note["kind"] in TOLD]
        if row["action"] in STEPS:
            refused = [note for note in row["notes"] if note["kind"] == "refused"]
            why = f", refused: {refused[0]['detail']}" if refused else ""
            sender = self._name(row["sender"])
            self._say("ledger", f"slot {row['slot']}: {row['action']} by {sender}{why}")
        for note in notes:
            detail = note["detail"]
            for name, node in self._local.nodes.items():
                detail = detail.replace(b64url(address_of(node.key)), name)
            self._say("ledger", f"slot {row['slot']}: {note['kind']}: {detail}")

    def _say(self, where: str, what: str) -> None:
        self._show.say(f"  {self._since():6.1f} s  {where:7} {what}")

    def _since(self) -> float:
        return round(trio.current_time() - self._start, 1)

    def _name(self, address: str) -> str:
        for name, node in self._local.nodes.items():
            if b64url(address_of(node.key)) == address:
                return name
        return address

    async def _compare(self) -> None:
        """Read every node's own port until all show the same slot; then all must be the same."""
        self._show.title("The ledger, as every node's own port shows it")
        while True:
            seen = {}
            for name, url in self._urls.items():
                state = await self._asker.get(f"{url}/ledger")
                cases = (await self._asker.get(f"{url}/ledger/cases"))["cases"]
                seen[name] = state["slot"], state["root"], cases
            slots = {slot for slot, _, _ in seen.values()}
            burnt = [any(case["burnt_tick"] for case in cases) for _, _, cases in seen.values()]
            if len(slots) == 1 and all(burnt):
                break
            await trio.sleep(POLL_S)
        slot = next(iter(seen.values()))[0]
        self.caught.ledger_roots = {name: root for name, (_, root, _) in seen.items()}
        first = seen["mu"]
        self.caught.verdicts_equal = all(each == first for each in seen.values())
        for name, (_, root, cases) in seen.items():
            slashed = ", ".join(self._name(case["account"]) for case in cases)
            self._show.say(f"  {name:7} slot {slot}  root {root}  slashed: {slashed}")
        self.caught.slashed_units = [self._name(case["account"]) for case in first[2]]
        self.caught.honest_slashed = sum(name != self._liar for name in self.caught.slashed_units)


def _held(balances: dict[str, int]) -> str:
    """Balances in one short line."""
    return "  ".join(f"{account[:6]}… {amount}" for account, amount in sorted(balances.items()))
