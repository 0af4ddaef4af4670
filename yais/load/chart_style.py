"""Colours and type of charts, as CSS for the classes that `yais.load.chart` gives its elements."""

from __future__ import annotations

from typing import Literal

__all__ = ["DARK", "LIGHT", "Colour"]

Colour = Literal["pale", "blue", "deep", "orange", "green", "red", "grey"]
"""`pale`, `blue` and `deep` are steps of one hue, for values that have an order, as percentiles have."""

_LIGHT: dict[Colour, str] = {
    "pale": "#5b93e0",
    "blue": "#1f66c7",
    "deep": "#12305f",
    "orange": "#c2560c",
    "green": "#1a7f4e",
    "red": "#c62828",
    "grey": "#6b7280",
}
_DARK: dict[Colour, str] = {
    "pale": "#4a80cf",
    "blue": "#7db0fb",
    "deep": "#dbe8ff",
    "orange": "#f7a05c",
    "green": "#4cc38a",
    "red": "#ff7b72",
    "grey": "#98a2b3",
}

_SHAPES = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.title { font-size: 16px; font-weight: 600; }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.area { stroke: none; opacity: 0.13; }
.dashed { stroke-dasharray: 6 5; stroke-linecap: butt; }
"""


def _css(ink: str, faint: str, grid: str, ground: str, colours: dict[Colour, str]) -> str:
    rules = [
        f"text {{ fill: {faint}; }}",
        f".title, .key, .point {{ fill: {ink}; }}",
        f".rule {{ stroke: {grid}; }}",
        f".guide {{ stroke: {faint}; }}",
        f".ground {{ fill: {ground}; }}",
    ]
    for name, colour in colours.items():
        rules.append(f".line.{name} {{ stroke: {colour}; }}")
        rules.append(f".area.{name}, .dot.{name} {{ fill: {colour}; }}")
    return "\n".join([*rules, ""])


LIGHT = _SHAPES + _css("#1c2430", "#596273", "#e3e7ee", "#ffffff", _LIGHT)
"""Shapes, and colours on white."""

DARK = _css("#e8ecf3", "#a3adbd", "#2c3442", "#161b24", _DARK)
"""The colours on dark ground, to follow `LIGHT`."""
