"""A file for a model's one input: an image, an array, or anything that a model of BYTES takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.image import ImageInput, Layout, Scaling, preprocess, read_image
from yais.core.arrays import presented
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.load.inputs import ModelInputs
from yais.protocol import model_config_pb2 as config_pb
from yais.protocol.tensor_codec import objects

__all__ = ["read_array", "read_input_file"]

Array = npt.NDArray[Any]


def read_input_file(path: Path, inputs: ModelInputs, scaling: Scaling = Scaling.NONE) -> dict[str, Array]:
    """Return what a file holds as a model's one input, as `from_arrays` takes it.

    Parameters
    ----------
    path
        Of a .npy file, or of an image, which is made to fit. A model of BYTES gets any other file as its one
        element.
    scaling
        What becomes of an image's pixels.

    Raises
    ------
    InvalidArgument
        The model has several inputs or takes no images, or the file cannot be read.
    FailedPrecondition
        The file is an image, and Pillow is not installed.
    """
    if len(inputs.specs) != 1:
        names = ", ".join(spec.name for spec in inputs.specs)
        raise InvalidArgument(f"got a file for model '{inputs.model}', expected values for each of {names}")
    (spec,) = inputs.specs
    if path.suffix == ".npy" or spec.datatype is DataType.BYTES:
        array = read_array(path, spec)
        return {spec.name: array.reshape([1] * len(spec.shape)) if array.dtype == np.object_ else array}
    wanted = ImageInput(spec, _layout(inputs, spec))
    return {spec.name: preprocess(read_image(path), wanted, scaling)}


def read_array(path: Path, spec: TensorSpec) -> Array:
    """Return the array of a .npy file, or the contents of any other: flat, or the one element of BYTES.

    Raises
    ------
    InvalidArgument
        It cannot be read, or holds no whole number of elements.
    """
    try:
        if path.suffix == ".npy":
            array: Array = np.load(path, allow_pickle=False)
            return array
        data = path.read_bytes()
    except (OSError, ValueError, EOFError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(f"input '{spec.name}': {path}: {text}") from None
    if spec.datatype is DataType.BYTES:
        return objects([data])
    if len(data) % spec.datatype.size:
        raise InvalidArgument(
            f"got {len(data)} bytes in {path} for input '{spec.name}', expected elements of "
            f"{spec.datatype.size} bytes"
        )
    return presented(np.frombuffer(data, spec.datatype.numpy), spec.datatype)


def _layout(inputs: ModelInputs, spec: TensorSpec) -> Layout:
    """Return where channels are: as the configuration says or, where it does not, where there are 1 or 3."""
    said = {tensor.name: tensor.format for tensor in inputs.config.input}.get(spec.name)
    if said == config_pb.ModelInput.FORMAT_NHWC:
        return Layout.NHWC
    last = len(spec.shape) == 3 and spec.shape[0] not in {1, 3} and spec.shape[2] in {1, 3}
    return Layout.NHWC if last and said != config_pb.ModelInput.FORMAT_NCHW else Layout.NCHW
