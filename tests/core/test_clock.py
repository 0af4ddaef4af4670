"""Deadlines, by a clock that stands still."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS, NEVER, Deadline, monotonic

seconds = st.floats(min_value=0, max_value=1e6)
moments = st.integers(min_value=0, max_value=10**18)


def test_no_deadline() -> None:
    for none in (NEVER, Deadline(), Deadline.after(None), Deadline.after(math.inf)):
        assert none == NEVER
        assert none.remaining() is None
        assert not none.expired()


@given(moments, seconds)
def test_after_is_that_far_away(now: int, wait: float) -> None:
    deadline = Deadline.after(wait, clock=lambda: now)
    remaining = deadline.remaining(clock=lambda: now)
    assert remaining is not None
    assert abs(remaining - wait) <= 1e-9 + wait * 1e-12
    assert deadline.expired(clock=lambda: now) == (remaining == 0)


@given(moments, st.integers(min_value=-(10**12), max_value=10**12))
def test_expired_from_its_moment_on(at: int, offset: int) -> None:
    deadline = Deadline(at)
    assert deadline.expired(clock=lambda: at + offset) == (offset >= 0)
    assert deadline.remaining(clock=lambda: at + offset) == max(0, -offset) / NANOSECONDS


def test_a_negative_time_is_over_already() -> None:
    deadline = Deadline.after(-1.0)
    assert deadline.expired()
    assert deadline.remaining() == 0


def test_the_machine_clock_never_goes_back() -> None:
    readings = [monotonic() for _ in range(100)]
    assert readings == sorted(readings)
