"""Response streams: what the taker gets, in order, and how they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from managing import X, Y, check_idle, eventually, free_tokens, ones
from many_threads import in_threads
from modelling import SOON

from yais.core.future import Future
from yais.errors import DeadlineExceeded, Internal, InvalidArgument, Unavailable
from yais.inference import response_stream
from yais.inference.manager import InferenceManager
from yais.inference.request import InferResponse, ResponseForm
from yais.inference.response_stream import ResponseStream

AHEAD = response_stream._AHEAD


class Counting:
    """A model of as many responses as its input says: 0, 1, and so on."""

    def __init__(self) -> None:
        self.given = 0
        self.ended = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, arrays: Any) -> Any:
        try:
            for number in range(int(arrays["x"][0, 0])):
                assert self.gate.wait(SOON)
                self.given += 1
                yield {"y": ones(value=number)}
            if self.error is not None:
                raise self.error
        finally:
            self.ended.set()


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture
def manager(model: Counting) -> Iterator[InferenceManager]:
    with InferenceManager(1) as manager:
        manager.register("M", model, inputs=[X], outputs=[Y])
        manager.register("once", lambda arrays: {"y": arrays["x"]}, inputs=[X], outputs=[Y])
        manager.allocate()
        yield manager
        check_idle(manager)


def first(answer: Any) -> float:
    return float(answer["y"][0, 0])


@pytest.mark.parametrize("count", [0, 1, AHEAD, 100])
def test_responses_come_in_order(manager: InferenceManager, model: Counting, count: int) -> None:
    with manager.infer_runner("M").stream(x=ones(value=count)) as stream:
        assert [first(answer) for answer in stream] == list(range(count))
        with pytest.raises(StopIteration):
            next(stream)
    counts = manager.find("M").counts()
    assert counts.success.count == 1 and model.ended.is_set()


@pytest.mark.parametrize("count", [0, 1, 100])
async def test_responses_come_in_order_to_asyncio(manager: InferenceManager, count: int) -> None:
    runner = manager.infer_runner("M")
    with runner.stream(x=ones(value=count)) as stream:
        assert [first(answer) async for answer in stream] == list(range(count))
    one, other = runner.stream(x=ones(value=count)), runner.stream(x=ones(value=count))
    taken = await asyncio.gather(*(asyncio.wait_for(_all(stream), SOON) for stream in (one, other)))
    assert taken == [list(range(count))] * 2


async def _all(stream: ResponseStream) -> list[float]:
    return [first(answer) async for answer in stream]


def test_a_model_that_answers_once_gives_one(manager: InferenceManager) -> None:
    for value in range(200):  # the end and the answer come together
        with manager.infer_runner("once").stream(x=ones(value=value)) as stream:
            assert [first(answer) for answer in stream] == [value]


def test_an_error_comes_after_the_responses_before_it(manager: InferenceManager, model: Counting) -> None:
    model.error = ValueError("no more")
    with manager.infer_runner("M").stream(x=ones(value=3)) as stream:
        assert [first(next(stream)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Internal, match="no more"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)


async def test_an_error_comes_after_the_responses_before_it_to_asyncio(
    manager: InferenceManager, model: Counting
) -> None:
    model.error = ValueError("no more")
    with manager.infer_runner("M").stream(x=ones(value=3)) as stream:
        assert [first(await anext(stream)) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Internal, match="no more"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


def test_closing_stops_the_model(manager: InferenceManager, model: Counting) -> None:
    stream = manager.infer_runner("M").stream(x=ones(value=1e6))
    assert first(next(stream)) == 0
    stream.close()
    stream.close()
    assert model.ended.wait(SOON) and model.given <= AHEAD + 3
    with pytest.raises(StopIteration):
        next(stream)
    eventually(lambda: free_tokens(manager) == 1)


def test_closing_cancels_what_still_waits(manager: InferenceManager, model: Counting) -> None:
    model.gate.clear()
    runner = manager.infer_runner("M")
    with runner.stream(x=ones(value=2)) as running:
        waiting = runner.stream(x=ones(value=5))
        waiting.close()
        with pytest.raises(StopIteration):
            next(waiting)
        model.gate.set()
        assert [first(answer) for answer in running] == [0, 1]
    assert manager.unregister("M", SOON) and model.given == 2


def test_a_model_is_so_far_ahead_and_no_further(manager: InferenceManager, model: Counting) -> None:
    with manager.infer_runner("M").stream(x=ones(value=100)) as stream:
        eventually(lambda: model.given == AHEAD + 1)  # and waits with the next one
        assert not model.ended.wait(0.02) and model.given == AHEAD + 1
        assert first(next(stream)) == 0
        eventually(lambda: model.given == AHEAD + 2)


def test_who_is_too_slow_is_told(
    manager: InferenceManager, model: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_stream, "_TIMEOUT", 0.01)
    with manager.infer_runner("M").stream(x=ones(value=100)) as stream:
        assert model.ended.wait(SOON)  # nobody had taken any
        eventually(lambda: free_tokens(manager) == 1)
        assert [first(next(stream)) for _ in range(AHEAD)] == list(range(AHEAD))
        with pytest.raises(DeadlineExceeded, match="taken"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_waiting_for_a_response_has_an_end() -> None:
    stream = ResponseStream(lambda response: {}, timeout=0.01)
    done: Future[InferResponse] = Future()
    stream.follow(done)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        next(stream)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        asyncio.run(_take(stream))
    done.set_exception(Unavailable("gone"))  # nobody waits any more: it is not lost on them
    with pytest.raises(Unavailable, match="gone"):
        next(stream)


async def _take(stream: ResponseStream) -> Any:
    return await anext(stream)


def response(number: int) -> InferResponse:
    return InferResponse(ResponseForm("M", "1", ()), "", (np.array([number]),))


def test_the_last_response_is_not_lost_on_who_looks_before_it_is_there() -> None:
    stream = ResponseStream(lambda given: {"y": given.data[0]})
    done: Future[InferResponse] = Future()
    taken: list[Any] = []
    taking = threading.Event()

    def look(_: object) -> None:  # done already, and the stream does not know yet
        thread.start()
        assert taking.wait(SOON)
        thread.join(0.02)

    def take() -> None:
        taking.set()
        taken.extend(stream)

    thread = threading.Thread(target=take)
    done.add_done_callback(look)
    stream.follow(done)
    done.set_result(response(7))
    thread.join(SOON)
    assert [answer["y"][0] for answer in taken] == [7]


def test_who_gives_up_disturbs_nobody() -> None:
    stream = ResponseStream(lambda given: {"y": given.data[0]})
    stream.follow(Future())

    async def give_up() -> None:
        for number in range(100):
            taker = asyncio.ensure_future(_take(stream))
            await asyncio.sleep(0)
            putter = asyncio.get_running_loop().run_in_executor(None, stream.put, response(number))
            taker.cancel()
            assert await putter
            with pytest.raises(asyncio.CancelledError):
                await taker
            assert next(stream)["y"][0] == number

    asyncio.run(asyncio.wait_for(give_up(), SOON))


def test_several_takers_share_the_responses(manager: InferenceManager) -> None:
    taken: list[float] = []
    with manager.infer_runner("M").stream(x=ones(value=300)) as stream:
        in_threads(4, lambda _: taken.extend(first(answer) for answer in stream))
    assert sorted(taken) == list(range(300))


def test_a_request_that_is_none_is_refused(manager: InferenceManager) -> None:
    with pytest.raises(InvalidArgument, match="'M'"):
        manager.infer_runner("M").stream(z=ones())
    with pytest.raises(InvalidArgument):
        next(manager.infer_runner("M").stream(x=np.zeros((1, 5), np.float32)))
