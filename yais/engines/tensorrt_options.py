"""Options of a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from yais.errors import InvalidArgument

__all__ = ["TensorRTOptions", "Weights"]

Weights = Literal["device", "managed", "streamed"]
"""Where the weights of a plan are: in device memory, in managed memory, or on the host with a part of them
on the device."""

_WEIGHTS = ("device", "managed", "streamed")


@dataclass(frozen=True, slots=True)
class TensorRTOptions:
    """How to run a plan.

    Attributes
    ----------
    contexts
        Execution contexts made at load, one for each instance; more are made when more batches run at once.
    profiles
        Numbers of the optimization profiles that may be used; none for all.
    graphs
        Whether executions that repeat shapes and addresses are captured as CUDA graphs.
    weights
        Where the weights are.
    weight_streaming_budget
        Bytes of device memory for streamed weights; None leaves the number to TensorRT, which tells it for
        plans with less than 2 GiB of them.

    Raises
    ------
    InvalidArgument
        A value is none of these.
    """

    contexts: int = 1
    profiles: tuple[int, ...] = ()
    graphs: bool = False
    weights: Weights = "device"
    weight_streaming_budget: int | None = None

    def __post_init__(self) -> None:
        if self.contexts < 1:
            raise InvalidArgument(f"got contexts={self.contexts}, expected at least 1")
        if self.weights not in _WEIGHTS:
            raise InvalidArgument(f"got weights='{self.weights}', expected one of {', '.join(_WEIGHTS)}")
        budget = self.weight_streaming_budget
        if budget is not None and self.weights != "streamed":
            raise InvalidArgument(
                f"got weight_streaming_budget={budget} with weights='{self.weights}', expected it with "
                "weights='streamed' only"
            )
        if budget is not None and budget < 0:
            raise InvalidArgument(f"got weight_streaming_budget={budget}, expected 0 or more bytes")
