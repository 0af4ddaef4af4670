"""The models of this example, and how to use them: the same wherever the manager has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import yais
from yais.core.tensor import DataType, TensorSpec

Array = npt.NDArray[Any]
Manager = yais.InferenceManager | yais.RemoteInferenceManager

MODEL = Path(__file__).parents[1] / "models/digits"

PROBABILITIES = TensorSpec("probabilities", DataType.FP32, (-1, 10))
CERTAIN = TensorSpec("certain", DataType.FP32, (1,))
DIGIT = TensorSpec("digit", DataType.INT64, (-1,))


def decide(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the likeliest digit of each image, or -1: a model that is a Python function."""
    probabilities, certain = arrays["probabilities"], arrays["certain"]
    digit = np.where(probabilities.max(axis=1) >= certain, probabilities.argmax(axis=1), -1)
    return {"digit": digit}


def local_manager() -> yais.InferenceManager:
    """Return a manager of both models, here."""
    manager = yais.InferenceManager(max_exec_concurrency=2)
    manager.register("digits", MODEL / "1/model.onnx", max_batch_size=32)
    manager.register("decide", decide, inputs=[PROBABILITIES, CERTAIN], outputs=[DIGIT])
    manager.allocate()
    return manager


def held_out() -> tuple[Array, Array]:
    """Return images that the model was not trained on, uint8[n, 8, 8] from 0 to 16, and their digits."""
    with np.load(MODEL / "held_out.npz") as file:
        return file["images"], file["labels"]


def scaled(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make the model's input of images: a `pre` callable."""
    return {"image": given["images"][:, None].astype(np.float32)}


def recognise(manager: Manager, images: Array, certain: float) -> Array:
    """Return the digit of each image, or -1 for those that are less than `certain`, by either manager."""
    digits = manager.infer_runner("digits", pre=scaled)
    decided = manager.infer_runner("decide", post=lambda outputs: outputs["digit"])
    batch = digits.max_batch_size()
    # All batches are asked for at once: the manager bounds how many run.
    futures = [digits.infer(images=images[start : start + batch]) for start in range(0, len(images), batch)]
    probabilities = np.concatenate([future.get(timeout=30.0)["probabilities"] for future in futures])
    answer: Array = decided.infer(probabilities=probabilities, certain=[certain]).get(timeout=30.0)
    return answer


def report(manager: Manager, certain: float) -> bool:
    """Recognise all images, print how that went, and return whether it went well."""
    images, labels = held_out()
    found = recognise(manager, images, certain)
    sure = found >= 0
    right = int(np.sum(found[sure] == labels[sure]))
    print(f"{manager.get_models()}: {right} of {int(sure.sum())} right, {int(np.sum(~sure))} undecided")
    return right >= 0.97 * int(sure.sum())
