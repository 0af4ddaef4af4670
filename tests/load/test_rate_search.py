"""The search for the highest rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.errors import InvalidArgument
from yais.load.rate_search import RateSearch


def searched(search, limit):
    """Search on a server that holds up to `limit`; return what was tried."""
    tried = []
    while search.rate is not None:
        tried.append(search.rate)
        search.tell(search.rate <= limit)
        assert len(tried) < 200
    return tried


def test_doubling_then_bisection():
    assert searched(RateSearch(100, 0.1), 730) == [100, 200, 400, 800, 600, 700, 750]


def test_halving_first_where_the_start_is_too_much():
    search = RateSearch(1000, 0.1)
    assert searched(search, 300) == [1000, 500, 250, 375, 312.5, 281.25]
    assert search.best == 281.25


def test_a_server_that_holds_nothing():
    search = RateSearch(8, 0.1, lowest=1)
    assert searched(search, 0) == [8, 4, 2, 1]
    assert search.best is None


@pytest.mark.parametrize(("start", "tried"), [(300, [300, 600, 1000]), (250, [250, 500, 1000])])
def test_a_server_that_holds_all(start, tried):
    search = RateSearch(start, 0.1, highest=1000)
    assert searched(search, math.inf) == tried
    assert search.best == 1000


@settings(deadline=None)
@given(st.floats(1, 1e5), st.floats(1e-3, 0.5), st.floats(1, 1e7))
def test_it_finds_the_limit_within_the_tolerance(start, tolerance, limit):
    search = RateSearch(start, tolerance)
    tried = searched(search, limit)
    assert search.best is not None and search.best <= limit
    assert limit - search.best <= tolerance * limit / (1 - tolerance)
    steps = abs(math.log2(limit / start)) + 2 + math.log2(1 / tolerance) + 1
    assert len(tried) <= steps + 1
    assert search.best in tried and len(set(tried)) == len(tried)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_any_answers_end_it_between_what_was_kept_and_what_was_not(answers):
    """A noisy server: the best was kept, and what comes next lies above it and below what was not kept."""
    search, kept, missed = RateSearch(1000, 0.01), [], []
    for answer in answers:
        if search.rate is None:
            break
        rate = search.rate
        assert all(rate > other for other in kept) and all(rate < other for other in missed)
        search.tell(answer)
        (kept if answer else missed).append(rate)
    assert search.best == max(kept, default=None)


@pytest.mark.parametrize(("start", "tolerance"), [(0, 0.1), (math.inf, 0.1), (1, 0), (1, 1), (1, math.nan)])
def test_what_cannot_be_searched(start, tolerance):
    with pytest.raises(InvalidArgument, match="got"):
        RateSearch(start, tolerance)
