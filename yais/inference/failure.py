"""Why requests fail, as Triton's metrics tell it."""

from __future__ import annotations

import enum

from yais.errors import Code, status_of
from yais.inference.servable import ModelClosed

__all__ = ["FailureReason", "reason_of"]


class FailureReason(enum.StrEnum):
    """Why a request failed."""

    REJECTED = "REJECTED"
    """The server had no room for it, or not in the time that the model's queue allows."""
    CANCELED = "CANCELED"
    """Whoever asked did not wait for the answer: it was cancelled, or its deadline passed."""
    BACKEND = "BACKEND"
    """The model failed."""
    OTHER = "OTHER"
    """The request is none that the model takes, or the model is closed."""


_REASONS = {
    Code.CANCELLED: FailureReason.CANCELED,
    Code.DEADLINE_EXCEEDED: FailureReason.CANCELED,
    Code.UNAVAILABLE: FailureReason.REJECTED,
    Code.RESOURCE_EXHAUSTED: FailureReason.REJECTED,
    Code.INTERNAL: FailureReason.BACKEND,
    Code.UNKNOWN: FailureReason.BACKEND,
    Code.DATA_LOSS: FailureReason.BACKEND,
}


def reason_of(error: BaseException, *, ran: bool = False) -> FailureReason:
    """Return why a request failed that ended with an error.

    Parameters
    ----------
    ran
        Whether the model had it: whatever it raised is then its fault, but for who waits no more.
    """
    if isinstance(error, ModelClosed):
        return FailureReason.OTHER
    code, _ = status_of(error)
    reason = _REASONS.get(code, FailureReason.OTHER)
    return FailureReason.BACKEND if ran and reason is not FailureReason.CANCELED else reason
