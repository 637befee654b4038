"""Modules in AO's older emscripten formats, compiled from `old_format.c`.

No registry has a module that was published in one of them, so one is made with exactly their
imports and exports; `tests/conformance/test_old_formats.py` runs it under AO's own loader too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from aonode.engine.old_formats import Names, renamed

SOURCE = Path(__file__).with_name("old_format.c")
FORMATS = {
    "wasm32-unknown-emscripten": 1,
    "wasm32-unknown-emscripten2": 2,
    "wasm32-unknown-emscripten3": 3,
}
FLAGS = (
    "--target=wasm32-freestanding",
    "-mcpu=generic",
    "-O1",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-builtin",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
    "-Wl,--export-table",
    "-Wl,-z,stack-size=65536",
    "-Wl,--initial-memory=1048576",
    "-Wl,--max-memory=524288000",
)
_LETTERS = Names(exports={"memory": "E", "__indirect_function_table": "I"})
"""What the linker names, as the first format has it."""


@cache
def old_module(format: str) -> bytes:
    """The module in a format."""
    number = FORMATS[format]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "old.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"-DFORMAT={number}"]
        subprocess.run([*command, "-o", str(output), str(SOURCE)], check=True)
        raw = output.read_bytes()
    return renamed(raw, _LETTERS) if number == 1 else raw
