"""What models take, as a server would tell it."""

from __future__ import annotations

import numpy as np

from yais.client.infer_call import InputTensor
from yais.core.arrays import presented
from yais.core.tensor import DataType, TensorSpec
from yais.load.inputs import ModelInputs
from yais.protocol import kserve_pb2 as pb
from yais.protocol import model_config_pb2 as config_pb
from yais.protocol.tensor_codec import decode


def taking(
    *specs: tuple[str, str, tuple[int, ...]], batch: int = 0, **fields: dict[str, object]
) -> ModelInputs:
    """Return what a model "m" takes: inputs by name, type and shape of one item.

    Parameters
    ----------
    batch
        Its largest batch.
    fields
        Of inputs in the configuration, by name: {"optional": True}, for instance.
    """
    config = config_pb.ModelConfig(max_batch_size=batch)
    for name, *_ in specs:
        config.input.add(name=name, **fields.get(name, {}))
    tensors = tuple(TensorSpec(name, DataType(datatype), shape) for name, datatype, shape in specs)
    return ModelInputs("m", "", tensors, batch, pb.ModelMetadataResponse(name="m"), config)


def array_of(tensor: InputTensor) -> np.ndarray:
    """Return what an input holds."""
    array = decode(tensor.spec.datatype, tensor.spec.shape, tensor.data)
    return presented(array, tensor.spec.datatype)
