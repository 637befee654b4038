"""The demo itself: five nodes, a process, transfers, and every result checked by the client."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import trio

from aonode.client import Client
from aonode.crypto.signers import Ed25519Signer
from aonode.demo.show import Show
from aonode.demo.workload import Transfer, Workload, balances_of, expected, plan
from aonode.env import ProductionEnv
from aonode.http_transport import http_client
from aonode.local_network import LocalNetwork
from aonode.log_check import Replayed, check_process, replay_process
from aonode.service import Paths, make_engine
from aonode.store.level import LevelStore
from aonode.verify_result import VerifiedReceipt
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.wire.item import Item
from protocols.wire.outcome import Status

CLIENTS = 8
BUNDLE_ITEMS = 10
"""Transfers of one POST: small, so that a person sees messages flow."""
SHOWN_ONE_BY_ONE = 3
"""Messages that are sent alone, each station on a line of its own."""
SCHEDULE_POLL_S = 0.01
PAGE_WAIT_MS = 2000
DEADLINE_S = 300.0
"""Longest that the messages may take from the first POST to the last receipt."""

Http = Callable[[], httpx.AsyncClient]
"""Makes what carries the client's requests; tests put a liar there."""


@dataclass(slots=True)
class Trace:
    """One message on its way; times are seconds on trio's clock."""

    number: int
    what: str
    sent: float
    accepted: float = 0.0
    slot: int = -1
    scheduled: float = 0.0
    receipts: dict[str, VerifiedReceipt] = field(default_factory=dict)
    verified: dict[str, float] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """From the POST to the last verified receipt."""
        return 1000 * (max(self.verified.values()) - self.sent)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `--json` prints."""

    messages: int
    scheduled: int
    results: int
    cus: int
    roots_equal: bool
    replay_equal: bool
    verified: bool
    p50_ms: float
    p99_ms: float
    messages_per_s: float


class Demo:
    """One run against a network that is up."""

    def __init__(
        self,
        network: LocalNetwork,
        workload: Workload,
        show: Show,
        *,
        messages: int,
        http: Http | None = None,
    ) -> None:
        self._local = network
        self._workload = workload
        self._show = show
        self._messages = messages
        self._env = ProductionEnv()
        self.signers = [Ed25519Signer(self._env.entropy("key", 32)) for _ in range(CLIENTS)]
        self._http = (http or _http)()
        self._clients = [self._client(signer) for signer in self.signers]
        self._cus = {node.name: node.urls["compute"] for node in network.of("compute")}
        self._traces: dict[ItemId, Trace] = {}
        self._rows: dict[str, list[VerifiedReceipt]] = {name: [] for name in self._cus}
        self._arrived = trio.Condition()
        self.process = ProcessId(b"")

    def _client(self, signer: Ed25519Signer) -> Client:
        return Client(
            self._local.network,
            signer=signer,
            env=self._env,
            mu_url=self._local.urls("messenger")[0],
            su_url=self._local.urls("scheduler")[0],
            cu_urls=self._local.urls("compute"),
            http=self._http,
        )

    async def run(self) -> Callable[[Replayed], Summary]:
        """Send everything, verify everything. What is missing then is the replay, which needs
        a stopped node. Raises Invalid, naming the message, at the first thing that is wrong."""
        async with self._http:
            await self._spawn()
            transfers = plan(self._messages, CLIENTS)
            with trio.move_on_after(DEADLINE_S) as deadline:
                await self._send_and_read(transfers)
            if deadline.cancelled_caught:
                raise Invalid(Reason.TIMEOUT, self._unfinished())
            self._check_agreement()
            await self._check_balances(transfers)
        return partial(self._summary)

    async def _spawn(self) -> None:
        owner, workload = self._clients[0], self._workload
        wasm = await self._env.offload(workload.module)
        self._show.title(f"Spawn: {workload.name}")
        start = trio.current_time()
        module = await owner.publish_module(wasm, workload.format)
        self._show.station("mu", f"module {b64url(module)}", ms=_since(start))
        self.process = await owner.spawn(module, workload.spawn_tags)
        self._show.station("mu", f"process {b64url(self.process)}", ms=_since(start))
        quorum = len(self._cus)
        boot = await owner.result(self.process, ItemId(self.process), quorum=quorum)
        self._expect_ok(boot.status, boot.error, ItemId(self.process))
        self._show.station("cu", f"{quorum} verified receipts", slot=0, ms=_since(start))
        for tags, data in workload.setup:
            message = await owner.send(self.process, tags, data)
            result = await owner.result(self.process, message, quorum=quorum)
            self._expect_ok(result.status, result.error, message)
            what = f"set-up message, {quorum} verified receipts: {result.output[:60]}"
            self._show.station("cu", what, slot=result.nonce, ms=_since(start))

    async def _send_and_read(self, transfers: Sequence[Transfer]) -> None:
        """Readers of scheduler and compute units run beside the sending."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_schedule)
                for name, url in self._cus.items():
                    nursery.start_soon(self._read_results, name, url)
                self._show.title(f"{SHOWN_ONE_BY_ONE} transfers, station by station")
                for number, transfer in enumerate(transfers[:SHOWN_ONE_BY_ONE], 1):
                    await self._send([(number, transfer)])
                    await self._finished()
                rest = list(enumerate(transfers, 1))[SHOWN_ONE_BY_ONE:]
                self._show.title(f"{len(rest)} transfers in bundles; ms after each POST")
                funded = min(len(rest), max(0, CLIENTS - 1 - SHOWN_ONE_BY_ONE))
                await self._send(rest[:funded])
                await self._finished()
                for start in range(funded, len(rest), BUNDLE_ITEMS):
                    await self._send(rest[start : start + BUNDLE_ITEMS])
                await self._finished()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            refused, rest_of_it = group.split(Invalid)
            if refused is None or rest_of_it is not None:
                raise
            raise _first(refused) from None

    async def _send(self, numbered: Sequence[tuple[int, Transfer]]) -> None:
        if not numbered:
            return
        items: list[Item] = []
        now = trio.current_time()
        for number, transfer in numbered:
            recipient = b64url(self.signers[transfer.recipient].address)
            tags = self._workload.transfer(recipient, transfer.quantity)
            item = self._clients[transfer.sender].message(self.process, tags)
            items.append(item)
            what = f"client {transfer.sender} pays client {transfer.recipient} {transfer.quantity}"
            self._traces[item.id] = Trace(number, what, now)
        if len(items) == 1:
            what = f"signed {b64url(items[0].id)}: {self._traces[items[0].id].what}"
            self._show.station("client", what, ms=_since(now))
            await self._clients[0].submit(items[0])
        else:
            await self._clients[0].submit_many(items)
        for item in items:
            self._traces[item.id].accepted = trio.current_time()
        if len(items) == 1:
            self._show.station("mu", "202: durable, will be scheduled", ms=_since(now))

    async def _read_schedule(self) -> None:
        """Follow the scheduler's own log page by page."""
        after = -1
        while True:
            page = await self._clients[0].schedule(self.process, after=after)
            for nonce, message in page:
                after = nonce
                trace = self._traces.get(message)
                if trace is not None and not trace.scheduled:
                    trace.slot, trace.scheduled = after, trio.current_time()
                    if trace.number <= SHOWN_ONE_BY_ONE:
                        ms = _since(trace.sent)
                        self._show.station("su", "assigned, signed once", slot=after, ms=ms)
            async with self._arrived:
                self._arrived.notify_all()
            await trio.sleep(SCHEDULE_POLL_S)

    async def _read_results(self, name: str, url: str) -> None:
        """Follow one compute unit's results, verified as they come."""
        rows, client = self._rows[name], self._clients[0]
        while True:
            page = await client.page(
                self.process,
                url,
                after=len(rows) - 1,
                wait_ms=PAGE_WAIT_MS,
                sent=self._traces.keys(),
            )
            for row in page:
                rows.append(row)
                trace = self._traces.get(row.slot.message.id)
                if trace is not None:
                    self._seen(trace, name, row)
            async with self._arrived:
                self._arrived.notify_all()

    def _seen(self, trace: Trace, name: str, row: VerifiedReceipt) -> None:
        trace.receipts[name] = row
        trace.verified[name] = trio.current_time()
        status = Status(row.receipt.leaf.status).name
        if trace.number <= SHOWN_ONE_BY_ONE:
            what = f"{status}, receipt verified"
            self._show.station(name, what, slot=row.receipt.slot, ms=_since(trace.sent))
        elif len(trace.receipts) == len(self._cus):
            times = {"mu": trace.accepted, "su": trace.scheduled, **trace.verified}
            shown = {where: 1000 * (at - trace.sent) for where, at in times.items() if at}
            self._show.passed(trace.number, row.receipt.slot, shown, f"{status}  {trace.what}")

    async def _finished(self) -> None:
        """Wait until everything sent so far has its slot and all receipts."""
        async with self._arrived:
            while not all(
                trace.scheduled and len(trace.receipts) == len(self._cus)
                for trace in self._traces.values()
            ):
                await self._arrived.wait()

    def _unfinished(self) -> str:
        late = [id for id, t in self._traces.items() if len(t.receipts) < len(self._cus)]
        first = f"message {b64url(late[0])}" if late else "the scheduler's page"
        return f"{len(late)} messages are not done after {DEADLINE_S:g} s; the first is {first}"

    def _check_agreement(self) -> None:
        """All units say the same of every slot, and every transfer went through."""
        verifier = self._clients[0].verifier
        for slots in zip(*self._rows.values(), strict=False):
            verifier.agree(slots, quorum=len(self._cus))
        for id, trace in self._traces.items():
            result = verifier.agree(list(trace.receipts.values()), quorum=len(self._cus))
            self._expect_ok(result.status, result.error, id)

    def _expect_ok(self, status: Status, error: str, message: ItemId) -> None:
        if status is not Status.OK:
            raise Invalid(
                Reason.MISMATCH, f"message {b64url(message)} ended as {status.name}: {error}"
            )

    async def _check_balances(self, transfers: Sequence[Transfer]) -> None:
        """Ask the process for its balances and compare with what they must be."""
        owner = self._clients[0]
        message = await owner.send(self.process, self._workload.balances)
        result = await owner.result(self.process, message, quorum=len(self._cus))
        self._expect_ok(result.status, result.error, message)
        addresses = [b64url(signer.address) for signer in self.signers]
        wanted, found = expected(transfers, addresses), balances_of(result)
        if found != wanted:
            raise Invalid(
                Reason.MISMATCH,
                f"message {b64url(message)}: balances are {found}, the client expects {wanted}",
            )
        self._show.title("Balances, verified and as the client expects")
        for number, address in enumerate(addresses):
            self._show.say(f"  client {number}  {address}  {wanted.get(address, 0)}")

    def _summary(self, replayed: Replayed) -> Summary:
        """Compare the replay with what the units signed, and add everything up."""
        traces = self._traces.values()
        roots = [
            [(row.receipt.head, row.receipt.mmr_root, row.receipt.leaf.root) for row in rows]
            for rows in self._rows.values()
        ]
        common = min(map(len, roots))
        signed = [row.receipt.leaf.hash() for row in next(iter(self._rows.values()))]
        first, last = min(t.sent for t in traces), max(max(t.verified.values()) for t in traces)
        latencies = sorted(trace.latency_ms for trace in traces)
        return Summary(
            messages=len(traces),
            scheduled=len({trace.slot for trace in traces if trace.slot >= 0}),
            results=sum(len(trace.receipts) for trace in traces),
            cus=len(self._cus),
            roots_equal=all(each[:common] == roots[0][:common] for each in roots),
            replay_equal=list(replayed.leaves[: len(signed)]) == signed,
            verified=all(len(trace.receipts) == len(self._cus) for trace in traces),
            p50_ms=round(statistics.median(latencies), 1),
            p99_ms=round(latencies[(99 * len(latencies)) // 100], 1),
            messages_per_s=round(len(latencies) / (last - first), 1),
        )


def replay_from_disk(local: LocalNetwork, name: str, process: ProcessId) -> Replayed:
    """Check the log of a stopped node and evaluate it again. Blocks; raises Invalid."""
    paths: Paths = local.nodes[name].data
    db = LevelStore(paths.db)
    try:
        check_process(db, local.network, process)
        return replay_process(db, local.network, make_engine(local.network, paths.code), process)
    finally:
        db.close()


def _http() -> httpx.AsyncClient:
    return http_client(timeout_s=30.0)


def _since(start: float) -> float:
    """Milliseconds since `start`."""
    return 1000 * (trio.current_time() - start)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
