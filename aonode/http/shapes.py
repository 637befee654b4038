"""Items and assignments as AO's JSON shows them, and cursors of result pages.

Shapes: AO's scheduler unit (pages) and compute unit (cursors). Data that is not UTF-8 shows
U+FFFD there; `/raw/:id` and `/proof/:message` give the bytes.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec

from protocols.errors import Invalid, Reason
from protocols.ids import b64url
from protocols.wire.assignment import Slot
from protocols.wire.item import Item

CURSOR_CHARACTERS_MAX = 512


def tags_json(item: Item) -> list[dict[str, str]]:
    """Tags as AO writes them."""
    return [{"name": tag.name, "value": tag.value} for tag in item.tags]


def owner_json(item: Item) -> dict[str, str]:
    return {"address": b64url(item.owner_address), "key": b64url(item.owner)}


def anchor_json(item: Item, *, always: bool = False) -> str | None:
    """The anchor as text; None if it is not UTF-8, unless `always` asks for base64url then."""
    if item.anchor is None:
        return None
    try:
        return item.anchor.decode("utf-8")
    except UnicodeDecodeError:
        return b64url(item.anchor) if always else None


def message_json(item: Item, *, show_anchor: bool = False) -> dict[str, Any]:
    """A scheduled message in a page."""
    return {
        "id": b64url(item.id),
        "owner": owner_json(item),
        "data": item.data.decode("utf-8", "replace"),
        "tags": tags_json(item),
        "signature": b64url(item.signature),
        "anchor": anchor_json(item, always=show_anchor),
        "target": b64url(item.target) if item.target is not None else "",
    }


def assignment_json(item: Item, *, show_anchor: bool = False) -> dict[str, Any]:
    """An assignment in a page."""
    return {
        "id": b64url(item.id),
        "owner": owner_json(item),
        "tags": tags_json(item),
        "signature": b64url(item.signature),
        "anchor": anchor_json(item, always=show_anchor),
        "target": "",
    }


def slot_json(slot: Slot, *, show_anchor: bool = False) -> dict[str, Any]:
    """One slot: what a page's edge has as `node`."""
    return {
        "message": message_json(slot.message, show_anchor=show_anchor),
        "assignment": assignment_json(slot.assignment.item, show_anchor=show_anchor),
    }


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list of results. Our `ordinate` is the nonce, as AO's is."""

    ordinate: int
    timestamp: int = 0
    """Milliseconds; what a bare-number cursor means."""
    by_time: bool = False
    sort: str | None = None

    def encode(self) -> str:
        """Base64 of AO's JSON object, which aos decodes."""
        fields = {
            "timestamp": self.timestamp,
            "ordinate": str(self.ordinate),
            "sort": self.sort or "ASC",
        }
        return base64.b64encode(msgspec.json.encode(fields)).decode("ascii")


def decode_cursor(text: str) -> Cursor:
    """A cursor from a client: base64 JSON with an `ordinate`, or a bare timestamp.

    Raises Invalid(MALFORMED)."""
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return Cursor(ordinate=-1, timestamp=int(text), by_time=True)
    if len(text) > CURSOR_CHARACTERS_MAX:
        raise Invalid(Reason.MALFORMED, f"a cursor of {len(text)} characters")
    padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    try:
        fields = msgspec.json.decode(base64.b64decode(padded, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise Invalid(Reason.MALFORMED, f"cursor {text[:64]!r} is not base64 of JSON") from None
    ordinate = fields.get("ordinate") if isinstance(fields, dict) else None
    digits = str(ordinate) if isinstance(ordinate, int | str) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise Invalid(Reason.MALFORMED, f"cursor {text[:64]!r} has no ordinate; use one of ours")
    sort = fields.get("sort")
    return Cursor(ordinate=int(digits), sort=sort if sort in ("ASC", "DESC") else None)
