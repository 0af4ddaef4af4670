"""When processes are started again: `RestartPlan`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS
from yais.serving.frontends.restart_plan import RestartPlan

PLACES = ("engine", 0, 1)


def test_all_are_due_at_first() -> None:
    plan = RestartPlan(PLACES)
    assert plan.due(5) == list(PLACES)
    assert plan.next_due is not None
    assert plan.next_due <= 5


def test_one_that_runs_is_not_due() -> None:
    plan = RestartPlan(PLACES)
    for place in PLACES:
        plan.started(place, 7)
    assert plan.due(1 << 60) == []
    assert plan.next_due is None
    assert [plan.restarts(place) for place in PLACES] == [0, 0, 0]


def test_one_that_ends_is_due_later_each_time() -> None:
    plan = RestartPlan(["engine"])
    now = 0
    delays = []
    for restarts in range(5):
        plan.started("engine", now)
        assert plan.restarts("engine") == restarts
        delay = plan.ended("engine", now)
        assert plan.due(now) == []
        now += round(delay * NANOSECONDS)
        assert plan.next_due == now
        assert plan.due(now) == ["engine"]
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_one_that_lived_for_long_is_due_soon() -> None:
    plan = RestartPlan(["engine"])
    for _ in range(5):
        plan.started("engine", 0)
        plan.ended("engine", 0)
    plan.started("engine", 0)
    assert plan.ended("engine", 61 * NANOSECONDS) == 0.1


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 100 * NANOSECONDS)), max_size=50))
def test_places_do_not_disturb_each_other(ends: list[tuple[object, int]]) -> None:
    """However processes end: each place is due by its own ends alone."""
    together = RestartPlan(PLACES)
    alone = {place: RestartPlan([place]) for place in PLACES}
    now = 0
    for place in PLACES:
        together.started(place, now)
        alone[place].started(place, now)
    for place, later in ends:
        now += later
        assert together.ended(place, now) == alone[place].ended(place, now)
        assert together.next_due == alone[place].next_due
        due = together.next_due
        assert due is not None
        assert together.due(due - 1) == []
        assert together.due(due) == [place]
        now = due
        together.started(place, now)
        alone[place].started(place, now)
        assert together.restarts(place) == alone[place].restarts(place)
    assert together.next_due is None
