"""Made-up inputs for a model, of the shapes a user asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
import numpy as np
import numpy.typing as npt

from yais.core.tensor import DataType, TensorSpec
from yais.infer_runner import AbstractInferRunner

__all__ = ["Shapes", "check_batch", "item_shapes", "parsed_shapes", "random_inputs", "shape_option"]

Array = npt.NDArray[Any]
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

Shapes = Mapping[str, tuple[int, ...]]
"""Of one item of each input, by name."""


def shape_option(command: str) -> Callable[[Decorated], Decorated]:
    """Return the option `--shape`; `command` is that part of the name of its environment variable."""
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
    """Return the shapes that `--shape` asks for. Raises UsageError."""
    parsed: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        if not colon or not all(size.isdecimal() for size in sizes.split(",")):
            raise click.UsageError(
                f"got --shape {text}, expected an input and sizes, such as image:3,224,224"
            )
        parsed[name] = tuple(map(int, sizes.split(",")))
    return parsed


def check_batch(model: str, batch: int, limit: int) -> None:
    """Raise ClickException if a model does not take `batch` items; a `limit` of 0: it takes no batches."""
    if batch > max(limit, 1):
        takes = f"batches of at most {limit}" if limit else "no batches"
        raise click.ClickException(f"got --batch {batch}, but model '{model}' takes {takes}")


def item_shapes(specs: Iterable[TensorSpec], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shape of one item for each input.

    Parameters
    ----------
    specs
        The inputs, without the batch.
    shapes
        Those asked for.

    Raises
    ------
    ClickException
        The model does not take them.
    """
    known = {spec.name: spec for spec in specs}
    for name in shapes:
        if name not in known:
            raise click.ClickException(f"got --shape for '{name}', expected one of {', '.join(known)}")
    return {name: _shape(spec, shapes) for name, spec in known.items()}


def random_inputs(runner: AbstractInferRunner[Any], batch: int, shapes: Shapes) -> dict[str, Array]:
    """Make up one request. Raises ClickException for what the model does not take."""
    limit = runner.max_batch_size()
    check_batch(runner.name, batch, limit)
    leading = (batch,) if limit else ()
    items = [
        TensorSpec(spec.name, spec.datatype, spec.shape[len(leading) :])
        for spec in runner.input_bindings().values()
    ]
    wanted = item_shapes(items, shapes)
    random = np.random.default_rng()
    return {spec.name: _random_array(random, spec.datatype, (*leading, *wanted[spec.name])) for spec in items}


def _shape(spec: TensorSpec, shapes: Shapes) -> tuple[int, ...]:
    sizes = spec.shape
    wanted = shapes.get(spec.name, tuple(1 if size < 0 else size for size in sizes))
    if len(wanted) != len(sizes) or any(
        size not in {-1, want} for size, want in zip(sizes, wanted, strict=True)
    ):
        raise click.ClickException(
            f"got --shape {list(wanted)} for '{spec.name}', expected {list(sizes)} (-1: any size)"
        )
    return wanted


def _random_array(random: np.random.Generator, datatype: DataType, shape: tuple[int, ...]) -> Array:
    # Small numbers: valid as indices and tokens of most models, and as elements of every type.
    if datatype is DataType.BYTES:
        return np.asarray(random.integers(0, 100, shape)).astype(np.str_).astype(np.object_)
    if datatype is DataType.BF16 or datatype.numpy.kind == "f":
        return np.asarray(random.random(shape, np.float32))
    return np.asarray(random.integers(0, 2 if datatype is DataType.BOOL else 100, shape)).astype(
        datatype.numpy
    )
