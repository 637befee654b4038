"""Runs one node from its config file, and prints one line once its ports answer."""

from __future__ import annotations

import cProfile
import json
import os
import sys
from functools import partial
from pathlib import Path

import trio

from aonode.config import load_settings
from aonode.ops import log
from aonode.service import Started, run

PROFILE_VARIABLE = "NODE_PROFILE"
"""Directory for a profile of the event loop's thread; none is taken without it."""


def command(config: Path) -> list[str]:
    """The command line that runs the node of `config` here."""
    return [sys.executable, "-m", "tests.loopback.node", str(config)]


def _announce(started: Started) -> None:
    line = {"urls": started.urls, "addresses": started.node.status()["addresses"]}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    config = Path(sys.argv[1])
    settings = load_settings(config)
    log.configure(settings.config.log_level)
    profiles = os.environ.get(PROFILE_VARIABLE)
    profile = cProfile.Profile() if profiles else None
    if profile:
        profile.enable()
    trio.run(partial(run, settings, announce=_announce))
    if profile:
        profile.disable()
        profile.dump_stats(Path(profiles or "") / f"{config.parent.name}.prof")


if __name__ == "__main__":
    main()
