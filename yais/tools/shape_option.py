"""The option `--shape`, for inputs with dimensions of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from yais.load.input_sizes import Shapes
from yais.tools.option_groups import OptionDecorator

__all__ = ["shape_option"]


def shape_option(
    option: Callable[..., OptionDecorator] = click.option,
    *,
    otherwise: str = "such dimensions are 1 by default",
) -> OptionDecorator:
    """Return the option; the command gets `shape: Shapes`.

    Parameters
    ----------
    option
        What makes options: `click.option`, or that of a group.
    otherwise
        What is said of inputs for which it is not given.
    """
    return option(
        "--shape",
        multiple=True,
        callback=_parsed,
        metavar="NAME:D1,D2,...",
        help=f"Shape of an input with dimensions of any size, without the batch; {otherwise}. "
        "May be given more than once.",
    )


def _parsed(_context: click.Context, _option: click.Parameter, texts: Sequence[str]) -> Shapes:
    parsed: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        if not colon or not all(size.isdecimal() for size in sizes.split(",")):
            raise click.UsageError(
                f"got --shape {text}, expected an input and sizes, such as image:3,224,224"
            )
        parsed[name] = tuple(map(int, sizes.split(",")))
    return parsed
