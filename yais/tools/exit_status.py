"""How a command that has measured something ends."""

from __future__ import annotations

import click

from yais.load.recording import Recording

__all__ = ["end"]

_INTERRUPTED = 130  # as a shell says it of what Ctrl-C ended


def end(recording: Recording, *, well: bool) -> None:
    """End the command with 130 after Ctrl-C, with 1 if it did not go `well`; else go on.

    Raises
    ------
    click.exceptions.Exit
        With the status.
    """
    if recording.interrupted:
        raise click.exceptions.Exit(_INTERRUPTED)
    if not well:
        raise click.exceptions.Exit(1)
