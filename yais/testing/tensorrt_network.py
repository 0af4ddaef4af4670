"""Networks for plans of a fake TensorRT: what they take and give, and a function that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yais.core.tensor import DataType
from yais.engines.engine import Array

__all__ = ["FakeNetwork", "FakeProfile", "FakeTensor", "Shape"]

Shape = tuple[int, ...]

_NUMPY: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": DataType.BF16.numpy,
    "INT8": np.dtype(np.int8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "FP8": np.dtype(np.uint8),
    "E8M0": np.dtype(np.uint8),
    "INT4": np.dtype(np.uint8),
    "FP4": np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class FakeTensor:
    """A tensor of a network.

    Attributes
    ----------
    name
        Of the tensor.
    dtype
        Name of TensorRT's type; what numpy lacks goes as its bits.
    shape
        -1 for a dimension of any size.
    host
        Whether it is in host memory.
    format
        What TensorRT says of its format.
    vectorized
        The dimension that is vectorized; -1 for none.
    alias
        The input whose memory an output shares.
    """

    name: str
    dtype: str = "FLOAT"
    shape: Shape = (-1, 4)
    host: bool = False
    format: str = "Row major linear format (kLINEAR)"
    vectorized: int = -1
    alias: str | None = None

    @property
    def numpy(self) -> np.dtype[Any]:
        """Type of arrays that hold it."""
        return _NUMPY[self.dtype]


@dataclass(frozen=True, slots=True)
class FakeProfile:
    """An optimization profile: smallest, usual and largest shape of inputs, and values of those on the host.

    An input that is not named has its own shape.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)
    values: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeNetwork:
    """What a plan of a fake TensorRT does.

    Attributes
    ----------
    inputs, outputs
        Its tensors.
    function
        Takes an array for each input, and returns one for each output.
    output_shapes
        Takes the shapes of the inputs by name, and the values of those on the host, and returns the shapes of
        the outputs in their order. By default -1 in an output stands for what the first input has there.
    profiles
        At least one.
    scratch, weights, streamable, stripped
        Bytes of activation memory, of weights, of those that can be streamed, and of those that are missing.
    duration
        Of an execution in ns, or a function of the shapes of the inputs by name.
    capability
        Name of TensorRT's EngineCapability.
    version_compatible
        Whether other versions read the plan.
    plugin
        The plugin that it needs and that nobody has.
    """

    inputs: Sequence[FakeTensor]
    outputs: Sequence[FakeTensor]
    function: Callable[..., Sequence[Array]]
    output_shapes: Callable[[Mapping[str, Shape], Mapping[str, Array]], Sequence[Shape]] | None = None
    profiles: Sequence[FakeProfile] = (FakeProfile(),)
    scratch: int = 0
    weights: int = 1024
    streamable: int = 0
    stripped: int = -1
    duration: int | Callable[[Mapping[str, Shape]], int] = 0
    capability: str = "STANDARD"
    version_compatible: bool = False
    plugin: str = ""

    @property
    def tensors(self) -> tuple[FakeTensor, ...]:
        """Inputs, then outputs."""
        return (*self.inputs, *self.outputs)

    def tensor(self, name: str) -> FakeTensor:
        """Return a tensor by its name."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def is_input(self, name: str) -> bool:
        """Whether an input has this name."""
        return any(tensor.name == name for tensor in self.inputs)

    def shapes_of_outputs(self, shapes: Mapping[str, Shape], values: Mapping[str, Array]) -> dict[str, Shape]:
        """Return the shapes of the outputs by name."""
        if self.output_shapes is not None:
            found = [tuple(shape) for shape in self.output_shapes(shapes, values)]
        else:
            first = shapes[self.inputs[0].name]
            found = [
                tuple(first[axis] if size < 0 else size for axis, size in enumerate(output.shape))
                for output in self.outputs
            ]
        return {output.name: shape for output, shape in zip(self.outputs, found, strict=True)}

    def range_of(self, profile: int, name: str) -> tuple[Shape, Shape, Shape]:
        """Return smallest, usual and largest shape of an input."""
        own = self.tensor(name).shape
        return self.profiles[profile].shapes.get(name, (own, own, own))

    def time(self, shapes: Mapping[str, Shape]) -> int:
        """Return how long an execution takes, ns."""
        return self.duration if isinstance(self.duration, int) else self.duration(shapes)
