"""When each request is due: nanoseconds from the start, ascending, without end.

Constant, linear and cyclic are the functions of the original's siege: rate, rate + alpha/60·t and
rate + alpha·sin(2π·beta·t/60), t in seconds. Those that change never fall below 2 requests/s, as there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Protocol

from yais.core.clock import NANOSECONDS
from yais.errors import InvalidArgument

__all__ = ["HIGHEST_RATE", "Constant", "Cyclic", "Linear", "Poisson", "Schedule"]

HIGHEST_RATE = 1e5
"""Requests/s: the original's limit, too. What cannot be sent in time must still be counted in time."""

_FLOOR = 2.0  # requests/s
_STEP = 0.001  # seconds for which a rate is taken to be constant, at most


class Schedule(Protocol):
    """A plan of arrivals. Iterating twice gives the same moments."""

    def __iter__(self) -> Iterator[int]:
        """Yield when each request is due, nanoseconds from the start."""

    def rate(self, seconds: float) -> float:
        """Return the rate that is asked for at a moment, requests/s."""


class Constant:
    """The k-th request at k / rate.

    Raises
    ------
    InvalidArgument
        The rate is not a positive number.
    """

    def __init__(self, rate: float) -> None:
        self._rate = _checked(rate)

    def __repr__(self) -> str:
        return f"<Constant {self._rate:g}/s>"

    def __iter__(self) -> Iterator[int]:
        number = 0
        while True:
            yield int(number * NANOSECONDS / self._rate)
            number += 1

    def rate(self, seconds: float) -> float:  # noqa: ARG002
        """Return the rate."""
        return self._rate


class Linear:
    """A rate that grows by `alpha` requests/s each minute, or falls by it.

    Raises
    ------
    InvalidArgument
        The rate is not a positive number, or alpha is none.
    """

    def __init__(self, rate: float, alpha: float) -> None:
        self._rate = _checked(rate)
        self._alpha = _finite("alpha", alpha)

    def __repr__(self) -> str:
        return f"<Linear {self._rate:g}/s {self._alpha:+g}/s each minute>"

    def __iter__(self) -> Iterator[int]:
        return _paced(self)

    def rate(self, seconds: float) -> float:
        """Return the rate at a moment."""
        return _bounded(self._rate + self._alpha / 60 * seconds)


class Cyclic:
    """A rate that swings by `alpha` requests/s around another, `beta` times a minute.

    Raises
    ------
    InvalidArgument
        The rate is not a positive number, or alpha or beta is none.
    """

    def __init__(self, rate: float, alpha: float, beta: float) -> None:
        self._rate = _checked(rate)
        self._alpha = _finite("alpha", alpha)
        self._beta = _finite("beta", beta)

    def __repr__(self) -> str:
        return f"<Cyclic {self._rate:g}/s, by {self._alpha:g}/s, {self._beta:g} times a minute>"

    def __iter__(self) -> Iterator[int]:
        return _paced(self)

    def rate(self, seconds: float) -> float:
        """Return the rate at a moment."""
        swing = self._alpha * math.sin(2 * math.pi * self._beta * seconds / 60)
        return _bounded(self._rate + swing)


class Poisson:
    """Arrivals that know nothing of one another: gaps of exponential distribution.

    Parameters
    ----------
    rate
        Requests/s in the mean.
    seed
        The same gives the same moments; by default it is drawn.

    Raises
    ------
    InvalidArgument
        The rate is not a positive number.
    """

    def __init__(self, rate: float, seed: int | None = None) -> None:
        self._rate = _checked(rate)
        self._seed = random.getrandbits(64) if seed is None else seed

    def __repr__(self) -> str:
        return f"<Poisson {self._rate:g}/s, seed {self._seed}>"

    def __iter__(self) -> Iterator[int]:
        gap, mean = random.Random(self._seed).expovariate, self._rate / NANOSECONDS
        moment = 0.0
        while True:
            moment += gap(mean)
            yield int(moment)

    def rate(self, seconds: float) -> float:  # noqa: ARG002
        """Return the mean rate."""
        return self._rate


def _paced(schedule: Schedule) -> Iterator[int]:
    """Follow a rate that changes: a request each time the integral of the rate has grown by one."""
    moment = 0.0
    while True:
        yield int(moment * NANOSECONDS)
        left, rate = 1.0, schedule.rate(moment)
        while left > rate * _STEP:  # the rate may change much until the next request
            left -= rate * _STEP
            moment += _STEP
            rate = schedule.rate(moment)
        moment += left / rate


def _bounded(rate: float) -> float:
    return min(max(_FLOOR, rate), HIGHEST_RATE)


def _checked(rate: float) -> float:
    if not 0 < rate < math.inf:
        raise InvalidArgument(f"rate: got {rate}, expected a positive number of requests/s")
    return rate


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidArgument(f"{name}: got {value}, expected a finite number")
    return value
