"""An inference request and its answer, whatever carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from yais.core.tensor import TensorSpec

__all__ = ["InferAnswer", "InferCall", "InputTensor", "SharedTensor", "WantedOutput"]

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SharedTensor:
    """Where a tensor lies in a region of shared memory that the server knows; sizes in bytes."""

    region: str
    byte_size: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input with its contents.

    Attributes
    ----------
    spec
        Name, type and concrete shape, with the batch dimension where the model has one.
    data
        Row-major little-endian bytes (`yais.protocol.tensor_codec.encode`), or where they lie.
    """

    spec: TensorSpec
    data: bytes | memoryview | SharedTensor


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that is asked for: as it is, as the best `classes`, or into shared memory."""

    name: str
    classes: int = 0
    shared: SharedTensor | None = None


@dataclass(frozen=True, slots=True)
class InferCall:
    """A request. With no `outputs` the server sends all."""

    model: str
    inputs: Sequence[InputTensor]
    outputs: Sequence[WantedOutput] = ()
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """A response.

    Attributes
    ----------
    outputs
        By name; BYTES as arrays of objects, BF16 as float32. Outputs in shared memory are left out.
    final
        Whether no other response to the request follows.
    """

    model: str
    version: str
    id: str
    outputs: Mapping[str, npt.NDArray[Any]]
    parameters: Mapping[str, Value] = field(default_factory=dict)
    final: bool = True
