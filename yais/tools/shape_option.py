"""The option `--shape`, for inputs with dimensions of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from yais.load.input_sizes import Shapes

__all__ = ["parsed_shapes", "shape_option"]

F = TypeVar("F", bound=Callable[..., Any])


def shape_option(command: str) -> Callable[[F], F]:
    """Return the option; `command` is that part of the name of its environment variable."""
    return click.option(
        "--shape",
        "shapes",
        envvar=f"YAIS_{command}_SHAPE",
        multiple=True,
        metavar="NAME:D1,D2,...",
        help="Shape of an input with dimensions of any size, without the batch; such dimensions are 1 by "
        "default. May be given more than once.",
    )


def parsed_shapes(texts: Sequence[str]) -> Shapes:
    """Return the shapes that `--shape` asks for.

    Raises
    ------
    click.UsageError
        A text is none.
    """
    parsed: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        if not colon or not all(size.isdecimal() for size in sizes.split(",")):
            raise click.UsageError(
                f"got --shape {text}, expected an input and sizes, such as image:3,224,224"
            )
        parsed[name] = tuple(map(int, sizes.split(",")))
    return parsed
