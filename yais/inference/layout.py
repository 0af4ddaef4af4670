"""Layouts: what checking the form of a request against a model finds out.

Clients send the same form again and again, so a layout is made once per form and everything that only
depends on the form is in it. The texts of the errors are Triton's (kserve-v2.md, row 30).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.inference.profile import Profile
from yais.inference.request import InferRequest, TensorData

__all__ = ["Layout", "Signature"]

_MAX_BYTES = (1 << 63) - 1  # what an int64 can count, as Triton has it

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim in "
    "your input dims config, try setting max_batch_size to zero. See the model "
    "configuration docs for more info on max_batch_size."
)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The form of a request, checked.

    Attributes
    ----------
    batch
        Items in the request; 1 for a model without a batch dimension.
    shapes
        Shape of each input of the model, in the model's order; () for one that is not given.
    order
        For each input of the model, its position in the request; -1 for one that is not given.
    sizes
        Length the contents of each input of the request must have, in the request's order: bytes, or for
        BYTES elements.
    group
        Equal for requests that can run in one batch.
    outputs
        For each output wanted, its position among the model's.
    """

    batch: int
    shapes: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    sizes: tuple[int, ...]
    group: Hashable
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: the other half of the check.

    Attributes
    ----------
    name
        Of the model, for error messages.
    inputs, outputs
        Without the batch dimension; -1 for a dimension of any size.
    max_batch
        Largest batch; 0 for a model without a batch dimension.
    profiles
        For inputs with dimensions of any size, by name, the sizes that are allowed.
    optional
        Names of the inputs that a request may leave out.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def layout(self, request: InferRequest) -> Layout:
        """Check the form of a request.

        Raises
        ------
        InvalidArgument
            It is none that the model takes; the message says what was got and what was expected.
        """
        inputs = request.inputs
        order = self._order([spec.name for spec in inputs])
        batch = self._batch(order, inputs)
        shapes = tuple([inputs[position].shape if position >= 0 else () for position in order])
        first = 1 if self.max_batch else 0
        return Layout(
            batch=batch,
            shapes=shapes,
            order=tuple(order),
            sizes=tuple([spec.nbytes if spec.datatype.size else spec.elements for spec in inputs]),
            group=tuple(
                [
                    shape[first:] if position >= 0 else None  # () could be the shape of one that is given
                    for shape, position in zip(shapes, order, strict=True)
                ]
            ),
            outputs=self._outputs(request.outputs),
        )

    def check_sizes(self, layout: Layout, inputs: Sequence[TensorSpec], data: Sequence[TensorData]) -> None:
        """Check that contents have the sizes that a layout says. Raises InvalidArgument."""
        for spec, expected, contents in zip(inputs, layout.sizes, data, strict=True):
            if type(contents) is np.ndarray:
                got = contents.nbytes if spec.datatype.size else contents.size
            else:
                got = len(contents)
            if got == expected:
                continue
            if spec.datatype.size:
                raise InvalidArgument(
                    f"input byte size mismatch for input '{spec.name}' for model '{self.name}'. "
                    f"Expected {expected}, got {got}"
                )
            which = f"for inference input '{spec.name}' for model '{self.name}'"
            if got < expected:
                raise InvalidArgument(f"expected {expected} string elements {which}, got {got}")
            raise InvalidArgument(f"unexpected number of string elements {got} {which}, expecting {expected}")

    def _order(self, given: list[str]) -> list[int]:
        expected = [spec.name for spec in self.inputs]
        for position, name in enumerate(given):
            if name in given[:position]:
                raise InvalidArgument(f"input '{name}' already exists in request")
        if not len(expected) - len(self.optional) <= len(given) <= len(expected):
            raise InvalidArgument(self._wrong_inputs(given))
        for name in given:
            if name not in expected:
                raise InvalidArgument(f"unexpected inference input '{name}' for model '{self.name}'")
        if not self.optional:
            return [given.index(name) for name in expected]
        if not self.optional.issuperset(set(expected).difference(given)):
            raise InvalidArgument(self._wrong_inputs(given))
        return [given.index(name) if name in given else -1 for name in expected]

    def _wrong_inputs(self, given: list[str]) -> str:
        """Say that inputs are too few, too many, or not those that are required."""
        expected = [spec.name for spec in self.inputs]
        required = [name for name in expected if name not in self.optional]
        missing = [name for name in required if name not in given]
        if self.optional:
            count = f"number of inputs between {len(required)} and {len(expected)}"
        else:
            count = f"{len(expected)} inputs"
        remark = f", but missing required input(s) {_listed(missing)}" if missing else ""
        advice = " Please provide all required input(s)." if missing else f" Expected {_listed(expected)}."
        return (
            f"expected {count} but got {len(given)} inputs for model '{self.name}'. "
            f"Got input(s) {_listed(given)}{remark}.{advice}"
        )

    def _batch(self, order: Sequence[int], inputs: Sequence[TensorSpec]) -> int:
        """Check every input that is given; return their batch size, which is one."""
        batch = 0
        for expected, position in zip(self.inputs, order, strict=True):
            if position < 0:
                continue
            size = self._check(expected, inputs[position])
            if batch and size != batch:
                raise InvalidArgument(
                    f"input '{expected.name}' batch size does not match other inputs for '{self.name}'"
                )
            batch = size
        if self.max_batch and batch > self.max_batch:
            raise InvalidArgument(
                f"inference request batch-size must be <= {self.max_batch} for '{self.name}'"
            )
        return batch or 1

    def _check(self, expected: TensorSpec, got: TensorSpec) -> int:
        """Check one input; return its batch size."""
        if got.datatype is not expected.datatype:
            raise InvalidArgument(
                f"inference input '{got.name}' data-type is '{got.datatype.value}', but model "
                f"'{self.name}' expects '{expected.datatype.value}'"
            )
        wanted = (-1, *expected.shape) if self.max_batch else expected.shape
        matches = len(got.shape) == len(wanted) and all(
            size >= 0 and want in {-1, size} for size, want in zip(got.shape, wanted, strict=True)
        )
        if not matches or (self.max_batch and got.shape[0] < 1):
            note = f" {_BATCH_NOTE}" if self.max_batch else ""
            raise InvalidArgument(
                f"unexpected shape for input '{got.name}' for model '{self.name}'. "
                f"Expected {_shape(wanted)}, got {_shape(got.shape)}.{note}"
            )
        profile = self.profiles.get(got.name)
        item = got.shape[1:] if self.max_batch else got.shape
        if profile is not None and not profile.allows(item):
            raise InvalidArgument(
                f"unexpected shape for input '{got.name}' for model '{self.name}'. Expected from "
                f"{_shape(profile.smallest)} to {_shape(profile.largest)} as in its profile, "
                f"got {_shape(item)}"
            )
        # Counted without dimensions of no size, as numpy counts: no array could have such a shape.
        if math.prod(size or 1 for size in got.shape) * got.datatype.numpy.itemsize > _MAX_BYTES:
            raise InvalidArgument(
                f"shape {_shape(got.shape)} of input '{got.name}' for model '{self.name}' "
                "causes total element count to exceed maximum size of 2^63-1 bytes"
            )
        return got.shape[0] if self.max_batch else 1

    def _outputs(self, wanted: Sequence[str]) -> tuple[int, ...]:
        names = [spec.name for spec in self.outputs]
        for position, name in enumerate(wanted):
            if name not in names:
                raise InvalidArgument(f"unexpected inference output '{name}' for model '{self.name}'")
            if name in wanted[:position]:
                raise InvalidArgument(f"output '{name}' already exists in request")
        return tuple(names.index(name) for name in wanted or names)


def _listed(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _shape(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
