"""Keys that sign: the node's own Ed25519 key, and the wallets that clients use.

An item signer has a signature type, an owner and `sign(message)`, where the message is an item's
48-byte deep hash. Ed25519 and Ethereum signatures are deterministic: two equal messages have one
id, so clients set a random anchor. Arweave signatures are salted by OpenSSL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from coincurve import PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateNumbers,
    RSAPublicNumbers,
)
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from aonode.crypto.verify import ETHEREUM_V, RSA_BITS, RSA_EXPONENT, ethereum_digest
from protocols.errors import Invalid, Reason
from protocols.ids import Address, NodeKey, address_of, b64url, unb64url
from protocols.wire.item import Item, SignatureType, Tag, Unsigned

SEED_BYTES = 32


class ItemSigner(Protocol):
    """Whoever can sign ANS-104 items."""

    @property
    def signature_type(self) -> int: ...

    @property
    def owner(self) -> bytes:
        """Public key, as the signature type has it."""

    def sign(self, message: bytes) -> bytes:
        """Signature over an item's 48-byte message."""


def sign_item(
    signer: ItemSigner,
    *,
    target: bytes | None = None,
    anchor: bytes | None = None,
    tags: Sequence[Tag] = (),
    data: bytes = b"",
) -> Item:
    """A signed item. Raises Invalid for fields that no item can hold."""
    unsigned = Unsigned(signer.signature_type, signer.owner, target, anchor, tuple(tags), data)
    return unsigned.signed(signer.sign(unsigned.message()))


class Ed25519Signer:
    """An Ed25519 key from its 32-byte seed: a node's identity, and items of type 2."""

    signature_type = SignatureType.ED25519

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self._key = NodeKey(public)

    @property
    def key(self) -> NodeKey:
        """The public key."""
        return self._key

    @property
    def owner(self) -> bytes:
        """The public key, as items have it."""
        return self._key

    @property
    def address(self) -> Address:
        """SHA-256 of the public key."""
        return address_of(self._key)

    @property
    def seed(self) -> bytes:
        """The private seed, for libp2p's own key object and for the key file."""
        return self._secret[:SEED_BYTES]

    def sign(self, message: bytes) -> bytes:
        """64-byte signature, the same one every time (RFC 8032)."""
        return crypto_sign(message, self._secret)[:64]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({b64url(self._key)})"


class SolanaSigner(Ed25519Signer):
    """An Ed25519 key that signs items as Solana wallets do: over the message in hexadecimal."""

    signature_type = SignatureType.SOLANA

    def sign(self, message: bytes) -> bytes:
        """64-byte signature over the lowercase hexadecimal text of `message`."""
        return super().sign(message.hex().encode("ascii"))


class EthereumSigner:
    """A secp256k1 key that signs items as Ethereum wallets do (EIP-191)."""

    signature_type = SignatureType.ETHEREUM

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)

    @property
    def owner(self) -> bytes:
        """The uncompressed public key, 65 bytes."""
        return self._key.public_key.format(compressed=False)

    def sign(self, message: bytes) -> bytes:
        """65 bytes: r, s (low) and v (27 or 28)."""
        signature = self._key.sign_recoverable(ethereum_digest(message), hasher=None)
        return signature[:64] + bytes((signature[64] + ETHEREUM_V[0],))


class ArweaveSigner:
    """An Arweave wallet: an RSA-4096 key from its JWK (RFC 7517)."""

    signature_type = SignatureType.ARWEAVE

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        numbers = {name: _jwk_number(jwk, name) for name in ("n", "e", "d", "p", "q")}
        if jwk.get("kty") != "RSA" or numbers["e"] != RSA_EXPONENT:
            raise Invalid(Reason.CONFIG, "an Arweave wallet is an RSA key with exponent 65537")
        if numbers["n"].bit_length() != RSA_BITS:
            raise Invalid(
                Reason.CONFIG,
                f"an Arweave wallet has {RSA_BITS} bits, not {numbers['n'].bit_length()}",
            )
        p, q, d = numbers["p"], numbers["q"], numbers["d"]
        try:
            self._key = RSAPrivateNumbers(
                p=p,
                q=q,
                d=d,
                dmp1=d % (p - 1),
                dmq1=d % (q - 1),
                iqmp=pow(q, -1, p),
                public_numbers=RSAPublicNumbers(RSA_EXPONENT, numbers["n"]),
            ).private_key()
        except (ValueError, ZeroDivisionError) as error:
            raise Invalid(
                Reason.CONFIG, f"the numbers of the Arweave wallet do not fit: {error}"
            ) from None
        self._owner = numbers["n"].to_bytes(RSA_BITS // 8, "big")

    @property
    def owner(self) -> bytes:
        """The modulus, 512 bytes."""
        return self._owner

    def sign(self, message: bytes) -> bytes:
        """512-byte RSA-PSS signature with a 32-byte salt."""
        return self._key.sign(message, PSS(mgf=MGF1(SHA256()), salt_length=32), SHA256())


def _jwk_number(jwk: Mapping[str, Any], name: str) -> int:
    """A base64url number of a JWK. Raises Invalid(CONFIG)."""
    text = jwk.get(name)
    if not isinstance(text, str):
        raise Invalid(Reason.CONFIG, f"the wallet has no {name!r}; give a full private JWK")
    try:
        return int.from_bytes(unb64url(text), "big")
    except Invalid as error:
        raise Invalid(Reason.CONFIG, f"the wallet's {name!r}: {error.detail}") from None
