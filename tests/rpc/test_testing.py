"""The public helpers for tests, where they concern the RPC framework and time."""

from __future__ import annotations

import threading

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, echo_service, on_thread

import yais
from yais.core.clock import Deadline
from yais.testing import ManualClock, serving


def test_a_manual_clock_goes_only_when_told():
    clock = ManualClock(start=5)
    assert clock() == clock() == 5
    clock.advance(1.5)
    assert clock() == 1_500_000_005
    clock.advance_ns(1)
    assert repr(clock) == "<ManualClock at 1500000006 ns>"
    with pytest.raises(ValueError, match="got -1 ns, expected at least 0"):
        clock.advance_ns(-1)


def test_a_manual_clock_drives_deadlines():
    clock = ManualClock()
    deadline = Deadline.after(2.0, clock=clock)
    clock.advance(1.5)
    assert not deadline.expired(clock=clock)
    assert deadline.remaining(clock=clock) == 0.5
    clock.advance(0.5)
    assert deadline.expired(clock=clock)


def test_a_manual_clock_may_be_advanced_by_several_threads():
    clock = ManualClock()
    threads = [on_thread(lambda: [clock.advance_ns(1) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.join(SOON)
    assert clock() == 8000


def test_serving_ends_what_is_still_called():
    executed, closed = threading.Event(), threading.Event()

    class Closing(yais.Resources):
        def close(self):
            closed.set()

    class Hold(yais.Context[EchoRequest, EchoReply, Closing]):
        def execute(self, request):
            executed.set()
            return yais.Future()

    with serving(echo_service(Hold), resources=Closing(), threads=2) as served:
        assert served.port == served.server.port
        call = served.channel.unary_unary(SAY).future(b"", timeout=SOON)
        assert executed.wait(SOON)
        assert not closed.is_set()
    assert closed.is_set()
    assert call.code() is grpc.StatusCode.CANCELLED
    assert served.server.wait(0)
