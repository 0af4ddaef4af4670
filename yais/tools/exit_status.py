"""How a command ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from yais.load.recording import Recording

__all__ = ["INTERRUPTED", "end"]

INTERRUPTED = 130
"""Of what Ctrl-C ended, as a shell says it."""


def end(recording: Recording, *, well: bool) -> None:
    """End the command with 130 after Ctrl-C, with 1 if it did not go `well`; else go on.

    Raises
    ------
    click.exceptions.Exit
        With the status.
    """
    if recording.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if not well:
        raise click.exceptions.Exit(1)
