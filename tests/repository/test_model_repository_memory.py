"""Memory is given back when models are unloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import model, tensor, write
from repositories import PYTHON, SOON
from serving_models import eventually

from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferRequest
from yais.repository.repository import ControlMode

PAGE = 4096

WEIGHT = 10_000_000
"""Bytes of the models."""

WITH_WEIGHT = f"""
import numpy
weights = numpy.ones({WEIGHT}, numpy.uint8)
class Model:
    def execute(self, inputs):
        return {{"Y": inputs["X"] + weights[0]}}
"""


def resident():
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def heavy():
    """Return a model that looks `X` up in a table of this weight, as `Y`."""
    count = WEIGHT // 4
    values = np.arange(count, dtype=np.float32).tobytes()
    return model(
        [
            helper.make_node("Cast", ["X"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["values", "index"], ["Y"]),
        ],
        [tensor("X", "FP32", ("batch", 1))],
        [tensor("Y", "FP32", ("batch", 1))],
        [helper.make_tensor("values", TensorProto.FLOAT, [count], values, raw=True)],
    )


def ask(repository, name):
    array = np.ones((1, 1), np.float32)
    request = InferRequest([TensorSpec("X", DataType.FP32, array.shape)], [array.tobytes()])
    response = repository.find(name).model.submit(request).result(SOON)
    return float(np.frombuffer(bytes(response.data[0]), np.float32)[0])


def cycle(repository, name, answer):
    """Load a model, ask it, unload it; return the memory after it."""
    repository.load(name).result(SOON)
    assert ask(repository, name) == answer
    repository.unload(name).result(SOON)
    eventually(lambda: not repository._retirement._threads)
    return resident()


@pytest.mark.parametrize(("name", "answer"), [("onnx", 1), ("python", 2)])
def test_memory_stays_flat(make_repository, tmp_path, name, answer):
    """Of several cycles the least counts: the C library may keep a freed block for a while, but not each."""
    write(tmp_path, "onnx", heavy())
    write(tmp_path, "python", WITH_WEIGHT.encode(), PYTHON.format(""), filename="model.py")
    repository = make_repository(tmp_path, control=ControlMode.EXPLICIT, load_threads=1)
    repository.load_all()
    sizes = [cycle(repository, name, answer) for _ in range(25)]
    assert min(sizes[-5:]) - max(sizes[5:10]) < 0.2 * WEIGHT, sizes
