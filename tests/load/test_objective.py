"""Objectives for latencies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.errors import Code, InvalidArgument
from yais.load.objective import Objective
from yais.load.recording import Recording

MILLISECOND = 1_000_000


def recorded(*milliseconds, failed=0, unsent=0, outstanding=0):
    recording = Recording(completed=len(milliseconds), unsent=unsent)
    recording.sent = len(milliseconds) + failed + outstanding
    for value in milliseconds:
        recording.latency.record_value(int(value * MILLISECOND))
    if failed:
        recording.failed[Code.UNAVAILABLE] = failed
    return recording


@pytest.mark.parametrize(
    ("text", "what", "relation", "limit"),
    [
        ("p99<10ms", "p99", "<", 10),
        (" p99.9 <= 0.5 s ", "p99.9", "<=", 500),
        ("avg<250us", "avg", "<", 0.25),
        ("max<=.5ms", "max", "<=", 0.5),
        ("p100<1s", "p100", "<", 1000),
    ],
)
def test_what_an_objective_states(text, what, relation, limit):
    objective = Objective.parse(text)
    assert (objective.what, objective.relation, objective.limit) == (what, relation, limit)
    assert str(objective) == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p99",
        "p99<10",
        "p99<ms",
        "p99>10ms",
        "p0<1ms",
        "p101<1ms",
        "99<1ms",
        "min<1ms",
        "p99<-1ms",
        "p99<1h",
    ],
)
def test_what_states_no_objective(text):
    with pytest.raises(InvalidArgument, match="expected pN, avg or max, < or <=, and a time in us, ms or s"):
        Objective.parse(text)


def test_what_is_compared():
    recording = recorded(*range(1, 101))
    for text, value in (("p50<1s", 50), ("p99<1s", 99), ("max<1s", 100), ("avg<1s", 50.5)):
        assert Objective.parse(text).value(recording) == pytest.approx(value, rel=2e-3)


def test_the_limit_itself():
    recording = recorded(*[1] * 10)
    value = Objective.parse("p50<1s").value(recording)
    assert Objective(what="p50", relation="<=", limit=value, text="").kept(recording)
    assert not Objective(what="p50", relation="<", limit=value, text="").kept(recording)


@pytest.mark.parametrize("lost", ["failed", "unsent", "outstanding"])
def test_lost_requests_are_slower_than_anything(lost):
    """Ninety of 1 ms and ten lost ones: below the 90th percentile all is well."""
    recording = recorded(*[1] * 90, **{lost: 10})
    assert Objective.parse("p90<2ms").kept(recording)
    for text in ("p91<1000s", "p99<1000s", "p100<1000s", "max<1000s", "avg<1000s"):
        objective = Objective.parse(text)
        assert objective.value(recording) is None and not objective.kept(recording)


def test_nothing_completed_keeps_nothing():
    assert not Objective.parse("p50<1s").kept(recorded())
    assert not Objective.parse("p50<1s").kept(recorded(failed=3))


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=50),
    st.integers(0, 20),
    st.integers(1, 100),
)
def test_a_percentile_counts_all(values, failed, percent):
    """As the value at the rank among all, the lost ones being endless."""
    ranked = sorted(values) + [float("inf")] * failed
    rank = max(1, int(percent * len(ranked) / 100 + 0.5))
    expected = ranked[rank - 1]
    found = Objective.parse(f"p{percent}<1s").value(recorded(*values, failed=failed))
    if expected == float("inf"):
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=2e-3)
