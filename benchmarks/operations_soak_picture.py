"""The picture of benchmarks/operations_soak.py: rate, failures, latency and memory over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.operations_soak_events import DRAIN, ENGINE, FRONTEND, RELOAD, VANISH, Event
from benchmarks.operations_soak_samples import Sample
from yais.load.chart import stacked_picture
from yais.load.plot import Axis, Line
from yais.load.scales import LinearScale, Scale, latency_scale

if TYPE_CHECKING:
    from yais.load.chart_style import Colour

_MARKS: Mapping[str, Colour] = {
    RELOAD: "green",
    DRAIN: "orange",
    VANISH: "grey",
    FRONTEND: "pale",
    ENGINE: "red",
}
_COLOURS: tuple[Colour, ...] = ("blue", "orange", "green", "red", "deep", "pale", "grey")


def soak_picture(title: str, samples: Sequence[Sample], events: Sequence[Event], start: float) -> str:
    """Return it as an SVG file; `start` is when the samples begin, of `time.monotonic`."""
    x = Axis("seconds", LinearScale(0.0, max(samples[-1].moment, 1.0)))
    marks = {kind: [each.start - start for each in events if each.kind == kind] for kind in _MARKS}
    rates = [Line("answered", [(each.moment, each.rate) for each in samples], "blue")]
    statuses = sorted({name for each in samples for name in each.failed})
    failures = [
        Line(name, [(each.moment, each.failed.get(name, 0.0)) for each in samples], colour)
        for name, colour in zip(statuses or ["none"], ("red", *_COLOURS), strict=False)
    ]
    latencies = [Line("p99", [(each.moment, each.p99) for each in samples], "deep")]
    scales: list[tuple[str, Sequence[Line], Scale]] = [
        ("requests/s", rates, LinearScale.upto(_top(rates))),
        ("failed requests/s", failures, LinearScale.upto(_top(failures))),
        ("latency, ms", latencies, latency_scale(each.p99 or 0.0 for each in samples)),
        ("resident memory of a process, MiB", memory := _memory(samples), LinearScale.upto(_top(memory))),
    ]
    return stacked_picture(
        title,
        [
            (x, Axis(name, scale), [*_happened(marks, scale, named=not at), *lines])
            for at, (name, lines, scale) in enumerate(scales)
        ],
    )


def _happened(marks: Mapping[str, Sequence[float]], scale: Scale, *, named: bool) -> list[Line]:
    """Return verticals where something happened; the key of the first chart says what."""
    low, high = scale.marks[0][0], scale.marks[-1][0]
    return [
        Line(
            kind if named else "",
            [point for at in moments for point in ((at, low), (at, high), (at, None))],
            _MARKS[kind],
            dashed=True,
            width=1.0,
        )
        for kind, moments in marks.items()
        if moments
    ]


def _memory(samples: Sequence[Sample]) -> list[Line]:
    """Return a line for each kind of process: of those that there are at a moment, the one with the most."""
    names = sorted({name for each in samples for name, _ in each.processes})
    return [
        Line(name, [(each.moment, _most(each, name)) for each in samples], colour)
        for name, colour in zip(names, _COLOURS, strict=False)
    ]


def _most(sample: Sample, name: str) -> float | None:
    resident = (usage.resident for (each, _), usage in sample.processes.items() if each == name)
    return max(resident, default=None)


def _top(lines: Sequence[Line]) -> float:
    return 1.05 * max((value for line in lines for _, value in line.points if value is not None), default=1.0)
