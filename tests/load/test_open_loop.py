"""When an open loop sends, with time that passes as the test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS
from yais.errors import Code, InvalidArgument
from yais.load.open_loop import OpenLoop
from yais.load.recorder import Recorder
from yais.load.schedule import Constant, Poisson, Schedule
from yais.testing import ManualClock

MS = 1_000_000


class Run:
    """A loop, a clock, and a server that answers in order, each request at the moment it is told."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        duration: float | None = None,
        count: int | None = None,
        max_outstanding: int = 950,
    ) -> None:
        self.clock = ManualClock()
        self.recorder = Recorder()
        self.loop = OpenLoop(
            schedule, self.recorder, duration=duration, count=count, max_outstanding=max_outstanding
        )
        self.in_flight: deque[tuple[int, int]] = deque()

    def send(self) -> int:
        """Send what is to be sent now; return how many that were."""
        number = 0
        while (due := self.loop.take(self.clock())) is not None:
            self.in_flight.append((due, self.clock()))
            number += 1
        return number

    def answer(self, number: int = 1) -> None:
        """Answer the oldest requests."""
        for _ in range(number):
            due, sent = self.in_flight.popleft()
            self.recorder.answered(self.clock(), due, sent, Code.OK, "")

    def recording(self):
        return self.recorder.recording(self.clock(), self.loop.ended)

    def simulate(self, answered_at: Callable[[int], int], step: int = MS // 10) -> None:
        """Let time pass until all is answered; `answered_at` tells when what is sent at a moment will be."""
        for _ in range(1_000_000):
            while self.in_flight and answered_at(self.in_flight[0][1]) <= self.clock():
                self.answer()
            self.send()
            if self.loop.ended is not None and not self.in_flight:
                return
            self.clock.advance_ns(step)
        raise AssertionError("it does not end")


def test_a_request_is_sent_when_it_is_due():
    run = Run(Constant(1000), count=3)
    assert run.send() == 1 and run.send() == 0
    assert run.loop.next == MS
    run.clock.advance_ns(MS - 1)
    assert run.send() == 0
    run.clock.advance_ns(1)
    assert run.send() == 1
    run.clock.advance_ns(MS)
    assert run.send() == 1
    assert run.loop.ended == 3 * MS
    run.clock.advance_ns(10 * MS)
    assert run.send() == 0
    run.answer(3)
    found = run.recording()
    assert (found.scheduled, found.sent, found.completed, found.unsent) == (3, 3, 3, 0)
    assert found.rate_asked == found.rate_sent == 1000
    assert found.latency.get_max_value() == pytest.approx(12 * MS, rel=1e-3)


def test_a_sender_that_is_late_sends_all_that_was_due():
    run = Run(Constant(1000), count=100)
    run.clock.advance_ns(50 * MS)
    assert run.send() == 51
    assert run.recording().late == 49  # those of the last millisecond are not
    assert run.recording().held_back == 0 == run.loop.back_offs


def test_a_number_that_is_sent_late_ends_when_it_was_sent():
    run = Run(Constant(1000), count=10)
    run.clock.advance_ns(50 * MS)
    assert run.send() == 10 and run.loop.ended == 50 * MS
    assert run.recording().rate_sent == 200


def test_the_rate_that_was_asked_is_that_of_the_schedule():
    """However long it takes to send all."""
    run = Run(Constant(1000), count=100, max_outstanding=10)
    run.simulate(lambda sent: sent + 100 * MS)
    found = run.recording()
    assert found.rate_asked == 1000 and found.seconds >= 0.9
    assert found.rate_sent == 100 / found.seconds


def test_a_number_of_requests_and_a_time():
    run = Run(Constant(4), count=2, duration=0.4)
    run.send()
    run.clock.advance_ns(250 * MS)
    assert run.send() == 1 and run.loop.ended == 400 * MS
    run.answer(2)
    assert run.recording().rate_asked == run.recording().rate_sent == 5


def test_a_run_lasts_as_long_as_it_shall():
    run = Run(Constant(10), duration=0.45)
    for _ in range(5):
        assert run.send() == 1
        run.answer()
        run.clock.advance_ns(100 * MS)
        assert run.loop.ended is None
    assert run.loop.next == 450 * MS
    assert run.send() == 0
    assert run.loop.ended == 450 * MS
    found = run.recording()
    assert (found.seconds, found.scheduled, found.sent, found.unsent) == (0.45, 5, 5, 0)


def test_the_schedule_goes_on_when_the_cap_is_reached():
    run = Run(Constant(1000), duration=0.1, max_outstanding=10)
    run.clock.advance_ns(30 * MS)
    assert run.send() == 10 and run.loop.back_offs == 1
    assert run.recording().scheduled == 31
    run.answer(4)
    assert run.send() == 4
    found = run.recording()
    assert found.held_back == 4 and found.late == 14  # the first ten were only late
    assert run.loop.back_offs == 1  # it is still the same wait
    run.clock.advance_ns(70 * MS)
    assert run.send() == 0
    run.clock.advance_ns(100 * MS)
    assert run.send() == 0 and run.loop.ended == 100 * MS
    run.answer(10)
    found = run.recording()
    assert (found.scheduled, found.sent, found.completed, found.unsent) == (100, 14, 14, 86)
    assert found.rate_asked == 1000 and found.rate_sent == 140


def test_waits_are_counted():
    run = Run(Constant(1000), max_outstanding=1)
    for number in (1, 2, 3):
        run.send()
        run.clock.advance_ns(MS)
        assert run.send() == 0 and run.loop.back_offs == number
        run.answer()
        assert run.send() == 1  # with that it has caught up
        run.answer()
        run.clock.advance_ns(MS)


def test_a_wait_is_over_with_the_last_that_was_due():
    """Though nobody asks for more: what is late after it was not held back."""
    run = Run(Constant(1000), max_outstanding=1)
    assert run.loop.take(0) == 0
    assert run.loop.take(2 * MS) is None and run.loop.back_offs == 1
    for due in (MS, 2 * MS):
        run.recorder.answered(2 * MS, 0, 0, Code.OK, "")
        assert run.loop.take(2 * MS) == due
    run.recorder.answered(3 * MS, 0, 0, Code.OK, "")
    assert run.loop.take(5 * MS) == 3 * MS
    found = run.recorder.recording(5 * MS)
    assert (found.late, found.held_back) == (1, 0)


def test_what_is_due_at_the_end_is_still_sent():
    run = Run(Constant(1000), duration=0.01)
    run.clock.advance_ns(12 * MS)
    assert run.send() == 10
    assert run.loop.ended == 10 * MS and run.recording().unsent == 0


def test_requests_are_due_in_their_slices_though_nobody_was_awake():
    run = Run(Constant(10), duration=3.5)
    run.send()
    run.answer()
    run.clock.advance_ns(5 * NANOSECONDS)
    assert run.send() == 0 and run.recording().unsent == 34
    assert [each.scheduled for each in run.recording().slices] == [10, 10, 10, 5]


def test_a_sender_that_is_much_too_late_gives_up():
    run = Run(Constant(1000), duration=0.01)
    run.clock.advance_ns(200 * MS)
    assert run.send() == 0
    assert run.loop.ended == 10 * MS
    assert (run.recording().scheduled, run.recording().unsent) == (10, 10)


def test_stopping_counts_what_was_due():
    run = Run(Constant(1000), count=1000, max_outstanding=5)
    run.clock.advance_ns(19 * MS)
    assert run.send() == 5
    assert run.loop.stop(run.clock()) == 19 * MS
    assert run.loop.stop(run.clock() + MS) == 19 * MS
    run.answer(5)
    assert run.send() == 0
    assert (run.recording().scheduled, run.recording().sent, run.recording().unsent) == (20, 5, 15)


def test_stopping_counts_what_nobody_has_looked_at():
    run = Run(Constant(1000))
    run.clock.advance_ns(19 * MS)
    run.loop.stop(run.clock())
    assert (run.recording().scheduled, run.recording().unsent) == (20, 20)


def test_a_server_that_stalls_shows_in_the_latencies():
    """1,000 requests/s for 10 s, each answered after 1 ms; for 200 ms nothing is.

    A loop that waited for answers would see one latency of 200 ms. All 200 that were due meanwhile waited.
    """

    def answered_at(sent):
        stalled = 5 * NANOSECONDS <= sent + MS < 5 * NANOSECONDS + 200 * MS
        return 5 * NANOSECONDS + 200 * MS if stalled else sent + MS

    run = Run(Constant(1000), duration=10)
    run.simulate(answered_at)
    found = run.recording()
    assert found.completed == found.scheduled == 10_000
    assert found.late == found.held_back == found.unsent == 0
    assert found.percentile(50) == pytest.approx(1, rel=0.01)
    assert found.percentile(97.9) == pytest.approx(1, rel=0.01)
    assert found.percentile(99) == pytest.approx(100, abs=2)  # half of the 2 % that waited, waited longer
    assert found.percentile(100) == pytest.approx(200, abs=2)
    slow = found.slices[5]
    assert slow.max == pytest.approx(200, abs=2) and slow.p90 == pytest.approx(100, abs=2)
    assert all(each.max < 2 for each in found.slices if each is not slow)


def test_a_stall_beyond_the_cap_is_held_back_and_still_counted_from_its_time():
    """The same with 50 requests in flight at most: the others wait here, and their latency does not care."""

    def answered_at(sent):
        return max(sent + MS, 300 * MS) if sent >= 100 * MS else sent + MS

    capped, free = Run(Constant(1000), duration=1, max_outstanding=50), Run(Constant(1000), duration=1)
    for run in (capped, free):
        run.simulate(answered_at)
    found = capped.recording()
    assert found.completed == 1000 and found.held_back == pytest.approx(150, abs=2) == found.late
    assert capped.loop.back_offs == 1
    for percent in (50, 75, 85, 90, 95, 99, 100):
        assert found.percentile(percent) == pytest.approx(free.recording().percentile(percent), abs=4)
    assert found.service.get_value_at_percentile(100) == pytest.approx(200 * MS, rel=0.01)
    assert found.percentile(81) > found.service.get_value_at_percentile(81) / 1e6


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rate=st.floats(10, 3000),
    cap=st.integers(1, 20),
    bound=st.one_of(
        st.fixed_dictionaries({"duration": st.floats(0.001, 0.3)}),
        st.fixed_dictionaries({"count": st.integers(1, 100)}),
        st.fixed_dictionaries({"duration": st.floats(0.001, 0.3), "count": st.integers(1, 100)}),
    ),
    steps=st.lists(st.tuples(st.integers(0, 40 * MS), st.integers(0, 30)), max_size=40),
    stop=st.integers(0, 60),
)
def test_every_request_is_accounted_for(seed, rate, cap, bound, steps, stop):
    """Whatever answers come when: never more in flight than may be, none lost, none sent before its time."""
    run = Run(Poisson(rate, seed), max_outstanding=cap, **bound)
    moments = iter(Poisson(rate, seed))
    for number, (passed, answers) in enumerate(steps):
        run.clock.advance_ns(passed)
        while (due := run.loop.take(run.clock())) is not None:
            run.in_flight.append((due, run.clock()))
            assert due == next(moments) <= run.clock()
        assert len(run.in_flight) == run.recorder.outstanding <= cap
        run.answer(min(answers, len(run.in_flight)))
        if number == stop:
            run.loop.stop(run.clock())
        found = run.recording()
        assert found.held_back <= found.late <= found.sent <= found.scheduled <= bound.get("count", 1 << 62)
        assert found.outstanding == len(run.in_flight)
        assert sum(each.scheduled for each in found.slices) == found.scheduled
        if run.loop.ended is not None:
            assert found.sent + found.unsent == found.scheduled
    ended = run.loop.stop(run.clock())
    assert run.loop.take(run.clock() + NANOSECONDS) is None
    assert run.loop.ended == ended
    assert run.recording().sent + run.recording().unsent == run.recording().scheduled


@pytest.mark.parametrize(
    "bad", [{"duration": 0.0}, {"count": 0}, {"max_outstanding": 0}, {"duration": float("nan")}]
)
def test_bounds_that_are_none(bad):
    with pytest.raises(InvalidArgument, match=f"{next(iter(bad))}: got .*, expected more than 0"):
        Run(Constant(1), **bad)
