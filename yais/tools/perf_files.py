"""Files that `yais perf` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from yais.load.curve import CurvePoint, curve
from yais.load.perf.profiler import LevelResult
from yais.load.perf.results_csv import write_results_csv
from yais.load.perf.settings import PerfSettings
from yais.load.perf.text import number
from yais.tools.option_groups import grouped, with_options
from yais.tools.output_file import output_file, writing

__all__ = ["PerfFiles", "perf_files"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PerfFiles:
    """Where to write the results; None: nowhere."""

    csv: Path | None = None
    verbose_csv: bool = False
    plot: Path | None = None

    def write(self, settings: PerfSettings, results: Sequence[LevelResult]) -> None:
        """Write those that are asked for; of at least one result.

        Raises
        ------
        click.ClickException
            One cannot be written.
        """
        if self.csv is not None:
            with writing(self.csv):
                write_results_csv(self.csv, settings, results, verbose=self.verbose_csv)
        if self.plot is not None:
            level = "request rate" if settings.at_rates else "concurrency"
            with writing(self.plot):
                self.plot.write_text(curve([_point(result) for result in results], level=level), "utf-8")


def _point(result: LevelResult) -> CurvePoint:
    window = result.window
    p50, p90, p99 = (window.percentile(each) / 1e6 for each in (50, 90, 99))
    return CurvePoint(number(result.level), window.throughput, p50, p90, p99)


_output = grouped("Output")

_OPTIONS = (
    _output("-f", "csv", type=output_file, metavar="FILE", help="Write the results as CSV."),
    _output("--verbose-csv", is_flag=True, help="Write the mean latency and its parts there, too."),
    _output("--plot", type=output_file, metavar="FILE.svg", help="Draw latency against throughput."),
)


def perf_files(command: F) -> F:
    """Give a command the options; it gets `files: PerfFiles`."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(*arguments: Any, csv: Path | None, verbose_csv: bool, plot: Path | None, **others: Any) -> Any:
        return command(*arguments, files=PerfFiles(csv, verbose_csv, plot), **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
