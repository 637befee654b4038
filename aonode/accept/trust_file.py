"""`trusted.json`: the last checkpoint of the ledger that a client has verified.

It is worth what the directory is worth that it lies in: whoever can write it can make the client
believe in other stakes.
"""

from __future__ import annotations

from pathlib import Path

from aonode.accept.saved import read_document, write_json
from protocols.errors import Invalid, Reason
from protocols.ids import b64url, unb64url
from protocols.ledger.light import TRUSTED_BYTES_MAX, Trusted, at_genesis
from protocols.network import Network

FILE = "trusted.json"
KIND = "aonode-trusted-1"


def load_trusted(directory: Path, network: Network) -> Trusted:
    """What was saved for `network`; the network file's own stakes where nothing was, or for
    another network. Raises Invalid(CONFIG) for a file that cannot be read."""
    path = directory / FILE
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        return at_genesis(network)
    except OSError as error:
        raise Invalid(Reason.CONFIG, f"{path} cannot be read: {error.strerror}") from None
    try:
        document = read_document(blob, str(path))
        if document.get("network") != b64url(network.id):
            return at_genesis(network)
        text = document.get("trusted")
        if document.get("kind") != KIND or not isinstance(text, str):
            raise Invalid(Reason.MALFORMED, f"it is not of kind {KIND}")
        return Trusted.decode(unb64url(text), size_max=TRUSTED_BYTES_MAX)
    except Invalid as error:
        raise Invalid(
            Reason.CONFIG,
            f"{path}: {error.detail}; remove it, then the stakes of the network file are trusted",
        ) from None


def save_trusted(directory: Path, trusted: Trusted) -> None:
    """Replace the file in one step. Raises Invalid(CONFIG)."""
    write_json(
        directory / FILE,
        {
            "kind": KIND,
            "network": b64url(trusted.network),
            "tick": trusted.tick,
            "slot": trusted.slot,
            "root": b64url(trusted.root),
            "trusted": b64url(trusted.encode()),
        },
    )
