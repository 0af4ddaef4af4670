"""Requests over a link: what arrives, what comes back, and what goes wrong."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from link_pair import (
    SOON,
    Call,
    Engine,
    HttpCall,
    descriptors,
    dispatching,
    echo,
    linked,
    mappings,
    message,
    response,
    shaped,
    wait_until,
)

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.tensor import DataType
from yais.errors import (
    Cancelled,
    Code,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
    YaisError,
    status_of,
)
from yais.inference.request import InferResponse
from yais.protocol.infer_request import InferMessage, Parameter
from yais.protocol.tensor_codec import objects
from yais.serving.frontends.link import EngineLink
from yais.serving.http.caller import HttpCaller

MEMORY = 8 << 16


def test_a_request_arrives_as_it_was_sent() -> None:
    engine = Engine()
    sent = message(id_="17")
    sent.parameters = [Parameter("priority", 3)]
    due = Deadline(1 << 62)
    with linked(engine.infer) as (link, _):
        future = link.infer(sent, Call(due), decoupled="no streams here")
        got, caller, answer, respond = engine.next()
        assert (got.model_name, got.model_version, got.id, got.repeats) == ("m", "", "17", True)
        assert got.inputs[0].spec == sent.inputs[0].spec and got.outputs[0].name == "Y"
        assert [(each.key, each.value) for each in got.parameters] == [("priority", 3)]
        assert got.data == sent.data
        assert (caller.deadline, caller.waited, caller.protocol, respond) == (due, 7, "GRPC", None)
        answer.set_result(response(b"answer", "17"))
        answered = future.result(SOON)
        assert answered.id == "17" and bytes(answered.data[0]) == b"answer"
        assert answered.form.outputs[0].name == "Y"
        # Those of one form have the same objects, so that what follows from them is found again.
        future = link.infer(message(), Call(), decoupled="no streams here")
        again, _, answer, _ = engine.next()
        assert again.inputs is got.inputs and not again.parameters
        answer.set_result(response(b"more"))
        assert future.result(SOON).form is answered.form
        assert not link.pending


def test_the_engine_is_told_of_headers_and_of_http_where_it_matters() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        link.infer(message(), Call(headers=(("x", "1"),)))
        assert not engine.next()[1].metadata
        link.headers = True
        link.infer(message(), Call(headers=(("x", "1"), ("y-bin", "2"))))
        assert engine.next()[1].metadata.pairs() == (("x", "1"), ("y-bin", "2"))
        sent = HttpCall(headers=(("x", "1"),))
        link.infer(message(), sent)
        caller = engine.next()[1]
        assert isinstance(caller, HttpCaller)  # by which headers to forward are chosen
        assert (caller.accepted, caller.waited) == (sent.accepted, 7) and caller.metadata["x"] == "1"


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 60_000, 65_536, MEMORY + 1, 1_000_000])
def test_contents_of_any_size_come_back(size: int) -> None:
    data = os.urandom(size)
    with linked(memory=MEMORY) as (link, links):
        for given in (data, memoryview(data), np.frombuffer(data, np.uint8)):
            answer = link.infer(shaped(DataType.UINT8, (size,), given), Call()).result(SOON)
            assert bytes(answer.data[0]) == data
        apart = 3 * (size > MEMORY)
        assert link.statistics().overflows == links.statistics()[0].overflows == apart


def test_elements_of_bytes_come_back() -> None:
    elements = [b"", b"one", b"\0" * 5, os.urandom(5000)]
    with linked() as (link, _):
        answer = link.infer(shaped(DataType.BYTES, (4,), objects(elements)), Call()).result(SOON)
        assert list(answer.data[0]) == elements


def test_inputs_in_shared_memory_of_clients_have_no_contents() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        link.infer(shaped(DataType.FP32, (4,), None, shared_memory_region="r"), Call())
        got = engine.next()[0]
        assert got.data == [None] and got.inputs[0].parameters == {"shared_memory_region": "r"}


def test_what_does_not_fit_gets_memory_of_its_own_and_nothing_waits() -> None:
    engine = Engine()
    before, mapped = descriptors(), mappings()
    data = [os.urandom(60_000) for _ in range(40)]
    with linked(engine.infer, memory=MEMORY) as (link, links):
        futures = [link.infer(shaped(DataType.UINT8, (60_000,), each), Call()) for each in data]
        taken = [engine.next() for _ in data]  # all are there before one is given back
        for got, _, answer, _ in taken:
            (contents,) = got.data
            answer.set_result(response(bytes(contents)))  # type: ignore[arg-type]
        del taken, got, contents, answer
        answers = [future.result(SOON) for future in futures]
        assert [bytes(answer.data[0]) for answer in answers] == data
        assert link.statistics().overflows == links.statistics()[0].overflows == 32
        del answers, futures
        for _ in range(3):  # what is free again is told with the next messages
            future = link.infer(message(), Call())
            engine.next()[2].set_result(response(b""))
            future.result(SOON)
            del future
        future = link.infer(shaped(DataType.UINT8, (60_000,), data[0]), Call())
        engine.next()[2].set_result(response(data[0]))
        assert bytes(future.result(SOON).data[0]) == data[0]
        assert link.statistics().overflows == links.statistics()[0].overflows == 32
        del future
    wait_until(lambda: descriptors() <= before and mappings() <= mapped)


def test_contents_stay_as_long_as_somebody_has_them() -> None:
    data = [bytes([index]) * 50_000 for index in range(100)]
    with linked(memory=MEMORY) as (link, _):
        kept = [link.infer(shaped(DataType.UINT8, (50_000,), each), Call()).result(SOON) for each in data]
        assert [bytes(each.data[0]) for each in kept] == data
    assert [bytes(each.data[0]) for each in kept] == data  # after the end, too


class Odd(YaisError):
    """An error with a code of its own."""

    code = Code.DATA_LOSS


@pytest.mark.parametrize("raised", [True, False], ids=["raised", "in the future"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("no model 'm'"), NotFound),
        (Unimplemented("not so"), Unimplemented),
        (DeadlineExceeded("late"), DeadlineExceeded),
        (InvalidArgument(""), InvalidArgument),
        (Odd("lost"), YaisError),
        (TimeoutError("slow"), YaisError),
        (KeyError("x"), Exception),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_an_error_keeps_its_class_code_and_text(
    error: Exception, kind: type[Exception], raised: bool
) -> None:
    def fail(*_: Any, **__: Any) -> Future[InferResponse]:
        if raised:
            raise error
        failed: Future[InferResponse] = Future()
        failed.set_exception(error)
        return failed

    with linked(fail) as (link, links):
        got = link.infer(message(), Call()).exception(SOON)
        assert isinstance(got, kind) and isinstance(got, YaisError) == (kind is not Exception)
        assert status_of(got) == status_of(error)
        wait_until(lambda: not links.pending)
        assert not link.pending


def test_cancelling_reaches_the_engine() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        future = link.infer(message(), Call())
        answer = engine.next()[2]
        assert future.cancel() and future.cancel()
        wait_until(answer.cancelled)
        with pytest.raises(CancelledError):
            future.result(SOON)
        wait_until(lambda: not link.pending and not links.pending)


def test_what_runs_is_cancelled_for_the_caller_all_the_same() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        future = link.infer(message(), Call())
        answer = engine.next()[2]
        assert answer.set_running_or_notify_cancel()
        assert future.cancel()
        wait_until(lambda: link.infer(message(), Call()).cancel() or True)
        answer.set_result(response(b"too late"))
        wait_until(lambda: not links.pending and not link.pending)


def test_an_answer_that_the_engine_cancelled_is_an_error() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        future = link.infer(message(), Call())
        engine.next()[2].cancel()
        assert isinstance(future.exception(SOON), Cancelled)


def test_requests_of_a_dispatcher_leave_together_when_it_has_run_empty() -> None:
    with linked() as (link, links):
        link.infer(message(), Call()).result(SOON)
        sends = link.statistics().sends
        with dispatching() as queue:
            futures = [link.infer(message(bytes([index]) * 16), Call()) for index in range(50)]
            cancelled = link.infer(message(), Call())
            assert link.pending == 51 and link.statistics().sends == sends
            cancelled.cancel()
            queue.drain()
        for index, future in enumerate(futures):
            assert bytes(future.result(SOON).data[0]) == bytes([index]) * 16
        assert link.statistics().sends == sends + 1
        assert links.statistics()[0].requests == 51  # the one that was cancelled before was not sent


def test_requests_gather_while_the_engine_has_not_read_those_before() -> None:
    reading, gate = threading.Event(), threading.Event()

    def slow(request: InferMessage, caller: Any, **options: Any) -> Future[InferResponse]:
        reading.set()
        assert gate.wait(SOON)
        return echo(request, caller, **options)

    with linked(slow) as (link, links):
        first = link.infer(message(), Call())
        assert reading.wait(SOON)
        sends = link.statistics().sends
        futures = [link.infer(message(bytes([index]) * 16), Call()) for index in range(20)]
        assert link.pending == 21 and link.statistics().sends == sends
        assert link.call("Other", b"").cancel() is True  # what is no inference does not wait
        gate.set()
        assert first.result(SOON)
        for index, future in enumerate(futures):
            assert bytes(future.result(SOON).data[0]) == bytes([index]) * 16
        assert link.statistics().sends == sends + 3  # the call, its end, and all that waited
        wait_until(lambda: not links.pending)


def test_what_gathers_fails_with_the_engine() -> None:
    reading, gate = threading.Event(), threading.Event()

    def slow(request: InferMessage, caller: Any, **options: Any) -> Future[InferResponse]:
        reading.set()
        assert gate.wait(SOON)
        return echo(request, caller, **options)

    with linked(slow) as (link, _):
        futures = [link.infer(message(), Call())]
        assert reading.wait(SOON)
        futures += [link.infer(message(), Call()) for _ in range(5)]
        link.close(0)
        gate.set()
        for future in futures:
            with pytest.raises(Unavailable, match="the request was not answered"):
                future.result(SOON)


def test_many_threads_get_their_own_answers() -> None:
    wrong: list[object] = []

    def ask(name: int) -> None:
        for index in range(200):
            data = f"{name} {index} ".encode() * (1 + 400 * (index % 3))
            answer = link.infer(shaped(DataType.UINT8, (len(data),), data), Call()).result(SOON)
            if bytes(answer.data[0]) != data:
                wrong.append((name, index))

    with linked(memory=MEMORY) as (link, links):
        threads = [threading.Thread(target=ask, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert not wrong and not link.pending and not links.pending
        assert link.statistics().requests == links.statistics()[0].requests == 1200


def test_a_reader_that_does_not_keep_up_loses_nothing() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        gate, held = threading.Event(), threading.Event()
        futures = [link.infer(message(id_=str(index)), Call()) for index in range(500)]
        taken = [engine.next() for _ in futures]
        futures[0].add_done_callback(lambda _: (held.set(), gate.wait(SOON)))  # holds the reader up
        for index, (got, _, answer, _) in enumerate(taken):
            answer.set_result(response(b"x" * 4000, got.id))
            assert index or held.wait(SOON)
        assert links.statistics()[0].sent_bytes < 500 * 4000  # the socket is full
        gate.set()
        assert [future.result(SOON).id for future in futures] == [str(index) for index in range(500)]


def test_more_forms_than_are_kept_mix_nothing_up() -> None:
    with linked() as (link, _):
        for start in range(3):
            sent = [message(id_=f"{start} {index}", model=f"m{index}") for index in range(3000)]
            futures = [link.infer(each, Call()) for each in sent]
            assert [future.result(SOON).id for future in futures] == [each.id for each in sent]


def test_more_parameters_than_are_kept_mix_nothing_up() -> None:
    def say(request: InferMessage, _caller: Any, **_: Any) -> Future[InferResponse]:
        future: Future[InferResponse] = Future()
        future.set_result(response(f"{request.parameters[0].value}".encode()))
        return future

    with linked(say) as (link, _):
        said = [[Parameter("sequence_id", index)] for index in range(9000)]
        futures = [link.infer(message(parameters=each), Call()) for each in said]
        assert [int(bytes(future.result(SOON).data[0])) for future in futures] == list(range(9000))


def test_calls_and_pushes_come_in_their_order() -> None:
    told: list[tuple[str, Any]] = []
    headers: list[Any] = []

    def call(method: str, request: bytes, metadata: Any) -> Future[bytes]:
        headers.append(metadata)
        links.push("models", {"changed by": method})
        done: Future[bytes] = Future()
        done.set_result(request * 2)
        return done

    with linked(echo, call, told=lambda *each: told.append(each)) as (link, links):
        links.push("models", {})
        for size in (1, 5000, 20_000_000):
            assert link.call(f"Load {size}", b"x" * size).result(SOON) == b"x" * size * 2
            assert told[-1] == ("models", {"changed by": f"Load {size}"})
        assert headers == [None] * 3


def test_a_call_that_fails_says_how() -> None:
    def call(method: str, _request: bytes, _metadata: Any) -> Future[bytes]:
        raise NotFound(f"no {method}")

    with linked(echo, call) as (link, _), pytest.raises(NotFound, match="no Load"):
        link.call("Load", b"").result(SOON)


def test_who_listens_and_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def told(topic: str, value: int) -> None:
        raise RuntimeError(f"cannot use {value}")

    with linked(told=told) as (link, links):
        links.push("number", 5)
        assert link.infer(message(), Call()).result(SOON)
    assert "what the engine process said of 'number' could not be used" in caplog.text


def test_what_is_pushed_before_a_frontend_comes_is_told_it_once() -> None:
    told: list[tuple[str, Any]] = []
    engine = Engine()
    with linked(engine.infer, told=lambda *each: told.append(each)) as (_, links):
        for value in range(3):
            links.push("number", value)
        late: list[tuple[str, Any]] = []
        ours, theirs = socket.socketpair()
        other = EngineLink(told=lambda *each: late.append(each))
        links.add(1, theirs)
        other.connect(ours)
        wait_until(lambda: late == [("number", 2)] and told[-1:] == [("number", 2)])
        assert set(links.statistics()) == {0, 1}
        assert other.close(0)


def test_closing_waits_for_answers_and_fails_the_rest() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, _):
        answered, left = link.infer(message(), Call()), link.infer(message(), Call())
        engine.next()[2].set_result(response(b"in time"))
        assert not link.close(0.5)
        assert bytes(answered.result(0).data[0]) == b"in time"
        with pytest.raises(Unavailable, match="the request was not answered"):
            left.result(SOON)
        with pytest.raises(Unavailable, match="there is no engine process now"):
            link.infer(message(), Call()).result(0)
        assert link.close(0)


def test_draining_waits_for_what_came_in() -> None:
    engine = Engine()
    with linked(engine.infer) as (link, links):
        future = link.infer(message(), Call())
        answer = engine.next()[2]
        assert not links.drain(0.01)
        threading.Timer(0.05, answer.set_result, [response(b"")]).start()
        assert links.drain(SOON)
        assert future.result(SOON)
