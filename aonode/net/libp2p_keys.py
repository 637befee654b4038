"""Node keys and libp2p peer ids: the same 32 bytes in different wrapping."""

from __future__ import annotations

from collections.abc import Sequence

from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from protocols.errors import Invalid, Reason
from protocols.ids import NodeKey

IDENTITY_PREFIX = bytes.fromhex("002408011220")
"""Identity multihash of 36 bytes: protobuf {1: Ed25519, 2: 32 bytes of key} (peer id spec)."""


def key_of_id_bytes(raw: bytes) -> NodeKey | None:
    """The node key inside a peer id; None for peers with another kind of key."""
    if len(raw) != 38 or raw[:6] != IDENTITY_PREFIX:
        return None
    return NodeKey(raw[6:])


def key_of_id(peer: ID) -> NodeKey | None:
    """As `key_of_id_bytes`."""
    return key_of_id_bytes(peer.to_bytes())


def id_of_key(key: NodeKey) -> ID:
    """The libp2p peer id of a node."""
    return ID(IDENTITY_PREFIX + key)


def parse_address(text: str) -> Multiaddr:
    """A dialable TCP multiaddress. Raises Invalid(CONFIG)."""
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
    except (MultiaddrError, ValueError) as error:
        raise Invalid(Reason.CONFIG, f"{text!r} is not a multiaddress: {error}") from None
    if len(names) < 2 or names[0] not in {"ip4", "ip6", "dns", "dns4", "dns6"} or names[1] != "tcp":
        raise Invalid(
            Reason.CONFIG, f"{text!r} is not a TCP address; write it as /ip4/127.0.0.1/tcp/4001"
        )
    return address


def parse_peer(text: str) -> tuple[NodeKey, Multiaddr]:
    """An address that ends in /p2p/<peer id>, as in a bootstrap list. Raises Invalid(CONFIG)."""
    address = parse_address(text)
    named = address.get_peer_id()
    key = None
    if named is not None:
        key = key_of_id(ID.from_base58(named))
    if key is None:
        raise Invalid(
            Reason.CONFIG, f"{text!r} does not end in /p2p/ and the peer id of an Ed25519 key"
        )
    return key, address


def parse_addresses(texts: Sequence[str], addresses_max: int) -> tuple[Multiaddr, ...]:
    """The valid ones among a peer's announced addresses, the first `addresses_max` of them."""
    good: list[Multiaddr] = []
    for text in texts[:addresses_max]:
        try:
            good.append(parse_address(text))
        except Invalid:
            continue
    return tuple(good)
