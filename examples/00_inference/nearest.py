"""A model that is no file: a callable over arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Nearest:
    """Gives each image the label of the example that is nearest to it."""

    def __init__(self, examples: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self._examples = examples.reshape(len(examples), -1)
        self._labels = labels

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = inputs["image"].reshape(len(inputs["image"]), -1)
        distances = np.linalg.norm(images[:, None] - self._examples, axis=2)
        return {"digit": self._labels[distances.argmin(axis=1)]}
