"""Timelines: what happened on which track, from when to when."""

from __future__ import annotations

import string
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Span", "Timeline", "Track", "in_rows", "tracks"]

_LIMIT = 200_000
"""Spans kept: some 30 MB of Chrome trace, which viewers open in seconds."""

_DIGITS = string.digits


class Track(NamedTuple):
    """Where spans stand, one after the other: a row of a group."""

    group: str
    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took its time.

    Attributes
    ----------
    start, end
        ns of any one clock.
    arguments
        What else is to be known of it.
    """

    track: Track
    name: str
    start: int
    end: int
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Timeline:
    """Keeps spans, the first so many. Thread-safe.

    Parameters
    ----------
    limit
        Spans kept.

    Attributes
    ----------
    left_out
        Spans that came when there were as many as are kept.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self.left_out = 0
        self._limit = limit
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Timeline of {len(self._spans)} spans, {self.left_out} left out>"

    def add(self, spans: Iterable[Span]) -> None:
        """Take spans, in any order."""
        spans = list(spans)
        with self._lock:
            fitting = spans[: self._limit - len(self._spans)]
            self._spans += fitting
            self.left_out += len(spans) - len(fitting)

    def between(self, start: int, end: int) -> Timeline:
        """Return the timeline of the spans that neither begin before `start` nor end after `end`."""
        part = Timeline(self._limit)
        part.add(span for span in self.spans if start <= span.start and span.end <= end)
        return part

    @property
    def spans(self) -> list[Span]:
        """Those kept, as they came."""
        with self._lock:
            return list(self._spans)

    def chrome_trace(self) -> dict[str, Any]:
        """Return it in the Trace Event Format, for `json`: Perfetto and chrome://tracing show it.

        Groups are its processes and tracks their threads, in the order of `tracks`; times are µs since the
        first span.
        """
        spans = self.spans
        origin = min((span.start for span in spans), default=0)
        groups: dict[str, int] = {}
        threads: dict[Track, int] = {}
        events: list[dict[str, Any]] = []
        for number, track in enumerate(tracks(spans)):
            if track.group not in groups:
                groups[track.group] = len(groups)
                events += _named("process", track.group, groups[track.group], {"pid": groups[track.group]})
            threads[track] = number
            events += _named("thread", track.name, number, {"pid": groups[track.group], "tid": number})
        for span in spans:
            events.append(
                {
                    "ph": "X",
                    "name": span.name,
                    "pid": groups[span.track.group],
                    "tid": threads[span.track],
                    "ts": (span.start - origin) / 1e3,
                    "dur": (span.end - span.start) / 1e3,
                    "args": dict(span.arguments),
                }
            )
        return {"traceEvents": events, "displayTimeUnit": "ms"}


def tracks(spans: Iterable[Span]) -> list[Track]:
    """Return the tracks that spans stand on: groups, and names in each, as they first come.

    Names that differ in the number at their end stand together, in the order of that.
    """
    met = list(dict.fromkeys(span.track for span in spans))
    groups = list(dict.fromkeys(track.group for track in met))
    names = list(dict.fromkeys(track.name.rstrip(_DIGITS) for track in met))

    def place(track: Track) -> tuple[int, int, int]:
        name = track.name.rstrip(_DIGITS)
        return groups.index(track.group), names.index(name), int(track.name[len(name) :] or 0)

    return sorted(met, key=place)


def in_rows(intervals: Sequence[tuple[int, int]]) -> list[int]:
    """Return a row for each of some intervals, so that none covers another and there are as few as can be.

    Parameters
    ----------
    intervals
        Start and end of each; one may begin where another ends.
    """
    rows = [0] * len(intervals)
    ends: list[int] = []  # of the last interval of each row
    for number in sorted(range(len(intervals)), key=intervals.__getitem__):
        start, end = intervals[number]
        row = next((row for row, last in enumerate(ends) if last <= start), len(ends))
        ends[row : row + 1] = [end]
        rows[number] = row
    return rows


def _named(what: str, name: str, order: int, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"ph": "M", "name": f"{what}_name", **ids, "args": {"name": name}},
        {"ph": "M", "name": f"{what}_sort_index", **ids, "args": {"sort_index": order}},
    ]
