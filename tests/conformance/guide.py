"""The code and the commands of docs/PROCESSES.md, taken out and run as they stand there.

C and Zig are compiled by the `ziglang` wheel of the test extra. No registry of Python or Node.js
packages has a Rust compiler, so the Rust counter's module lies beside this file; it is used only
if the block in the guide is the one it was made from. To make it again, with the compiler named in
RUSTC and its target wasm32-unknown-unknown:

    python -m tests.conformance.guide
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "PROCESSES.md"
LANGUAGES = {"c": "counter.c", "zig": "counter.zig", "rust": "counter.rs"}
"""Language of a block, and the file it is saved as."""
RUST_WASM = Path(__file__).with_name("counter_rust.wasm")
RUSTC = "rustc 1.95.0"
RUST_SOURCE_SHA256 = "93d8287f019f0be9733cf445d7d7162855e954db3b83c389e9dfbb7320ac7b8d"
RUST_WASM_SHA256 = "410537879928f2cbc0ef9ced633807427f1d4031b442c92f76f1d55fe90e7a01"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The guide's code blocks in a language."""
    return [code for found, code in _BLOCK.findall(GUIDE.read_text("utf-8")) if found == language]


def command(start: str) -> list[str]:
    """The one command of the guide that starts like this."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    (found,) = (line for line in lines if line.startswith(start))
    return shlex.split(found)


@cache
def built(language: str) -> bytes:
    """The counter in a language, as Wasm."""
    if language == "rust":
        return _kept_rust()
    start = {"c": "python -m ziglang cc", "zig": "python -m ziglang build-exe"}[language]
    _, *rest = command(start)
    return compiled(language, [sys.executable, *rest])


def compiled(language: str, arguments: list[str]) -> bytes:
    """What a command of the guide makes of its block."""
    (source,) = blocks(language)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LANGUAGES[language]).write_text(source, "utf-8")
        subprocess.run(arguments, cwd=folder, check=True)
        return (Path(folder) / "counter.wasm").read_bytes()


def _kept_rust() -> bytes:
    (source,) = blocks("rust")
    assert _sha256(source.encode()) == RUST_SOURCE_SHA256, (
        f"the Rust block of {GUIDE.name} has changed: make its module again, see tests.conformance."
        "guide, and put both hashes there"
    )
    wasm = RUST_WASM.read_bytes()
    assert _sha256(wasm) == RUST_WASM_SHA256, f"{RUST_WASM.name} is not the one its hash names"
    return wasm


def rust_compiler() -> str | None:
    """A Rust compiler of this machine that can compile the guide's block."""
    rustc = shutil.which("rustc")
    if rustc is None:
        return None
    asked = [rustc, "--print", "target-libdir", "--target", "wasm32-unknown-unknown"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return rustc if told.returncode == 0 and Path(told.stdout.strip()).is_dir() else None


def rust_here() -> bytes | None:
    """The Rust counter compiled on this machine, if it has a compiler."""
    rustc = rust_compiler()
    return None if rustc is None else compiled("rust", [rustc, *command("rustc")[1:]])


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def main() -> None:
    """Make the Rust module, and print the hashes to put above."""
    wasm = rust_here()
    if wasm is None:
        sys.exit("no rustc with the target wasm32-unknown-unknown; `rustup target add` it")
    RUST_WASM.write_bytes(wasm)
    (source,) = blocks("rust")
    print(f'RUST_SOURCE_SHA256 = "{_sha256(source.encode())}"')
    print(f'RUST_WASM_SHA256 = "{_sha256(wasm)}"')


if __name__ == "__main__":
    main()
