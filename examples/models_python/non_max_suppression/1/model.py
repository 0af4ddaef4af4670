"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yais.engines.python_model import PythonModelConfig

Array = npt.NDArray[Any]


class Model:
    """Keeps the best of boxes that overlap."""

    def initialize(self, config: PythonModelConfig) -> None:
        self.overlap = float(config.parameters["overlap"])

    def execute(self, inputs: dict[str, Array]) -> dict[str, list[int]]:
        boxes = inputs["boxes"]
        left = np.argsort(-inputs["scores"], kind="stable")
        kept: list[int] = []
        while left.size:
            best, others = left[0], left[1:]
            kept.append(int(best))
            left = others[overlaps(boxes[best], boxes[others]) <= self.overlap]
        return {"kept": kept}


def overlaps(box: Array, boxes: Array) -> Array:
    """Return the intersection of a box with each of others, over their union."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
