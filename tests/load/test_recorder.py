"""What is written down of a run."""

from __future__ import annotations

import contextlib
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.clock import NANOSECONDS
from yais.errors import Code
from yais.load.histogram import LONGEST, latency_histogram, moments, record, values_at
from yais.load.recorder import Recorder
from yais.load.recording import Recording

MS = 1_000_000


def served(recorder, sent, latency, code=Code.OK, text=""):
    """Write down a request from its beginning to its end."""
    recorder.scheduled(sent)
    recorder.sent(sent)
    recorder.answered(sent + latency, sent, sent, code, text)


def test_a_run():
    recorder = Recorder()
    recorder.scheduled(0, 3)
    recorder.sent(2 * MS, late=True)
    recorder.sent(3 * MS, late=True, held_back=True)
    assert recorder.outstanding == 2
    recorder.spent(500)
    recorder.answered(5 * MS, 0, 2 * MS, Code.OK, "")
    recorder.answered(6 * MS, 0, 3 * MS, Code.UNAVAILABLE, "lost")
    recorder.unsent(1)
    found = recorder.recording(20 * MS, 10 * MS)
    assert (found.scheduled, found.sent, found.completed, found.late, found.held_back) == (3, 2, 1, 2, 1)
    assert (found.unsent, found.sending, found.outstanding) == (1, 500, 0)
    assert found.failed == {Code.UNAVAILABLE: 1} and found.texts == {Code.UNAVAILABLE: "lost"}
    assert (found.seconds, found.drained) == (0.01, 0.01)
    assert found.percentile(50) == pytest.approx(5, rel=1e-3)
    assert found.mean == pytest.approx(5, rel=1e-3)
    assert found.service.get_max_value() == pytest.approx(3 * MS, rel=1e-3)
    assert (found.rate_asked, found.rate_sent, found.rate_completed) == (300, 200, 100)


def test_nothing_at_all():
    found = Recorder().recording(0)
    assert found.percentile(50) is None is found.mean
    assert (found.rate_asked, found.rate_sent, found.rate_completed, found.slices) == (0, 0, 0, [])


def test_times_of_a_run():
    recorder = Recorder()
    recorder.scheduled(0)
    recorder.sent(0)
    running, waiting = recorder.recording(2 * MS), recorder.recording(9 * MS, 5 * MS)
    assert (running.seconds, running.drained) == (0.002, 0.002)
    assert (waiting.seconds, waiting.drained) == (0.005, 0.009)
    recorder.answered(11 * MS, 0, 0, Code.OK, "")
    over = recorder.recording(30 * MS, 5 * MS)
    assert (over.seconds, over.drained) == (0.005, 0.011)
    assert over.slices[-1].seconds == 0.011


def test_the_first_text_of_each_status_is_kept():
    recorder = Recorder()
    for text in ("first", "second"):
        served(recorder, 0, MS, Code.INTERNAL, text)
        recorder.take(MS)
    served(recorder, 0, MS, Code.UNKNOWN, "other")
    assert recorder.recording(MS).texts == {Code.INTERNAL: "first", Code.UNKNOWN: "other"}


def test_windows():
    recorder = Recorder()
    served(recorder, 0, 4 * MS)
    first = recorder.take(100 * MS)
    served(recorder, 120 * MS, 8 * MS)
    served(recorder, 130 * MS, 8 * MS, Code.INTERNAL, "no")
    second = recorder.take(300 * MS)
    third = recorder.take(400 * MS)
    assert [each.completed for each in (first, second, third)] == [1, 1, 0]
    assert [each.seconds for each in (first, second, third)] == [0.1, 0.2, 0.1]
    assert second.percentile(100) == pytest.approx(8, rel=1e-3)
    assert second.rate_completed == 5 and second.failed == {Code.INTERNAL: 1}
    assert first.slices == ()
    whole = recorder.recording(400 * MS)
    assert whole.completed == 2 and whole.failed == {Code.INTERNAL: 1}
    third.interrupted = True
    for window in (second, third):
        first.add(window)
    assert first.seconds == first.drained == pytest.approx(0.4)
    assert (first.completed, first.scheduled, first.sent, first.texts) == (2, 3, 3, whole.texts)
    assert first.percentiles(50, 100) == whole.percentiles(50, 100)
    assert first.latency.get_min_value() > 0 and first.interrupted


