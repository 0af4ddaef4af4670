"""A run as one HTML page that needs nothing besides itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yais.load.markup import escape
from yais.load.objective import Objective
from yais.load.recording import Recording
from yais.load.report_charts import Figure, figures
from yais.load.report_numbers import count, milliseconds, share
from yais.load.report_page import page
from yais.load.report_tables import facts_table, latency_table, slices_table, statuses, tiles
from yais.load.schedule import Schedule

__all__ = ["report", "write_report"]

_LATE = 0.01
"""The part of the requests that may go out late before it is worth a remark."""


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    recording: Recording,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> None:
    """Write `report` to a file.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path.write_text(report(title, facts, recording, objective, schedule), encoding="utf-8")


def report(
    title: str,
    facts: Mapping[str, str],
    recording: Recording,
    objective: Objective | None = None,
    schedule: Schedule | None = None,
) -> str:
    """Return a page of a run: latency by percentile and over time, rates, statuses, and all of it as numbers.

    Parameters
    ----------
    title
        What was run, in a line.
    facts
        What a reader has to know of it, by name, in this order: address, model, options, version, date.
        They may hold any text.
    objective
        What the latencies are held against.
    schedule
        What was asked for. Without it the page shows the requests that became due.
    """
    parts = [
        f"<header><h1>{escape(title)}</h1>",
        _verdict(recording, objective),
        _remarks(recording),
        "</header>",
        "<main>",
        tiles(recording),
        '<div class="grid pairs">',
        *map(_figure, figures(recording, objective, schedule)),
        "</div>",
        f'<div class="grid">{statuses(recording)}</div>',
        '<div class="grid pairs">',
        latency_table(recording),
        facts_table(facts),
        "</div>",
        f'<div class="grid">{slices_table(recording.slices)}</div>' if recording.slices else "",
        "</main>",
    ]
    return page(title, "\n".join(part for part in parts if part))


def _verdict(recording: Recording, objective: Objective | None) -> str:
    if objective is None:
        return ""
    value = objective.value(recording)
    found = f"it was {milliseconds(value)}" if recording.completed else "no request was completed"
    if value is None and recording.completed:
        lost = recording.failed.total() + recording.unsent
        found = f"{share(lost, lost + recording.completed)} of the requests failed or were never sent"
    kind, says = (
        ("kept", "✓ Objective kept") if objective.kept(recording) else ("missed", "✗ Objective not kept")
    )
    return f'<p class="verdict {kind}">{says}: {escape(str(objective))}, {found}</p>'


def _remarks(recording: Recording) -> str:
    """Return what a reader might otherwise overlook."""
    due, sent, unsent, held_back = recording.scheduled, recording.sent, recording.unsent, recording.held_back
    late = recording.late - held_back
    found = []
    if recording.interrupted:
        found.append("The run was ended early: this is what was measured until then.")
    if not recording.completed:
        found.append("No request was completed, so there are no latencies.")
    if unsent:
        found.append(f"{count(unsent)} requests that were due ({share(unsent, due)}) were never sent.")
    if held_back:
        found.append(
            f"{count(held_back)} requests ({share(held_back, sent)}) went out late because as many were "
            "outstanding as may be. Their wait is part of their latency."
        )
    if late > _LATE * sent:
        found.append(
            f"{count(late)} requests ({share(late, sent)}) went out more than 1 ms late with room to send: "
            "the sender itself may have been the limit."
        )
    return f'<ul class="remarks">{"".join(f"<li>{each}</li>" for each in found)}</ul>' if found else ""


def _figure(figure: Figure) -> str:
    caption = f"<figcaption><h2>{figure.heading}</h2><p>{figure.note}</p></figcaption>"
    return f'<figure class="card figure">\n{caption}\n{figure.svg}</figure>'
