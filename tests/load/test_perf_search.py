"""The levels of load that `yais perf` measures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.load.perf.search import LevelRange, binary, linear


def visited(search, met):
    """Return the levels in their order, of which those for which `met` holds were met."""
    levels = [next(search)]
    try:
        while True:
            levels.append(search.send(met(levels[-1])))
    except StopIteration:
        return levels


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((1, 4, 1), [1, 2, 3, 4]),
        ((1, 8, 3), [1, 4, 7]),
        ((4, 1, 1), [4]),
        ((4, 2, 1), [4]),
        ((0.5, 1.5, 0.5), [0.5, 1.0, 1.5]),
    ],
)
def test_linear(levels, expected):
    assert visited(linear(LevelRange(*levels)), lambda _: True) == expected


@pytest.mark.parametrize("end", [0, 100])
def test_linear_ends_at_what_is_not_met(end):
    assert visited(linear(LevelRange(2, end, 3)), lambda level: level < 8) == [2, 5, 8]


def test_binary():
    assert visited(binary(LevelRange(1, 64, 8)), lambda level: level <= 20) == [1, 64, 32, 16, 24]
    assert visited(binary(LevelRange(1.0, 2.0, 0.25)), lambda level: level < 1.3) == [1.0, 2.0, 1.5, 1.25]


@pytest.mark.parametrize(("limit", "expected"), [(0, [8]), (64, [8, 64])])
def test_binary_has_nothing_to_search(limit, expected):
    assert visited(binary(LevelRange(8, 64, 8)), lambda level: level <= limit) == expected


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 50), st.integers(0, 2100))
def test_binary_comes_as_close_as_its_step(start, width, step, limit):
    levels = visited(binary(LevelRange(start, start + width, step)), lambda level: level <= limit)
    assert all(isinstance(level, int) and start <= level <= start + width for level in levels)
    assert len(levels) == len(set(levels)) <= 2 + width.bit_length()
    kept = [level for level in levels if level <= limit]
    missed = [level for level in levels if level > limit]
    if kept and missed:
        assert min(missed) - max(kept) <= max(step, 1)
