"""Measuring a level of load until it is stable, with requests that go nowhere."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import pytest

from yais.core.clock import NANOSECONDS, monotonic
from yais.errors import Code, ResourceExhausted
from yais.load.closed_load import ClosedLoad
from yais.load.null_transport import NullTransport
from yais.load.open_load import OpenLoad
from yais.load.perf.profiler import NothingMeasured, Profiler
from yais.load.perf.response_count import ResponseCount
from yais.load.perf.search import LevelRange
from yais.load.perf.settings import PerfSettings
from yais.load.schedule import Constant

SETTINGS = PerfSettings(LevelRange(1, 1, 1), window_ms=150, stability=1e9)
"""Windows so long that none is empty on a busy machine."""

NEVER = replace(SETTINGS, stability=-1.0, trials=4)


@pytest.fixture
def transport():
    connected = NullTransport(0.001)
    yield connected
    connected.close()


def in_flight(transport, level):
    return ClosedLoad(transport, ["request"], int(level))


def profiler(transport, settings, windows=None, **others):
    """Return one that keeps its windows in a list."""
    told = None if windows is None else lambda count, window: windows.append((count, window))
    return Profiler(partial(in_flight, transport), settings, on_pass=told, **others)


def test_three_windows_that_agree_are_the_result(transport):
    windows = []
    start = monotonic()
    result = profiler(transport, replace(SETTINGS, batch=4), windows).measure(2)
    assert result.window.seconds <= (monotonic() - start) / NANOSECONDS
    assert result.met
    assert (result.level, result.stable, result.over, result.interrupted) == (2, True, False, False)
    assert [count for count, _ in windows] == [1, 2, 3]
    assert result.window.requests == sum(window.requests for _, window in windows) > 0
    assert result.window.seconds == pytest.approx(sum(window.seconds for _, window in windows))
    assert result.window.throughput == pytest.approx(4 * result.window.requests / result.window.seconds)
    assert all(window.seconds >= 0.15 for _, window in windows)
    assert result.window.mean >= 1_000_000
    assert 0 < result.window.cpu <= result.window.seconds * 16
    assert result.window.server is None


def test_no_more_windows_than_there_may_be(transport):
    windows = []
    result = profiler(transport, NEVER, windows).measure(1)
    assert not result.met
    assert (result.stable, result.over, len(windows)) == (False, False, 4)
    # The last three of them, all the same.
    assert result.window.requests == sum(window.requests for _, window in windows[1:])


class Counting:
    """Knows how many requests were in flight at most."""

    def __init__(self, transport):
        self._transport = transport
        self._lock = threading.Lock()
        self._now = self.most = 0

    def send(self, request, done):
        def ended(*end):
            with self._lock:
                self._now -= 1
            done(*end)

        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._transport.send(request, ended)


def test_one_level_after_another(transport):
    counting = Counting(transport)
    measure = profiler(counting, SETTINGS).measure
    for level in (1, 16):
        assert measure(level).level == counting.most == level


class Late:
    """Answers when it is told to."""

    def __init__(self):
        self.waiting = []

    def send(self, request, done):
        self.waiting.append(done)


class Lasting(ClosedLoad):
    """Requests of it end when somebody waits as long as the next level does."""

    def wait(self, seconds):
        if seconds == 7.5:
            for done in self._transport.waiting[:]:
                done(Code.OK, "", None)
        return super().wait(seconds)


def test_the_requests_of_a_level_end_before_the_next_one(transport, monkeypatch):
    monkeypatch.setattr("yais.load.perf.profiler._LAST", 0.0)
    lasting, before = Lasting(Late(), ["request"], 3), []

    def load_of(level):
        before.append(lasting.recording().outstanding)
        return lasting if level == 3 else in_flight(transport, level)

    measured = Profiler(load_of, NEVER, drain=7.5)
    with pytest.raises(NothingMeasured):
        measured.measure(3)
    assert lasting.recording().outstanding == 3
    assert measured.measure(1).window.requests
    assert before == [0, 0]


@pytest.mark.parametrize("settings", [replace(NEVER, limit_ms=1), replace(SETTINGS, limit_ms=1)])
def test_a_limit_for_the_latency(transport, settings):
    """There is no use in waiting until what is too much is stable."""
    windows = []
    result = profiler(transport, settings, windows).measure(1)
    assert result.over
    assert not result.met
    assert len(windows) == 3


def test_a_limit_that_is_kept(transport):
    assert profiler(transport, replace(SETTINGS, limit_ms=10_000)).measure(1).met


def test_windows_of_so_many_requests(transport, monkeypatch):
    monkeypatch.setattr("yais.load.perf.measuring._COUNT", 0.01)
    windows = []
    settings = replace(SETTINGS, window_requests=40, window_ms=1)
    assert profiler(transport, settings, windows).measure(2).met
    assert all(window.requests >= 40 for _, window in windows)


def test_a_rate(transport):
    settings = replace(SETTINGS, window_ms=300)  # so long that no pause of this process matters
    measured = Profiler(lambda level: OpenLoad(transport, ["request"], Constant(level)), settings)
    result = measured.measure(500.0)
    assert result.level == 500.0
    assert 100 < result.window.throughput < 1000


class Failing:
    """Sends, but for one request in fifty."""

    def __init__(self, transport):
        self._transport = transport
        self._count = 0

    def send(self, request, done):
        self._count += 1
        if self._count % 50:
            self._transport.send(request, done)
        else:
            done(Code.RESOURCE_EXHAUSTED, "too many", None)


def test_a_request_that_fails_ends_it(transport):
    windows = []
    settings = replace(SETTINGS, window_ms=60_000)
    with pytest.raises(ResourceExhausted, match=r"^too many$"):
        profiler(Failing(transport), settings, windows).measure(2)
    assert windows == []


def test_windows_without_answers(monkeypatch):
    monkeypatch.setattr("yais.load.perf.profiler._LAST", 0.0)
    with pytest.raises(NothingMeasured, match="No valid requests recorded within time interval"):
        profiler(Late(), NEVER).measure(1)


class Interrupted(ClosedLoad):
    """Somebody presses Ctrl-C in the second window."""

    waits = 0

    def wait(self, seconds):
        self.waits += 1
        over = super().wait(seconds)
        if self.waits == 2:
            raise KeyboardInterrupt
        return over


def test_what_was_measured_before_it_was_interrupted(transport):
    windows = []
    load = Interrupted(transport, ["request"], 1)
    interrupted = Profiler(
        lambda _: load, SETTINGS, on_pass=lambda count, window: windows.append((count, window))
    )
    result = interrupted.measure(1)
    assert result.interrupted
    assert not result.met
    assert len(windows) == 1
    assert result.window.requests > windows[0][1].requests
    assert load.wait(10), "the load goes on"


def test_interrupted_before_a_request_was_answered(monkeypatch):
    monkeypatch.setattr("yais.load.perf.profiler._LAST_ANSWERS", 0.0)
    load = Interrupted(Late(), ["request"], 1)
    result = Profiler(lambda _: load, SETTINGS).measure(1)
    assert (result.interrupted, result.window.requests) == (True, 0)


class Statistics:
    """All that a server has counted since its start."""

    def snapshot(self):
        return {}

    def between(self, start, end):
        raise AssertionError("nothing is known of the start")


class Hung(Statistics):
    """Of a server that does not answer any more."""

    asked = 0

    def snapshot(self):
        self.asked += 1
        assert self.asked == 1, "asked again"
        return super().snapshot()


def test_a_server_that_hangs_is_not_asked_after_ctrl_c(monkeypatch):
    monkeypatch.setattr("yais.load.perf.profiler._LAST_ANSWERS", 0.01)
    load = Interrupted(Late(), ["request"], 1)
    load.waits = 1
    result = Profiler(lambda _: load, SETTINGS, statistics=Hung()).measure(1)
    assert (result.interrupted, result.window.server) == (True, None)


class Never(ClosedLoad):
    """Somebody presses Ctrl-C before the first request."""

    def start(self):
        raise KeyboardInterrupt


def test_interrupted_before_the_server_was_asked(transport):
    measured = Profiler(lambda _: Never(transport, ["request"], 1), SETTINGS, statistics=Statistics())
    result = measured.measure(1)
    assert (result.interrupted, result.window.requests, result.window.server) == (True, 0, None)


class Answering:
    """Answers three times."""

    def __init__(self, transport):
        self._transport = transport

    def send(self, request, done):
        self._transport.send(request, lambda *_: done(Code.OK, "", ["reply"] * 3))


def test_answers_of_a_decoupled_model(transport):
    count = ResponseCount(Answering(transport))
    result = profiler(count, SETTINGS, responses=count).measure(2)
    # Requests may have been told of between the two counts at either end.
    assert result.window.responses == pytest.approx(3 * result.window.requests, rel=0.25, abs=3 * 2 * 3)


def test_answers_are_counted_since_the_last_time(transport):
    replies = iter([(Code.OK, "", ["a", "b"]), (Code.UNKNOWN, "not this one", None), (Code.OK, "", [])])

    class Told:
        def send(self, request, done):
            done(*next(replies))

    told = []
    count = ResponseCount(Told())
    for _ in range(3):
        count.send("request", lambda *end: told.append(end))
    assert [code for code, *_ in told] == [Code.OK, Code.UNKNOWN, Code.OK]
    assert (count.take(), count.take()) == (2, 0)
