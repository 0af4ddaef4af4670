"""Line charts as SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from yais.load.chart_style import LIGHT
from yais.load.markup import escape
from yais.load.plot import HEIGHT, LEFT, LETTER, WIDTH, Axis, Line, Plot, Readout, svg_text

__all__ = ["chart", "picture", "stacked_picture"]

_ROW, _NAME, _BELOW = 22, 28, 50
"""Heights: a row of the key, the name of the vertical axis, what is below the axes."""
_TITLE_LETTERS = 54


def picture(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Return a chart as an SVG file: with its title, on white, the same wherever it is shown."""
    return stacked_picture(title, [(x, y, lines)])


def stacked_picture(title: str, charts: Sequence[tuple[Axis, Axis, Sequence[Line]]]) -> str:
    """Return the same with several charts, one below the other.

    Parameters
    ----------
    charts
        Of each the horizontal axis, the vertical one, and the lines.
    """
    titles = textwrap.wrap(title, _TITLE_LETTERS)
    height = 12 + len(titles) * _ROW
    drawn: list[str] = []
    for x, y, lines in charts:
        parts, height = _drawn(x, y, lines, (), height)
        drawn += parts
    head = [
        f"<title>{escape(title)}</title>",
        f"<style>\n{LIGHT}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        *(svg_text(12, 24 + number * _ROW, line, "title") for number, line in enumerate(titles)),
    ]
    return _svg(title, height, [*head, *drawn])


def chart(
    title: str, text: str, x: Axis, y: Axis, lines: Sequence[Line], readouts: Sequence[Readout] = ()
) -> str:
    """Return a chart for a page that has the styles of `chart_style`, and its own heading above the chart.

    Parameters
    ----------
    title, text
        What it shows, for who cannot see it.
    readouts
        What the pointer reads.
    """
    drawn, height = _drawn(x, y, lines, readouts, 4)
    return _svg(f"{title}. {text}", height, drawn)


def _svg(label: str, height: int, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', *parts, "</svg>", ""])


def _drawn(
    x: Axis, y: Axis, lines: Sequence[Line], readouts: Sequence[Readout], top: int
) -> tuple[list[str], int]:
    """Return all from `top` on, and where it ends."""
    keys, rows = _keys(lines, top)
    begin = top + rows * _ROW + _NAME
    plot = Plot(x, y, begin)
    parts = [*keys, *plot.axes()]
    for line in lines:
        parts += plot.line(line)
    for line in lines:
        parts += plot.labels(line)
    return [*parts, *map(plot.readout, readouts)], begin + HEIGHT + _BELOW


def _keys(lines: Sequence[Line], top: float) -> tuple[list[str], int]:
    """Return which line is which, in rows from `top`, and how many rows there are."""
    parts, at, row = [], float(LEFT), 1
    for line in filter(lambda line: line.name, lines):
        wide = 34 + len(line.name) * LETTER + 14
        if at > LEFT and at + wide > WIDTH:
            at, row = float(LEFT), row + 1
        up = top + row * _ROW - 8
        dashed = " dashed" if line.dashed else ""
        shape = f'class="line {line.colour}{dashed}" stroke-width="{line.width:g}"'
        parts.append(f'<path {shape} d="M{at:.1f} {up - 4:.1f}h24"/>')
        parts.append(svg_text(at + 31, up, line.name, "key"))
        at += wide
    return parts, row
