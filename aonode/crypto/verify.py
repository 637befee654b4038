"""Signatures: the one place where they are checked.

Pure functions of their arguments; none keeps a secret. All calls release the interpreter lock
while they compute, so `Env.offload` runs them beside the event loop.
"""

from __future__ import annotations

from functools import lru_cache

from coincurve import PublicKey
from Crypto.Hash import keccak
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from protocols.errors import Invalid, Reason
from protocols.ids import b64url
from protocols.wire.item import Item, SignatureType, signing_message

RSA_BITS = 4096
RSA_EXPONENT = 65537
ETHEREUM_V = (27, 28)
"""Last byte of an Ethereum signature: 27 plus the recovery id (EIP-191 wallets)."""
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

_PSS_ANY_SALT = PSS(mgf=MGF1(SHA256()), salt_length=PSS.AUTO)


def verify_item(item: Item) -> None:
    """Raise Invalid(BAD_SIGNATURE) unless the item's owner signed it.

    Raises Invalid(UNSUPPORTED) for a signature type that `protocols.wire.item` does not know.
    """
    if not _verify(item.signature_type, item.owner, signing_message(item), item.signature):
        raise Invalid(
            Reason.BAD_SIGNATURE,
            f"item {b64url(item.id)}: its owner {b64url(item.owner_address)} did not sign it "
            f"(signature type {item.signature_type}); sign its deep hash and send it again",
        )


def _verify(signature_type: int, owner: bytes, message: bytes, signature: bytes) -> bool:
    """True iff `signature` is the owner's over a 48-byte deep hash."""
    match signature_type:
        case SignatureType.ED25519:
            return verify_ed25519(owner, message, signature)
        case SignatureType.ARWEAVE:
            return verify_arweave(owner, message, signature)
        case SignatureType.SOLANA:
            return verify_ed25519(owner, message.hex().encode("ascii"), signature)
        case SignatureType.ETHEREUM:
            return verify_ethereum(owner, message, signature)
    raise Invalid(Reason.UNSUPPORTED, f"signature type {signature_type}")


def verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    """True iff `signature` is that of `key` over `message` (RFC 8032, as libsodium checks it)."""
    # libsodium reads 32 and 64 bytes whatever it is given: lengths first.
    if len(key) != 32 or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def verify_arweave(modulus: bytes, message: bytes, signature: bytes) -> bool:
    """True iff `signature` is RSA-PSS with SHA-256 and any salt length, under a 4096-bit key.

    Clients salt with 32, 0 or the most bytes that fit; deployed verifiers take all of them.
    """
    try:
        _rsa_key(modulus).verify(signature, message, _PSS_ANY_SALT, SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _rsa_key(modulus: bytes) -> RSAPublicKey:
    """The key of an Arweave owner. Raises ValueError for numbers that are no RSA-4096 modulus."""
    number = int.from_bytes(modulus, "big")
    if number.bit_length() != RSA_BITS or not number & 1:
        raise ValueError("not a 4096-bit modulus")
    return RSAPublicNumbers(RSA_EXPONENT, number).public_key()


def verify_ethereum(owner: bytes, message: bytes, signature: bytes) -> bool:
    """True iff the personal-message signature (EIP-191) recovers to exactly `owner`.

    `owner` is the uncompressed public key. High s and other recovery bytes are refused, so that
    nobody but the owner can turn one signature, and with it one item id, into a second.
    """
    if len(signature) != 65 or signature[64] not in ETHEREUM_V:
        return False
    if int.from_bytes(signature[32:64], "big") > SECP256K1_ORDER // 2:
        return False
    recoverable = signature[:64] + bytes((signature[64] - ETHEREUM_V[0],))
    try:
        key = PublicKey.from_signature_and_message(
            recoverable, ethereum_digest(message), hasher=None
        )
    except ValueError:
        return False
    return key.format(compressed=False) == owner


def ethereum_digest(message: bytes) -> bytes:
    """Keccak-256 of the EIP-191 personal message, 32 bytes."""
    prefix = b"\x19Ethereum Signed Message:\n%d" % len(message)
    return keccak.new(data=prefix + message, digest_bits=256).digest()
