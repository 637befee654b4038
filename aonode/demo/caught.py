"""The demo of a lie: from a wrong answer, by way of evidence on the ledger, to a burnt stake.

One of the compute units is run by `aonode.cli.liar`. Everything that is told here is read from
the nodes' own ports; nothing of it is decided by the demo.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from aonode.accept.decision import Acceptance, Mode
from aonode.accept.exposure import ExposureFile
from aonode.accept.judge import Accepting
from aonode.accept.ledger_client import LedgerClient
from aonode.asking import Asker
from aonode.client import Client
from aonode.crypto.signers import Ed25519Signer
from aonode.demo.show import Show
from aonode.demo.workload import Workload, balances_of
from aonode.env import Env
from aonode.http_transport import http_client
from aonode.local_network import LocalNetwork
from aonode.verify_result import VerifiedResult
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, address_of, b64url
from protocols.ledger.light import at_genesis
from protocols.wire.item import Item
from protocols.wire.outcome import Status

POLL_S = 0.05
DEADLINE_S = 240.0
"""Longest from the lie to the burnt stake on every node: a demand window and its checkpoints."""
FUNDED = 10
"""Enough for the question to come after the first segment: evidence then needs the live state."""
QUESTIONS_MAX = 3
"""One of them at least is not the last slot of its segment."""
BUNDLE_ITEMS = 16
LINE_WIDTH = 480
SHOWN_ACCOUNTS = 5
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
    lost: int = 0
    """Base units that the liar lost."""

    @property
    def passed(self) -> bool:
        """Whether the liar, and nobody else, was caught."""
        honest = not self.honest_slashed and self.verdicts_equal
        return self.warned and self.detected and honest and len(self.slashed_units) == 1


class LiarDemo:
    """One run against a network in which the node `liar` lies. The client keeps its files in
    `root`."""

    def __init__(
        self,
        root: Path,
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
        self._accepting = Accepting(
            self._client(list(cus.values())),
            LedgerClient(local.network, self._asker, [*self._watchers.values()]),
            at_genesis(local.network),
            ExposureFile(root, local.network.id),
        )
        self._start = trio.current_time()
        self._burnt = trio.Event()
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
        async with self._http, trio.open_nursery() as nursery:
            with trio.move_on_after(DEADLINE_S) as deadline:
                process = await self._spawn()
                nursery.start_soon(self._tell)
                message = await self._questions(process)
                await self._fill_block(process)
                await self._burnt.wait()
                await self._compare()
                await self._ask_again(process, message)
            nursery.cancel_scope.cancel()
        if deadline.cancelled_caught:
            raise Invalid(Reason.TIMEOUT, f"the lie is not punished after {DEADLINE_S:g} s")
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

    async def _questions(self, process: ProcessId) -> ItemId:
        """Ask for all balances until the liar does not say the truth; that question."""
        for _ in range(QUESTIONS_MAX):
            message = await self._honest.send(process, self._workload.balances)
            right = await self._honest.result(process, message, quorum=len(self._watchers))
            self._show.title(f"Slot {right.nonce}: what are the balances?")
            names = " and ".join(self._watchers)
            self._show.say(f"  {names:12} {_held(balances_of(right), {})}")
            if await self._is_lied_to(process, message, right):
                return message
        raise Invalid(Reason.MISMATCH, f"{self._liar} told the truth {QUESTIONS_MAX} times")

    async def _is_lied_to(self, process: ProcessId, message: ItemId, right: VerifiedResult) -> bool:
        """Ask the liar alone, then all at once as somebody does who has money to lose."""
        self._start = trio.current_time()
        try:
            told = await self._fooled.result(process, message)
        except Invalid as refused:
            self.caught.warned = True
            self._show.say(f"  {self._liar:12} {self._named(refused.detail)}")
        else:
            said = _held(balances_of(told), balances_of(right))
            self._show.say(f"  {self._liar:12} {said}")
            if told.raw == right.raw:
                return False
        acceptance = await self._accept(process, message)
        self.caught.warned |= bool(acceptance.disagree)
        return True

    async def _accept(self, process: ProcessId, message: ItemId) -> Acceptance:
        """What a client does before it relies on a result: count the stakes behind it. If its
        signers disagree it hands what they signed to every watcher it knows."""
        asked = 2
        acceptance, _ = await self._accepting.judge(
            process, message, Mode.SOFT, quorum=asked, value=0
        )
        said = "accepts" if acceptance.accepted else "refuses"
        units = ", ".join(self._named(b64url(each.receipt.cu)) for each in acceptance.counted)
        behind = f" {units} with {acceptance.at_risk} at risk" if units else ""
        self._show.say(f"  a client that asks all, quorum {asked}, {said}:{behind}")
        for why in (*acceptance.reasons, *acceptance.warnings):
            self._show.say(f"    {textwrap.shorten(self._named(why), LINE_WIDTH)}")
        handed = acceptance.handed_over
        takers = sorted({str(url) for given in handed for url in given["taken_by"]})
        if handed:
            names = ", ".join(map(self._named, takers))
            self._show.say(f"    {len(handed)} receipts handed to the watchers {names}")
        return acceptance

    async def _ask_again(self, process: ProcessId, message: ItemId) -> None:
        """The same question, once a checkpoint after the verdict is final: the liar's word counts
        for nothing any more."""
        self._show.title("The client asks again")
        while True:
            try:
                acceptance = await self._accept(process, message)
            except Invalid as early:
                self._show.say(f"  not yet: {early.detail}")
            else:
                if acceptance.accepted:
                    return
            await trio.sleep(self._local.network.parameters.tick_ms / 1000)

    async def _fill_block(self, process: ProcessId) -> None:
        """Reach the end of a proof block, where units state all its slots with one signature."""
        recipient = b64url(address_of(b"account 0"))
        tags = self._workload.transfer(recipient, 1)
        count = self._local.network.parameters.proof_every
        self._say("client", f"sends {count} more transfers: the units seal a proof block")
        for start in range(0, count, BUNDLE_ITEMS):
            items = [
                self._honest.message(process, tags) for _ in range(start, start + BUNDLE_ITEMS)
            ]
            await self._honest.submit_many(items)

    # What becomes of it

    async def _tell(self) -> None:
        """Tell what watchers and ledger say as it happens, until the liar's stake is burnt."""
        address = b64url(address_of(self._local.nodes[self._liar].key))
        slot = 0
        while not self._burnt.is_set():
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
                self.caught.lost = mine[0]["amount"]
                self._burnt.set()
            await trio.sleep(POLL_S)

    def _tell_case(self, name: str, case: dict[str, Any]) -> None:
        self.caught.detected = True
        size = int(case.get("evidence_bytes") or 0)
        self.caught.evidence_bytes = max(self.caught.evidence_bytes, size)
        key = (name, case["statement"], case["stage"], case["deadline"])
        if key not in self._told:
            self._told.add(key)
            shown = f", {size} bytes of evidence" if size else ""
            what = f"{case['kind']} of {self._named(case['unit'])}"
            why = f": {self._named(case['why'])}" if case["why"] else ""
            self._say(name, f"{what} is {case['stage']}{shown}{why}")

    def _tell_slot(self, row: dict[str, Any]) -> None:
        notes = [note for note in row["notes"] if note["kind"] in TOLD]
        if row["action"] in STEPS:
            refused = [note for note in row["notes"] if note["kind"] == "refused"]
            why = f", refused: {refused[0]['detail']}" if refused else ""
            sender = self._named(row["sender"])
            self._say("ledger", f"slot {row['slot']}: {row['action']} by {sender}{why}")
        for note in notes:
            detail = self._named(note["detail"])
            self._say("ledger", f"slot {row['slot']}: {note['kind']}: {detail}")

    def _say(self, where: str, what: str) -> None:
        self._show.say(f"  {self._since():6.1f} s  {where:7} {what}")

    def _since(self) -> float:
        return round(trio.current_time() - self._start, 1)

    def _named(self, text: str) -> str:
        """Keys, addresses and ports of nodes as their names."""
        for name, node in self._local.nodes.items():
            text = text.replace(self._urls[name], name).replace(b64url(node.key), name)
            text = text.replace(b64url(address_of(node.key)), name)
        return text

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
            slashed = ", ".join(self._named(case["account"]) for case in cases)
            self._show.say(f"  {name:7} slot {slot}  root {root}  slashed: {slashed}")
        self.caught.slashed_units = [self._named(case["account"]) for case in first[2]]
        self.caught.honest_slashed = sum(name != self._liar for name in self.caught.slashed_units)


def _held(balances: dict[str, int], known: dict[str, int]) -> str:
    """Balances in one short line: those that are not known first."""
    order = sorted(balances.items(), key=lambda pair: (pair in known.items(), -pair[1], pair[0]))
    shown = "  ".join(f"{account[:6]}… {amount}" for account, amount in order[:SHOWN_ACCOUNTS])
    return f"{shown}  and {len(order) - SHOWN_ACCOUNTS} more"
