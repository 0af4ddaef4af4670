"""The search for the highest rate, with servers whose capacity is known."""

from __future__ import annotations

import pytest
from fixed_recordings import recording
from hypothesis import given
from hypothesis import strategies as st

from yais.load.objective import Objective
from yais.load.rate_finding import find_rate
from yais.load.rate_search import RateSearch

SLO = Objective.parse("p99<10ms")


def server(capacity, rates):
    """Return what makes runs against a server that is fast up to a rate."""

    def run(rate):
        rates.append(rate)
        return recording([2 if rate <= capacity else 200])

    return run


@given(capacity=st.floats(1.5, 1e5), start=st.floats(1, 1e5), tolerance=st.sampled_from([0.001, 0.01, 0.1]))
def test_the_highest_rate_is_found(capacity, start, tolerance):
    rates = []
    found = find_rate(RateSearch(start, tolerance), SLO, server(capacity, rates))
    assert [one.rate for one in found.tries] == rates
    assert [one.kept for one in found.tries] == [rate <= capacity for rate in rates]
    assert found.rate == found.at == max(rate for rate in rates if rate <= capacity)
    assert found.rate >= capacity * (1 - tolerance) * 0.999
    assert found.recording.percentile(50) == pytest.approx(2, rel=0.01)


def test_no_rate():
    rates = []
    found = find_rate(RateSearch(8, 0.01), SLO, server(0, rates))
    assert (found.rate, found.at) == (None, rates[-1])
    assert found.recording.percentile(50) == pytest.approx(200, rel=0.01)
    assert {one.value for one in found.tries} == {found.recording.percentile(99)}


def test_interrupted_between_two_runs():
    rates = []
    run = server(300, rates)

    def interrupt(rate):
        if len(rates) == 3:
            raise KeyboardInterrupt
        return run(rate)

    found = find_rate(RateSearch(100, 0.01), SLO, interrupt)
    assert (found.rate, len(found.tries), found.recording.interrupted) == (200, 3, True)
    with pytest.raises(KeyboardInterrupt):
        find_rate(RateSearch(100, 0.01), SLO, interrupt)


@pytest.mark.parametrize("interrupted", [1, 2, 4])
def test_interrupted(interrupted):
    """What is shown is the best run that came to its end, if one did."""
    rates = []
    run = server(300, rates)

    def interrupt(rate):
        made = run(rate)
        made.interrupted = len(rates) == interrupted
        return made

    found = find_rate(RateSearch(100, 0.01), SLO, interrupt)
    assert rates == [100, 200, 400, 300][:interrupted]
    assert len(found.tries) == interrupted - 1
    assert found.recording.interrupted
    assert (found.rate, found.at) == {1: (None, 100), 2: (100, 100), 4: (200, 200)}[interrupted]
