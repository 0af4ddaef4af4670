"""The transport to nowhere."""

from __future__ import annotations

import threading

import pytest

from yais.client.infer_call import InferCall
from yais.core.clock import monotonic
from yais.errors import Code, FailedPrecondition
from yais.load.null_transport import NullTransport

SOON = 10.0


def test_answers_come_at_once():
    transport, ended = NullTransport(), []
    request = transport.encode(InferCall("model", ()))
    transport.send(request, lambda *how: ended.append(how))
    assert ended == [(Code.OK, "", None)] and transport.answers(None) == ()


def test_answers_come_after_a_delay():
    transport, ended, came = NullTransport(0.02), [], threading.Event()
    began = monotonic()

    def done(*how):
        ended.append((threading.current_thread(), monotonic() - began, how))
        came.set()

    transport.send("x", done)
    assert came.wait(SOON)
    transport.close()
    [(thread, took, how)] = ended
    assert thread is not threading.current_thread()
    assert took >= 20_000_000 and how == (Code.OK, "", None)


def test_closing_ends_what_is_in_flight():
    transport, ended = NullTransport(60), []
    for _ in range(3):
        transport.send("x", lambda *how: ended.append(how))
    transport.close()
    assert ended == [(Code.CANCELLED, "the transport is closed", None)] * 3
    with pytest.raises(FailedPrecondition, match="the transport is closed"):
        transport.send("x", lambda *_: None)
    transport.close()
