"""Compiled modules on disk, keyed by (module hash, profile, build, wasmtime version).

Compiled code is machine code: loading bytes that someone else wrote would run them. So the
directory must belong to this user alone, and a checksum beside each file catches bit rot. A file
in use is mapped into memory and must never be written to: new ones appear by rename.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import wasmtime
from blake3 import blake3

from aonode.engine.patch import BUILD_ID
from protocols.errors import Invalid, Reason


class CompileCache:
    """One private directory of compiled modules; with None, nothing is kept."""

    def __init__(self, directory: Path | None, profile: bytes) -> None:
        """Raises Invalid(STORAGE) if others can write to `directory`."""
        self._directory = directory
        self._suffix = f"{profile.hex()[:16]}-{BUILD_ID}-{version('wasmtime')}"
        if directory is not None:
            _make_private(directory)

    def load(
        self, engine: wasmtime.Engine, module_hash: bytes, build: Callable[[], bytes]
    ) -> wasmtime.Module:
        """The compiled module; `build` gives the binary if it has to be compiled.

        Raises WasmtimeError if it does not compile.
        """
        if self._directory is None:
            return wasmtime.Module(engine, build())
        path = self._directory / f"{module_hash.hex()}-{self._suffix}.cwasm"
        found = self._read(engine, path)
        if found is not None:
            return found
        module = wasmtime.Module(engine, build())
        code = bytes(module.serialize())
        _write(path, code)
        _write(path.with_suffix(".sum"), blake3(code).digest())
        return module

    def _read(self, engine: wasmtime.Engine, path: Path) -> wasmtime.Module | None:
        """A cached module; None if it is absent, damaged, or for another machine."""
        try:
            expected = path.with_suffix(".sum").read_bytes()
            if blake3(path.read_bytes()).digest() != expected:
                return None
            return wasmtime.Module.deserialize_file(engine, str(path))
        except FileNotFoundError:
            return None
        except wasmtime.WasmtimeError:
            # Compiled for another processor: compile again and replace it.
            return None


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise Invalid(
            Reason.STORAGE,
            f"{directory} can be written by others, who could make this node run their code; "
            "give it to this user alone (chmod 700)",
        )


def _write(path: Path, content: bytes) -> None:
    """Durable before visible: temporary name, sync, rename."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / "code"
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
