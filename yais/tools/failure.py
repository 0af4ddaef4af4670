"""What a server refuses or does not answer, as one line for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from yais.errors import YaisError

__all__ = ["reported"]


@contextmanager
def reported(address: str) -> Iterator[None]:
    """Turn errors of a server, and of reaching it, into "Error: ADDRESS: text" and exit status 1.

    Raises
    ------
    click.ClickException
        In place of a YaisError in the block.
    """
    try:
        yield
    except YaisError as error:
        raise click.ClickException(f"{address}: {error}") from None
