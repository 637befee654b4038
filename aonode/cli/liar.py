"""`python -m aonode.cli.liar`: a node that lies, for the demo and tests. No verb of `aonode`."""

from __future__ import annotations

from pathlib import Path

import click

from aonode.cli.node import serve
from aonode.config import load_settings
from aonode.demo import LIES
from aonode.demo.liar import Liar


@click.command()
@click.option("--lie", required=True, type=click.Choice(LIES))
@click.option(
    "--config", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
def main(lie: str, config: Path) -> None:
    """Run the node of a config file as a liar."""
    settings = load_settings(config)
    serve(settings, lambda signer: Liar(lie, settings.network, signer))


if __name__ == "__main__":
    main()
