"""Moments at which two threads or processes get in each other's way: nothing hangs, and no link ends."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from link_pair import (
    SOON,
    Call,
    Engine,
    descriptors,
    dispatching,
    echo,
    linked,
    message,
    no_call,
    response,
    shaped,
    wait_until,
)

from yais.core.future import Future
from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.inference.request import InferResponse
from yais.protocol.infer_request import InferMessage
from yais.serving.frontends import frontend_resources
from yais.serving.frontends.frontend_resources import FrontendResources
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.link_server import FrontendLinks
from yais.serving.frontends.link_stream import ResponseCredits
from yais.serving.frontends.link_thread import LinkThread
from yais.serving.frontends.operations import Topic
from yais.serving.log_settings import LogOptions, LogSettings

Infer = Callable[[EngineLink], Future[InferResponse]]


class Odd(str):
    """A text of a class that no other process knows."""

    __slots__ = ()
    __reduce__ = None  # type: ignore[assignment]


class Unhashable(str):
    """A parameter that cannot be told from others."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


def odd_header(link: EngineLink) -> Future[InferResponse]:
    link.headers = True
    large = shaped(DataType.UINT8, (40_000,), bytes(40_000))
    return link.infer(large, Call(headers=(("name", Odd("value")),)))


def odd_form(link: EngineLink) -> Future[InferResponse]:
    return link.infer(message(model=Odd("m")), Call())


def odd_parameter(link: EngineLink) -> Future[InferResponse]:
    return link.infer(message(parameters=[Unhashable("p")]), Call())


@pytest.mark.parametrize("odd", [odd_header, odd_form, odd_parameter])
def test_a_request_that_cannot_be_sent_fails_alone(odd: Infer) -> None:
    before = descriptors()
    with linked(memory=8 << 12) as (link, _):  # so small that large contents are files
        with dispatching() as dispatcher:
            good = [
                link.infer(shaped(DataType.UINT8, (50_000,), bytes([n]) * 50_000), Call()) for n in (1, 2)
            ]
            bad = odd(link)
            good += [link.infer(shaped(DataType.UINT8, (50_000,), b"\3" * 50_000), Call())]
            dispatcher.drain()
        with pytest.raises((InvalidArgument, TypeError)):
            bad.result(SOON)
        answers = [bytes(future.result(SOON).data[0]) for future in good]
        assert answers == [bytes([n]) * 50_000 for n in (1, 2, 3)]
        assert link.connected and not link.pending
        del good, bad
    wait_until(lambda: descriptors() <= before)


def test_an_answer_may_come_before_who_sent_the_request_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with linked() as (link, _):
        session: Any = link._session
        write, write_call = session._writer.write, session._writer.write_call

        def sent_by_another_thread(number: int) -> None:
            session._connection.send()
            wait_until(lambda: number not in session._pending)

        def writing(number: int, group: Any) -> None:
            write(number, group)
            sent_by_another_thread(number)

        def calling(number: int, *call: Any) -> None:
            write_call(number, *call)
            sent_by_another_thread(number)

        monkeypatch.setattr(session._writer, "write", writing)
        monkeypatch.setattr(session._writer, "write_call", calling)
        assert link.call("Echo", b"1").result(SOON) == b"Echo:1"
        assert bytes(link.infer(message(b"x" * 16), Call()).result(SOON).data[0]) == b"x" * 16


def test_a_request_that_is_cancelled_while_it_is_written_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        session: Any = link._session
        write = session._writer.write

        def writing(number: int, group: Any) -> None:
            group[0].future.cancel()
            write(number, group)

        monkeypatch.setattr(session._writer, "write", writing)
        link.infer(message(), Call())
        future = engine.next()[2]
        wait_until(future.cancelled)
        wait_until(lambda: not link.pending)


def test_a_response_after_the_end_of_its_request_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a model that was about to respond when its request was cancelled."""
    monkeypatch.setattr(ResponseCredits, "take", lambda _self, _deadline: True)
    engine = Engine()
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call(), respond=lambda _response: True)
        _, _, answer, respond = engine.next()
        future.cancel()
        wait_until(answer.cancelled)
        wait_until(lambda: not link.pending)
        respond(response(b"late"))
        again = link.infer(message(), Call())
        engine.next()[2].set_result(response(b"in time"))
        assert bytes(again.result(SOON).data[0]) == b"in time"


def test_a_frontend_whose_engine_process_does_not_read_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend_resources, "_DEAF", 0.01)
    changes: list[tuple[bool, bool]] = []
    resources = FrontendResources(
        LogSettings(LogOptions()),
        changed=lambda: changes.append((resources.ready, resources.lost)),
        stopping=lambda: False,
        drain=lambda _deadline, _hurried: True,
    )
    reads = threading.Event()

    def call(_method: str, _request: bytes, _metadata: Any) -> Future[bytes]:
        reads.wait(SOON)
        return Future()

    links = FrontendLinks(echo, call)
    ours, theirs = socket.socketpair()
    links.add(0, theirs)
    links.push(Topic.HEALTH, (True, True, False))
    resources.connect(ours)
    assert resources.ready
    resources.link.call("Waits", b"")

    def looked(*, ready: bool) -> bool:
        resources.look()
        return resources.ready is ready and resources.lost is not ready

    wait_until(lambda: looked(ready=False))
    reads.set()
    wait_until(lambda: looked(ready=True))
    assert changes == [(True, False), (False, True), (True, False)]
    resources.link.close(0)
    assert links.close(SOON)


def test_who_is_connected_knows_how_things_are() -> None:
    """Before it listens: the first request, too, comes with the headers that models are to see."""
    resources = FrontendResources(
        LogSettings(LogOptions()),
        changed=lambda: None,
        stopping=lambda: False,
        drain=lambda _deadline, _hurried: True,
    )
    known: list[bool] = []

    def connect() -> None:
        resources.connect(ours)
        known.append(resources.link.headers)

    links = FrontendLinks(echo, no_call)
    ours, theirs = socket.socketpair()
    connecting = threading.Thread(target=connect)
    connecting.start()
    links.push(Topic.HEADERS, True)
    links.push(Topic.HEALTH, (False, False, False))
    links.add(0, theirs)
    connecting.join(SOON)
    assert known == [True]
    resources.link.close(0)
    assert links.close(SOON)


def test_what_is_cancelled_while_the_engine_process_does_not_read_is_forgotten() -> None:
    reading, reads = threading.Event(), threading.Event()

    def infer(_request: InferMessage, _caller: Any, **_: Any) -> Future[InferResponse]:
        reading.set()
        reads.wait(SOON)
        future: Future[InferResponse] = Future()
        future.set_result(response(b"answer"))
        return future

    with linked(infer) as (link, _):
        first = link.infer(message(), Call())
        assert reading.wait(SOON)
        gathering = [link.infer(message(), Call()) for _ in range(100)]
        assert link.pending == 101
        for future in gathering[1:]:
            assert future.cancel()
        assert link.pending == 2
        wait_until(lambda: link.silence() > 0.01)
        reads.set()
        for future in (first, gathering[0]):
            assert bytes(future.result(SOON).data[0]) == b"answer"
        wait_until(lambda: link.silence() == 0)


def test_a_thread_that_sees_its_end_before_it_is_woken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LinkThread("test")
    thread.call_soon(lambda: wait_until(lambda: thread._closing))
    write = os.eventfd_write

    def late(descriptor: int, value: int) -> None:
        thread._thread.join(0.2)
        write(descriptor, value)

    monkeypatch.setattr(os, "eventfd_write", late)
    assert thread.close(SOON)
