"""How `yais perf` ends where it does not end well: as perf_analyzer does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from yais.tools.option_groups import GroupedCommand

__all__ = ["FAILED", "UNSTABLE", "PerfCommand", "PerfFailed"]

UNSTABLE, FAILED = 2, 99
"""Exit statuses."""


class PerfFailed(click.ClickException):
    """What ends a run; printed as it is."""

    exit_code = FAILED

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(self.message, err=True, file=file)


class PerfCommand(GroupedCommand):
    """A command whose status for all errors is 99, wrong usage too: 2 says that nothing was stable."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse."""
        with _failed():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run."""
        with _failed():
            return super().invoke(ctx)


@contextmanager
def _failed() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.exit_code = FAILED  # type: ignore[misc]  # an error may have a status of its own
        raise
