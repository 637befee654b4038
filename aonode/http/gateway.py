"""What AO clients ask of an Arweave gateway, answered from what this node holds.

`POST /graphql` (see `graphql`): `transactions` by ids, or by owners, recipients and tags over the
processes this node follows, newest first, and the Scheduler-Location of every scheduler it
knows; `transaction(id)`. `GET|HEAD /:id` and `/raw/:id`: the data of one item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aonode.api import NodeApi
from aonode.http import graphql
from aonode.http.edge import Bodies
from aonode.http.problem import json_response
from aonode.http.shapes import anchor_json, tags_json
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, address_of, b64url, parse_id
from protocols.wire.item import Item

QUERY_BYTES_MAX = 64 << 10
IDS_MAX = 100
"""Ids of one query, and entries of one answer."""
FIRST_DEFAULT = 10
SEARCHES_MAX = 4
"""Queries at once that ask peers for modules; others get what is here."""
SEARCH_IDS_MAX = 4
"""Ids of one query that peers are asked for."""
SEARCH_S_MAX = 5.0
SCAN_MAX = 10_000
"""Processes that one query by tags looks at."""
LOCATION_TTL_MS = 60_000
"""Time-To-Live of a Scheduler-Location we answer with: units announce themselves anew."""

Node = dict[str, Any]


def routes(node: NodeApi, bodies: Bodies) -> list[Route]:
    """The gateway's routes."""
    gateway = _Gateway(node)

    async def query(request: Request) -> Response:
        body = await bodies.read(request, size_max=QUERY_BYTES_MAX)
        try:
            question = _question(body)
            await gateway.search(*question)
            data = graphql.execute(*question, gateway.roots)
        except Invalid as error:  # GraphQL's own shape of a refusal
            return json_response({"data": None, "errors": [{"message": error.detail}]}, 400)
        return json_response({"data": data})

    async def data(request: Request) -> Response:
        item = item_of(node, parse_id(request.path_params["id"], "id"))
        if item is None:
            raise Invalid(Reason.UNKNOWN_ITEM, f"no item {request.path_params['id']} here")
        return Response(item.data, headers=_headers(item))

    return [
        Route("/graphql", query, methods=["POST"]),
        Route("/raw/{id}", data),
        Route("/{id}", data),
    ]


def item_of(node: NodeApi, id: bytes) -> Item | None:
    """An item of any kind that this node holds."""
    return node.replica.item(id) or node.replica.module(id)


def _headers(item: Item) -> dict[str, str]:
    """Somebody else's bytes under our address: never run by a browser as a page of ours."""
    kind = item.first("Content-Type") or "application/octet-stream"
    if not (kind.isascii() and kind.isprintable() and len(kind) <= 256):
        kind = "application/octet-stream"
    return {
        "content-type": kind,
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "public, max-age=31536000, immutable",
    }


