"""Where values stand on the axes of a chart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from yais.load.scales import LinearScale, LogScale, NinesScale, latency_scale, short

amounts = st.floats(1e-6, 1e9)
latencies = st.floats(1e-3, 3.6e6)  # milliseconds: what a histogram of a run may hold


def check(scale, values):
    """Check what is true of every scale: it keeps the order, within its ends, and so do its marks."""
    places = [scale.place(value) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places)
    marks = [value for value, _ in scale.marks]
    assert marks == sorted(set(marks)) and 2 <= len(marks) <= 12
    assert all(scale.place(low) < scale.place(high) for low, high in pairwise(marks))
    labels = [label for _, label in scale.marks]
    assert len(set(labels)) == len(labels)


@given(amounts, st.lists(amounts, min_size=2))
def test_linear_from_0(top, values):
    scale = LinearScale.upto(top)
    check(scale, values)
    assert scale.marks[0] == (0.0, "0") and scale.place(0) == 0.0
    last, _ = scale.marks[-1]
    assert scale.place(last) == 1.0
    assert top <= last * (1 + 1e-6) and last <= 2 * top
    assert scale.place(top) == pytest.approx(top / last)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.lists(st.floats(-1e7, 1e7)))
def test_linear_between_ends(low, length, values):
    assume(low + length > low)
    scale = LinearScale(low, low + length)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places) and all(0 <= place <= 1 for place in places)
    assert (scale.place(low), scale.place(low + length)) == (0.0, 1.0)
    assert all(low - 1e-6 * length <= value <= low + length * (1 + 1e-6) for value, _ in scale.marks)
    assert 2 <= len(scale.marks) <= 7


@given(latencies, latencies, st.lists(amounts, min_size=2))
def test_log(one, other, values):
    low, high = sorted((one, other))
    scale = LogScale(low, high)
    check(scale, values)
    assert 0 <= scale.place(low) <= scale.place(high) <= 1
    # Neither end is further away than it must be: 2.5 is the greatest step.
    assert scale.place(low / 2.6) == 0 and (high == low or scale.place(high * 2.6) == 1)
    assert scale.place(0.0) == 0.0


def test_equal_factors_are_equal_ways():
    scale = LogScale(1.0, 1000.0)
    assert [scale.place(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [label for _, label in scale.marks] == [
        "1",
        "2",
        "5",
        "10",
        "20",
        "50",
        "100",
        "200",
        "500",
        "1000",
    ]
    assert [label for _, label in LogScale(0.3, 3e4).marks] == ["1", "10", "100", "1000", "10k"]


@given(st.integers(0, 10**9), st.lists(st.floats(0, 100), min_size=2))
def test_nines(samples, values):
    scale = NinesScale(samples)
    check(scale, values)
    assert scale.place(0) == 0 and scale.place(100) == 1
    # The slowest of all has its place: it is not cut off.
    assert samples < 1 or 100 * (1 - 1 / samples) <= scale.marks[-1][0] + 1e-9


def test_equal_room_for_each_nine():
    scale = NinesScale(10_000)
    assert scale.nines == 4 and NinesScale(1000).nines == 3 and NinesScale(5).nines == 2
    assert [scale.place(percent) for percent in (90, 99, 99.9, 99.99)] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert [label for _, label in scale.marks] == ["0", "50", "90", "99", "99.9", "99.99"]


def test_latencies_that_differ_widely_stand_on_a_logarithmic_scale():
    assert isinstance(latency_scale([1.0, 19.0]), LinearScale)
    assert isinstance(latency_scale([1.0, 21.0]), LogScale)
    assert isinstance(latency_scale([0.0, 21.0]), LinearScale)
    assert isinstance(latency_scale([]), LinearScale)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (40, "40"), (1500, "1500"), (20_000, "20k"), (12_500, "12.5k"), (2e6, "2M")],
)
def test_short(value, text):
    assert short(value) == text
