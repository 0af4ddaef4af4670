"""Either end dies, at any moment, or says nonsense: nothing hangs, nothing is lost, nothing leaks."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from link_pair import (
    SOON,
    Call,
    Engine,
    descriptors,
    echo,
    linked,
    mappings,
    message,
    no_call,
    response,
    shaped,
    wait_until,
)

from yais.core.future import Future
from yais.core.tensor import DataType
from yais.errors import FailedPrecondition, Unavailable
from yais.inference.request import InferResponse
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.link_messages import ANSWER, CALL, FREE, HELLO, INFER, RESPONSE
from yais.serving.frontends.link_server import FrontendLinks

HERE = Path(__file__).parent


@contextmanager
def process(program: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Run one of the programs beside this file, with a connection."""
    ours, theirs = socket.socketpair()
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    with theirs:
        running = subprocess.Popen(
            [sys.executable, str(HERE / program), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        yield running, ours
    finally:
        running.kill()
        running.wait(SOON)
        ours.close()


def test_an_engine_that_is_killed_fails_what_is_pending_and_the_next_one_serves() -> None:
    lost = threading.Event()
    ready = threading.Event()
    link = EngineLink(told=lambda _topic, _value: ready.set(), lost=lost.set, memory=8 << 18)
    for how in ("from within", "from without"):
        ready.clear()
        lost.clear()
        with process("link_engine.py") as (running, connection):
            link.connect(connection)
            assert ready.wait(SOON)
            assert bytes(link.infer(message(b"x" * 16), Call()).result(SOON).data[0]) == b"x" * 16
            large = shaped(DataType.UINT8, (100_000,), b"stay" * 25_000)
            pending = [link.infer(large, Call()) for _ in range(50)]
            calls = [link.call("Echo", b"1").result(SOON)]
            if how == "from within":
                pending.append(link.infer(message(b"die" * 5 + b"!"), Call()))
            else:
                running.send_signal(signal.SIGKILL)
            for future in pending:
                with pytest.raises(Unavailable, match="the engine process is gone"):
                    future.result(SOON)
            assert calls == [b"Echo:1"]
            assert lost.wait(SOON)
            assert not link.connected and not link.pending
            with pytest.raises(Unavailable, match="there is no engine process now"):
                link.infer(message(), Call()).result(0)
    assert link.close(SOON)
    assert link.statistics().requests == 105


@pytest.mark.parametrize("seed", range(3))
def test_a_frontend_that_is_killed_under_load_disturbs_nobody(seed: int) -> None:
    before, mapped = descriptors(), mappings()
    held: list[InferResponse] = []
    served = threading.Semaphore(0)

    def infer(request: Any, caller: Any, **options: Any) -> Future[InferResponse]:
        served.release()
        future = echo(request, caller, **options)
        held.append(future.result(0))  # an engine that still reads
        del held[:-40]
        return future

    gone: list[int] = []
    with linked(infer, gone=gone.append) as (link, links):
        with process("link_frontend.py") as (running, connection):
            links.add(7, connection)
            for _ in range(random.Random(seed).randrange(50, 500)):
                assert served.acquire(timeout=SOON)
            running.kill()
            wait_until(lambda: gone == [7])
        # What was in its memory is still there for those who read it.
        assert all(bytes(each.data[0]) == bytes(range(256)) * 390 + bytes(range(160)) for each in held)
        assert bytes(link.infer(message(), Call()).result(SOON).data[0]) == b"0123456789abcdef"
        assert set(links.statistics()) == {0}
        held.clear()
    wait_until(lambda: gc.collect() >= 0 and descriptors() <= before and mappings() <= mapped)


def test_the_end_of_a_frontend_cancels_its_requests() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        link.infer(message(), Call())
        answer = engine.next()[2]
        link.close(0)
        wait_until(answer.cancelled)
        wait_until(lambda: not links.pending and not links.statistics())
        late = Engine()
        assert late.taken.empty()


def test_an_answer_to_a_frontend_that_is_gone_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        link.infer(message(), Call())
        answer = engine.next()[2]
        assert answer.set_running_or_notify_cancel()
        link.close(0)
        wait_until(lambda: not links.statistics())
        answer.set_result(response(b"x" * 100_000))
    assert not caplog.records


def test_a_thousand_ends_leave_nothing_behind() -> None:
    engine = Engine()
    lost = threading.Semaphore(0)
    link = EngineLink(told=lambda _topic, _value: None, lost=lost.release, memory=8 << 16)
    links = FrontendLinks(engine.infer, no_call)
    before = mapped = threads = None
    for turn in range(1000):
        ours, theirs = socket.socketpair()
        stray = theirs.dup()
        links.add(turn, theirs)
        link.connect(ours)
        futures = [link.infer(shaped(DataType.UINT8, (9000,), bytes(9000)), Call()) for _ in range(3)]
        engine.next()
        stray.shutdown(socket.SHUT_RDWR)  # at any moment: the second and third may be on their way
        stray.close()
        for future in futures:
            assert isinstance(future.exception(SOON), Unavailable)
        assert lost.acquire(timeout=SOON)
        while not engine.taken.empty():
            engine.taken.get_nowait()
        del futures, future
        if turn == 50:
            wait_until(lambda: not links.statistics())
            before, mapped, threads = descriptors(), mappings(), threading.active_count()
    wait_until(lambda: not links.statistics() and not links.pending)
    while not engine.taken.empty():
        engine.taken.get_nowait()
    wait_until(lambda: descriptors() <= (before or 0) and mappings() <= (mapped or 0))
    assert threading.active_count() == threads
    assert link.close(SOON) and links.close(SOON)


def _head(body: bytes) -> bytes:
    return struct.pack("<4sIQ", b"LINK", 0, len(body))


def _frame(*messages: tuple[Any, ...]) -> bytes:
    body = pickle.dumps(list(messages))
    return _head(body) + body


NONSENSE = {
    "noise": b"noise" * 20_000,
    "no pickle": _head(b"1234") + b"1234",
    "no messages": _head(pickle.dumps(5)) + pickle.dumps(5),
    "no such message": _frame((99,)),
    "no memory": _frame((HELLO, 8 << 16)),
    "too few fields": _frame((INFER, 1)),
    "too few fields of an answer": _frame((ANSWER, 1)),
    "a request before hello": _frame((CALL, 1, "X", b"", None)),
    "given back twice": _frame((FREE, [64])),
    "a response to nothing": _frame((RESPONSE, 5, 1, ())),
    "no form": _frame((INFER, 1, 12, 0, "", 0, 0, None, (), ())),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_an_engine_that_is_told_nonsense_ends_that_link_alone(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gone: list[int] = []
    with linked(gone=gone.append) as (link, links):
        ours, theirs = socket.socketpair()
        with ours:
            links.add(3, theirs)
            ours.sendall(nonsense)
            wait_until(lambda: gone == [3])
            with contextlib.suppress(ConnectionError):
                assert not ours.recv(1)
        assert link.infer(message(), Call()).result(SOON)
    assert "the link to frontend 3 is ended: " in caplog.text


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_a_frontend_that_is_told_nonsense_fails_what_is_pending(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lost = threading.Event()
    link = EngineLink(told=lambda _topic, _value: None, lost=lost.set, memory=8 << 16)
    ours, theirs = socket.socketpair()
    with theirs:
        link.connect(ours)
        future = link.infer(message(), Call())
        theirs.sendall(nonsense)
        with pytest.raises(Unavailable, match="the link is broken"):
            future.result(SOON)
        assert lost.wait(SOON)
    assert "the link to the engine process is ended: " in caplog.text
    assert link.close(SOON)


def test_a_message_that_is_torn_is_no_message(caplog: pytest.LogCaptureFixture) -> None:
    gone: list[int] = []
    with linked(gone=gone.append) as (_, links):
        ours, theirs = socket.socketpair()
        links.add(3, theirs)
        ours.sendall(_frame((CALL, 1, "X", b"", None))[:-1])
        ours.close()
        wait_until(lambda: gone == [3])
    assert not caplog.records


def test_what_is_closed_or_connected_takes_no_connection() -> None:
    with linked() as (link, links):
        for end in (link.connect, lambda connection: links.add(0, connection)):
            ours, theirs = socket.socketpair()
            with ours, theirs, pytest.raises(FailedPrecondition, match="connection"):
                end(ours)
        link.close(0)
        links.close(SOON)
        for end in (link.connect, lambda connection: links.add(5, connection)):
            ours, theirs = socket.socketpair()
            with ours, theirs, pytest.raises(FailedPrecondition):
                end(ours)