class _Question(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None


def _question(body: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        question = msgspec.json.decode(body, type=_Question)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            Reason.MALFORMED, f'a GraphQL request is {{"query", "variables"}}: {error}'
        ) from None
    return question.query, question.variables or {}


class _Gateway:
    def __init__(self, node: NodeApi) -> None:
        self._node = node
        self.roots = {"transactions": self._transactions, "transaction": self._transaction}
        self._searches = 0

    async def search(self, query: str, variables: Mapping[str, Any]) -> None:
        """Get what a query asks for by id and is not here: the module that a client is about to
        spawn may have been handed in at another messenger. Raises Invalid for no query."""
        wanted = [
            id
            for field in graphql.parse(query, variables)
            for id in _ids(field.arguments)
            if item_of(self._node, id) is None
        ]
        if not wanted or self._searches >= SEARCHES_MAX:
            return
        self._searches += 1
        try:
            with trio.move_on_after(SEARCH_S_MAX):
                for id in wanted[:SEARCH_IDS_MAX]:
                    await self._node.find_module(id)
        finally:
            self._searches -= 1

    def _transaction(self, arguments: Mapping[str, Any]) -> Node | None:
        found = list(self._by_ids([arguments.get("id")]))
        return found[0] if found else None

    def _transactions(self, arguments: Mapping[str, Any]) -> Node:
        """A page of transactions: `pageInfo` and `edges`. The cursor is the last id seen."""
        first = arguments.get("first", FIRST_DEFAULT)
        if type(first) is not int or not 0 < first <= IDS_MAX:
            raise Invalid(Reason.MALFORMED, f"first is {first!r}, not 1 to {IDS_MAX}")
        if arguments.get("ids") is not None:
            nodes = self._by_ids(_texts(arguments, "ids"))
            first = IDS_MAX
        else:
            nodes = self._by_filter(arguments)
            if arguments.get("sort") == "HEIGHT_ASC":
                nodes = reversed(list(nodes))
        edges: list[Node] = []
        after = arguments.get("after") or None
        more = False
        for each in nodes:
            if after is not None:
                after = None if each["id"] == after else after
                continue
            more = len(edges) == first
            if more:
                break
            edges.append({"cursor": each["id"], "node": each})
        return {"pageInfo": {"hasNextPage": more}, "edges": edges}

    def _by_ids(self, ids: list[Any]) -> Iterator[Node]:
        if len(ids) > IDS_MAX:
            raise Invalid(Reason.OVERSIZE, f"{len(ids)} ids in one query, at most {IDS_MAX}")
        for text in ids:
            item = item_of(self._node, parse_id(str(text), "id"))
            if item is not None:
                yield _node(item)

    def _by_filter(self, arguments: Mapping[str, Any]) -> Iterator[Node]:
        owners = frozenset(_texts(arguments, "owners"))
        recipients = frozenset(_texts(arguments, "recipients"))
        tags = _tag_filters(arguments.get("tags"))
        for each in self._candidates():
            if owners and each["owner"]["address"] not in owners:
                continue
            if recipients and each["recipient"] not in recipients:
                continue
            have = each["tags"]
            if all(
                any(tag["name"] == name and tag["value"] in values for tag in have)
                for name, values in tags
            ):
                yield each

    def _candidates(self) -> Iterator[Node]:
        """Scheduler-Locations, then process items, newest first by the time of their slot 0."""
        for unit in self._node.units():
            for role, url in unit.urls:
                if role == "scheduler":
                    yield _location(unit.key, url)
        found = []
        for process in self._node.replica.processes()[:SCAN_MAX]:
            slot = self._node.replica.slot(process, 0)
            if slot is not None:
                found.append((slot.assignment.timestamp, slot.message))
        found.sort(key=lambda row: (-row[0], row[1].id))
        for _, item in found:
            yield _node(item)


def _ids(arguments: Mapping[str, Any]) -> Iterator[ItemId]:
    """What a field names by id, as far as it is one."""
    for text in (*_texts(arguments, "ids"), *_texts(arguments, "id")):
        try:
            yield ItemId(parse_id(text, "id"))
        except Invalid:
            continue  # the field's own answer says so


def _texts(arguments: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, or one text, as GraphQL coerces."""
    value = arguments.get(name)
    entries = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise Invalid(Reason.MALFORMED, f"{name} is not a list of strings")
    return entries


def _tag_filters(value: Any) -> list[tuple[str, list[str]]]:
    entries = value if isinstance(value, list) else [] if value is None else [value]
    filters = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise Invalid(Reason.MALFORMED, "a tag filter is {name, values}")
        filters.append((entry["name"], _texts(entry, "values")))
    return filters


def _node(item: Item) -> Node:
    """A transaction as Arweave's gateways show it; it has no block, for there is no chain."""
    return {
        "id": b64url(item.id),
        "anchor": anchor_json(item) or "",
        "signature": b64url(item.signature),
        "recipient": b64url(item.target) if item.target is not None else "",
        "owner": {"address": b64url(item.owner_address), "key": b64url(item.owner)},
        "data": {"size": str(len(item.data_view)), "type": item.first("Content-Type")},
        "tags": tags_json(item),
        "block": None,
    }


def _location(key: bytes, url: str) -> Node:
    """A scheduler's announcement in the shape of AO's Scheduler-Location record."""
    tags = {
        "Data-Protocol": "ao",
        "Variant": "ao.TN.1",
        "Type": "Scheduler-Location",
        "Url": url,
        "Time-To-Live": str(LOCATION_TTL_MS),
    }
    return {
        "id": b64url(ItemId(hashlib.sha256(key + url.encode()).digest())),
        "recipient": "",
        "owner": {"address": b64url(address_of(key)), "key": b64url(key)},
        "tags": [{"name": name, "value": value} for name, value in tags.items()],
        "block": None,
    }
