"""A model for Triton's Python backend that gives back texts in capitals."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """Answers a batch request by request, which joins nothing."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return `TEXT` as `LOUD`."""
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            loud = np.array([text.upper() for text in texts.ravel()], np.object_).reshape(texts.shape)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LOUD", loud)]))
        return responses
