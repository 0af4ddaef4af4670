"""Loads against a transport that does everything that transports do: each request is counted once."""

from __future__ import annotations

import queue
import random
import threading

import pytest

from yais.errors import Code
from yais.load.closed_load import ClosedLoad
from yais.load.open_load import OpenLoad
from yais.load.schedule import Poisson

SOON = 20.0
COUNT = 600


class Moody:
    """Answers at once or later, on two threads, well or not; or does not send at all."""

    def __init__(self, seed):
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._later = queue.SimpleQueue()
        self.outcomes = []
        self._threads = [threading.Thread(target=self._answer) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def send(self, request, done):
        with self._lock:
            mood = self._chance.choice(["now", "later", "later", "later", "not"])
            code = self._chance.choice([Code.OK, Code.OK, Code.UNAVAILABLE, Code.INTERNAL])
            self.outcomes.append(Code.UNKNOWN if mood == "not" else code)
        if mood == "not":
            raise ValueError("no")
        if mood == "now":
            done(code, "at once", None)
        else:
            self._later.put((done, code))

    def close(self):
        for _ in self._threads:
            self._later.put(None)
        for thread in self._threads:
            thread.join(SOON)

    def _answer(self):
        while (item := self._later.get()) is not None:
            done, code = item
            done(code, "later", None)


def open_load(transport):
    return OpenLoad(transport, range(7), Poisson(1e5, 1), count=COUNT, max_outstanding=5)


def open_load_for_a_time(transport):
    return OpenLoad(transport, range(7), Poisson(5000, 1), duration=0.1, max_outstanding=5)


def closed_load(transport):
    return ClosedLoad(transport, range(7), 5, count=COUNT)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [open_load, open_load_for_a_time, closed_load])
def test_each_request_is_counted_once(make, seed):
    transport = Moody(seed)
    try:
        load = make(transport)
        load.start()
        windows = []
        while not load.wait(0.01):
            windows.append(load.take())
        windows.append(load.take())
        found = load.stop(0)
    finally:
        transport.close()
    codes = transport.outcomes
    assert found.sent == len(codes) and found.completed == codes.count(Code.OK)
    assert found.failed == {code: codes.count(code) for code in set(codes) - {Code.OK}}
    assert found.outstanding == 0 and found.sent + found.unsent == found.scheduled
    assert found.latency.get_total_count() == found.service.get_total_count() == found.completed
    assert max(each.outstanding for each in found.slices) <= 5
    for parts in (windows, found.slices):
        for name in ("scheduled", "sent", "completed"):
            assert sum(getattr(part, name) for part in parts) == getattr(found, name)
    if make is not open_load_for_a_time:
        assert found.sent == COUNT
