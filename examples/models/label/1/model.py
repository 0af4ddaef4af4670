"""The likeliest class of each row, by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yais.engines.python_model import PythonModelConfig

Array = npt.NDArray[Any]


class Model:
    """Names classes."""

    def initialize(self, config: PythonModelConfig) -> None:
        self.labels = np.array(config.parameters["labels"].split(), np.object_)

    def execute(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"label": self.labels[inputs["probabilities"].argmax(axis=1)][:, None]}
