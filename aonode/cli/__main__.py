"""The `aonode` command."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version

import click

from aonode.cli.challenge import challenge
from aonode.cli.demo import demo
from aonode.cli.keys import keys
from aonode.cli.ledger import ledger
from aonode.cli.log import log
from aonode.cli.messages import module, send, spawn
from aonode.cli.node import init, run, status
from aonode.cli.offline import run_alone
from aonode.cli.prove import prove
from aonode.cli.result import result
from aonode.cli.root import Root
from aonode.cli.shared import Exit
from aonode.cli.stake import stake


@click.group(
    cls=Root,
    epilog="Exit codes: 0 done, 1 refused or not verified, 2 usage or settings, 3 data directory "
    "in use, 4 data of another release, 5 key missing, 6 unreachable, 70 a bug of ours.",
)
@click.version_option(version("aonode"), prog_name="aonode")
def aonode() -> None:
    """A node of an AO network, and what its users need."""


for _verb in (
    init,
    run,
    demo,
    keys,
    module,
    spawn,
    send,
    result,
    log,
    status,
    ledger,
    stake,
    challenge,
    prove,
):
    aonode.add_command(_verb)
module.add_command(run_alone)


def main() -> None:
    """Entry point. A bug of ours ends in code 70 with its trace."""
    try:
        aonode()
    except (AssertionError, ExceptionGroup):
        traceback.print_exc()
        click.echo("aonode: this is a bug; please report the trace above", err=True)
        sys.exit(Exit.BUG)


if __name__ == "__main__":
    main()
