"""Identifiers: 32-byte strings inside, unpadded base64url (43 characters) outside."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NewType

from protocols.errors import Invalid, Reason

ItemId = NewType("ItemId", bytes)
"""SHA-256 of an ANS-104 item's signature. A message, process, module or assignment id."""
ProcessId = NewType("ProcessId", bytes)
"""The `ItemId` of the Process item: its slot 0."""
NodeKey = NewType("NodeKey", bytes)
"""A node's raw Ed25519 public key: its libp2p peer, its AO owner, its stake account."""
Address = NewType("Address", bytes)
"""SHA-256 of an owner's public key, as AO addresses are."""
NetworkId = NewType("NetworkId", bytes)
"""SHA-256 of the canonical CBOR of the parsed network file."""

ID_BYTES = 32
ID_CHARACTERS = 43


def b64url(raw: bytes) -> str:
    """Unpadded base64url of `raw`."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """Inverse of `b64url`; refuses padding, foreign characters and non-canonical last bits."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(Reason.MALFORMED, f"{text[:64]!r} is not base64url: {error}") from None
    if b64url(raw) != text:
        raise Invalid(Reason.MALFORMED, f"{text[:64]!r} is not canonical unpadded base64url")
    return raw


def parse_id(text: str, what: str = "id") -> bytes:
    """The 32 bytes behind a 43-character id. `what` names the field in the error."""
    if len(text) != ID_CHARACTERS:
        raise Invalid(
            Reason.MALFORMED,
            f"{what} {text[:64]!r} has {len(text)} characters, not {ID_CHARACTERS}",
        )
    return unb64url(text)


def address_of(owner: bytes) -> Address:
    """AO address of a public key (reference: ANS-104 owner address)."""
    return Address(hashlib.sha256(owner).digest())
