"""Timelines: rows that do not overlap, and the format that viewers open."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from yais.telemetry.timeline import Span, Timeline, Track, in_rows, tracks

LANE, OTHER, GPU = Track("lanes", "lane 2"), Track("lanes", "lane 10"), Track("GPU", "compute 0")


def test_a_chrome_trace() -> None:
    timeline = Timeline()
    timeline.add([Span(OTHER, "execute", 7_000, 9_500, {"batch": 1}), Span(GPU, "compute", 6_000, 8_000)])
    timeline.add([Span(LANE, "gather", 5_000, 6_000)])
    trace = json.loads(json.dumps(timeline.chrome_trace()))
    assert trace["displayTimeUnit"] == "ms"
    names = {
        (event["name"], event["pid"], event.get("tid")): event["args"]
        for event in trace["traceEvents"]
        if event["ph"] == "M"
    }
    assert names == {
        ("process_name", 0, None): {"name": "lanes"},
        ("process_sort_index", 0, None): {"sort_index": 0},
        ("thread_name", 0, 0): {"name": "lane 2"},
        ("thread_sort_index", 0, 0): {"sort_index": 0},
        ("thread_name", 0, 1): {"name": "lane 10"},
        ("thread_sort_index", 0, 1): {"sort_index": 1},
        ("process_name", 1, None): {"name": "GPU"},
        ("process_sort_index", 1, None): {"sort_index": 1},
        ("thread_name", 1, 2): {"name": "compute 0"},
        ("thread_sort_index", 1, 2): {"sort_index": 2},
    }
    assert [event for event in trace["traceEvents"] if event["ph"] != "M"] == [
        {"ph": "X", "name": "execute", "pid": 0, "tid": 1, "ts": 2.0, "dur": 2.5, "args": {"batch": 1}},
        {"ph": "X", "name": "compute", "pid": 1, "tid": 2, "ts": 1.0, "dur": 2.0, "args": {}},
        {"ph": "X", "name": "gather", "pid": 0, "tid": 0, "ts": 0.0, "dur": 1.0, "args": {}},
    ]


def test_an_empty_one() -> None:
    assert Timeline().chrome_trace() == {"traceEvents": [], "displayTimeUnit": "ms"}


def test_it_keeps_the_first_spans() -> None:
    timeline = Timeline(3)
    timeline.add(Span(LANE, str(number), number, number + 1) for number in range(2))
    timeline.add(Span(LANE, str(number), number, number + 1) for number in range(2, 5))
    assert [span.name for span in timeline.spans] == ["0", "1", "2"]
    assert timeline.left_out == 2
    timeline.add([Span(LANE, "5", 5, 6)])
    assert timeline.left_out == 3 and "3 spans, 3 left out" in repr(timeline)


def test_a_part_has_what_is_wholly_in_it() -> None:
    timeline = Timeline()
    timeline.add(Span(LANE, f"{start}", start, start + 2) for start in range(6))
    assert [span.name for span in timeline.between(1, 5).spans] == ["1", "2", "3"]


def test_tracks_come_as_they_are_met_and_by_their_number() -> None:
    met = ["b 10", "a", "b 2", "a 1", "c", "b"]
    spans = [Span(Track("one", name), "", 0, 1) for name in met] + [Span(Track("none", "z"), "", 0, 1)]
    shown = [track.name for track in tracks(spans)]
    assert shown == ["b 2", "b 10", "a", "a 1", "c", "b", "z"]


INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
)


@given(INTERVALS)
def test_rows_hold_what_does_not_overlap_and_are_as_few_as_can_be(intervals: list[tuple[int, int]]) -> None:
    rows = in_rows(intervals)
    for row in set(rows):
        here = sorted(each for each, its in zip(intervals, rows, strict=True) if its == row)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(here))
    deepest = max((sum(start <= at < end for start, end in intervals) for at in range(71)), default=0)
    assert set(rows) == set(range(deepest))
