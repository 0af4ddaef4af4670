"""Lines between two axes, as elements of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yais.load.chart_style import Colour
from yais.load.markup import escape
from yais.load.scales import Scale

__all__ = ["HEIGHT", "LEFT", "LETTER", "WIDTH", "Axis", "Line", "Plot", "Readout", "svg_text"]

WIDTH, LEFT = 560, 58
"""Of the picture; where the axes begin."""
HEIGHT, _RIGHT = 210, 18
"""Of the axes; what is free beside them."""
LETTER = 9.2
"""Room for a letter of a label: enough for the larger type that narrow screens get."""
_DOTS, _FEW = 40, 8
"""Lines of at most so many points have their points drawn; those of few points as larger dots."""


@dataclass(frozen=True)
class Axis:
    """What an axis shows, with its unit, and where values stand on it."""

    name: str
    scale: Scale


@dataclass(frozen=True)
class Line:
    """Points from left to right, and how they are drawn.

    Attributes
    ----------
    name
        For the key, where there is none of a line without a name.
    points
        Pairs of x and y; the line has a gap where y is None.
    labels
        Texts above the points, to the left, one for each; one that would cover an earlier one is left out.
    dashed, filled
        Drawn with dashes; with the room below it shaded.
    width
        Of the stroke.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: Colour
    dashed: bool = False
    filled: bool = False
    width: float = 2.0
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Readout:
    """What is written above the plot while the pointer is between two places of the horizontal axis."""

    start: float
    end: float
    text: str


class Plot:
    """Draws inside the axes, which begin `top` from above."""

    def __init__(self, x: Axis, y: Axis, top: float) -> None:
        self._x, self._y = x, y
        self._top, self._bottom = top, top + HEIGHT

    def axes(self) -> list[str]:
        """Return both axes with their marks and names."""
        bottom, right = self._bottom, WIDTH - _RIGHT
        parts = [svg_text(6, self._top - 12, self._y.name, "name")]
        for value, label in self._y.scale.marks:
            at = self._up(value)
            parts.append(f'<path class="rule" d="M{LEFT} {at:.1f}H{right}"/>')
            parts.append(svg_text(LEFT - 8, at + 4.5, label, "mark", "end"))
        end = 0.0
        for value, label in self._x.scale.marks:
            at, half = self._across(value), len(label) * LETTER / 2
            parts.append(f'<path class="rule" d="M{at:.1f} {bottom:.1f}v5"/>')
            if at - half >= end:
                parts.append(svg_text(min(at, WIDTH - half), bottom + 20, label, "mark", "middle"))
                end = at + half + 6
        parts.append(svg_text((LEFT + right) / 2, bottom + 41, self._x.name, "name", "middle"))
        return parts

    def line(self, line: Line) -> list[str]:
        """Return a line, what is shaded below it, and its points if they are few."""
        runs = self._runs(line)
        drawn = "".join(_path(run) for run in runs)
        dashed = " dashed" if line.dashed else ""
        parts = []
        if line.filled:
            closed = "".join(
                f"{_path(run)}V{self._bottom:.1f}H{run[0][0]:.1f}Z" for run in runs if len(run) > 1
            )
            parts.append(f'<path class="area {line.colour}" d="{closed}"/>')
        parts.append(f'<path class="line {line.colour}{dashed}" stroke-width="{line.width:g}" d="{drawn}"/>')
        points = [point for run in runs for point in run]
        if not line.dashed and len(points) <= _DOTS:
            radius = line.width / 2 + (1.2 if len(points) > _FEW else 2.2)
            dot = f'<circle class="dot {line.colour}" r="{radius:g}"'
            parts += [f'{dot} cx="{at:.1f}" cy="{up:.1f}"/>' for at, up in points]
        return parts

    def labels(self, line: Line) -> list[str]:
        """Return the texts beside the points, without those that would cover another."""
        placed: list[tuple[float, float, float]] = []
        parts = []
        for (x, y), label in zip(line.points, line.labels, strict=False):
            if y is None:
                continue
            at, up, wide = self._across(x) - 5, self._up(y) - 7, len(label) * LETTER
            if any(
                at - wide < other and other - width < at and abs(up - high) < 15
                for other, high, width in placed
            ):
                continue
            placed.append((at, up, wide))
            parts.append(svg_text(at, up, label, "point", "end"))
        return parts

    def readout(self, readout: Readout) -> str:
        """Return a band that shows its text while it is pointed at."""
        start, end = self._across(readout.start), self._across(readout.end)
        box = f'x="{start:.1f}" y="{self._top:.1f}" width="{max(end - start, 0.1):.1f}" height="{HEIGHT}"'
        guide = f'<path class="guide" d="M{(start + end) / 2:.1f} {self._top:.1f}v{HEIGHT}"/>'
        text = svg_text(WIDTH - _RIGHT, self._top - 12, readout.text, "key", "end")
        return f'<g class="at"><rect {box}/>{guide}{text}</g>'

    def _runs(self, line: Line) -> list[list[tuple[float, float]]]:
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in line.points:
            if y is not None:
                runs[-1].append((self._across(x), self._up(y)))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    def _across(self, value: float) -> float:
        return LEFT + self._x.scale.place(value) * (WIDTH - _RIGHT - LEFT)

    def _up(self, value: float) -> float:
        return self._bottom - self._y.scale.place(value) * HEIGHT


def _path(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        return f"M{points[0][0]:.1f} {points[0][1]:.1f}h0"
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def svg_text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    """Return a line of text of a class of `chart_style`."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
