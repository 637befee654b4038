"""Builds `token.wasm` from `token.c`: `python -m aonode.processes.build`.

The compiler is the one in the `ziglang` wheel of the test extra; the same version gives the same
bytes on every machine, and a test builds again and compares.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FLAGS = (
    "--target=wasm32-freestanding",
    "-mcpu=generic+bulk_memory",
    "-Os",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-fno-builtin",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
    "-Wl,-z,stack-size=16384",
)
"""No libc, no entry point, nothing kept but the exports; a stack of 16 KiB below the data, so
that running off it traps."""


def build(source: Path, output: Path) -> None:
    """Compile one C file to a WebAssembly module. Raises CalledProcessError."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(output), source.name]
    subprocess.run(command, cwd=source.parent, check=True)
    output.chmod(0o644)


def main() -> None:
    """Build the modules beside this file."""
    here = Path(__file__).resolve().parent
    build(here / "token.c", here / "token.wasm")


if __name__ == "__main__":
    main()
