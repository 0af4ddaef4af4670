"""Timelines as SVG: a row for each track, a block for each span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yais.load.chart_style import LIGHT, Colour
from yais.load.markup import escape
from yais.load.plot import LETTER, svg_text
from yais.load.scales import LinearScale
from yais.telemetry.timeline import Span, Track, tracks

__all__ = ["timeline_picture"]

_WIDTH, _LEFT, _RIGHT = 900, 96, 18
"""Of the picture; what is beside the axis."""
_HEAD, _GROUP, _ROW, _BLOCK, _BELOW = 36, 26, 21, 16, 48
"""Heights: the title, the name of a group, a track, a block, what is below the tracks."""
_OTHER: Colour = "deep"
_MS = 1e6


def timeline_picture(
    title: str, spans: Sequence[Span], window: tuple[int, int], colours: Mapping[str, Colour]
) -> str:
    """Return a timeline as an SVG file, on white, the same wherever it is shown.

    Parameters
    ----------
    window
        From when to when, ns: only what is seen then is drawn. It begins before it ends.
    colours
        Of spans, by their name, in the order of the key.
    """
    drawing = _Drawing(window, colours)
    seen = [span for span in spans if span.end > window[0] and span.start < window[1]]
    met = {span.name for span in seen}
    key, top = drawing.key([*(name for name in colours if name in met), *sorted(met - set(colours))])
    rows, height = _rows(tracks(seen), top)
    parts = [
        f"<title>{escape(title)}</title>",
        f"<style>\n{LIGHT}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        svg_text(12, 24, title, "title"),
        *key,
        *drawing.axis(top, height - _BELOW),
        *_labels(rows),
        *(drawing.block(span, rows[span.track]) for span in seen),
    ]
    box = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', *parts, "</svg>", ""])


class _Drawing:
    """Puts what happens in a window of time where it belongs."""

    def __init__(self, window: tuple[int, int], colours: Mapping[str, Colour]) -> None:
        self._start = window[0]
        self._scale = LinearScale(0.0, (window[1] - window[0]) / _MS)
        self._colours = colours

    def key(self, names: Sequence[str]) -> tuple[list[str], float]:
        """Return which colour is what, in rows, and what is below them."""
        parts: list[str] = []
        at, up = float(_LEFT), _HEAD + 12
        for name in names:
            wide = 20 + len(name) * LETTER + 16
            if at > _LEFT and at + wide > _WIDTH:
                at, up = float(_LEFT), up + _ROW
            block = f'x="{at:.1f}" y="{up - 11}" width="14" height="14"'
            parts.append(f'<rect class="dot {self._colour(name)}" {block}/>')
            parts.append(svg_text(at + 20, up, name, "key"))
            at += wide
        return parts, up + 12.0

    def axis(self, top: float, bottom: float) -> list[str]:
        """Return the marks of time, through all tracks."""
        parts = []
        for value, label in self._scale.marks:
            at = self._across(value)
            parts.append(f'<path class="rule" d="M{at:.1f} {top:.1f}V{bottom + 5:.1f}"/>')
            parts.append(svg_text(at, bottom + 20, label, "mark", "middle"))
        parts.append(svg_text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 38, "time, ms", "name", "middle"))
        return parts

    def block(self, span: Span, top: float) -> str:
        """Return a span, which says what it is where it is pointed at."""
        start, end = (self._across((moment - self._start) / _MS) for moment in (span.start, span.end))
        about = [f"{name} {value}" for name, value in span.arguments.items()]
        text = ", ".join([f"{span.name}: {(span.end - span.start) / _MS:.3f} ms", *about])
        place = f'x="{start:.1f}" y="{top:.1f}" width="{max(end - start - 0.6, 0.4):.1f}" height="{_BLOCK}"'
        return f'<rect class="dot {self._colour(span.name)}" {place}><title>{escape(text)}</title></rect>'

    def _colour(self, name: str) -> Colour:
        return self._colours.get(name, _OTHER)

    def _across(self, value: float) -> float:
        return _LEFT + self._scale.place(value) * (_WIDTH - _RIGHT - _LEFT)


def _rows(shown: Sequence[Track], top: float) -> tuple[dict[Track, float], float]:
    """Return where each track begins, below `top`, and how high the picture is."""
    rows: dict[Track, float] = {}
    group = ""
    for track in shown:
        if track.group != group:
            top, group = top + _GROUP, track.group
        rows[track] = top
        top += _ROW
    return rows, top + _BELOW


def _labels(rows: Mapping[Track, float]) -> list[str]:
    parts, group = [], ""
    for track, top in rows.items():
        if track.group != group:
            group = track.group
            parts.append(svg_text(12, top - 8, group, "key"))
        parts.append(svg_text(_LEFT - 8, top + 12.5, track.name, "mark", "end"))
    return parts
