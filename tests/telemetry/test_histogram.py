"""Histograms: every observation in its bucket."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Theirs

from yais.telemetry.histogram import Histogram

BOUNDS = (0.5, 1.0, 2.0, 8.0)


def test_bounds_are_inclusive() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe([0.0, 0.5, 0.50001, 1.0, 2.0, 8.0, 8.00001, 100.0])
    assert list(histogram.counts) == [2, 2, 1, 1, 2]
    assert histogram.cumulative() == [("0.5", 2), ("1.0", 4), ("2.0", 5), ("8.0", 6), ("+Inf", 8)]


def test_nothing_observed() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe([])
    assert histogram.sum == 0.0 and [count for _, count in histogram.cumulative()] == [0] * 5


def test_one_value() -> None:
    histogram = Histogram((1, 2))
    histogram.observe([2])
    histogram.observe(np.array([3]))
    assert list(histogram.counts) == [0, 1, 1] and histogram.sum == 5.0
    assert histogram.cumulative()[0] == ("1.0", 0)


@given(st.lists(st.lists(st.floats(-10, 20) | st.sampled_from(BOUNDS), max_size=20), max_size=5))
def test_is_that_of_prometheus(observations: list[list[float]]) -> None:
    ours, theirs = Histogram(BOUNDS), Theirs("h", "help", buckets=BOUNDS, registry=CollectorRegistry())
    for values in observations:
        ours.observe(values)
        for value in values:
            theirs.observe(value)
    (family,) = theirs.collect()
    samples = {sample.labels["le"]: sample.value for sample in family.samples if sample.name == "h_bucket"}
    assert dict(ours.cumulative()) == samples
    assert ours.sum == pytest.approx(sum(map(sum, observations)), abs=1e-9)


def test_copies_are_apart() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe([1.0])
    other = copy.deepcopy(histogram)
    histogram.observe([1.0])
    assert sum(other.counts) == 1 and sum(histogram.counts) == 2 and other.sum == 1.0
