"""Reshapes: the same elements under one shape for requests and another for the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.scheduling.queue import Batch

__all__ = ["ReshapeAdapter", "Reshapes", "check_reshape"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshapes:
    """The shapes that an engine has for the tensors of a signature.

    Attributes
    ----------
    inputs, outputs
        For each of the signature's, in its order, the engine's shape without the batch dimension, as
        `check_reshape` allows it; None where the engine has the signature's. () is a scalar.
    """

    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]


def check_reshape(dims: Sequence[int], shape: Sequence[int]) -> str | None:
    """Return what is wrong with a reshape, in Triton's words (kserve-v2.md, row 51), or None.

    A dimension of any size stays one: the first of `dims` is the first of `shape`, and so on. The elements
    between two of them are as many as before: [2, 4, -1, 6] may become [8, -1, 1, 6].

    Parameters
    ----------
    dims, shape
        What requests have and what the engine has, without the batch dimension; -1 for any size.
    """
    if any(size < 1 and size != -1 for size in shape):
        return "reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension"
    before, after = _counts(dims), _counts(shape)
    if len(before) != len(after) and min(len(before), len(after)) > 1:
        return "has different number of variable-size dimensions for dims and reshape"
    return None if before == after else "has different size for dims and reshape"


def _counts(shape: Sequence[int]) -> list[int]:
    """Count the elements before, between and after the dimensions of any size."""
    marks = [position for position, size in enumerate(shape) if size == -1]
    starts, ends = [0, *(mark + 1 for mark in marks)], [*marks, len(shape)]
    return [math.prod(shape[start:end]) for start, end in zip(starts, ends, strict=True)]


class ReshapeAdapter:
    """Gives an engine the shapes it has, and requests those of the signature; see `Adapter`. Thread-safe.

    Elements stay where they are, but those of an output that is not contiguous.

    Parameters
    ----------
    reshapes
        For all tensors of the signature.
    signature
        Of the model, as its requests see it.
    """

    def __init__(self, reshapes: Reshapes, signature: Signature) -> None:
        batch = (-1,) if signature.max_batch else ()
        self._name = signature.name
        self._inputs = [
            None if shape is None else _Reshape(spec, (*batch, *spec.shape), (*batch, *shape))
            for spec, shape in zip(signature.inputs, reshapes.inputs, strict=True)
        ]
        self._outputs = [
            None if shape is None else _Reshape(spec, (*batch, *shape), (*batch, *spec.shape))
            for spec, shape in zip(signature.outputs, reshapes.outputs, strict=True)
        ]

    def inputs(
        self,
        arrays: list[Array | None],
        jobs: Sequence[Job],  # noqa: ARG002
        batch: Batch[Job],  # noqa: ARG002
    ) -> list[Array | None]:
        """Return the inputs as the engine has them; None for one that is not given."""
        return [
            array if reshape is None or array is None else reshape.of(array)
            for reshape, array in zip(self._inputs, arrays, strict=True)
        ]

    def outputs(
        self,
        arrays: Sequence[Array],
        jobs: Sequence[Job],  # noqa: ARG002
        batch: Batch[Job],  # noqa: ARG002
    ) -> Sequence[Array]:
        """Return the outputs as the signature has them.

        Raises
        ------
        Internal
            One has not the shape that the engine was said to have.
        """
        if len(arrays) != len(self._outputs):
            return arrays  # which is an error of its own, told where outputs are checked
        return [
            array if reshape is None else self._reshaped(reshape, array)
            for reshape, array in zip(self._outputs, arrays, strict=True)
        ]

    def _reshaped(self, reshape: _Reshape, array: Array) -> Array:
        if not reshape.takes(array):
            raise Internal(
                f"model '{self._name}' returned output '{reshape.name}' of shape {list(array.shape)}, "
                f"expected {list(reshape.source)}"
            )
        return reshape.of(array)


class _Reshape:
    """How one tensor is reshaped: from a shape to another, both with the batch dimension."""

    def __init__(self, spec: TensorSpec, source: Shape, target: Shape) -> None:
        self.name = spec.name
        self.source = source
        marks = (position for position, size in enumerate(source) if size == -1)
        # A size, or inverted the dimension of the source that has it: ~0 is -1, and no size is negative.
        self._target = [~next(marks) if size == -1 else size for size in target]

    def takes(self, array: Array) -> bool:
        return array.ndim == len(self.source) and all(
            want in {-1, size} for want, size in zip(self.source, array.shape, strict=True)
        )

    def of(self, array: Array) -> Array:
        given = array.shape
        return array.reshape([size if size >= 0 else given[~size] for size in self._target])
