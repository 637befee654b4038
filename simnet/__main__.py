"""`simnet`: run the production node in a simulated world."""

from __future__ import annotations

import sys

import click
import msgspec

from aonode.demo import LIES
from aonode.ops import log
from simnet import challenge, corridor, determinism
from simnet.corridor import NAMES, Cut, Options, Report
from simnet.fabric import LinkModel

TAIL_EVENTS = 40
"""Events shown of a run that broke an invariant."""


@click.group()
def main() -> None:
    """Simulate networks of aonode: same code, virtual time, one trace per seed."""
    log.configure("error")


class Fault(click.ParamType[tuple[str, int]]):
    """`<machine>:<sync>`, such as su:12."""

    name = "machine:sync"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        machine, _, sync = str(value).partition(":")
        if machine not in NAMES or not sync.isdecimal() or int(sync) < 1:
            self.fail(f"{value!r} is not like su:12; machines are {', '.join(NAMES)}", param, ctx)
        return machine, int(sync)


@main.command(name="corridor")
@click.option("--seed", type=int, default=1, show_default=True, help="Which run.")
@click.option("--transfers", type=click.IntRange(0, 10_000), default=24, show_default=True)
@click.option("--loss", type=click.FloatRange(0, 0.9), default=0.0, help="Share of lost gossip.")
@click.option("--cut", "cuts", type=Fault(), multiple=True, help="Power cut before a sync took.")
@click.option("--cut-after", type=Fault(), multiple=True, help="Power cut after a sync took.")
@click.option("--drop-sync", type=Fault(), multiple=True, help="A sync that does nothing.")
@click.option("--flip-byte", type=click.IntRange(1), help="Flip a bit of the n-th publish.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def corridor_command(
    *,
    seed: int,
    transfers: int,
    loss: float,
    cuts: tuple[tuple[str, int], ...],
    cut_after: tuple[tuple[str, int], ...],
    drop_sync: tuple[tuple[str, int], ...],
    flip_byte: int | None,
    as_json: bool,
) -> None:
    """Five nodes, token processes, transfers from several keys; exit 1 if an invariant breaks."""
    report = corridor.run(
        Options(
            seed=seed,
            transfers=transfers,
            links=LinkModel(loss=loss),
            cuts=(
                *(Cut(machine, sync) for machine, sync in cuts),
                *(Cut(machine, sync, durable=True) for machine, sync in cut_after),
            ),
            dropped_syncs=drop_sync,
            flipped_publish=flip_byte,
        )
    )
    click.echo(_json(report) if as_json else _text(report))
    sys.exit(1 if report.violations else 0)


@main.command(name="challenge")
@click.option("--seed", type=int, default=1, show_default=True, help="Which run.")
@click.option("--lie", type=click.Choice((*LIES, "none")), default="balance", show_default=True)
@click.option("--loss", type=click.FloatRange(0, 0.9), default=0.0, help="Share of lost gossip.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def challenge_command(*, seed: int, lie: str, loss: float, as_json: bool) -> None:
    """Five nodes with stakes, one compute unit lies; exit 1 if it is not slashed, or another is."""
    options = challenge.Options(seed, None if lie == "none" else lie, links=LinkModel(loss=loss))
    report = challenge.run(options)
    click.echo(_json(report) if as_json else _challenge_text(report))
    sys.exit(1 if report.violations else 0)


@main.command()
def check() -> None:
    """Does this interpreter reproduce a schedule?"""
    determinism.check()
    click.echo("trio schedules from the seed, and reproduces it")


def _json(report: Report | challenge.Report) -> str:
    """Nothing in it but what the seed decides: two runs print the same bytes."""
    facts = {name: value for name, value in msgspec.to_builtins(report).items() if name != "tail"}
    return msgspec.json.encode(facts).decode()


def _challenge_text(report: challenge.Report) -> str:
    lines = [
        f"seed {report.seed}   trace {report.trace}   {report.events} events",
        f"{report.virtual_ms / 1000:.3f} s of virtual time, {report.ticks} ticks",
        f"lie: {report.lie}   slashed: {', '.join(report.slashed) or 'nobody'}   {report.reason}",
        f"frozen {report.frozen_s} s, burnt {report.burnt_s} s after the first wrong answer",
        f"ledger root after slot {report.ledger_slot}: {report.ledger_root}",
    ]
    if report.violations:
        lines += ["", *map(str, report.tail[-TAIL_EVENTS:]), "", *report.violations]
    return "\n".join(lines)


def _text(report: Report) -> str:
    lines = [
        f"seed {report.seed}   trace {report.trace}   {report.events} events",
        f"{report.virtual_ms / 1000:.3f} s of virtual time",
        f"{report.messages} messages acknowledged, {report.scheduled} slots scheduled, "
        f"{report.pushed} of them pushed",
        f"{report.results} results of three compute units, "
        + ("all roots equal" if report.roots_equal else "ROOTS DIFFER"),
    ]
    if report.violations:
        lines += ["", *map(str, report.tail[-TAIL_EVENTS:]), "", *report.violations]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
