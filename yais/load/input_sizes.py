"""Sizes of inputs: of one item, of a batch, and of all bytes together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument

__all__ = ["Shapes", "check_batch", "item_shapes", "sized"]

Shapes = Mapping[str, tuple[int, ...]]
"""Of one item of each input, by name."""

_LENGTH = 4  # bytes before each element of BYTES, which say how long it is


def check_batch(model: str, batch: int, limit: int) -> None:
    """Raise InvalidArgument if a model does not take `batch` items; a `limit` of 0: it takes no batches."""
    if batch > max(limit, 1):
        takes = f"batches of at most {limit}" if limit else "no batches"
        raise InvalidArgument(f"got a batch of {batch}, but model '{model}' takes {takes}")


def item_shapes(specs: Iterable[TensorSpec], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shape of one item for each input.

    Parameters
    ----------
    specs
        The inputs, without the batch.
    shapes
        Those asked for. Dimensions of any size are 1 where nothing is asked for.

    Raises
    ------
    InvalidArgument
        The model does not take them.
    """
    known = {spec.name: spec for spec in specs}
    for name in shapes:
        if name not in known:
            raise InvalidArgument(f"got a shape for '{name}', expected one of {', '.join(known)}")
    return {name: _shape(spec, shapes) for name, spec in known.items()}


def sized(
    specs: Sequence[TensorSpec], shapes: Shapes, items: int, nbytes: int
) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Choose shapes, or the length of texts, so that a request takes so many bytes.

    Parameters
    ----------
    specs
        The inputs: of one item.
    shapes
        Of one item, for the inputs where somebody has chosen it.
    items
        In the request.
    nbytes
        Of all its tensors.

    Returns
    -------
    dict, int or None
        The shapes; bytes of each element of BYTES, None where there are none.

    Raises
    ------
    InvalidArgument
        There is nothing to choose, or nothing that takes so many bytes; the message says what is possible.
    """
    known = [TensorSpec(spec.name, spec.datatype, shapes.get(spec.name, spec.shape)) for spec in specs]
    texts = items * sum(_ones(spec) for spec in known if spec.datatype is DataType.BYTES)
    if texts:
        others = items * sum(_ones(spec) * spec.datatype.size for spec in known)
        return dict(shapes), _steps(nbytes, others + _LENGTH * texts, texts)
    return {**shapes, **_dimensions(known, items, nbytes)}, None


def _dimensions(known: Sequence[TensorSpec], items: int, nbytes: int) -> Shapes:
    """Return shapes for the inputs with a dimension of any size, the same for all."""
    free = [spec for spec in known if -1 in spec.shape]
    fixed = items * sum(spec.nbytes for spec in known if -1 not in spec.shape)
    for spec in free:
        if spec.shape.count(-1) > 1:
            raise InvalidArgument(
                f"got {nbytes} bytes for {spec}, which has more than one dimension of any size: "
                "expected a shape for it"
            )
    size = _steps(nbytes, fixed, items * sum(_ones(spec) * spec.datatype.size for spec in free))
    return {spec.name: tuple(size if one < 0 else one for one in spec.shape) for spec in free}


def _shape(spec: TensorSpec, shapes: Shapes) -> tuple[int, ...]:
    sizes = spec.shape
    wanted = shapes.get(spec.name, tuple(1 if size < 0 else size for size in sizes))
    if len(wanted) != len(sizes) or any(
        size not in {-1, want} for size, want in zip(sizes, wanted, strict=True)
    ):
        raise InvalidArgument(
            f"got shape {list(wanted)} for '{spec.name}', expected {list(sizes)} (-1: any size)"
        )
    return wanted


def _ones(spec: TensorSpec) -> int:
    """Return the elements of one item where dimensions of any size are 1."""
    return math.prod(1 if size < 0 else size for size in spec.shape)


def _steps(nbytes: int, least: int, step: int) -> int:
    """Return how many steps of so many bytes there are beyond the least."""
    steps, over = divmod(nbytes - least, step) if step else (0, nbytes - least)
    if steps >= 0 and not over:
        return steps
    below = least + steps * step
    possible = f"at least {least}" if steps < 0 else f"{below} or {below + step}" if step else f"{least}"
    raise InvalidArgument(f"got {nbytes} bytes for the inputs, expected {possible}")
