"""The inputs of several requests as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.inference.device_contents import DeviceContents
from yais.inference.job import Job
from yais.inference.request import TensorData
from yais.memory.arena import Arena
from yais.memory.device_array import DeviceArray

__all__ = ["gather", "staging_size", "views"]

_NOTHING: Mapping[int, DeviceArray] = {}


def views(inputs: Sequence[TensorSpec], job: Job) -> list[Array | None]:
    """Return the inputs of one request as arrays over its own contents: nothing is copied.

    None stands for an optional input that is not given.
    """
    data, layout = job.request.data, job.layout
    arrays: list[Array | None] = []
    for spec, position, shape in zip(inputs, layout.order, layout.shapes):  # noqa: B905 -- it costs a tenth
        arrays.append(_view(spec, data[position], shape) if position >= 0 else None)
    return arrays


def staging_size(inputs: Sequence[TensorSpec], jobs: Sequence[Job]) -> int:
    """Return the bytes that `gather` takes of an arena for these requests of one group."""
    total = 0
    for index, spec in enumerate(inputs):
        if spec.datatype.size and jobs[0].layout.order[index] >= 0:
            total += Arena.padded(sum([job.layout.sizes[job.layout.order[index]] for job in jobs]))
    return total


def gather(
    inputs: Sequence[TensorSpec],
    jobs: Sequence[Job],
    arena: Arena,
    left: Mapping[int, DeviceArray] = _NOTHING,
) -> list[Array | DeviceArray | None]:
    """Return the inputs of requests, one after the other, in arrays over an arena.

    None stands for an optional input that is not given. What is on a GPU is copied from there, which takes a
    moment.

    Parameters
    ----------
    inputs
        Of the model.
    jobs
        Requests of one group.
    arena
        With room for `staging_size` bytes. Elements of BYTES are objects and stay where they are.
    left
        Inputs that are where they should be, by their index.

    Raises
    ------
    YaisError
        What is on a GPU cannot be copied, or is gone.
    """
    size = sum([job.size for job in jobs])
    gathered: list[Array | DeviceArray | None] = []
    for index, spec in enumerate(inputs):
        if index in left:
            gathered.append(left[index])
            continue
        if jobs[0].layout.order[index] < 0:
            gathered.append(None)
            continue
        if not spec.datatype.size:
            gathered.append(np.concatenate([_elements(job, index) for job in jobs]))
            continue
        parts = [_bytes(job.request.data[job.layout.order[index]]) for job in jobs]
        piece = arena.take(sum(map(len, parts)))
        offset = 0
        for part in parts:
            end = offset + len(part)
            if type(part) is DeviceContents:
                part.copy_to(piece[offset:end])
            else:
                piece[offset:end] = part
            offset = end
        shape = jobs[0].layout.shapes[index]
        if len(jobs) > 1:  # there is a batch dimension
            shape = (size, *shape[1:])
        gathered.append(np.frombuffer(piece, spec.datatype.numpy).reshape(shape))
    return gathered


def _view(spec: TensorSpec, data: TensorData, shape: tuple[int, ...]) -> Array:
    if not spec.datatype.size:
        return np.asarray(data, np.object_).reshape(shape)
    if type(data) is np.ndarray:
        return data
    return np.frombuffer(data, spec.datatype.numpy).reshape(shape)  # type: ignore[arg-type]


def _elements(job: Job, index: int) -> Array:
    data = job.request.data[job.layout.order[index]]
    return np.asarray(data, np.object_).reshape(job.layout.shapes[index])


def _bytes(data: TensorData) -> bytes | memoryview | DeviceContents:
    if type(data) is np.ndarray:
        flat: Any = data.reshape(-1).view(np.uint8)
        return memoryview(flat)
    return data  # type: ignore[return-value]
