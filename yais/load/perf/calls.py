"""The requests that a model is measured with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yais.client.datatypes import datatype_of
from yais.client.infer_call import InferCall, InputTensor
from yais.client.shared_regions import SharedRegions
from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.load.input_data import read_input_data
from yais.load.input_sizes import Shapes
from yais.load.inputs import ModelInputs, generated
from yais.load.made_up import Kind

__all__ = ["InputOptions", "calls_of"]


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What requests hold.

    Attributes
    ----------
    batch
        Items of each.
    data
        Random numbers, zeros, or the file or directory that `yais.load.input_data` reads.
    shapes
        Of one item, of inputs with dimensions of any size.
    string_length, string_data
        Bytes of each generated element of BYTES, or the element itself.
    output_bytes
        Room in shared memory for each item of an output whose size is not known.
    """

    batch: int = 1
    data: Kind | Path = "random"
    shapes: Shapes | None = None
    string_length: int = 128
    string_data: str | None = None
    output_bytes: int = 102400


def calls_of(
    model: ModelInputs, options: InputOptions, regions: SharedRegions | None = None
) -> list[InferCall]:
    """Return requests, to be sent in turn.

    Parameters
    ----------
    regions
        Where inputs and outputs lie, for requests in shared memory.

    Raises
    ------
    InvalidArgument
        The model does not take such inputs, or one has a dimension of any size and no shape.
    YaisError
        The server does not take the regions.
    """
    requests = _inputs(model, options)
    if regions is None:
        return [InferCall(model.model, inputs, version=model.version) for inputs in requests]
    outputs = regions.outputs(_output_sizes(model, options))
    return [InferCall(model.model, inputs, outputs, model.version) for inputs in regions.inputs(requests)]


def _inputs(model: ModelInputs, options: InputOptions) -> Sequence[tuple[InputTensor, ...]]:
    if isinstance(options.data, Path):
        return read_input_data(options.data, model, options.batch, options.shapes)
    for spec in model.specs:
        if -1 in spec.shape and spec.name not in (options.shapes or {}):
            raise InvalidArgument(
                f"input {spec.name} contains dynamic shape, provide shapes to send along with the request"
            )
    inputs = generated(
        model,
        options.batch,
        options.shapes,
        options.data,
        string_length=options.string_length,
        string_data=options.string_data,
    )
    return [inputs]


def _output_sizes(model: ModelInputs, options: InputOptions) -> Mapping[str, int]:
    sizes = {}
    for output in model.metadata.outputs:
        datatype, shape = datatype_of(output.datatype, output.name), list(output.shape)
        if model.max_batch_size:
            shape = shape[1:]
        known = datatype is not DataType.BYTES and -1 not in shape
        size = math.prod(shape) * datatype.size if known else options.output_bytes
        sizes[output.name] = size * options.batch
    return sizes
