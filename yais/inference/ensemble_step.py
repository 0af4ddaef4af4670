"""A step of an ensemble, and what is counted of it."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass

from yais.errors import Code, YaisError, error_of, status_of
from yais.inference.ensemble_plan import Step
from yais.inference.in_flight import InFlight
from yais.inference.log_fields import log_fields
from yais.inference.request import InferRequest, InferResponse
from yais.inference.step_forms import StepForms

__all__ = ["EnsembleStep", "StepCounts"]

_log = logging.getLogger("yais.inference")


@dataclass(frozen=True, slots=True)
class StepCounts:
    """What one step of an ensemble did.

    Attributes
    ----------
    model, version
        See `Step`.
    requests, failures
        Those that were answered, and those that failed.
    ns
        How long both took together, without waiting for `max_in_flight`.
    in_flight
        Requests of now.
    """

    model: str
    version: str
    requests: int
    failures: int
    ns: int
    in_flight: int


class EnsembleStep:
    """A step of an ensemble and all its requests. Thread-safe.

    Parameters
    ----------
    number
        Its position in the plan.
    max_in_flight
        Requests to its model at most at once; 0 for any number.

    Attributes
    ----------
    forms
        Makes its requests.
    turns
        Bounds them.
    """

    def __init__(self, number: int, step: Step, max_in_flight: int) -> None:
        self.step = step
        self.forms = StepForms(number, step)
        self.turns = InFlight(max_in_flight)
        self._lock = threading.Lock()
        self._requests = self._failures = self._ns = self._in_flight = 0

    def begun(self) -> None:
        """Count a request that goes to the model."""
        with self._lock:
            self._in_flight += 1

    def ended(self, outcome: InferResponse | BaseException, ns: int) -> None:
        """Count what became of it after `ns`; one that was cancelled is neither answered nor failed."""
        with self._lock:
            self._in_flight -= 1
            if isinstance(outcome, CancelledError):
                return
            self._ns += ns
            if isinstance(outcome, BaseException):
                self._failures += 1
            else:
                self._requests += 1

    def counts(self) -> StepCounts:
        """Return what has been counted so far."""
        with self._lock:
            return StepCounts(
                self.step.model, self.step.version, self._requests, self._failures, self._ns, self._in_flight
            )

    def named(self, error: BaseException, ensemble: str, request: InferRequest) -> YaisError:
        """Return an error as the ensemble's to a request: with its status, and the model in its text."""
        code, text = status_of(error)
        if not isinstance(error, YaisError | CancelledError):
            fields = log_fields(ensemble, request)
            _log.error("ensemble '%s' failed", ensemble, exc_info=error, extra=fields)
            code = Code.INTERNAL
        where = "" if f"'{self.step.model}'" in text else f"model '{self.step.model}': "
        return error_of(code, f"in ensemble '{ensemble}', {where}{text}")
