"""What became of a version of a model, for whoever started the server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yais.inference.layout import Signature
from yais.repository.repository import ModelEntry, ModelState

__all__ = ["ModelReport", "reports_of"]


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A `ModelEntry` that can be sent to another process.

    Attributes
    ----------
    name, version, state, reason, seconds, as_wanted
        See `ModelEntry`.
    signature
        What the model takes and gives, if it is ready.
    """

    name: str
    version: str
    state: ModelState
    reason: str
    seconds: float
    as_wanted: bool
    signature: Signature | None


def reports_of(entries: Iterable[ModelEntry]) -> list[ModelReport]:
    """Return the reports of entries."""
    return [
        ModelReport(
            entry.name,
            entry.version,
            entry.state,
            entry.reason,
            entry.seconds,
            entry.as_wanted,
            None if entry.loaded is None else entry.loaded.model.signature,
        )
        for entry in entries
    ]
