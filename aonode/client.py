"""A client that trusts no unit: it sends signed items and verifies every result it returns.

Messages get a random anchor, because Ed25519 is deterministic: without one, two equal messages
would be one.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Container, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx
import msgspec
import trio

from aonode.asking import Asker, refusal
from aonode.crypto.signers import ItemSigner, sign_item
from aonode.env import Env
from aonode.http_transport import http_client
from aonode.verify_result import Evidence, VerifiedReceipt, VerifiedResult, Verifier
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NodeKey, ProcessId, address_of, b64url, parse_id
from protocols.network import Network
from protocols.outbox import FORMAT_CBOR
from protocols.wire.bundle import encode_bundle
from protocols.wire.item import Item, Tag, decode_item

BUNDLE_ITEMS_MAX = 50
"""Items of one POST; a messenger takes no more."""
PAGE_LIMIT = 250
SCHEDULE_LIMIT = 250
NONCE_MAX = (1 << 63) - 1
TIMEOUT_S = 30.0
PAGE_WAIT_MS = 10_000
ANCHOR_BYTES = 32

Tags = Mapping[str, str] | Sequence[tuple[str, str]]
"""Tags in order; a mapping where no name repeats."""


def module_item(
    signer: ItemSigner, wasm: bytes, format: str, anchor: bytes, tags: Tags = ()
) -> Item:
    """A signed module. Its id is known before it is published: a network file can name it."""
    encoding = FORMAT_CBOR if format == FORMAT_CBOR else "JSON-1"
    own = {
        "Data-Protocol": "ao",
        "Variant": "ao.TN.1",
        "Type": "Module",
        "Module-Format": format,
        "Input-Encoding": encoding,
        "Output-Encoding": encoding,
        "Content-Type": "application/wasm",
    }
    all_tags = [Tag(name, value) for name, value in (*pairs(tags), *pairs(own))]
    return sign_item(signer, target=None, anchor=anchor, tags=all_tags, data=wasm)


class Client:
    """Talks to one messenger and several compute units of one network."""

    def __init__(
        self,
        network: Network,
        *,
        signer: ItemSigner,
        env: Env,
        mu_url: str,
        cu_urls: Sequence[str],
        su_url: str | None = None,
        cu_keys: Container[NodeKey] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """`http` carries the requests (its transport may be an application in memory); a client
        made here is closed by `aclose`. `cu_keys` as in `Verifier`."""
        self.network = network
        self.signer = signer
        self.mu_url = mu_url.rstrip("/")
        self.su_url = su_url.rstrip("/") if su_url else None
        self.cu_urls = tuple(url.rstrip("/") for url in cu_urls)
        self.verifier = Verifier(network, cu_keys)
        self._env = env
        self._owned = http is None
        self.asker = Asker(http or http_client(timeout_s=TIMEOUT_S))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._owned:
            await self.asker.aclose()

    # Sending

    async def publish_module(
        self, wasm: bytes, format: str = FORMAT_CBOR, tags: Tags = ()
    ) -> ItemId:
        """Upload a module; its id. Raises Invalid if it is refused."""
        anchor = self._env.entropy("anchor", ANCHOR_BYTES)
        return await self.publish(module_item(self.signer, wasm, format, anchor, tags))

    async def publish(self, module: Item) -> ItemId:
        """Upload a signed module item; its id. Raises Invalid if it is refused."""
        await self.asker.post(self.mu_url + "/tx", module.raw)
        return module.id

    async def spawn(self, module: bytes, tags: Tags = (), data: bytes = b" ") -> ProcessId:
        """Spawn a process; its id, once the messenger has promised to have it scheduled.

        Scheduler defaults to the network file's first scheduler, Authority to its messengers.
        """
        given = {name for name, _ in pairs(tags)}
        own = [
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Process"),
            ("Module", b64url(module)),
        ]
        units = self.network.units
        if "Scheduler" not in given:
            schedulers = [unit.address for unit in units if "scheduler" in unit.roles]
            own.append(("Scheduler", b64url((*schedulers, self.network.ledger_scheduler)[0])))
        if "Authority" not in given:
            messengers = [unit.address for unit in units if "messenger" in unit.roles]
            own += [("Authority", b64url(address)) for address in messengers]
        item = self.sign(tags, own, data=data)
        await self.submit(item)
        return ProcessId(item.id)

    async def send(self, process: ProcessId, tags: Tags = (), data: bytes = b" ") -> ItemId:
        """Send one message; its id, once the messenger has promised to have it scheduled."""
        item = self.message(process, tags, data)
        await self.submit(item)
        return item.id

    async def send_many(
        self, process: ProcessId, messages: Sequence[tuple[Tags, bytes]]
    ) -> list[ItemId]:
        """Send (tags, data) pairs in bundles, in order; their ids. Raises Invalid at the first
        that is refused."""
        items = [self.message(process, tags, data) for tags, data in messages]
        for start in range(0, len(items), BUNDLE_ITEMS_MAX):
            await self.submit_many(items[start : start + BUNDLE_ITEMS_MAX])
        return [item.id for item in items]

    async def submit(self, item: Item) -> None:
        """Hand in one signed item."""
        await self.asker.post(self.mu_url + "/", item.raw)

    async def submit_many(self, items: Sequence[Item]) -> None:
        """Hand in at most `BUNDLE_ITEMS_MAX` signed items in one request."""
        body = encode_bundle([item.raw for item in items])
        answer = await self.asker.post(self.mu_url + "/", body)
        for each in answer.get("items", ()):
            if "error" in each:
                raise refusal(each, f"item {each.get('id')} is refused")

    def message(self, process: ProcessId, tags: Tags = (), data: bytes = b" ") -> Item:
        """A signed message, not sent."""
        own = {"Data-Protocol": "ao", "Variant": "ao.TN.1", "Type": "Message"}
        return self.sign(tags, own, target=process, data=data)

    def sign(
        self, tags: Tags, own: Tags, *, target: bytes | None = None, data: bytes = b""
    ) -> Item:
        """An item with the caller's tags, then ours, and a random anchor."""
        return sign_item(
            self.signer,
            target=target,
            anchor=self._env.entropy("anchor", ANCHOR_BYTES),
            tags=[Tag(name, value) for name, value in (*pairs(tags), *pairs(own))],
            data=data,
        )

    # Reading

    async def result(
        self, process: ProcessId, message: ItemId, *, quorum: int = 1
    ) -> VerifiedResult:
        """The result of `message` on which `quorum` different units agree.

        All units are asked at once; the first `quorum` answers decide. Raises Invalid where one of
        them does not verify or two differ (never to be hidden), or where too few answer.
        """
        if not 0 < quorum <= len(self.cu_urls):
            raise Invalid(
                Reason.CONFIG, f"a quorum of {quorum} of {len(self.cu_urls)} compute units"
            )
        await self.know(process)
        checked: list[VerifiedReceipt] = []
        missing: list[Invalid] = []

        async def ask(url: str, enough: trio.CancelScope) -> None:
            try:
                edge = await self.asker.get(f"{url}/proof/{b64url(message)}")
            except Invalid as error:
                missing.append(error)
                return
            receipt = self.verifier.check(process, Evidence.of_json(edge), message=message)
            checked.append(receipt)
            if len({each.cu for each in checked}) >= quorum:
                enough.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for url in self.cu_urls:
                    nursery.start_soon(ask, url, nursery.cancel_scope)
        except BaseExceptionGroup as group:
            raise _first_invalid(group) from None
        if not checked:
            raise missing[0]
        return self.verifier.agree(checked, quorum=quorum)

    async def page(
        self,
        process: ProcessId,
        cu_url: str,
        *,
        after: int = -1,
        limit: int = PAGE_LIMIT,
        wait_ms: int = 0,
        sent: Collection[ItemId] = (),
    ) -> list[VerifiedReceipt]:
        """Verified results of one unit for the slots after nonce `after`, in log order.

        Empty if there are none within `wait_ms`. Raises Invalid if one does not verify, or if
        slots are left out.
        """
        await self.know(process)
        query: dict[str, Any] = {"receipts": 1, "limit": limit, "wait_ms": wait_ms}
        if after >= 0:
            query["from"] = cursor_of(after)
        answer = await self.asker.get(f"{cu_url}/results/{b64url(process)}", query)
        edges = answer.get("edges")
        if not isinstance(edges, list) or len(edges) > limit:
            raise Invalid(Reason.MALFORMED, f"{cu_url} answered with no page of results")
        checked = []
        for nonce, edge in enumerate(edges, after + 1):
            receipt = self.verifier.check(process, Evidence.of_json(edge), sent=sent)
            if receipt.receipt.slot != nonce:
                raise Invalid(
                    Reason.NOT_NEXT,
                    f"{cu_url} lists slot {receipt.receipt.slot} of process {b64url(process)} "
                    f"where slot {nonce} belongs",
                )
            checked.append(receipt)
            await trio.lowlevel.checkpoint()
        return checked

    async def collect(
        self, process: ProcessId, messages: Collection[ItemId], *, after: int = -1
    ) -> dict[ItemId, VerifiedResult]:
        """The results of all of `messages`, read in pages from every compute unit.

        Every unit must answer for every message, and all alike; else Invalid. Waits without
        bound for slots that are not evaluated: bound it with `trio.fail_after`.
        """
        wanted = frozenset(messages)
        found: dict[ItemId, list[VerifiedReceipt]] = {message: [] for message in wanted}

        async def read(url: str) -> None:
            left, last = set(wanted), after
            while left:
                rows = await self.page(process, url, after=last, wait_ms=PAGE_WAIT_MS, sent=wanted)
                for row in rows:
                    message = row.slot.message.id
                    if message in left:
                        left.remove(message)
                        found[message].append(row)
                    last = row.receipt.slot

        try:
            async with trio.open_nursery() as nursery:
                for url in self.cu_urls:
                    nursery.start_soon(read, url)
        except BaseExceptionGroup as group:
            raise _first_invalid(group) from None
        quorum = len(self.cu_urls)
        return {
            message: self.verifier.agree(rows, quorum=quorum) for message, rows in found.items()
        }

    async def schedule(
        self, process: ProcessId, *, after: int = -1, limit: int = SCHEDULE_LIMIT
    ) -> list[tuple[int, ItemId]]:
        """(nonce, message) of the slots after nonce `after`, as the scheduler's page tells.

        Only told: a verified result is what shows that a message has its slot.
        """
        if self.su_url is None:
            raise Invalid(Reason.CONFIG, "no scheduler unit's address is given")
        query: dict[str, Any] = {"process-id": b64url(process), "limit": limit}
        query |= {"from-nonce": after} if after >= 0 else {"to-nonce": NONCE_MAX}
        answer = await self.asker.get(f"{self.su_url}/{b64url(process)}", query)
        try:
            nodes = [edge["node"] for edge in answer["edges"]]
            return [(_nonce(node), ItemId(parse_id(node["message"]["id"]))) for node in nodes]
        except (KeyError, TypeError, ValueError, StopIteration):
            raise Invalid(
                Reason.MALFORMED, f"{self.su_url} answered with no page of its log"
            ) from None

    async def dry_run(
        self, process: ProcessId, tags: Tags = (), data: str = "", *, cu: int = 0
    ) -> dict[str, Any]:
        """What one unit says a message would give. Nothing about it can be verified."""
        own = {"Data-Protocol": "ao", "Type": "Message", "Variant": "ao.TN.1"}
        body = {
            "Owner": b64url(address_of(self.signer.owner)),
            "Target": b64url(process),
            "Data": data,
            "Tags": [{"name": n, "value": v} for n, v in (*pairs(tags), *pairs(own))],
        }
        url = f"{self.cu_urls[cu]}/dry-run?process-id={b64url(process)}"
        return await self.asker.post(url, msgspec.json.encode(body))

    async def know(self, process: ProcessId) -> None:
        """Fetch the process item, once, from whichever unit has it."""
        if self.verifier.knows(process):
            return
        error = Invalid(Reason.CONFIG, "no compute unit's address is given")
        for url in self.cu_urls:
            try:
                answer = await self.asker.get(f"{url}/proof/{b64url(process)}")
                evidence = Evidence.of_json(answer)
            except Invalid as failed:
                error = failed
                continue
            item = decode_item(evidence.message, size_max=self.network.parameters.item_bytes_max)
            if bytes(item.id) != process:
                raise Invalid(
                    Reason.MISMATCH, f"{url} gave another item for process {b64url(process)}"
                )
            self.verifier.know_process(item, str(answer.get("format", "")))
            return
        raise error

    def process_item(self, process: ProcessId) -> tuple[Item, str]:
        """The item of a process that is known, and its Module-Format."""
        return self.verifier.process_item(process)

    async def status(self, url: str) -> dict[str, Any]:
        """A unit's own account of itself."""
        return await self.asker.get(f"{url.rstrip('/')}/status")


def _first_invalid(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery of requests failed with: the first Invalid, or the group if it is worse."""
    refused, rest = group.split(Invalid)
    if refused is None or rest is not None:
        return group
    error: BaseException = refused
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _nonce(node: Any) -> int:
    """Nonce of an edge of a scheduler's page."""
    return int(next(t["value"] for t in node["assignment"]["tags"] if t["name"] == "Nonce"))


def pairs(tags: Tags) -> tuple[tuple[str, str], ...]:
    """Tags as pairs, in order."""
    return tuple(tags.items() if isinstance(tags, Mapping) else tags)


def cursor_of(nonce: int) -> str:
    """The cursor of a slot in any unit's `/results`."""
    return base64.b64encode(b'{"ordinate":"%d"}' % nonce).decode("ascii")
