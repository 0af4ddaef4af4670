"""The numbers of a report: what is to be seen at once, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yais.load.histogram import moments, values_at
from yais.load.markup import escape
from yais.load.recording import Recording, Slice
from yais.load.report_numbers import count, milliseconds, share

__all__ = ["facts_table", "latency_table", "slices_table", "statuses", "tiles"]

_PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_SLICE_COLUMNS = (
    *("from, s", "for, s", "due", "sent", "completed", "failed", "most in flight"),
    *("p50", "p90", "p99", "max"),
)


def tiles(recording: Recording) -> str:
    """Return the few figures that say most."""
    failed, sent = recording.failed.total(), count(recording.sent)
    p50, p99, p999, slowest = map(milliseconds, recording.percentiles(50, 99, 99.9, 100))
    completed = f"{count(recording.completed)} in {recording.drained:.4g} s"
    shown = [
        _tile("Sent", f"{count(recording.rate_sent)}/s", f"of {count(recording.rate_asked)}/s asked"),
        _tile("Completed", f"{count(recording.rate_completed)}/s", completed),
        _tile("Median", p50, "half were faster"),
        _tile("p99", p99, f"p99.9 {p999}"),
        _tile("Slowest", slowest, "of those completed"),
        _tile("Failed", share(failed, recording.sent), f"{count(failed)} of {sent}", bad=failed > 0),
    ]
    return "\n".join(['<div class="grid tiles">', *shown, "</div>"])


def statuses(recording: Recording) -> str:
    """Return how requests ended: as a bar, and as a table with the first message of each status."""
    endings = _endings(recording)
    whole = sum(number for _, number, _, _ in endings)
    parts, rows = [], []
    for name, number, kind, text in endings:
        parts.append(f'<span class="{kind}" style="flex: {number} 0 0"></span>' if number else "")
        swatch = f'<span class="swatch {kind}"></span>{name}'
        rows.append(_row(swatch, count(number), share(number, whole), kind="said" if text else "plain"))
        if text:
            rows.append(f'<tr><td class="message text" colspan="3">{escape(text)}</td></tr>')
    bar = f'<div class="bar" aria-hidden="true">{"".join(parts)}</div>'
    table = _table(("status", "requests", "share"), rows)
    return f'<section class="card">\n<h2>How requests ended</h2>\n{bar}\n{table}\n</section>'


def latency_table(recording: Recording) -> str:
    """Return percentiles, from when requests were due and from when they were sent."""
    names = [*(f"p{percent:g}" for percent in _PERCENTS), "max", "mean"]
    columns: list[list[float | None]] = [
        [value / 1e6 for value in (*values_at(each, [*_PERCENTS, 100]), moments(each)[0])]
        if recording.completed
        else [None] * len(names)
        for each in (recording.latency, recording.service)
    ]
    rows = [_row(name, *map(milliseconds, values)) for name, *values in zip(names, *columns, strict=True)]
    table = _table(("", "since due", "since sent"), rows)
    return f'<section class="card">\n<h2>Latency</h2>\n{table}\n</section>'


def facts_table(facts: Mapping[str, str]) -> str:
    """Return what was done, as the caller tells it."""
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(value)}</td></tr>'
        for name, value in facts.items()
    ]
    return f'<section class="card">\n<h2>What was run</h2>\n{_table((), rows)}\n</section>'


def slices_table(slices: Sequence[Slice]) -> str:
    """Return the run over time, folded up."""
    rows = [
        _row(
            f"{each.start:.4g}",
            f"{each.seconds:.3g}",
            *map(count, (each.scheduled, each.sent, each.completed, each.failed, each.outstanding)),
            *map(milliseconds, (each.p50, each.p90, each.p99, each.max)),
        )
        for each in slices
    ]
    table = _table(_SLICE_COLUMNS, rows)
    return f'<details class="card">\n<summary>The run over time, in numbers</summary>\n{table}\n</details>'


def _tile(name: str, value: str, below: str, *, bad: bool = False) -> str:
    return (
        f'<div class="card tile{" bad" if bad else ""}"><p class="faint">{name}</p><b>{escape(value)}</b>'
        f'<p class="faint">{escape(below)}</p></div>'
    )


def _endings(recording: Recording) -> list[tuple[str, int, str, str]]:
    """Return each way in which requests ended, how many, its kind, and its first message."""
    found = [("OK", recording.completed, "ok", "")]
    found += [
        (code.name, number, "failed", recording.texts.get(code, ""))
        for code, number in sorted(recording.failed.items(), key=lambda item: (-item[1], item[0].name))
    ]
    if recording.outstanding > 0:
        found.append(("no answer yet", recording.outstanding, "unsent", ""))
    if recording.unsent:
        found.append(("never sent", recording.unsent, "unsent", ""))
    return found


def _table(columns: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table of rows; the first column holds names, the others numbers."""
    head = "".join(
        f'<th scope="col"{_NUMBER if number else ""}>{name}</th>' if name else "<td></td>"
        for number, name in enumerate(columns)
    )
    parts = [f"<thead><tr>{head}</tr></thead>"] if columns else []
    return "\n".join(["<table>", *parts, "<tbody>", *rows, "</tbody>", "</table>"])


def _row(name: str, *values: str, kind: str = "plain") -> str:
    cells = "".join(f"<td{_NUMBER}>{escape(value)}</td>" for value in values)
    return f'<tr class="{kind}"><th scope="row">{name}</th>{cells}</tr>'


_NUMBER = ' class="number"'
