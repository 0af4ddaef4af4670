"""What a model takes, and requests made of arrays or made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.datatypes import datatype_of
from yais.client.endpoint import Endpoint
from yais.client.infer_call import InputTensor
from yais.core.arrays import converted
from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.load.input_sizes import Shapes, check_batch, item_shapes, sized
from yais.load.made_up import Kind, made_up
from yais.protocol import kserve_pb2 as pb
from yais.protocol import model_config_pb2
from yais.protocol.tensor_codec import encode

__all__ = [
    "ModelInputs",
    "from_arrays",
    "generated",
    "model_inputs",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What a model takes.

    Attributes
    ----------
    specs
        Its inputs in its order: of one item, without the batch.
    max_batch_size
        Items a request may have; 0: it takes no batches, and its tensors have no dimension for them.
    metadata, config
        What the server says of the model; the latter is empty where a server has no such call.
    """

    model: str
    version: str
    specs: tuple[TensorSpec, ...]
    max_batch_size: int
    metadata: pb.ModelMetadataResponse
    config: model_config_pb2.ModelConfig


def model_inputs(endpoint: Endpoint, model: str, version: str = "") -> ModelInputs:
    """Ask a server what a model takes.

    Parameters
    ----------
    version
        Empty for the latest.

    Raises
    ------
    YaisError
        What the server answers: NotFound for an unknown model, Unavailable for one not ready or a server
        that cannot be reached.
    """
    metadata = endpoint.call("ModelMetadata", pb.ModelMetadataRequest(name=model, version=version))
    try:
        config = endpoint.call("ModelConfig", pb.ModelConfigRequest(name=model, version=version)).config
    except (Unimplemented, NotFound):  # an extension of Triton's, not part of the protocol itself
        config = model_config_pb2.ModelConfig()
    items = slice(config.max_batch_size > 0, None)
    specs = tuple(
        TensorSpec(tensor.name, datatype_of(tensor.datatype, tensor.name), tuple(tensor.shape)[items])
        for tensor in metadata.inputs
    )
    return ModelInputs(model, version, specs, config.max_batch_size, metadata, config)


def generated(
    inputs: ModelInputs,
    batch: int = 1,
    shapes: Shapes | None = None,
    kind: Kind = "random",
    *,
    string_length: int | None = None,
    string_data: str | None = None,
    nbytes: int | None = None,
    seed: int | None = None,
) -> tuple[InputTensor, ...]:
    """Make up the inputs of one request.

    Parameters
    ----------
    batch
        Items in the request.
    shapes
        Of one item, for inputs with dimensions of any size; such dimensions are 1 by default.
    kind
        Small numbers, or zeros.
    string_length
        Bytes of each element of BYTES; by default small numbers as text.
    string_data
        Each element of BYTES, instead.
    nbytes
        Size of all tensors together. It decides the length of the elements where there are inputs of BYTES,
        else the dimensions of any size that `shapes` leaves open.
    seed
        For the same values each time.

    Raises
    ------
    InvalidArgument
        The model does not take this; the message says what it does take.
    """
    check_batch(inputs.model, batch, inputs.max_batch_size)
    wanted = dict(shapes or {})
    if nbytes is not None:
        item_shapes(inputs.specs, wanted)
        items = batch if inputs.max_batch_size else 1
        wanted, string_length = sized(inputs.specs, wanted, items, nbytes)
    arrays = made_up(
        inputs.specs,
        (batch,) if inputs.max_batch_size else (),
        wanted,
        kind,
        string_length=string_length,
        string_data=string_data,
        seed=seed,
    )
    return tuple(_tensor(spec, converted(arrays[spec.name], spec)) for spec in inputs.specs)


def from_arrays(inputs: ModelInputs, arrays: Mapping[str, Any]) -> tuple[InputTensor, ...]:
    """Make the inputs of one request of arrays, or of what numpy makes one of.

    Parameters
    ----------
    arrays
        By the name of the input. Of one item or, for a model that takes batches, of several.

    Raises
    ------
    InvalidArgument
        An input is missing or unknown, or its type or shape is not that of the model.
    """
    known = {spec.name: spec for spec in inputs.specs}
    optional = {tensor.name for tensor in inputs.config.input if tensor.optional}
    missing = [name for name in known if name not in arrays and name not in optional]
    unknown = [name for name in arrays if name not in known]
    if missing or unknown:
        what = f"no input '{missing[0]}'" if missing else f"an input '{unknown[0]}'"
        raise InvalidArgument(f"got {what} for model '{inputs.model}', expected {', '.join(known) or 'none'}")
    return tuple(
        _tensor(spec, _fitted(inputs, spec, converted(arrays[spec.name], spec)))
        for spec in inputs.specs
        if spec.name in arrays
    )


def _fitted(inputs: ModelInputs, spec: TensorSpec, array: Array) -> Array:
    """Return an array with the batch before it, where the model has one."""
    shape, batched = array.shape, inputs.max_batch_size > 0
    if _fits(shape, spec.shape):
        return array[np.newaxis] if batched else array
    if batched and shape and _fits(shape[1:], spec.shape):
        check_batch(inputs.model, shape[0], inputs.max_batch_size)
        return array
    sizes = " (-1: any size)" if -1 in spec.shape else ""
    batch = ", with or without a batch before it" if batched else ""
    raise InvalidArgument(
        f"got shape {list(shape)} for input '{spec.name}', expected {list(spec.shape)}{sizes}{batch}"
    )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size in {-1, got} for got, size in zip(shape, wanted, strict=True)
    )


def _tensor(spec: TensorSpec, array: Array) -> InputTensor:
    return InputTensor(TensorSpec(spec.name, spec.datatype, array.shape), encode(array))
