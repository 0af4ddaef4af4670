"""When `yais siege` sends: its options, and the schedules that they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import click

from yais.errors import InvalidArgument
from yais.load.schedule import HIGHEST_RATE, Constant, Cyclic, Linear, Poisson, Schedule
from yais.tools.option_groups import with_options
from yais.tools.seconds import Seconds

__all__ = ["Arrivals", "arrival_options"]

F = TypeVar("F", bound=Callable[..., Any])

_RATE = 1.0
_FIRST_RATE = 2048.0  # of a search, as in the original
_DURATION = 10.0
_LOWEST_RATE = 1e-6


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When requests are due.

    Attributes
    ----------
    func
        "constant", "linear", "cyclic" or "poisson".
    rate
        Requests/s: of the whole, at the start, or around which it swings; or the first to try.
    alpha
        Requests/s gained each minute (linear), or the swing (cyclic).
    beta
        Swings each minute.
    seed
        Of Poisson arrivals; None draws one.
    duration, count
        When the last is due: after so many seconds, or so many. One of them is None.
    search
        Whether other rates are tried, too.
    """

    func: str
    rate: float
    alpha: float | None
    beta: float
    seed: int | None
    duration: float | None
    count: int | None
    search: bool

    def __str__(self) -> str:
        ends = _requests(self.count) if self.duration is None else f"{self.duration:g} s"
        match self.func:
            case "linear":
                changes = f" {self.alpha:+g}/s each minute"
            case "cyclic":
                changes = f" ± {self.alpha:g}/s {self.beta:g} times a minute"
            case _:
                changes = ""
        return f"{self.func}, {self.rate:g}/s{changes}, for {ends}"

    def at(self, rate: float) -> Arrivals:
        """Return the same at another rate."""
        return replace(self, rate=rate)

    def schedule(self) -> Schedule:
        """Return when requests are due.

        Raises
        ------
        click.UsageError
            There is no such schedule.
        """
        if self.alpha is None and self.func in {"linear", "cyclic"}:
            raise click.UsageError(f"--func {self.func} wants --alpha")
        try:
            match self.func:
                case "linear":
                    return Linear(self.rate, self.alpha or 0.0)
                case "cyclic":
                    return Cyclic(self.rate, self.alpha or 0.0, self.beta)
                case "poisson":
                    return Poisson(self.rate, self.seed)
                case _:
                    return Constant(self.rate)
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from None


def _requests(count: int | None) -> str:
    return "1 request" if count == 1 else f"{count} requests"


_OPTIONS = (
    click.option(
        "--rate",
        type=click.FloatRange(_LOWEST_RATE, HIGHEST_RATE),
        help=f"Requests/s. [default: {_RATE:g}; a search begins at {_FIRST_RATE:g}]",
    ),
    click.option(
        "--duration",
        type=Seconds(zero=False),
        help=f"Seconds to send for. [default: {_DURATION:g}, unless there is a --count]",
    ),
    click.option("--count", type=click.IntRange(min=1), help="Requests to send, instead of a duration."),
    click.option(
        "--func",
        type=click.Choice(["constant", "linear", "cyclic", "poisson"]),
        default="constant",
        show_default=True,
        help="Arrivals: at the rate; at rate + alpha/60·t; at rate + alpha·sin(2π·beta·t/60), t in seconds; "
        "or at random.",
    ),
    click.option(
        "--alpha", type=float, help="Requests/s gained each minute (linear), or the swing (cyclic)."
    ),
    click.option("--beta", type=float, default=1.0, show_default=True, help="Swings each minute (cyclic)."),
    click.option("--seed", type=int, help="For the same arrivals at random each time."),
    click.option(
        "--find-max-qps",
        is_flag=True,
        help="Search for the highest rate that keeps the --slo, with arrivals at random: doubling, then "
        "bisection. Each run takes the --duration.",
    ),
)


def arrival_options(command: F) -> F:
    """Give a command the options; it gets `arrivals: Arrivals`."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        rate: float | None,
        duration: float | None,
        count: int | None,
        func: str,
        alpha: float | None,
        beta: float,
        seed: int | None,
        find_max_qps: bool,
        **others: Any,
    ) -> Any:
        if count is not None and duration is not None:
            raise click.UsageError("got --count and --duration, expected one of them")
        if count is None:
            duration = duration or _DURATION
        if find_max_qps:
            func = "poisson"
        rate = rate or (_FIRST_RATE if find_max_qps else _RATE)
        arrivals = Arrivals(func, rate, alpha, beta, seed, duration, count, find_max_qps)
        return command(*arguments, arrivals=arrivals, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
