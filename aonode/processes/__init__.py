"""Process modules that come with the node: small, readable, and real."""

from __future__ import annotations

from importlib.resources import files


def token_wasm() -> bytes:
    """The token (`token.c`), Module-Format `ao-cbor-1`."""
    return (files(__name__) / "token.wasm").read_bytes()
