"""A fixed number of requests in flight."""

from __future__ import annotations

import threading
import time

import pytest

from yais.errors import Code, FailedPrecondition, InvalidArgument
from yais.load.closed_load import ClosedLoad
from yais.load.null_transport import NullTransport

SOON = 10.0


class Answers:
    """A transport whose requests are answered by hand."""

    def __init__(self):
        self.requests = []
        self.waiting = []
        self._changed = threading.Condition()

    def send(self, request, done):
        with self._changed:
            self.requests.append(request)
            self.waiting.append(done)
            self._changed.notify_all()

    def has_sent(self, number):
        """Wait until so many requests were sent, and return whether it is no more."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= number, SOON)
            return len(self.requests) == number

    def answer(self, code=Code.OK, text=""):
        self.waiting.pop(0)(code, text, None)


def test_it_keeps_requests_in_flight():
    answers = Answers()
    load = ClosedLoad(answers, "abc", 3)
    load.start()
    assert answers.has_sent(3)
    for number in (4, 5):
        answers.answer()
        assert answers.has_sent(number)
    assert answers.requests == list("abcab")
    assert not load.wait(0)
    assert load.take().completed == 2 and load.take().completed == 0
    found = load.stop(0)
    assert (found.sent, found.completed, found.outstanding) == (5, 2, 3)
    while answers.waiting:
        answers.answer()
    assert load.wait(0) and answers.has_sent(5)
    assert load.stop(0).completed == 5 and load.take().completed == 3


def test_a_count():
    answers = Answers()
    load = ClosedLoad(answers, ["x"], 2, count=3)
    load.start()
    assert answers.has_sent(2)
    answers.answer()
    assert answers.has_sent(3)
    answers.answer()
    assert not load.wait(0) and answers.has_sent(3)
    answers.answer()
    assert load.wait(0)
    found = load.recording()
    assert (found.scheduled, found.sent, found.completed, found.unsent) == (3, 3, 3, 0)
    assert 0 < found.seconds <= found.drained


def test_a_count_below_what_may_be_in_flight():
    answers = Answers()
    load = ClosedLoad(answers, ["x"], 8, count=2)
    load.start()
    assert answers.has_sent(2)
    answers.answer()
    answers.answer()
    assert load.wait(SOON) and load.stop(0).completed == 2


def test_failures_are_counted_and_it_goes_on():
    answers = Answers()
    load = ClosedLoad(answers, ["x"], 1)
    load.start()
    assert answers.has_sent(1)
    answers.answer(Code.UNAVAILABLE, "gone")
    assert answers.has_sent(2)
    answers.answer()
    assert answers.has_sent(3)
    found = load.recording()
    assert found.failed == {Code.UNAVAILABLE: 1} and found.texts == {Code.UNAVAILABLE: "gone"}
    assert found.completed == 1


def test_a_failure_ends_it_where_it_shall():
    answers = Answers()
    load = ClosedLoad(answers, ["x"], 2, until_failure=True)
    load.start()
    assert answers.has_sent(2)
    answers.answer()
    assert answers.has_sent(3)
    answers.answer(Code.INTERNAL, "lost")
    assert answers.has_sent(3) and not load.wait(0)
    answers.answer(Code.INTERNAL, "lost, too")
    assert load.wait(0) and answers.has_sent(3)
    assert load.recording().texts == {Code.INTERNAL: "lost"}


@pytest.mark.parametrize(
    ("error", "code", "text", "times"),
    [
        (FailedPrecondition("it is closed"), Code.FAILED_PRECONDITION, "it is closed", 1),
        (TypeError("no bytes"), Code.UNKNOWN, "TypeError: no bytes", 5),
    ],
)
def test_a_request_that_cannot_be_sent_has_failed(error, code, text, times):
    """And where none can be any more the load is over."""

    class Broken:
        def send(self, request, done):
            raise error

    load = ClosedLoad(Broken(), ["x"], 2, count=5)
    load.start()
    assert load.wait(SOON)
    found = load.recording()
    assert found.failed == {code: times} and found.texts == {code: text}


@pytest.mark.parametrize("in_flight", [1, 2, 32])
def test_answers_that_come_at_once(in_flight):
    """However many: each answer sends the next request, and yet nothing nests."""
    load = ClosedLoad(NullTransport(), ["x"], in_flight, count=5000)
    load.start()
    assert load.wait(SOON)
    found = load.stop(0)
    assert (found.sent, found.completed) == (5000, 5000)
    assert 0 < found.sending < found.drained * 1e9


def test_answers_from_many_threads():
    """Never more in flight than may be, and none lost."""
    most = 0
    lock = threading.Lock()
    in_flight = 0

    class Threads:
        def send(self, request, done):
            nonlocal most, in_flight
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            threading.Thread(target=self.answer, args=(done,)).start()

        def answer(self, done):
            nonlocal in_flight
            with lock:
                in_flight -= 1
            done(Code.OK, "", None)

    load = ClosedLoad(Threads(), ["x"], 5, count=500)
    load.start()
    assert load.wait(SOON)
    assert load.recording().completed == 500 and most <= 5


def test_latency_is_from_the_sending():
    transport = NullTransport(0.02)
    load = ClosedLoad(transport, ["x"], 2, count=10)
    load.start()
    assert load.wait(SOON)
    found = load.recording()
    assert found.percentile(1) >= 20
    assert found.percentiles(50, 99) == [
        found.service.get_value_at_percentile(percent) / 1e6 for percent in (50, 99)
    ]
    transport.close()


def test_a_load_without_requests():
    with pytest.raises(InvalidArgument, match="requests: got none, expected at least one"):
        ClosedLoad(NullTransport(), [], 1)


@pytest.mark.parametrize("options", [{"in_flight": 0}, {"in_flight": 1, "count": 0}])
def test_numbers_that_are_none(options):
    with pytest.raises(InvalidArgument, match="got 0, expected at least 1"):
        ClosedLoad(NullTransport(), ["x"], **options)


def test_what_it_shows_of_itself():
    answers = Answers()
    load = ClosedLoad(answers, ["x"], 2)
    load.start()
    answers.has_sent(2)
    assert repr(load) == "<ClosedLoad: 2 outstanding>"


def test_nothing_is_left_of_it():
    load = ClosedLoad(NullTransport(), ["x"], 1, count=10)
    load.start()
    assert load.wait(SOON)
    deadline = time.monotonic() + SOON
    while any(thread.name == "yais-load" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
