"""A model for Triton's Python backend that scores an image as red, green or blue."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """Answers a batch request by request, which joins nothing."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return how much of each colour there is in each of `IMAGE`, [N, 3, H, W], as `SCORES`."""
        images = (pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy() for request in requests)
        scores = (each.mean(axis=(2, 3)) for each in images)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("SCORES", each)]) for each in scores]
