"""What `Engine.select` does to the tensors of a model."""

from __future__ import annotations

from collections.abc import Sequence

from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument

__all__ = ["reordered"]


def reordered(
    takes: Sequence[TensorSpec], gives: Sequence[TensorSpec], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return a model's inputs, all of them, and some of its outputs, in the order of the names.

    Raises
    ------
    InvalidArgument
        The names are not the model's.
    """
    taken = {spec.name: spec for spec in takes}
    given = {spec.name: spec for spec in gives}
    if sorted(inputs) != sorted(taken):
        raise InvalidArgument(f"got inputs {list(inputs)}, expected {list(taken)} in any order")
    if not given.keys() >= set(outputs):
        raise InvalidArgument(f"got outputs {list(outputs)}, expected some of {list(given)}")
    return tuple(taken[name] for name in inputs), tuple(given[name] for name in outputs)
