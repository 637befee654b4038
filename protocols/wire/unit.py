"""What a node says of itself: its roles and where they are reached, signed, with an expiry.

    [key, [role, ...], [multiaddress, ...], [[role, url], ...], expiry, sequence, signature]

The signature is Ed25519 over `CBOR["unit", network id, the six fields before it]`. Of two
announcements of one key the one with the higher sequence holds. Checking the signature is the
reader's job (`aonode.crypto.verify`).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols import codec, domains
from protocols.codec import Value
from protocols.errors import Invalid, Reason
from protocols.ids import NetworkId, NodeKey
from protocols.limits import UNIT_ADDRESSES_MAX, UNIT_TEXT_BYTES_MAX, UNIT_URLS_MAX
from protocols.network import ROLES
from protocols.wire import shape
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class UnsignedUnit:
    """An announcement before its signature."""

    key: NodeKey
    roles: tuple[str, ...]
    """Some of `protocols.network.ROLES`, in that order."""
    addresses: tuple[str, ...]
    """Multiaddresses to dial."""
    urls: tuple[tuple[str, str], ...]
    """(role, HTTP address) of the roles that serve clients."""
    expiry_ms: int
    """Milliseconds since the epoch after which it says nothing."""
    sequence: int

    def body(self) -> Value:
        """What is signed, beside domain and network."""
        return [
            self.key,
            self.roles,
            self.addresses,
            self.urls,
            self.expiry_ms,
            self.sequence,
        ]

    def message(self, network: NetworkId) -> bytes:
        """The bytes to sign in `network`."""
        return codec.signing_bytes(domains.SIGN_UNIT, network, self.body())

    def signed(self, signature: bytes) -> UnitAnnouncement:
        assert len(signature) == SIGNATURE_BYTES, f"{len(signature)} bytes of signature"
        return UnitAnnouncement(
            self.key,
            self.roles,
            self.addresses,
            self.urls,
            self.expiry_ms,
            self.sequence,
            signature,
        )


@dataclass(frozen=True, slots=True)
class UnitAnnouncement(UnsignedUnit):
    """A signed announcement. Its payload on topic `units` is `encode()`."""

    signature: bytes

    def encode(self) -> bytes:
        return codec.encode(
            (
                self.key,
                self.roles,
                self.addresses,
                self.urls,
                self.expiry_ms,
                self.sequence,
                self.signature,
            )
        )

    @classmethod
    def decode(cls, blob: bytes) -> UnitAnnouncement:
        """Inverse of `encode`; raises Invalid. Checks no signature and no expiry."""
        value = codec.decode(blob, size_max=TOPIC_BYTES_MAX[Topic.UNITS])
        key, roles, addresses, urls, expiry, sequence, signature = shape.record(
            value, "unit announcement", 7
        )
        return cls(
            key=NodeKey(shape.identifier(key, "unit key")),
            roles=_roles(roles),
            addresses=tuple(
                _text(each, "unit address")
                for each in shape.array(addresses, "unit addresses", most=UNIT_ADDRESSES_MAX)
            ),
            urls=tuple(_url(each) for each in shape.array(urls, "unit urls", most=UNIT_URLS_MAX)),
            expiry_ms=shape.integer(expiry, "unit expiry"),
            sequence=shape.integer(sequence, "unit sequence"),
            signature=shape.octets(
                signature, "unit signature", least=SIGNATURE_BYTES, most=SIGNATURE_BYTES
            ),
        )


def _text(value: Value, what: str) -> str:
    return shape.text(value, what, least=1, most=UNIT_TEXT_BYTES_MAX)


def _roles(value: Value) -> tuple[str, ...]:
    roles = tuple(
        _text(role, "unit role") for role in shape.array(value, "unit roles", most=len(ROLES))
    )
    if roles != tuple(role for role in ROLES if role in roles):
        raise Invalid(Reason.MALFORMED, f"unit roles {roles} are not some of {ROLES}, in order")
    return roles


def _url(value: Value) -> tuple[str, str]:
    role, url = shape.record(value, "unit url", 2)
    if role not in ROLES:
        raise Invalid(Reason.MALFORMED, f"unit url of role {role!r}, which is none of {ROLES}")
    return _text(role, "unit url role"), _text(url, "unit url")
