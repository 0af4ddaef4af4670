"""Traces of requests: who takes their moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from yais.engines.engine import Array

__all__ = ["RequestTrace"]


class RequestTrace(Protocol):
    """Takes the moments of one request to one model, in ns of `yais.core.clock.monotonic`.

    Every method may be called from any thread, and must return at once.
    """

    @property
    def tensors(self) -> bool:
        """Whether the contents of tensors are wanted, too."""

    def mark(self, name: str, at: int) -> None:
        """Take one moment, by Triton's name for it: QUEUE_START, COMPUTE_START and so on."""

    def tensor(self, activity: str, name: str, contents: Array) -> None:
        """Take the contents of a tensor, by Triton's name: TENSOR_QUEUE_INPUT or TENSOR_BACKEND_OUTPUT."""

    def child(self, model: str, version: str, request_id: str) -> RequestTrace:
        """Return the trace of a request that is made for this one: a step of an ensemble, say."""

    def ended(self, outputs: Sequence[str] = ()) -> None:
        """Take the end of a request that `child` was called for."""
