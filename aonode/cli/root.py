"""The group of all verbs: takes ids that begin with a hyphen for what they are.

One id in 64 does. The parser of options would read it as options of one letter each, so it gets a
mark in front that `aonode.cli.shared.Id` takes away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import click

from aonode.cli.shared import ID_MARK

_HYPHENED_ID = re.compile(r"-[A-Za-z0-9_-]{42}")


class Root(click.Group):
    """`aonode`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        taking = set(_options_with_values(self))
        return super().parse_args(ctx, marked(args, taking))


def marked(args: Sequence[str], taking: set[str]) -> list[str]:
    """`args` with a mark before every id that is no option's value. `taking` are the options that
    have values."""
    found: list[str] = []
    before = ""
    for at, each in enumerate(args):
        if each == "--":
            return found + list(args[at:])
        is_id = before not in taking and _HYPHENED_ID.fullmatch(each) is not None
        found.append(ID_MARK + each if is_id and each not in taking else each)
        before = each
    return found


def _options_with_values(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            yield from parameter.opts
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _options_with_values(inner)
