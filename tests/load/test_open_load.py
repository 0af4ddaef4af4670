"""Load at a rate, on real threads: against nothing, and against a server that stalls."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

import yais
from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.errors import Code, InvalidArgument
from yais.load.closed_load import ClosedLoad
from yais.load.null_transport import NullTransport
from yais.load.open_load import OpenLoad
from yais.load.schedule import Constant, Poisson
from yais.testing import serving

SOON = 10.0


def run(load):
    """Run a load to its end."""
    load.start()
    assert load.wait(SOON)
    return load.stop(0)


def eventually(holds):
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_a_number_of_requests():
    found = run(OpenLoad(NullTransport(), ["x"], Constant(2000), count=200))
    assert (found.scheduled, found.sent, found.completed, found.unsent) == (200, 200, 200, 0)
    assert found.seconds >= 0.1 and found.rate_asked == 2000 >= found.rate_sent
    assert found.latency.get_min_value() >= found.service.get_min_value()
    assert found.sending > 0


def test_a_time():
    found = run(OpenLoad(NullTransport(), ["x"], Poisson(2000, 5), duration=0.2))
    expected = len(list(itertools.takewhile(lambda due: due < 200_000_000, Poisson(2000, 5))))
    assert found.seconds == 0.2 <= found.drained
    assert found.scheduled == expected == found.sent + found.unsent


def test_requests_are_sent_in_turn_when_they_are_due():
    sent = []

    class Listed(NullTransport):
        def send(self, request, done):
            sent.append((request, time.monotonic()))
            super().send(request, done)

    before = time.monotonic()
    run(OpenLoad(Listed(), "abc", Constant(100), count=7))
    assert [request for request, _ in sent] == list("abcabca")
    assert all(moment >= before + number / 100 for number, (_, moment) in enumerate(sent))


class Held:
    """A transport that answers when it is told."""

    def __init__(self):
        self.waiting = []
        self.sent = threading.Semaphore(0)

    def send(self, request, done):
        self.waiting.append(done)
        self.sent.release()

    def has_sent(self, number):
        return all(self.sent.acquire(timeout=SOON) for _ in range(number))

    def answer(self):
        self.waiting.pop(0)(Code.OK, "", None)


def test_the_cap():
    transport, told = Held(), threading.Semaphore(0)
    load = OpenLoad(transport, ["x"], Constant(10_000), count=10, max_outstanding=4, on_back_off=told.release)
    load.start()
    assert transport.has_sent(4) and told.acquire(timeout=SOON)
    assert not transport.sent.acquire(timeout=0.02)
    for _ in range(6):
        transport.answer()
        assert transport.has_sent(1)
    while transport.waiting:
        transport.answer()
    assert load.wait(SOON)
    found = load.stop(0)
    assert (found.sent, found.completed, found.held_back) == (10, 10, 6)
    assert not told.acquire(blocking=False)  # it was one wait


def test_an_answer_at_the_cap_sends_the_next_on_its_own_thread():
    """It is not left to the thread that keeps the time."""
    threads = []

    class Noted(Held):
        def send(self, request, done):
            threads.append(threading.current_thread())
            super().send(request, done)

    transport = Noted()
    load = OpenLoad(transport, ["x"], Constant(1e5), max_outstanding=1)
    load.start()
    assert transport.has_sent(1)
    for _ in range(20):
        transport.answer()
        assert transport.has_sent(1)
    load.stop(0)
    assert threading.current_thread() in threads and threads[0].name == "yais-load"


def test_a_callback_may_look_at_the_load():
    transport, seen, told = Held(), [], threading.Event()

    def on_back_off():
        seen.append(load.recording().sent)
        told.set()

    load = OpenLoad(transport, ["x"], Constant(1e5), max_outstanding=2, on_back_off=on_back_off)
    load.start()
    assert told.wait(SOON) and seen[0] == 2
    load.stop(0)


def test_what_was_never_sent():
    transport = Held()
    load = OpenLoad(transport, ["x"], Constant(1000), duration=0.1, max_outstanding=3)
    load.start()
    assert transport.has_sent(3) and not load.wait(0.15)
    eventually(lambda: load.recording().unsent == 97)
    assert load.recording().outstanding == 3
    while transport.waiting:
        transport.answer()
    assert load.wait(SOON)
    found = load.stop(0)
    assert (found.scheduled, found.sent, found.unsent, found.seconds) == (100, 3, 97, 0.1)
    assert found.drained > 0.1


def test_stopping_ends_a_long_wait():
    load = OpenLoad(NullTransport(), ["x"], Constant(0.001))
    load.start()
    assert not load.wait(0.01)
    found = load.stop(SOON)
    assert load.wait(0) and found.sent <= 1 and found.seconds < SOON
    load._thread.join(SOON)
    assert not load._thread.is_alive()


def test_stopping_waits_for_answers():
    transport = NullTransport(0.05)
    load = OpenLoad(transport, ["x"], Constant(1000))
    load.start()
    eventually(lambda: load.recording().sent)
    found = load.stop(SOON)
    assert found.sent == found.completed > 0 == found.outstanding
    assert found.drained > found.seconds
    transport.close()


def test_stopping_does_not_wait_for_ever():
    transport = Held()
    load = OpenLoad(transport, ["x"], Constant(1000))
    load.start()
    assert transport.has_sent(1)
    found = load.stop(0.01)
    assert found.outstanding == found.sent >= 1 and not load.wait(0)


def test_a_transport_that_is_closed():
    transport = NullTransport()
    transport.close()
    found = run(OpenLoad(transport, ["x"], Constant(10_000), count=20))
    assert found.failed == {Code.FAILED_PRECONDITION: 1} and found.sent + found.unsent == found.scheduled
    assert found.texts == {Code.FAILED_PRECONDITION: "the transport is closed"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_ends_it():
    def on_back_off():
        raise BrokenPipeError

    transport = Held()
    load = OpenLoad(transport, ["x"], Constant(1e5), max_outstanding=1, on_back_off=on_back_off)
    load.start()
    assert transport.has_sent(1)
    load._thread.join(SOON)
    transport.answer()
    assert load.wait(SOON) and load.recording().completed == 1


def test_windows_of_a_run():
    load = OpenLoad(NullTransport(), ["x"], Constant(5000), duration=0.2)
    load.start()
    windows = []
    while not load.wait(0.05):
        windows.append(load.take())
    windows.append(load.take())
    assert sum(window.completed for window in windows) == load.recording().completed
    assert sum(window.scheduled for window in windows) == 1000


def test_what_makes_no_load():
    with pytest.raises(InvalidArgument, match="requests: got none"):
        OpenLoad(NullTransport(), [], Constant(1))
    with pytest.raises(InvalidArgument, match="max_outstanding: got 0"):
        OpenLoad(NullTransport(), ["x"], Constant(1), max_outstanding=0)


class Once(yais.Resources):
    """Stalls with the hundredth request.

    Attributes
    ----------
    stalled
        For how many milliseconds it did.
    """

    def __init__(self):
        self.requests = itertools.count(1)
        self.stalled = 0.0

    def stall(self):
        began = time.monotonic()
        threading.Event().wait(0.2)
        self.stalled = (time.monotonic() - began) * 1000


class Stalling(yais.Context[bytes, bytes, Once]):
    """Echoes, but for once when its thread, and so the server, stands still."""

    def execute(self, request):
        if next(self.resources.requests) == 100:
            self.resources.stall()
        return request


def test_a_server_that_stalls_shows_in_the_latencies():
    """For 200 ms it answers nothing. Each request that was due meanwhile waited, from when it was due."""
    service = yais.Service("test.Stalling")
    service.register("Say", Stalling, contexts=1000, deserialize=bytes, serialize=bytes)
    once = Once()
    with (
        serving(service, resources=once) as served,
        GrpcEndpoint(Connection(f"127.0.0.1:{served.port}")) as endpoint,
    ):
        transport = endpoint.method_transport("/test.Stalling/Say")
        connected = ClosedLoad(transport, [b"x"], 1, count=1)
        connected.start()
        assert connected.wait(SOON)
        load = OpenLoad(transport, [b"x"], Constant(1000), count=600)
        load.start()
        assert load.wait(SOON)
        found = load.stop(0)
    stalled = once.stalled
    assert found.completed == 600 == found.scheduled
    assert found.percentile(100) >= stalled - 5
    waited_half = min(int(stalled / 2), 500) - 5  # of those due meanwhile, one each millisecond
    assert found.percentile(100 * (1 - waited_half / 600)) >= stalled / 2


def test_a_load_that_is_stopped_before_it_began():
    found = OpenLoad(NullTransport(), ["x"], Constant(1e4)).stop(SOON)
    assert found.sent == 0 and found.seconds < SOON
