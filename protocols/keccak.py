"""Keccak-256, as Ethereum uses it: the SHA-3 permutation with the padding that came before FIPS.

Written out because the standard library has only the FIPS padding. It names one address per
Ethereum-signed item; signatures are checked elsewhere, by C code.
"""

from __future__ import annotations

from functools import lru_cache

_RATE_BYTES = 136
_LANE = (1 << 64) - 1
_ROTATIONS = (
    (0, 36, 3, 41, 18),
    (1, 44, 10, 45, 2),
    (62, 6, 43, 15, 61),
    (28, 55, 25, 21, 56),
    (27, 20, 39, 8, 14),
)


def _round_constants() -> tuple[int, ...]:
    """The 24 constants of the permutation, from their shift register (FIPS 202, section 3.2.5)."""
    constants = []
    register = 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            if register & 1:
                constant |= 1 << ((1 << bit) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(constants)


_ROUND_CONSTANTS = _round_constants()


def _rotate(lane: int, count: int) -> int:
    return (lane << count | lane >> (64 - count)) & _LANE


def _permute(lanes: list[list[int]]) -> None:
    """Keccak-f[1600] in place; `lanes[x][y]` are 64-bit integers."""
    axis = range(5)
    for constant in _ROUND_CONSTANTS:
        parity = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in axis]
        turned = [[0] * 5 for _ in axis]
        for x in axis:
            change = parity[x - 1] ^ _rotate(parity[(x + 1) % 5], 1)
            for y in axis:
                turned[y][(2 * x + 3 * y) % 5] = _rotate(lanes[x][y] ^ change, _ROTATIONS[x][y])
        for x in axis:
            for y in axis:
                lanes[x][y] = turned[x][y] ^ (~turned[(x + 1) % 5][y] & turned[(x + 2) % 5][y])
        lanes[0][0] ^= constant


def keccak_256(data: bytes) -> bytes:
    """32 bytes."""
    padded = bytearray(data)
    padded += bytes(_RATE_BYTES - len(data) % _RATE_BYTES)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), _RATE_BYTES):
        for index in range(_RATE_BYTES // 8):
            at = start + 8 * index
            lanes[index % 5][index // 5] ^= int.from_bytes(padded[at : at + 8], "little")
        _permute(lanes)
    return b"".join(lanes[index][0].to_bytes(8, "little") for index in range(4))


@lru_cache(maxsize=1024)
def ethereum_address(owner: bytes) -> str:
    """`0x` address in mixed case (EIP-55) of an uncompressed secp256k1 key (65 bytes)."""
    digits = keccak_256(owner[1:])[-20:].hex()
    check = keccak_256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if nibble >= "8" else digit
        for digit, nibble in zip(digits, check, strict=False)
    )
