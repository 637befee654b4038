"""A peer of py-libp2p's own making that says what no node of ours would say."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr
from nacl.signing import SigningKey

from aonode.net.libp2p_keys import id_of_key
from aonode.net.libp2p_pubsub import signed_bytes
from aonode.net.libp2p_wire import Libp2pWire
from protocols.ids import NodeKey
from protocols.wire.topics import Topic, topic_name
from tests.aonode.net.world import LISTEN, NETWORK

SEED = hashlib.sha256(b"attacker").digest()
KEY = NodeKey(bytes(SigningKey(SEED).verify_key))
TOPIC = topic_name(Topic.SLOTS, NETWORK)


def signed_message(payload: bytes, number: int, topic: str = TOPIC) -> rpc_pb2.Message:
    """A gossip message by the attacker, with a good signature."""
    message = rpc_pb2.Message(
        data=payload,
        topicIDs=[topic],
        from_id=id_of_key(KEY).to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    message.signature = SigningKey(SEED).sign(signed_bytes(message)).signature
    return message


def rpc_frame(**fields: Any) -> bytes:
    """One RPC as it goes on the wire."""
    body: bytes = rpc_pb2.RPC(**fields).SerializeToString()
    return encode_varint_prefixed(body)


@contextlib.asynccontextmanager
async def stranger(victim: Libp2pWire) -> AsyncIterator[BasicHost]:
    """A stock host connected to `victim`."""
    quiet = ConnectionConfig(min_connections=0, low_watermark=0, high_watermark=0)
    host = new_host(key_pair=create_new_key_pair(SEED), connection_config=quiet)
    assert isinstance(host, BasicHost)
    async with host.run([Multiaddr(LISTEN)]):
        await host.connect(info_from_p2p_addr(Multiaddr(victim.addresses()[0])))
        (connection,) = host.get_network().get_connections()
        try:
            yield host
        finally:  # its own way out can leave the socket open
            muxed: Any = connection.muxed_conn
            with trio.CancelScope(shield=True), contextlib.suppress(Exception):
                await muxed.secured_conn.close()


async def gossip_stream(host: BasicHost, victim: Libp2pWire) -> Any:
    """A raw stream to the victim's pubsub."""
    return await host.new_stream(id_of_key(victim.key), [PROTOCOL_ID_V11])


@contextlib.asynccontextmanager
async def impostor(victim: Libp2pWire, claimed: bytes) -> AsyncIterator[None]:
    """Dials `victim` over plaintext as the owner of a public key whose secret it has not."""
    keys = create_new_key_pair(SEED)
    other = create_new_key_pair(claimed).public_key
    plain = InsecureTransport(KeyPair(keys.private_key, other))

    class Claim:
        """Has the public key only."""

        def get_public_key(self) -> Any:
            return other

    host = new_host(key_pair=keys, sec_opt={PLAINTEXT_PROTOCOL_ID: plain})
    assert isinstance(host, BasicHost)
    plain.local_private_key = Claim()  # type: ignore[assignment]
    async with host.run([Multiaddr(LISTEN)]):
        with contextlib.suppress(Exception):
            await host.connect(info_from_p2p_addr(Multiaddr(victim.addresses()[0])))
        yield
