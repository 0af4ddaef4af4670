"""How long batches take, and where they run therefore."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.inference.pace import SHORT, Pace


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert pace.expected(1) is None and not pace.short(1)
    assert repr(pace) == "<Pace unknown>"


def test_sizes_are_taken_together_by_powers_of_two() -> None:
    pace = Pace()
    pace.observe(4, 1000, here=True)
    assert [pace.expected(size) for size in (4, 5, 7)] == [1000] * 3
    assert [pace.expected(size) for size in (1, 3)] == [None] * 2
    assert pace.expected(1000) == 1000  # the largest smaller one
    pace.observe(8, 3000, here=True)
    assert [pace.expected(size) for size in (7, 8, 15, 16)] == [1000, 3000, 3000, 3000]
    assert repr(pace) == "<Pace <8: 1 us, <16: 3 us>"


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=20), st.integers(1, 10**6), st.booleans())
def test_the_mean_moves_to_what_is_observed(before: list[int], now: int, here: bool) -> None:
    pace = Pace()
    for ns in before:
        pace.observe(1, ns, here=here)
    mean = pace.expected(1)
    assert mean is not None and 0 < mean <= max(*before, 1)
    for _ in range(1000):
        pace.observe(1, now, here=here)
    mean = pace.expected(1)
    assert mean is not None and abs(mean - now) <= 0.01 * now + 1


def test_an_outlier_counts_little() -> None:
    pace = Pace()
    pace.observe(1, 1000, here=True)
    pace.observe(1, 10**6, here=True)
    assert pace.expected(1) == 1000 + 3000 / 8


def test_a_batch_that_took_no_time_is_not_the_end() -> None:
    pace = Pace()
    pace.observe(1, 0, here=True)
    for _ in range(200):
        pace.observe(1, 10**6, here=True)
    assert not pace.short(1)


def test_short_and_long() -> None:
    pace = Pace()
    pace.observe(1, SHORT, here=True)
    assert all(pace.short(1) for _ in range(200))
    pace.observe(2, SHORT + 1, here=True)
    answers = [pace.short(2) for _ in range(256)]
    assert answers.count(True) == 4  # what was measured elsewhere is tried again now and then
    pace.observe(4, 11 * SHORT, here=True)
    assert not any(pace.short(4) for _ in range(256))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 255, 256])
def test_any_size(size: int) -> None:
    pace = Pace()
    pace.observe(size, 10, here=True)
    assert pace.short(size) and pace.short(size * 2)


def test_what_is_far_too_long_is_believed_at_once_and_forgotten_again() -> None:
    pace = Pace()
    for _ in range(100):
        pace.observe(1, 10_000, here=True)
    pace.observe(1, 9_000_000, here=True)
    assert not pace.short(1)
    for _ in range(40):
        pace.observe(1, 10_000, here=True)
    assert pace.short(1)


def test_waits_for_the_interpreter_elsewhere_do_not_make_a_batch_long() -> None:
    pace = Pace()
    for number in range(1000):  # half as long as is short, but for waits of up to four times that
        pace.observe(1, SHORT // 2 + number % 5 * SHORT // 2, here=False)
    assert pace.short(1)
    for _ in range(1000):
        pace.observe(1, 2 * SHORT, here=False)
    assert not pace.short(1)


def test_what_takes_far_too_long_elsewhere_is_an_outlier() -> None:
    pace = Pace()
    pace.observe(1, 10_000, here=True)
    pace.observe(1, 9_000_000, here=False)
    assert pace.short(1)


def test_beside_many_requests_more_is_short() -> None:
    pace = Pace()
    pace.observe(64, 4 * SHORT, here=True)
    assert [pace.short(64, requests) for requests in (1, 59, 60, 64)] == [False, False, True, True]
    assert not pace.short(64)