def test_slices_are_by_the_time_of_the_answers():
    recorder = Recorder()
    recorder.scheduled(900 * MS, 2)
    recorder.sent(900 * MS)
    recorder.sent(950 * MS)
    recorder.answered(1100 * MS, 900 * MS, 900 * MS, Code.OK, "")
    recorder.answered(3200 * MS, 950 * MS, 950 * MS, Code.INTERNAL, "")
    first, second, third, last = recorder.recording(3500 * MS).slices
    assert (first.start, first.seconds) == (0, 1) and (last.start, last.seconds) == (3, 0.5)
    assert (first.scheduled, first.sent, first.completed, first.outstanding) == (2, 2, 0, 2)
    assert (second.scheduled, second.completed, second.outstanding) == (0, 1, 2)
    assert first.p50 is first.p90 is first.p99 is first.max is None
    assert second.p50 == second.max == pytest.approx(200, rel=1e-3)
    assert (third.completed, third.failed, third.outstanding) == (0, 0, 1)
    assert (last.failed, last.outstanding) == (1, 1)


def test_a_stall_within_a_slice_shows_in_what_was_in_flight():
    recorder = Recorder()
    for number in range(5):
        recorder.sent((200 + number) * MS)
    for _ in range(5):
        recorder.answered(700 * MS, 200 * MS, 200 * MS, Code.OK, "")
    served(recorder, 1500 * MS, MS)
    assert [each.outstanding for each in recorder.recording(3000 * MS).slices] == [5, 1, 0]


def test_a_longer_slice_has_the_higher_peak_of_two():
    recorder = Recorder()
    for _ in range(3):
        recorder.sent(MS)
    for _ in range(3):
        recorder.answered(2 * MS, MS, MS, Code.OK, "")
    assert [each.outstanding for each in recorder.recording(300 * NANOSECONDS).slices] == [3] + [0] * 149


class Interrupted(Recording):
    """Sums that Ctrl-C interrupts."""

    left = 0

    def add(self, other):
        Interrupted.left -= 1
        if not Interrupted.left:
            raise KeyboardInterrupt
        super().add(other)


@pytest.mark.parametrize("at", range(1, 15))
@pytest.mark.parametrize("look", ["recording", "take"])
def test_ctrl_c_while_somebody_looks_loses_nothing(monkeypatch, look, at):
    monkeypatch.setattr("yais.load.recorder.Recording", Interrupted)
    recorder = Recorder()
    for second in range(2):
        served(recorder, second * 700 * MS, MS)
    Interrupted.left = at
    with contextlib.suppress(KeyboardInterrupt):
        getattr(recorder, look)(1500 * MS)
    Interrupted.left = 0
    found = recorder.recording(1500 * MS)
    assert found.completed == 2 == sum(each.completed for each in found.slices)
    assert found.latency.get_total_count() == 2


def test_looking_changes_nothing():
    looked, alone = Recorder(), Recorder()
    for number in range(50):
        for recorder in (looked, alone):
            served(recorder, number * 70 * MS, (number % 7 + 1) * MS)
        looked.recording(number * 70 * MS + 8 * MS)
        looked.take(number * 70 * MS + 8 * MS)
    one, other = looked.recording(4 * NANOSECONDS), alone.recording(4 * NANOSECONDS)
    assert one.slices == other.slices
    assert one.percentiles(1, 50, 99, 100) == other.percentiles(1, 50, 99, 100)


