"""How long batches take: the fit, the percentile, the correction, and what is measured."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.inference.batch_times import BatchTimes, measure

MS = 1_000_000


def line(alpha: int, beta: int, *sizes: int) -> list[tuple[int, int]]:
    return [(size, alpha + beta * size) for size in sizes]


@given(st.integers(0, 10**7), st.integers(1, 10**6), st.integers(2, 64))
def test_a_line_is_found_again(alpha: int, beta: int, most: int) -> None:
    times = BatchTimes(line(alpha, beta, *range(1, most + 1)))
    for size in range(1, 2 * most):
        assert times.at(size) == pytest.approx(alpha + beta * size, rel=1e-6, abs=1)


@given(
    st.lists(st.tuples(st.integers(1, 32), st.integers(0, 10**8)), min_size=1, max_size=40),
    st.sampled_from([1, 50, 90, 99, 100]),
    st.integers(-5, 10**9),
)
def test_largest_is_the_inverse_of_at(samples: list[tuple[int, int]], percentile: float, limit: int) -> None:
    times = BatchTimes(samples, percentile)
    assert times.alpha >= 0 and times.beta >= 0
    assert all(times.at(size) <= times.at(size + 1) for size in range(1, 50))
    largest = times.largest(limit)
    if largest is None:
        assert times.at(1) == times.at(100_000) <= limit
    else:
        assert largest == 0 or times.at(largest) <= limit
        assert times.at(largest + 1) > limit


def test_one_slow_run_changes_nothing() -> None:
    samples = line(2 * MS, MS, *[1, 2, 4, 8, 16] * 5)
    samples[7] = (4, 500 * MS)
    times = BatchTimes(samples)
    assert times.alpha == pytest.approx(2 * MS) and times.beta == pytest.approx(MS)
    assert times.factor == pytest.approx(1)


def test_small_batches_count_as_much_as_large_ones() -> None:
    # What does not lie on a line is fitted by shares, not by milliseconds.
    times = BatchTimes([(1, 1 * MS), (2, 2 * MS), (64, 96 * MS)], percentile=50)
    assert 0.9 * MS < times.at(1) < 1.2 * MS


@pytest.mark.parametrize(
    ("samples", "alpha", "beta"),
    [
        ([(4, 100)], 100, 0),
        ([(1, 100), (2, 80)], 88, 0),
        ([(1, 100), (2, 300)], 0, 109),
    ],
)
def test_neither_part_is_negative(samples: list[tuple[int, int]], alpha: float, beta: float) -> None:
    times = BatchTimes(samples)
    assert times.alpha == pytest.approx(alpha, abs=1) and times.beta == pytest.approx(beta, abs=1)


@pytest.mark.parametrize("percentile", [50, 90, 95])
def test_the_percentile_is_kept(percentile: float) -> None:
    source = random.Random(1)

    def noisy(size: int) -> int:
        return int((2 * MS + MS * size) * source.lognormvariate(0, 0.2))

    times = BatchTimes([(size, noisy(size)) for size in range(1, 17) for _ in range(4)], percentile)
    sizes = [source.randint(1, 16) for _ in range(4000)]
    kept = 0
    for size in sizes:
        ns = noisy(size)
        kept += ns <= times.at(size)
        times.observe(size, ns)
    assert percentile - 4 <= 100 * kept / len(sizes) <= percentile + 4


def test_what_is_observed_corrects_the_line() -> None:
    times = BatchTimes(line(100, 10, 1, 2, 4))
    for _ in range(8):
        times.observe(4, 280)  # twice as long
    assert times.at(1) == pytest.approx(220, abs=1), "eight of twenty are more than one in ten"
    for _ in range(64):
        times.observe(1, 55)
    assert times.at(4) == pytest.approx(70, abs=1), "as if it had never been otherwise"
    for _ in range(6):
        times.observe(1, 10**9)
    for _ in range(10):
        times.observe(1, 55)
    assert times.at(4) == pytest.approx(70, abs=1), "six of 64 are not one in ten"


def test_the_highest_percentiles_are_the_slowest_batch() -> None:
    times = BatchTimes([(1, 100)] * 63 + [(1, 300)], percentile=99)
    assert times.at(1) == 300 and times.alpha == 100
    assert repr(times) == "<BatchTimes 0.0001 ms + 0 ms an item, times 3.00 at p99>"


@pytest.mark.parametrize(
    ("samples", "percentile", "text"),
    [
        ([], 90, "got no samples, expected at least one"),
        ([(1, 5), (0, 5)], 90, "got a batch of 0, expected at least 1"),
        ([(1, 5)], 0, "got the percentile 0, expected 1 to 100"),
        ([(1, 5)], 100.5, "got the percentile 100.5, expected 1 to 100"),
    ],
)
def test_samples_are_checked(samples: list[tuple[int, int]], percentile: float, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        BatchTimes(samples, percentile)


class Machine:
    """Takes exactly as long as it should, except for the first run of each size."""

    def __init__(self, alpha: int, beta: int) -> None:
        self.alpha = alpha
        self.beta = beta
        self.runs: dict[int, int] = {}
        self.spent = 0

    def run(self, size: int) -> int:
        first = size not in self.runs
        self.runs[size] = self.runs.get(size, 0) + 1
        ns = (self.alpha + self.beta * size) * (10 if first else 1)
        self.spent += ns
        return ns


def test_all_sizes_are_measured_if_there_is_time() -> None:
    machine = Machine(MS // 10, MS // 100)
    times = measure(machine.run, 16)
    assert sorted(machine.runs) == list(range(1, 17))
    assert all(runs >= 11 for runs in machine.runs.values())
    assert times.at(1) == pytest.approx(0.11 * MS, rel=1e-3), "the first runs do not count"
    assert times.percentile == 90


def test_with_less_time_powers_of_two_are_measured() -> None:
    machine = Machine(5 * MS, MS // 2)
    times = measure(machine.run, 48, percentile=50)
    assert sorted(machine.runs) == [1, 2, 4, 8, 16, 32, 48]
    assert all(runs >= 4 for runs in machine.runs.values())
    assert machine.spent < 1300 * MS
    assert times.at(20) == pytest.approx(15 * MS, rel=1e-3) and times.percentile == 50


def test_with_hardly_any_time_the_ends_are_measured() -> None:
    machine = Machine(500 * MS, 10 * MS)
    times = measure(machine.run, 48)
    assert set(machine.runs) == {1, 48} and all(runs == 5 for runs in machine.runs.values())
    assert times.at(20) == pytest.approx(700 * MS, rel=1e-3)


def test_a_model_that_does_not_batch_is_measured() -> None:
    machine = Machine(MS, 0)
    times = measure(machine.run, 1)
    assert set(machine.runs) == {1} and times.at(1) == pytest.approx(MS)
    assert machine.runs[1] == 13


def test_what_a_run_raises_is_let_through() -> None:
    def run(size: int) -> int:
        raise RuntimeError("no such size")

    with pytest.raises(RuntimeError, match="no such size"):
        measure(run, 4)
