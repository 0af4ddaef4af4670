"""Windows of a measurement: their figures, and when they agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_windows import ENSEMBLE, TIMES, window

from yais.load.histogram import LONGEST, latency_histogram, moments
from yais.load.perf.search import LevelRange
from yais.load.perf.server_statistics import ServerStatistics
from yais.load.perf.server_times import ServerTimes, Total
from yais.load.perf.settings import PerfSettings
from yais.load.perf.window import latency_of, merge, stable
from yais.protocol.model_config_pb2 import ModelConfig

SETTINGS = PerfSettings(LevelRange(1, 1, 1))
AT_ONCE = replace(SETTINGS, asynchronous=True)

LATENCIES = st.lists(st.integers(10, 10**6), min_size=2, max_size=50)


@settings(deadline=None)
@given(LATENCIES)
def test_figures_are_those_of_the_latencies(latencies):
    measured = window(latencies)
    # Three digits of HdrHistogram, and what it does not tell apart below half a microsecond.
    assert measured.mean == pytest.approx(np.mean(latencies) * 1000, rel=2e-3, abs=600)
    assert measured.deviation == pytest.approx(
        np.std(latencies, ddof=1) * 1000, abs=1500 + 2 * max(latencies)
    )
    middle = sorted(latencies)[(len(latencies) - 1) // 2]
    assert measured.percentile(50) == pytest.approx(middle * 1000, rel=2e-3, abs=600)


@settings(deadline=None)
@given(st.lists(st.integers(0, LONGEST), max_size=50))
def test_moments_are_those_of_the_histogram_s_own_buckets(nanoseconds):
    histogram = latency_histogram()
    for each in nanoseconds:
        histogram.record_value(each)
    mean, deviation = moments(histogram)
    middles = [
        (histogram.get_lowest_equivalent_value(each) + histogram.get_highest_equivalent_value(each) + 1) / 2
        for each in nanoseconds
    ]
    assert mean == pytest.approx(np.mean(middles) if middles else 0)
    assert deviation == pytest.approx(np.std(middles, ddof=1) if len(middles) > 1 else 0, abs=1e-3)


@settings(deadline=None)
@given(st.lists(LATENCIES, min_size=1, max_size=4))
def test_merged_windows_are_one(parts):
    measured = merge([window(part, seconds=0.25, cpu=0.1, late=1, sent=60) for part in parts])
    whole = window([each for part in parts for each in part])
    assert measured.requests == measured.responses == whole.requests
    assert (measured.mean, measured.deviation) == (whole.mean, whole.deviation)
    assert measured.percentile(90) == whole.percentile(90)
    assert measured.seconds == 0.25 * len(parts)
    assert measured.throughput == pytest.approx(whole.requests / measured.seconds)
    assert measured.cpu_share == pytest.approx(0.4)
    assert (measured.recording.late, measured.recording.sent) == (len(parts), 60 * len(parts))
    assert measured.send_mean == 5000
    assert measured.server.queue == Total(10 * len(parts), 300_000 * len(parts))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(10, 10**6), min_size=1, max_size=80), min_size=1, max_size=4))
def test_percentiles_of_merged_windows_are_those_of_the_numbers(parts):
    """To three digits; a rank between two of them may be either."""
    numbers = np.sort([each * 1000 for part in parts for each in part])
    measured = merge([window(part) for part in parts])
    for percent in (1, 10, 50, 75, 90, 95, 99):
        below, rest = divmod(percent * len(numbers), 100)
        low, high = numbers[max(below, 1) - 1], numbers[below - (rest == 0)]
        assert high == np.percentile(numbers, percent, method="inverted_cdf")
        assert low * 0.999 - 600 <= measured.percentile(percent) <= high * 1.001 + 600


def test_a_window_without_requests():
    nothing = window([], server=None)
    assert (nothing.mean, nothing.deviation, nothing.percentile(99), nothing.send_mean) == (0, 0, 0, 0)
    both = merge([nothing, window()])
    assert (both.requests, both.mean, both.server) == (4, window().mean, TIMES)
    assert merge([nothing]).server is None


def test_one_request_deviates_from_nothing():
    assert window([100]).deviation == 0


def test_the_latency_that_counts():
    measured = window()
    assert latency_of(measured, SETTINGS) == measured.mean
    assert latency_of(measured, replace(SETTINGS, percentile=75)) == measured.percentile(75) != measured.mean


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=3, max_size=6),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(0, 2),
)
def test_windows_agree_in_throughput(counts, apart, empty):
    """The last three of them, whatever was before."""
    windows = [window([100] * count) for count in counts]
    wanted = replace(AT_ONCE, stability=apart)
    expected = max(counts[-3:]) <= (1 + apart) * min(counts[-3:]) + 1e-9
    assert stable(windows, wanted) == expected
    windows[len(counts) - 3 + empty] = window([])
    assert not stable(windows, replace(wanted, stability=1e9))


def test_fewer_than_three_windows_do_not_agree():
    assert not stable([], SETTINGS)
    assert not stable([window(), window()], SETTINGS)
    assert stable([window()] * 3, SETTINGS)


def test_latency_must_agree_too_for_synchronous_calls():
    windows = [window([100] * 4), window([100] * 4), window([112] * 4)]
    assert not stable(windows, SETTINGS)
    assert stable(windows, replace(SETTINGS, stability=0.13))
    assert stable(windows, AT_ONCE)


def test_a_percentile_may_disagree_where_the_mean_does_not():
    windows = [window([100] * 9 + [each]) for each in (100, 100, 130)]
    assert stable(windows, SETTINGS)
    assert not stable(windows, replace(SETTINGS, percentile=99))


def test_times_of_a_server_since_a_moment():
    later = TIMES + TIMES + TIMES
    assert later.since(TIMES) == TIMES + TIMES
    assert later.since(later) == ServerTimes()
    assert later.compute == Total(30, 3 * (59_990 + 250_000 + 110_000))
    assert Total().mean == 0


@pytest.mark.parametrize(
    ("versions", "counted"), [(["9", "10"], "10"), (["v9", "v2"], "v9"), (["9", "v10"], "9")]
)
def test_times_of_the_highest_version(versions, counted):
    statistics = ServerStatistics(None, "model", "", ModelConfig())
    end = {("model", version): replace(TIMES, inferences=number) for number, version in enumerate(versions)}
    assert statistics.between({}, end).inferences == versions.index(counted)


def test_times_of_models_that_were_used_in_some_windows():
    other = replace(ENSEMBLE, composing={("third", "1"): TIMES, ("first", "1"): TIMES})
    both = ENSEMBLE + other
    assert list(both.composing) == [("first", "1"), ("second", "3"), ("third", "1")]
    assert both.composing["first", "1"] == TIMES + TIMES
    assert both.composing["second", "3"].composing == {("first", "1"): TIMES}