@pytest.mark.parametrize("seconds", [299, 300, 301, 700])
def test_a_long_run_has_longer_slices(seconds):
    """Joined slices tell what the joined requests tell."""
    recorder = Recorder()
    for second in range(seconds):
        served(recorder, second * NANOSECONDS + MS, (second % 10 + 1) * 10 * MS)
        served(recorder, second * NANOSECONDS + MS, MS, Code.INTERNAL)
        recorder.sent(second * NANOSECONDS + 900 * MS)  # and is never answered
    found = recorder.recording(seconds * NANOSECONDS)
    assert 150 <= len(found.slices) <= 300 or seconds < 150
    assert sum(each.seconds for each in found.slices) == seconds
    ends = [each.start + each.seconds for each in found.slices]
    assert [each.start for each in found.slices] == [0, *ends[:-1]]
    for each in found.slices:
        inside = [second % 10 + 1 for second in range(int(each.start), int(each.start + each.seconds))]
        assert each.scheduled == 2 * len(inside) and each.sent == 3 * len(inside)
        assert each.outstanding == each.start + each.seconds  # and one that is answered at once
        assert each.completed == each.failed == len(inside)
        assert each.max == pytest.approx(max(inside) * 10, rel=1e-3)
        assert each.p50 == pytest.approx(sorted(inside)[(len(inside) + 1) // 2 - 1] * 10, rel=1e-3)


def test_a_gap_without_answers():
    recorder = Recorder()
    served(recorder, 0, MS)
    served(recorder, 3000 * NANOSECONDS, MS)
    found = recorder.recording(3001 * NANOSECONDS)
    assert len(found.slices) <= 300 and sum(each.completed for each in found.slices) == 2
    assert sum(each.seconds for each in found.slices) == 3001


def test_what_takes_longer_than_anything():
    recorder = Recorder()
    served(recorder, 0, 2 * LONGEST)
    found = recorder.recording(2 * LONGEST)
    assert found.completed == 1 and found.percentile(100) == pytest.approx(LONGEST / MS, rel=1e-3)


def test_a_histogram_goes_with_its_last_reference():
    """Not when garbage is collected: a run makes some each time somebody looks."""
    histogram = latency_histogram()
    seen = weakref.ref(histogram)
    del histogram
    assert seen() is None


LATENCIES = st.lists(st.integers(1000, NANOSECONDS), min_size=1, max_size=200)


@settings(max_examples=10, deadline=None)
@given(LATENCIES, st.lists(st.floats(0.1, 100), min_size=1, max_size=5))
def test_the_quick_way_to_percentiles_and_mean(latencies, percents):
    histogram = latency_histogram()
    for value in latencies:
        histogram.record_value(value)
    assert values_at(histogram, percents) == [histogram.get_value_at_percentile(each) for each in percents]
    assert moments(histogram)[0] == pytest.approx(histogram.get_mean_value(), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, LONGEST), min_size=1, max_size=50))
def test_the_quick_way_to_record(latencies):
    ours, theirs = latency_histogram(), latency_histogram()
    for value in latencies:
        record(ours, value)
        theirs.record_value(value)
    assert list(ours.counts) == list(theirs.counts)
    for name in ("total_count", "min_value", "max_value"):
        assert getattr(ours, name) == getattr(theirs, name)


@settings(max_examples=30, deadline=None)
@given(LATENCIES, LATENCIES)
def test_adding_recordings(first, second):
    recordings, both = [Recording(), Recording()], Recording()
    for recording, values in zip(recordings, (first, second), strict=True):
        for value in values:
            recording.completed += 1
            recording.latency.record_value(value)
            both.latency.record_value(value)
    sum_ = Recording()
    sum_.add(Recording())
    for recording in recordings:
        sum_.add(recording)
    assert sum_.completed == len(first) + len(second)
    assert values_at(sum_.latency, (1, 50, 99, 100)) == values_at(both.latency, (1, 50, 99, 100))
    assert sum_.latency.get_min_value() == both.latency.get_min_value()
    assert sum_.latency.get_max_value() == both.latency.get_max_value()
