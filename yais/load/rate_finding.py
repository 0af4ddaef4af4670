"""Searching for the highest rate that keeps an objective, run by run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yais.load.objective import Objective
from yais.load.rate_search import RateSearch
from yais.load.recording import Recording

__all__ = ["RateFound", "Try", "find_rate"]


@dataclass(frozen=True, slots=True)
class Try:
    """A run.

    Attributes
    ----------
    rate, completed
        Requests/s asked for, and answered with OK.
    value
        Of the objective, milliseconds; None where nothing was completed.
    kept
        Whether the objective was.
    """

    rate: float
    completed: float
    value: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class RateFound:
    """What a search came to.

    Attributes
    ----------
    rate
        The highest that kept the objective, requests/s; None if none did.
    at, recording
        The rate, and what came of the run at it: the highest that kept the objective, else the last.
    tries
        All runs in their order.
    """

    rate: float | None
    at: float
    recording: Recording
    tries: Sequence[Try]


def find_rate(search: RateSearch, objective: Objective, run: Callable[[float], Recording]) -> RateFound:
    """Run at the rates that a search asks for until it knows.

    Parameters
    ----------
    search
        A new one.
    run
        Makes a run at a rate, requests/s. One that is interrupted ends the search and counts for nothing.

    Returns
    -------
    RateFound
        After an interrupted run with a recording that says so.
    """
    tries: list[Try] = []
    shown: tuple[float, Recording] | None = None
    while (rate := search.rate) is not None:
        try:
            recording = run(rate)
        except KeyboardInterrupt:  # between two runs
            if shown is None:
                raise
            shown[1].interrupted = True
            break
        if recording.interrupted:
            shown = shown or (rate, recording)
            shown[1].interrupted = True
            break
        kept = objective.kept(recording)
        tries.append(Try(rate, recording.rate_completed, objective.value(recording), kept))
        search.tell(kept)
        if kept or search.best is None:
            shown = rate, recording
    assert shown is not None, "a new search has a rate to try"
    return RateFound(search.best, *shown, tries)
