"""When requests are due."""

from __future__ import annotations

import math
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS
from yais.errors import InvalidArgument
from yais.load.schedule import HIGHEST_RATE, Constant, Cyclic, Linear, Poisson

RATES = st.floats(0.5, 1e6)
SWINGS = st.floats(-1e4, 1e4)


def within(schedule, seconds):
    """Return how many requests are due before a moment."""
    return sum(1 for _ in takewhile(lambda due: due < seconds * NANOSECONDS, schedule))


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(Constant, RATES),
        st.builds(Linear, RATES, SWINGS),
        st.builds(Cyclic, RATES, SWINGS, st.floats(0, 100)),
        st.builds(Poisson, RATES, st.integers()),
    )
)
def test_moments_ascend_and_are_the_same_each_time(schedule):
    moments = list(islice(schedule, 100))
    assert moments == list(islice(schedule, 100))
    assert moments[0] >= 0
    assert all(isinstance(moment, int) for moment in moments)
    assert all(before <= after for before, after in pairwise(moments))


@settings(deadline=None)
@given(st.floats(1, 1e5), st.integers(0, 10**7))
def test_a_constant_rate_does_not_drift(rate, number):
    schedule = Constant(rate)
    first = next(islice(schedule, min(number, 1000), None))
    assert first == pytest.approx(min(number, 1000) / rate * NANOSECONDS, abs=1)
    assert schedule.rate(number) == rate


def test_a_linear_rate_grows_each_minute():
    schedule = Linear(100, 60)
    assert schedule.rate(0) == 100 and schedule.rate(10) == 110
    assert within(schedule, 10) == pytest.approx(1050, abs=2)  # the integral of 100 + t


def test_a_falling_rate_has_a_floor():
    schedule = Linear(100, -6000)
    assert schedule.rate(2) == 2.0
    # After 0.98 s the rate is 2/s for good: half of 98 + 2 of it until there, one each half second then.
    assert within(schedule, 10.98) == pytest.approx(0.98 * 51 + 20, abs=3)


def test_a_cyclic_rate_swings():
    schedule = Cyclic(1000, 500, 60)
    assert schedule.rate(0.25) == pytest.approx(1500) and schedule.rate(0.75) == pytest.approx(500)
    assert within(schedule, 5) == pytest.approx(5000, abs=5)
    assert within(schedule, 5.5) - within(schedule, 5) == pytest.approx(500 + 500 / math.pi, abs=5)


def test_poisson_arrivals_have_gaps_of_exponential_distribution():
    gaps = [after - before for before, after in pairwise(islice(Poisson(1000, seed=7), 20_001))]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1e6, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.03)
    assert sum(gap > 1e6 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02)


def test_poisson_gaps_and_the_exponential_distribution():
    """By the test of Kolmogorov and Smirnov: 1.36/√n at the 5 % level."""
    number = 20_000
    moments = [0, *islice(Poisson(250, seed=3), number)]
    gaps = sorted(after - before for before, after in pairwise(moments))
    expected = [-math.expm1(-gap * 250 / NANOSECONDS) for gap in gaps]
    furthest = max(
        max((rank + 1) / number - each, each - rank / number) for rank, each in enumerate(expected)
    )
    assert furthest < 1.36 / math.sqrt(number)


@pytest.mark.parametrize(
    ("schedule", "integral"),
    [
        (Linear(2, 6000), lambda t: 2 * t + 50 * t * t),
        (Linear(50, -600), lambda t: 50 * t - 5 * t * t),
        (Cyclic(10, 8, 120), lambda t: 10 * t + 8 * (1 - math.cos(4 * math.pi * t)) / (4 * math.pi)),
        (Cyclic(3, 1, 600), lambda t: 3 * t + (1 - math.cos(20 * math.pi * t)) / (20 * math.pi)),
    ],
)
def test_a_request_is_due_each_time_the_integral_of_the_rate_has_grown_by_one(schedule, integral):
    """Also where the rate changes much from one to the next."""
    moments = takewhile(lambda due: due < 4 * NANOSECONDS, schedule)
    for number, moment in enumerate(moments):
        assert integral(moment / NANOSECONDS) == pytest.approx(number, abs=0.3)


def test_poisson_arrivals_by_seed():
    first, same, other = (list(islice(Poisson(10, seed), 5)) for seed in (1, 1, 2))
    assert first == same != other
    assert list(islice(Poisson(10), 5)) != list(islice(Poisson(10), 5))


@pytest.mark.parametrize("schedule", [Linear(10, 1e12), Cyclic(10, 1e12, 10)])
def test_a_rate_that_changes_has_bounds(schedule):
    assert {schedule.rate(seconds) for seconds in (1, 4)} <= {2, HIGHEST_RATE}
    assert schedule.rate(1) == HIGHEST_RATE


RATED = (Constant, Poisson, lambda rate: Linear(rate, 1), lambda rate: Cyclic(rate, 1, 1))


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("kind", RATED)
def test_a_rate_that_is_none(kind, rate):
    with pytest.raises(InvalidArgument, match=f"rate: got {rate}, expected a positive number"):
        kind(rate)


def test_swings_that_are_none():
    with pytest.raises(InvalidArgument, match="alpha: got nan"):
        Linear(1, math.nan)
    with pytest.raises(InvalidArgument, match="beta: got inf"):
        Cyclic(1, 1, math.inf)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Constant(5000), "<Constant 5000/s>"),
        (Linear(10, -3), "<Linear 10/s -3/s each minute>"),
        (Cyclic(10, 5, 2), "<Cyclic 10/s, by 5/s, 2 times a minute>"),
        (Poisson(10, 3), "<Poisson 10/s, seed 3>"),
    ],
)
def test_how_a_schedule_shows_itself(schedule, text):
    assert repr(schedule) == text
