"""How AO shows the owner of an Ethereum-signed item: the EIP-55 address of its public key.

Keccak-256 is the sponge of FIPS 202 with its original padding (0x01). Written out here because
`protocols` depends on no cryptography library; verification of signatures uses one.
"""

from __future__ import annotations

from functools import lru_cache

PUBLIC_KEY_BYTES = 65
"""An uncompressed secp256k1 point: 0x04, x, y."""

_LANES = 25
_RATE_BYTES = 136
_MASK = (1 << 64) - 1
_ROUNDS = 24


def _tables() -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Rotations and targets of the rho and pi steps, round constants of iota (FIPS 202, 3.2)."""
    rotations = [0] * _LANES
    x, y = 1, 0
    for step in range(_ROUNDS):
        rotations[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    targets = [y + 5 * ((2 * x + 3 * y) % 5) for y in range(5) for x in range(5)]
    constants = []
    register = 1
    for _ in range(_ROUNDS):
        constant = 0
        for bit in range(7):
            constant |= (register & 1) << ((1 << bit) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(rotations), tuple(targets), tuple(constants)


_ROTATIONS, _TARGETS, _CONSTANTS = _tables()


def _permute(lanes: list[int]) -> list[int]:
    """Keccak-f[1600]."""
    for constant in _CONSTANTS:
        columns = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        mix = [
            columns[x - 1] ^ ((columns[(x + 1) % 5] << 1 | columns[(x + 1) % 5] >> 63) & _MASK)
            for x in range(5)
        ]
        moved = [0] * _LANES
        for place in range(_LANES):
            lane = lanes[place] ^ mix[place % 5]
            turn = _ROTATIONS[place]
            moved[_TARGETS[place]] = (lane << turn | lane >> (64 - turn)) & _MASK
        lanes = [
            moved[place]
            ^ (
                ~moved[place - place % 5 + (place + 1) % 5]
                & moved[place - place % 5 + (place + 2) % 5]
            )
            for place in range(_LANES)
        ]
        lanes[0] ^= constant
    return lanes


def keccak_256(data: bytes) -> bytes:
    """Keccak-256 of `data`, 32 bytes."""
    padded = bytearray(data)
    padded += bytes(_RATE_BYTES - len(data) % _RATE_BYTES)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * _LANES
    for start in range(0, len(padded), _RATE_BYTES):
        for lane in range(_RATE_BYTES // 8):
            at = start + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


@lru_cache(maxsize=4096)
def address_text(public_key: bytes) -> str:
    """EIP-55 address of an uncompressed public key, `0x` and 40 mixed-case hex digits."""
    assert len(public_key) == PUBLIC_KEY_BYTES, f"{len(public_key)} bytes are no public key"
    digits = keccak_256(public_key[1:])[12:].hex()
    check = keccak_256(digits.encode("ascii")).hex()
    pairs = zip(digits, check, strict=False)
    return "0x" + "".join(digit.upper() if mark >= "8" else digit for digit, mark in pairs)
