"""Files that `yais siege` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.load.hgrm import write_hgrm
from yais.load.objective import Objective
from yais.load.recording import Recording
from yais.load.schedule import Schedule
from yais.load.slices_csv import write_slices_csv
from yais.tools.option_groups import with_options
from yais.tools.output_file import output_file, writing

__all__ = ["RecordingFiles", "recording_files"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """Where to write what came of a run; None: nowhere."""

    report: Path | None
    hgrm: Path | None
    csv: Path | None

    def write(
        self,
        title: str,
        facts: Mapping[str, str],
        recording: Recording,
        objective: Objective | None,
        schedule: Schedule,
    ) -> None:
        """Write those that are asked for; see `yais.load.report.write_report`.

        Raises
        ------
        click.ClickException
            One cannot be written.
        """
        if self.report is not None:
            from yais.load.report import write_report

            with writing(self.report):
                write_report(self.report, title, facts, recording, objective, schedule)
        if self.hgrm is not None:
            with writing(self.hgrm):
                write_hgrm(self.hgrm, recording.latency)
        if self.csv is not None:
            with writing(self.csv):
                write_slices_csv(self.csv, recording.slices)


_OPTIONS = (
    click.option(
        "--report", type=output_file, metavar="FILE.html", help="Write a page with pictures of the run."
    ),
    click.option(
        "--hgrm",
        type=output_file,
        metavar="FILE",
        help="Write the latencies as HdrHistogram's plotter has them.",
    ),
    click.option("--csv", type=output_file, metavar="FILE", help="Write the run over time, a line a second."),
)


def recording_files(command: F) -> F:
    """Give a command the options; it gets `files: RecordingFiles`."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any, report: Path | None, hgrm: Path | None, csv: Path | None, **others: Any
    ) -> Any:
        return command(*arguments, files=RecordingFiles(report, hgrm, csv), **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
