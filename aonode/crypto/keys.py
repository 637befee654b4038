"""Key files: one Ed25519 seed each, readable by its owner only.

A key file is never overwritten: whoever loses a node's key loses its stake and its logs. It is
written under a temporary name, made durable, and linked to its name in one step.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from aonode.crypto.signers import ArweaveSigner, Ed25519Signer, ItemSigner
from protocols.errors import Invalid, Reason
from protocols.ids import b64url, unb64url

KEY_KIND = "aonode-ed25519-1"
KEY_FILE_BYTES_MAX = 16 << 10
"""An Arweave wallet has 3 KiB; ours 0.2."""


def new_key(path: Path, seed: bytes) -> Ed25519Signer:
    """Write a new key file and return its key. `seed` is 32 bytes from `Env.entropy`.

    Raises Invalid(CONFIG) if `path` exists or cannot be written.
    """
    signer = Ed25519Signer(seed)
    document = {"kind": KEY_KIND, "public": b64url(signer.key), "seed": b64url(seed)}
    temporary = path.with_name(f".{path.name}.{b64url(signer.key[:6])}")
    try:
        _write_durably(temporary, json.dumps(document, indent=1).encode("ascii") + b"\n")
        try:
            os.link(temporary, path)  # unlike a rename, fails where something stands already
        finally:
            temporary.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        raise Invalid(
            Reason.CONFIG, f"{path} exists; a key is never overwritten, choose another name"
        ) from None
    except OSError as error:
        raise Invalid(Reason.CONFIG, f"key file {path} cannot be written: {error}") from None
    return signer


def load_key(path: Path) -> Ed25519Signer:
    """The node key in `path`. Raises Invalid(CONFIG) saying what is wrong with the file."""
    return _node_key(path, _read(path))


def load_wallet(path: Path) -> ItemSigner:
    """Whatever key is in `path`: ours, or an Arweave wallet (JWK). Raises Invalid(CONFIG)."""
    document = _read(path)
    if "kty" in document:
        return ArweaveSigner(document)
    return _node_key(path, document)


def _node_key(path: Path, document: dict[str, Any]) -> Ed25519Signer:
    """The key of a parsed key file; its public half must fit, so that a typo is found."""
    if document.get("kind") != KEY_KIND:
        raise Invalid(Reason.CONFIG, f"{path} is not a key file of kind {KEY_KIND}")
    seed = document.get("seed")
    try:
        signer = Ed25519Signer(unb64url(seed if isinstance(seed, str) else ""))
    except (Invalid, ValueError) as error:
        raise Invalid(Reason.CONFIG, f"{path}: its seed is not 32 bytes: {error}") from None
    if document.get("public") != b64url(signer.key):
        raise Invalid(
            Reason.CONFIG, f"{path}: seed and public key do not fit; restore it from a backup"
        )
    return signer


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a private file of bounded size."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise Invalid(Reason.CONFIG, f"{path} is not a plain file")
            if facts.st_mode & 0o077:
                raise Invalid(
                    Reason.CONFIG,
                    f"{path} can be read by others (mode {facts.st_mode & 0o777:04o}); "
                    f"run: chmod 600 {path}",
                )
            blob = file.read(KEY_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Invalid(
            Reason.CONFIG, f"no key file {path}; make one with: aonode keys new {path}"
        ) from None
    except OSError as error:
        raise Invalid(Reason.CONFIG, f"key file {path} cannot be read: {error}") from None
    if len(blob) > KEY_FILE_BYTES_MAX:
        raise Invalid(Reason.CONFIG, f"{path} has more than {KEY_FILE_BYTES_MAX} bytes: no key")
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError) as error:
        raise Invalid(Reason.CONFIG, f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Invalid(Reason.CONFIG, f"{path} is not a JSON object")
    return document


def _write_durably(path: Path, blob: bytes) -> None:
    """Create `path` with mode 0600 and sync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make a new name in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
