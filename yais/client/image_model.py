"""Models that classify images, as a server describes them."""

from __future__ import annotations

from dataclasses import dataclass

from yais.client.datatypes import datatype_of
from yais.client.endpoint import Endpoint
from yais.client.image import ImageInput, Layout
from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.protocol import model_config_pb2 as config_pb

__all__ = ["ImageModel", "image_model"]


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A model that takes an image and scores classes.

    Attributes
    ----------
    output
        Name of the one output.
    max_batch_size
        0 for a model without batches.
    """

    name: str
    version: str
    input: ImageInput
    output: str
    max_batch_size: int


def image_model(endpoint: Endpoint, name: str, version: str = "") -> ImageModel:
    """Ask a server about a model.

    Parameters
    ----------
    version
        Empty for the one that the server chooses.

    Raises
    ------
    InvalidArgument
        The model does not take images, or scores no classes. What is asked of it is what Triton's
        image_client asks (kserve-v2.md, section 5).
    YaisError
        The server cannot be reached, or does not have the model.
    """
    metadata = endpoint.call("ModelMetadata", pb.ModelMetadataRequest(name=name, version=version))
    config = endpoint.call("ModelConfig", pb.ModelConfigRequest(name=name, version=version)).config
    if len(metadata.inputs) != 1 or len(config.input) != 1 or len(metadata.outputs) != 1:
        raise InvalidArgument(
            f"got {len(metadata.inputs)} inputs and {len(metadata.outputs)} outputs for model '{name}', "
            "expected one of each"
        )
    batched = config.max_batch_size > 0
    _check_scores(metadata.outputs[0], name, batched=batched)
    taken = ImageInput(_item(metadata.inputs[0], batched=batched), _layout(config.input[0], name))
    return ImageModel(name, version, taken, metadata.outputs[0].name, config.max_batch_size)


def _item(tensor: pb.ModelMetadataResponse.TensorMetadata, *, batched: bool) -> TensorSpec:
    return TensorSpec(tensor.name, datatype_of(tensor.datatype, tensor.name), tuple(tensor.shape)[batched:])


def _layout(described: config_pb.ModelInput, model: str) -> Layout:
    name = config_pb.ModelInput.Format.Name(described.format)
    try:
        return Layout(name)
    except ValueError:
        raise InvalidArgument(
            f"got {name} for input '{described.name}' in the configuration of model '{model}', expected "
            f"{Layout.NCHW.value} or {Layout.NHWC.value}"
        ) from None


def _check_scores(output: pb.ModelMetadataResponse.TensorMetadata, model: str, *, batched: bool) -> None:
    shape = list(output.shape)[batched:]
    if output.datatype != "FP32" or sum(size != 1 for size in shape) > 1:
        raise InvalidArgument(
            f"got {output.datatype}{shape} as output '{output.name}' of model '{model}', expected a vector "
            "of FP32"
        )
