"""The charts of a report: latency by percentile and over time, rates and requests in flight over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from yais.load.chart import chart
from yais.load.curve import latency_axis
from yais.load.histogram import values_at
from yais.load.objective import Objective
from yais.load.plot import Axis, Line, Readout
from yais.load.recording import Recording, Slice
from yais.load.report_numbers import count, milliseconds
from yais.load.scales import LinearScale, NinesScale
from yais.load.schedule import Schedule

__all__ = ["Figure", "figures"]

_STEPS = 20
"""Points on the way from one nine to the next."""
_MOMENTS = 240
"""Points of the line of the rate that was asked for."""


@dataclass(frozen=True)
class Figure:
    """A chart as SVG, with what stands above and below it."""

    heading: str
    note: str
    svg: str


def figures(recording: Recording, objective: Objective | None, schedule: Schedule | None) -> list[Figure]:
    """Return the charts for which there is something to draw."""
    found = []
    if recording.completed:
        found.append(_distribution(recording, objective))
    if recording.slices:
        if recording.completed:
            found.append(_latencies(recording.slices, objective))
        found += [_rates(recording, schedule), _outstanding(recording.slices)]
    return found


def _distribution(recording: Recording, objective: Objective | None) -> Figure:
    scale = NinesScale(recording.completed)
    levels = [100.0 - 100.0 * 10.0 ** (-step / _STEPS) for step in range(scale.nines * _STEPS + 1)]
    due, sent = (
        [value / 1e6 for value in values_at(each, levels)] for each in (recording.latency, recording.service)
    )
    lines = [Line("since due", list(zip(levels, due, strict=True)), "deep", filled=True)]
    texts = [
        f"{_percent(level)} within {milliseconds(each)}" for level, each in zip(levels, due, strict=True)
    ]
    if sent != due:
        lines.append(Line("since sent", list(zip(levels, sent, strict=True)), "orange", dashed=True))
        texts = [f"{text}, since sent {milliseconds(each)}" for text, each in zip(texts, sent, strict=True)]
    lines += _limit(objective, 0.0, 100.0)
    p50, p99, slowest = map(milliseconds, recording.percentiles(50, 99, 100))
    return Figure(
        "Latency distribution",
        "How long requests took, up to the slowest: each step to the right is ten times rarer. The time "
        "begins when a request was due, so what it waited to be sent is part of it.",
        chart(
            "Latency distribution",
            f"Half of the requests took at most {p50}, 99 % at most {p99}, the slowest {slowest}",
            Axis("percentile", scale),
            latency_axis(lines),
            lines,
            [Readout(*pair, text) for pair, text in zip(pairwise(levels), texts[1:], strict=True)],
        ),
    )


def _latencies(slices: Sequence[Slice], objective: Objective | None) -> Figure:
    middles = [_middle(each) for each in slices]
    lines = [
        Line("p50", list(zip(middles, [each.p50 for each in slices], strict=True)), "pale"),
        Line("p90", list(zip(middles, [each.p90 for each in slices], strict=True)), "blue"),
        Line("p99", list(zip(middles, [each.p99 for each in slices], strict=True)), "deep"),
        Line("max", list(zip(middles, [each.max for each in slices], strict=True)), "orange", width=1.2),
    ]
    lines += _limit(objective, 0.0, _end(slices))
    texts = [
        f"p50 {milliseconds(each.p50)}, p90 {milliseconds(each.p90)}, p99 {milliseconds(each.p99)}, "
        f"max {milliseconds(each.max)}"
        if each.completed
        else "nothing completed"
        for each in slices
    ]
    return Figure(
        "Latency over time",
        "Of the requests answered in each moment.",
        chart(
            "Latency over time",
            "The table of the run over time has its numbers",
            _time(slices),
            latency_axis(lines),
            lines,
            _readouts(slices, texts),
        ),
    )


def _rates(recording: Recording, schedule: Schedule | None) -> Figure:
    slices = recording.slices
    shown = _full(slices)
    end = min(recording.seconds, _end(slices)) or _end(slices)
    if schedule is None:
        asked = [(_middle(each), each.scheduled / each.seconds) for each in shown]
    else:
        asked = [
            (end * step / _MOMENTS, schedule.rate(end * step / _MOMENTS)) for step in range(_MOMENTS + 1)
        ]
    lines = [
        Line("sent", [(_middle(each), each.sent / each.seconds) for each in shown], "pale", width=4.5),
        Line("completed", [(_middle(each), each.completed / each.seconds) for each in shown], "green"),
        Line("asked", asked, "grey", dashed=True),
    ]
    if any(each.failed for each in slices):
        lines.append(Line("failed", [(_middle(each), each.failed / each.seconds) for each in shown], "red"))
    texts = [
        f"sent {count(each.sent / each.seconds)}/s, completed {count(each.completed / each.seconds)}/s"
        + (f", failed {count(each.failed / each.seconds)}/s" if each.failed else "")
        for each in slices
    ]
    top = max(y for line in lines for _, y in line.points if y is not None)
    return Figure(
        "Rate",
        "Requests asked for, sent and answered in each second.",
        chart(
            "Rate over time",
            f"{count(recording.rate_asked)} requests/s asked, {count(recording.rate_sent)}/s sent, "
            f"{count(recording.rate_completed)}/s completed",
            _time(slices),
            Axis("requests/s", LinearScale.upto(1.05 * top)),
            lines,
            _readouts(slices, texts),
        ),
    )


def _outstanding(slices: Sequence[Slice]) -> Figure:
    points = [(_middle(each), float(each.outstanding)) for each in _full(slices)]
    top = max(each.outstanding for each in slices)
    return Figure(
        "In flight",
        "The most requests in each moment that were sent and not yet answered. A peak is a server that "
        "stalled; a line that climbs is one that does not keep up.",
        chart(
            "Requests in flight over time",
            f"At most {count(top)}",
            _time(slices),
            Axis("requests", LinearScale.upto(max(5, top))),
            [Line("in flight", points, "blue", filled=True)],
            _readouts(slices, [f"at most {count(each.outstanding)} in flight" for each in slices]),
        ),
    )


def _limit(objective: Objective | None, start: float, end: float) -> list[Line]:
    if objective is None:
        return []
    return [
        Line(
            str(objective), [(start, objective.limit), (end, objective.limit)], "red", dashed=True, width=1.5
        )
    ]


def _percent(level: float) -> str:
    """Return a percentile with two digits after its nines."""
    digits = max(0, 2 - int(f"{100.0 - level:e}".split("e")[1]))
    return f"{level:.{min(digits, 8)}f} %"


def _readouts(slices: Sequence[Slice], texts: Sequence[str]) -> list[Readout]:
    return [
        Readout(each.start, each.start + each.seconds, f"{_middle(each):.4g} s: {text}")
        for each, text in zip(slices, texts, strict=True)
    ]


def _time(slices: Sequence[Slice]) -> Axis:
    return Axis("seconds", LinearScale(0.0, _end(slices)))


def _full(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices without a very short last one, in which one request more or less looks like much."""
    longest = max(each.seconds for each in slices)
    return [each for each in slices if each.seconds >= longest / 4]


def _end(slices: Sequence[Slice]) -> float:
    return slices[-1].start + slices[-1].seconds


def _middle(each: Slice) -> float:
    return each.start + each.seconds / 2
