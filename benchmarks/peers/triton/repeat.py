"""A decoupled model for Triton's Python backend that answers as often as it is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """Numbers its answers."""

    def execute(self, requests: list[Any]) -> None:
        """Send 0, 1, ... as `NUMBER`, `TIMES` of them, and then that this was all."""
        for request in requests:
            sender = request.get_response_sender()
            for number in range(pb_utils.get_input_tensor_by_name(request, "TIMES").as_numpy().item()):
                tensor = pb_utils.Tensor("NUMBER", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
