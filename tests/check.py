"""The one door for developers: everything that must hold before a change goes in.

    python tests/check.py fast    style, types, and every test that is not slow
    python tests/check.py all     the same, and the slow tests

Further arguments go to pytest: `python tests/check.py fast -k codec`. Every step runs, even
after one has failed; the last line says which failed, and the exit code is 0 iff none did.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STYLE: dict[str, list[str]] = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy", "--strict"],
}
TESTS: dict[str, list[str]] = {
    "fast": ["pytest", "-m", "not slow"],
    "all": ["pytest"],
}


def main(arguments: list[str]) -> int:
    """Run the steps of `fast` or `all`; the exit code."""
    if not arguments or arguments[0] not in TESTS:
        print(__doc__)
        return 2
    scope, *extra = arguments
    steps = {**STYLE, "tests": TESTS[scope] + extra}
    verdicts = [run(name, command) for name, command in steps.items()]
    failed = [name for name, passed in zip(steps, verdicts, strict=True) if not passed]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    print(f"check {scope}: {', '.join(steps)}: {verdict}", flush=True)
    return 1 if failed else 0


def run(name: str, command: list[str]) -> bool:
    """Run one step as a module of this interpreter; true iff it passed."""
    print(f"== {name}: python -m {' '.join(command)}", flush=True)
    started = time.monotonic()
    passed = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode == 0
    verdict = "passed" if passed else "FAILED"
    print(f"== {name}: {verdict} in {time.monotonic() - started:.1f} s\n", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
