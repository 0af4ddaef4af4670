"""Line charts as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Line", "chart"]

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 84
_COLOURS = ("#1b6ca8", "#c8553d", "#4f7942")


@dataclass(frozen=True)
class Line:
    """Points from left to right, and how they are drawn: in the `colour`-th colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False


def chart(
    title: str,
    x: str,
    y: str,
    lines: Sequence[Line],
    *,
    top: float,
    xs: Sequence[float],
    percent: bool = False,
) -> str:
    """Return a chart from 0 to `top`; lines that go beyond are cut off there.

    Parameters
    ----------
    x, y
        What the axes show.
    xs
        Where the horizontal axis has its marks; the first and the last are its ends.
    percent
        Whether values upwards are shares.
    """
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def across(value: float) -> float:
        return _LEFT + (value - xs[0]) / (xs[-1] - xs[0]) * (right - _LEFT)

    def up(value: float) -> float:
        return bottom - min(value, top) / top * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_WIDTH / 2, 22, title, "middle", 15),
        _text((_LEFT + right) / 2, bottom + 36, x, "middle"),
        f'<g transform="translate(16 {(_TOP + bottom) / 2:.0f}) rotate(-90)">{_text(0, 0, y, "middle")}</g>',
    ]
    for step in range(6):
        value = top * step / 5
        parts.append(_stroke([(_LEFT, up(value)), (right, up(value))], "#dddddd", 1))
        parts.append(_text(_LEFT - 6, up(value) + 4, f"{value:.0%}" if percent else f"{value:g}", "end"))
    for mark in xs:
        parts.append(_stroke([(across(mark), bottom), (across(mark), bottom + 4)], "#888888", 1))
        parts.append(_text(across(mark), bottom + 18, f"{mark:g}", "middle"))
    for index, line in enumerate(lines):
        colour = _COLOURS[line.colour]
        points = [(across(at), up(value)) for at, value in line.points]
        parts.append(_stroke(points, colour, 2.5, dashed=line.dashed))
        if not line.dashed:
            parts += [
                f'<circle cx="{at:.1f}" cy="{value:.1f}" r="3" fill="{colour}"/>' for at, value in points
            ]
        beside = _LEFT + index * (right - _LEFT) / len(lines)
        parts.append(
            _stroke([(beside, _HEIGHT - 20), (beside + 22, _HEIGHT - 20)], colour, 2.5, dashed=line.dashed)
        )
        parts.append(_text(beside + 28, _HEIGHT - 16, line.name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="#333333">{html.escape(text)}</text>'


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: float, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
