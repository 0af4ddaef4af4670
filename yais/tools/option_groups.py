"""Options of a command under headings, for commands that have many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import click

__all__ = ["GroupedCommand", "GroupedOption", "OptionDecorator", "grouped", "with_options"]

F = TypeVar("F", bound=Callable[..., Any])

OptionDecorator = Callable[[Any], Any]
"""What `click.option` returns: gives a command an option."""


class GroupedOption(click.Option):
    """An option that `--help` lists under a heading."""

    def __init__(self, *arguments: Any, heading: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose `--help` lists options under their headings, in the order of declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                heading = parameter.heading if isinstance(parameter, GroupedOption) else "Other"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def grouped(heading: str) -> Callable[..., OptionDecorator]:
    """Return `click.option` for the options under a heading."""
    return partial(click.option, cls=GroupedOption, heading=heading)


def with_options(options: Iterable[OptionDecorator]) -> Callable[[F], F]:
    """Return a decorator that gives a command options, listed in this order."""

    def give(command: F) -> F:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return give
