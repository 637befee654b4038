"""The body of a dry run, as aoconnect sends it."""

from __future__ import annotations

import msgspec

from protocols.abi import DryRun
from protocols.errors import Invalid, Reason
from protocols.ids import ProcessId, b64url
from protocols.wire.item import Tag


class _DryTag(msgspec.Struct):
    name: str
    value: str = ""


class _DryBody(msgspec.Struct):
    """A dry run as aoconnect sends it; other members are ignored."""

    Tags: list[_DryTag] = []
    Id: str = "1234"
    Owner: str = "1234"
    Target: str | None = None
    Data: str | int | float | bool | None = ""
    Anchor: str | None = None
    Signature: str | None = None
    Timestamp: int | None = None


def read_dry_run(body: bytes, process: ProcessId, timestamp: int) -> DryRun:
    """The message to try. Raises Invalid(MALFORMED)."""
    try:
        given = msgspec.json.decode(body or b"{}", type=_DryBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(Reason.MALFORMED, f"a dry run is a JSON message: {error}") from None
    data = given.Data
    return DryRun(
        id=given.Id,
        owner=given.Owner,
        target=given.Target or b64url(process),
        tags=tuple(Tag(tag.name, tag.value) for tag in given.Tags),
        data=data if isinstance(data, str) else msgspec.json.encode(data).decode(),
        timestamp=timestamp if given.Timestamp is None else given.Timestamp,
        signature=given.Signature,
        anchor=given.Anchor,
    )
