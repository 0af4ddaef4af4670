"""Options of `yais build`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.build.builder_package import BUILDERS
from yais.build.options import BuildOptions
from yais.build.precision import Precision
from yais.build.shape_ranges import ShapeRange
from yais.errors import InvalidArgument
from yais.tools.byte_size import byte_size
from yais.tools.option_groups import grouped, with_options

__all__ = ["with_build_options"]

F = TypeVar("F", bound=Callable[..., Any])


def _batches(
    _context: click.Context, _option: click.Parameter, texts: Sequence[str]
) -> tuple[ShapeRange, ...]:
    found = []
    for text in texts:
        sizes = text.split(":")
        if len(sizes) > 3 or not all(size.isdecimal() and int(size) for size in sizes):
            raise click.UsageError(f"got --batch {text}, expected MIN:OPT:MAX such as 1:8:32, or MAX")
        parts = ["1", *sizes] if len(sizes) == 1 else sizes
        found.append(_range(f"--batch {text}", ":".join(parts)))
    return tuple(found)


def _shapes(
    _context: click.Context, _option: click.Parameter, texts: Sequence[str]
) -> dict[str, tuple[ShapeRange, ...]]:
    found: dict[str, tuple[ShapeRange, ...]] = {}
    for text in texts:
        name, equals, shapes = text.rpartition("=")
        if not equals or not name:
            raise click.UsageError(f"got --shape {text}, expected NAME=SHAPE, such as image=1x3x224x224")
        found[name] = (*found.get(name, ()), _range(f"--shape {text}", shapes))
    return found


def _range(option: str, text: str) -> ShapeRange:
    try:
        return ShapeRange.parse(text)
    except InvalidArgument as error:
        raise click.UsageError(f"{option}: {error}") from None


_shape, _network, _gpu = grouped("Shapes"), grouped("Network"), grouped("GPU")

_OPTIONS = (
    _shape(
        "--batch",
        "batches",
        envvar="YAIS_BUILD_BATCH",
        multiple=True,
        callback=_batches,
        metavar="MIN:OPT:MAX",
        help="Smallest batch, the one to be fastest, and the largest, for models with batches of any size; "
        "MAX alone is 1:MAX:MAX. Given more than once, each makes a profile of its own.  [default: 1:8:32]",
    ),
    _shape(
        "--shape",
        "shapes",
        envvar="YAIS_BUILD_SHAPE",
        multiple=True,
        callback=_shapes,
        metavar="NAME=MIN[:OPT[:MAX]]",
        help="Shapes of an input with dimensions of any size, with the batch: image=1x3x64x64:8x3x224x224. "
        "Given more than once for an input, each is of a profile of its own.",
    ),
    _network(
        "--precision",
        type=click.Choice([each.value for each in Precision]),
        default=Precision.FP32.value,
        show_default=True,
        help="What the FP32 parts of the model are computed in; fp32 leaves the model as it is, int8 as "
        "well, but wants it quantised. Inputs and outputs stay as they are.",
    ),
    _network(
        "--keep",
        envvar="YAIS_BUILD_KEEP",
        multiple=True,
        metavar="NODE|OPERATOR",
        help="What stays in FP32, with fp16 and bf16: a node by its name, or all of an operator. May be "
        "given more than once.",
    ),
    _network(
        "--tf32/--no-tf32",
        default=True,
        show_default=True,
        help="Whether FP32 products may be rounded to TF32.",
    ),
    _network(
        "--weight-streaming",
        is_flag=True,
        help="Make a plan whose weights may stay in host memory when it is run.",
    ),
    _gpu(
        "--target",
        "targets",
        envvar="YAIS_BUILD_TARGET",
        type=str.lower,
        multiple=True,
        callback=lambda _context, _option, targets: tuple(dict.fromkeys(targets)),
        metavar="smXX",
        help="GPU to build for, by its compute capability, such as sm89; it need not be there. For "
        "TensorRT-RTX; may be given more than once.  [default: all from Ampere on]",
    ),
    _gpu(
        "--builder",
        type=click.Choice([*BUILDERS]),
        help="What builds.  [default: tensorrt-rtx with --target, else the first that is installed]",
    ),
    _gpu(
        "--optimization-level",
        "level",
        envvar="YAIS_BUILD_OPTIMIZATION_LEVEL",
        type=click.IntRange(min=0),
        help="How long to look for fast kernels, from 0 to 5.  [default: 3]",
    ),
    _gpu(
        "--workspace",
        type=byte_size,
        metavar="SIZE",
        help="Device memory that a layer may use besides its tensors, such as 1GiB.  [default: all]",
    ),
    _gpu(
        "--timing-cache",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Where measurements of kernels are kept from build to build; made if it is not there. Not for "
        "TensorRT-RTX.",
    ),
    _gpu(
        "--version-compatible",
        is_flag=True,
        help="Make a plan that other versions run, too. Not for TensorRT-RTX.",
    ),
    _gpu(
        "--hardware-compatibility",
        "compatibility",
        envvar="YAIS_BUILD_HARDWARE_COMPATIBILITY",
        type=click.Choice(["same", "ampere+"]),
        help="Make a plan for other GPUs, too: of the same compute capability, or from Ampere on. Not for "
        "TensorRT-RTX.",
    ),
)


def with_build_options(command: F) -> F:
    """Give a command the options; it gets `options: BuildOptions`."""

    @wraps(command)
    def gathered(*, precision: str, **given: Any) -> Any:
        names = set(BuildOptions.__dataclass_fields__) & set(given)
        chosen = {name: given.pop(name) for name in names}
        return command(options=BuildOptions(**chosen, precision=Precision(precision)), **given)

    options: F = with_options(_OPTIONS)(gathered)  # type: ignore[assignment]
    return options
