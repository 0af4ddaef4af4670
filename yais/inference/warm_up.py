"""Warm-up samples: what a model runs before its first request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from yais.core.arrays import float32_to_bf16
from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.request import InferRequest

__all__ = ["WarmUpInput", "WarmUpSample", "sample_inputs", "zeros"]


@dataclass(frozen=True, slots=True, eq=False)
class WarmUpInput:
    """One input of a sample.

    Attributes
    ----------
    datatype
        Of its elements.
    dims
        Its shape without the batch dimension, every size known.
    data
        "zero": numbers are 0, and BYTES empty.
        "random": floating-point numbers from 0 to 1, integers of all values that the type has, true and
        false; the same at every load. BYTES are empty.
        Anything else: the elements of one item, as an array of any shape, for BYTES one of `bytes` objects;
        or, but for BYTES, as row-major little-endian bytes, of which those after the last element are
        ignored, as Triton does.
    """

    datatype: DataType
    dims: tuple[int, ...]
    data: Literal["zero", "random"] | bytes | Array


@dataclass(frozen=True, slots=True)
class WarmUpSample:
    """A request to warm up with.

    Attributes
    ----------
    name
        For error messages.
    inputs
        By name: those of the signature, but optional ones may be missing. What a sequence's requests do not
        bring, its controls and states, is not among them.
    batch_size
        Items; every item is the same. 1 for a model without a batch dimension.
    count
        How often each instance runs it.
    """

    name: str
    inputs: Mapping[str, WarmUpInput]
    batch_size: int = 1
    count: int = 1


def sample_inputs(signature: Signature, sample: WarmUpSample) -> list[Array | None]:
    """Return the inputs of a sample in the signature's order; None for an optional one that it lacks.

    Raises
    ------
    InvalidArgument
        The sample is no request that the model takes; the message names it.
    """
    batch = (sample.batch_size,) if signature.max_batch else ()
    try:
        if not batch and sample.batch_size != 1:
            raise InvalidArgument(
                f"got a batch size of {sample.batch_size} for '{signature.name}', which has no batch "
                "dimension, expected 1"
            )
        specs = [_spec(name, given, batch) for name, given in sample.inputs.items()]
        order = signature.layout(InferRequest(specs, [])).order
        items = [_item(name, given) for name, given in sample.inputs.items()]
    except InvalidArgument as error:
        raise InvalidArgument(f"warm-up sample '{sample.name}': {error}") from None
    arrays = [np.broadcast_to(item, spec.shape).copy() for item, spec in zip(items, specs, strict=True)]
    return [arrays[position] if position >= 0 else None for position in order]


def zeros(signature: Signature, batch: int = 1) -> list[Array | None]:
    """Return inputs that are all zero, in the signature's order: a request that many models take.

    BYTES are empty. Dimensions of any size are as usual in the profile, or 1. No optional input is left out.

    Parameters
    ----------
    batch
        Items, if the model has a batch dimension.
    """
    arrays: list[Array | None] = []
    for spec in signature.inputs:
        profile = signature.profiles.get(spec.name)
        dims = profile.usual if profile else tuple(max(size, 1) for size in spec.shape)
        arrays.append(_zeros(spec.datatype, (batch, *dims) if signature.max_batch else dims))
    return arrays


def _spec(name: str, given: WarmUpInput, batch: tuple[int, ...]) -> TensorSpec:
    if min(given.dims, default=0) < 0:
        raise InvalidArgument(
            f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        )
    return TensorSpec(name, given.datatype, (*batch, *given.dims))


def _item(name: str, given: WarmUpInput) -> Array:
    """Return the elements of one item."""
    data, datatype = given.data, given.datatype
    if isinstance(data, str):
        random = data == "random" and datatype.size
        return _random(datatype, given.dims) if random else _zeros(datatype, given.dims)
    elements = math.prod(given.dims)
    if datatype.size and isinstance(data, bytes):
        size = elements * datatype.size
        if len(data) < size:
            raise InvalidArgument(f"warmup setting expects {size} bytes for input '{name}', got {len(data)}")
        return np.frombuffer(data, datatype.numpy, elements).reshape(given.dims)
    if isinstance(data, bytes) or data.dtype != datatype.numpy or data.size != elements:
        got = "bytes" if isinstance(data, bytes) else f"{data.size} elements of type {data.dtype}"
        expects = f"{elements} elements of type {datatype.numpy}"
        raise InvalidArgument(f"warmup setting expects {expects} for input '{name}', got {got}")
    return data.reshape(given.dims)


def _zeros(datatype: DataType, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, datatype.numpy) if datatype.size else np.full(shape, b"", np.object_)


def _random(datatype: DataType, shape: tuple[int, ...]) -> Array:
    generator = np.random.default_rng(0)
    if datatype is DataType.BF16:
        return float32_to_bf16(generator.random(shape, np.float32))
    if datatype is DataType.BOOL:
        return generator.integers(0, 2, shape).astype(np.bool_)
    if datatype.numpy.kind == "f":
        return generator.random(shape).astype(datatype.numpy)
    limits = np.iinfo(datatype.numpy)
    return generator.integers(limits.min, limits.max, shape, datatype.numpy, endpoint=True)
