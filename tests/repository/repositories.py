"""Repositories to test with: models that are told apart by what they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx_models import model, tensor, write

from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferRequest
from yais.repository.repository import ModelEntry, ModelRepository, ModelState

SOON = 20.0
"""Seconds after which a wait counts as lost."""

READY, UNAVAILABLE = ModelState.READY, ModelState.UNAVAILABLE

PYTHON = """
input {{ name: 'X' data_type: TYPE_FP32 dims: -1 }} output {{ name: 'Y' data_type: TYPE_FP32 dims: -1 }}
backend: 'python' max_batch_size: 4 {}
"""


def adder(number: float, weight: int = 1, name: str = "X") -> Any:
    """Return a model that adds a number to `X` and gives `Y`; it weighs `weight` floats."""
    constant = np.full(weight, number, np.float32)
    return model(
        [
            helper.make_node("ReduceMax", ["number"], ["most"], keepdims=0),
            helper.make_node("Add", [name, "most"], ["Y"]),
        ],
        [tensor(name, "FP32", ("batch", "n"))],
        [tensor("Y", "FP32", ("batch", "n"))],
        [helper.make_tensor("number", TensorProto.FLOAT, [weight], constant.tobytes(), raw=True)],
    )


def write_adder(root: Path, name: str, number: float, version: str = "1", config: str | None = None) -> None:
    """Write a model that adds a number to what it is given."""
    write(root, name, adder(number), config, version=version)


def write_ensemble(root: Path, name: str, *steps: str, config: str = "") -> None:
    """Write an ensemble that gives the steps' models `X` one after the other, and has their last `Y`."""
    tensors = ["X", *(f"between{number}" for number in range(1, len(steps))), "Y"]
    text = "".join(
        f"step {{ model_name: '{step}' model_version: -1 "
        f"input_map {{ key: 'X' value: '{tensors[number]}' }} "
        f"output_map {{ key: 'Y' value: '{tensors[number + 1]}' }} }}"
        for number, step in enumerate(steps)
    )
    write(
        root,
        name,
        None,
        "platform: 'ensemble' max_batch_size: 4 "
        "input { name: 'X' data_type: TYPE_FP32 dims: -1 } "
        f"output {{ name: 'Y' data_type: TYPE_FP32 dims: -1 }} ensemble_scheduling {{ {text} }} {config}",
    )
    (root / name / "1").mkdir(exist_ok=True)


def ask(repository: ModelRepository, name: str, version: str = "") -> float:
    """Return what a model makes of zero."""
    array = np.zeros((1, 1), np.float32)
    request = InferRequest([TensorSpec("X", DataType.FP32, array.shape)], [array.tobytes()])
    response = repository.find(name, version).model.submit(request).result(SOON)
    return float(np.frombuffer(bytes(response.data[0]), np.float32)[0])


def states(repository: ModelRepository) -> dict[str, list[tuple[str, ModelState]]]:
    """Return for each model its versions and where they stand."""
    found: dict[str, list[tuple[str, ModelState]]] = {}
    for entry in repository.entries:
        found.setdefault(entry.name, []).append((entry.version, entry.state))
    return found


def entry_of(repository: ModelRepository, name: str, version: str = "1") -> ModelEntry:
    """Return what is known of a version."""
    (found,) = [entry for entry in repository.entries if (entry.name, entry.version) == (name, version)]
    return found
