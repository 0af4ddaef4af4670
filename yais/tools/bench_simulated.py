"""`yais bench` on a GPU that is not there: a model's tensors, and times that were asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import Unimplemented
from yais.memory.arena import Arena
from yais.tools.bench_model import BenchModel
from yais.tools.simulated_gpu_option import Simulation

if TYPE_CHECKING:
    from yais.testing import FakeDevice

__all__ = ["simulated_gpu", "simulated_model"]


@contextmanager
def simulated_gpu(simulation: Simulation) -> Iterator[FakeDevice]:
    """Return a GPU, which is closed in the end."""
    from yais.testing import FakeDevice, SimulatedGpu

    with SimulatedGpu(engines=cast("Any", simulation.engines)) as gpu:
        yield FakeDevice(gpu=gpu)


def simulated_model(model: BenchModel, simulation: Simulation) -> BenchModel:
    """Return a model with the same tensors that takes its time on the GPU, and answers zeros.

    The given one is closed.

    Raises
    ------
    Unimplemented
        It has tensors of BYTES, which are in no device's memory.
    """
    from yais.testing import FakeDeviceEngine

    engine = model.engine
    engine.close()
    for spec in (*engine.inputs, *engine.outputs):
        if spec.datatype is DataType.BYTES:
            raise Unimplemented(f"got tensor '{spec.name}' of BYTES, expected numbers on a simulated GPU")

    def zeros(*inputs: Array) -> list[Array]:
        batch = inputs[0].shape[0] if model.max_batch_size else None
        return [np.zeros(_shape(spec, batch), spec.datatype.numpy) for spec in engine.outputs]

    simulated = FakeDeviceEngine(
        engine.inputs,
        engine.outputs,
        zeros,
        device_size=_input_bytes(model),
        seconds=cast("Any", simulation.seconds),
    )
    simulated.gpu = 0
    return dataclasses.replace(model, engine=simulated)


def _input_bytes(model: BenchModel) -> int:
    """Return what the inputs of a batch take, each padded as they are on the device."""
    items = model.max_batch_size or 1
    return sum(
        Arena.padded(items * int(np.prod(model.shapes[spec.name])) * spec.datatype.size)
        for spec in model.engine.inputs
    )


def _shape(spec: TensorSpec, batch: int | None) -> tuple[int, ...]:
    """Return the shape of an output; dimensions of any size are 1."""
    shape = tuple(max(size, 1) for size in spec.shape)
    return shape if batch is None else (batch, *shape[1:])
