"""Pipelines: coroutines that answer requests by asking other models."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from composing import Zoo, ask, ensemble, eventually, floats, step, texts, values
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.core.clock import Deadline
from yais.core.loop_thread import LoopThread
from yais.core.tensor import DataType, TensorSpec
from yais.engines.python import PythonEngine
from yais.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from yais.inference.failure import FailureReason
from yais.inference.layout import Signature
from yais.inference.pipeline import PipelineModel
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.response_stream import ResponseStream
from yais.inference.servable import ModelClosed
from yais.inference.tokens import Tokens
from yais.lane import Lanes

MakePipeline = Callable[..., PipelineModel]


@pytest.fixture
def zoo(make_model: Any) -> Zoo:
    return Zoo(make_model)


@pytest.fixture
def make_pipeline(zoo: Zoo) -> Iterator[MakePipeline]:
    """Make pipelines in the zoo, which must have nothing under way at the end."""
    loop = LoopThread("test-pipelines")
    made: list[PipelineModel] = []

    def make(
        function: Callable[..., Any],
        inputs: Any = None,
        outputs: Any = None,
        *,
        name: str = "P",
        max_batch: int = 8,
        optional: Any = (),
        **options: Any,
    ) -> PipelineModel:
        takes, gives = tuple(inputs or [floats("x")]), tuple(outputs or [floats("y")])
        signature = Signature(name, takes, gives, max_batch, optional=frozenset(optional))
        options.setdefault("instances", 4)
        model = PipelineModel(signature, "1", function, find=zoo, loop=loop, **options)
        zoo.add(model)
        made.append(model)
        return model

    yield make
    for model in made:
        assert model.close(SOON), f"{model!r} did not drain"
    assert loop.close(SOON)


async def plus_one(inputs: Any, models: Any) -> Any:
    return {"y": (await models["a"].infer(i=inputs["x"]))["o"]}


# --- One request --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrays", [False, True])
def test_one_request(zoo: Zoo, make_pipeline: MakePipeline, arrays: bool) -> None:
    zoo.engine("a", lambda i: [i + 1])
    model = make_pipeline(plus_one)
    response = model.submit(ask(1, 3, arrays=arrays, id="seven")).get(SOON)
    assert values(response) == {"y": [[2, 2]] * 3} and response.id == "seven"
    assert (response.form.model_name, response.form.model_version) == ("P", "1")
    assert not model.decoupled and repr(model) == "<PipelineModel P version 1: 0 requests under way>"


def test_models_are_asked_at_once(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    both = threading.Barrier(2)

    def meet(i: Any) -> list[Any]:
        both.wait(SOON)
        return [i]

    zoo.engine("a", meet)
    zoo.engine("b", meet)

    async def fan_out(inputs: Any, models: Any) -> Any:
        a, b = await asyncio.gather(*(models[name].infer(i=inputs["x"]) for name in "ab"))
        return {"y": a["o"] + b["o"]}

    assert values(make_pipeline(fan_out).submit(ask(2)).get(SOON)) == {"y": [[4, 4]]}


def test_what_comes_in_and_what_can_be_asked(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    zoo.engine("a", lambda i: [i + 1, i + 2], outputs=[floats("o"), floats("p")])
    bits = TensorSpec("i", DataType.BF16, (1,))
    copied = [TensorSpec("o", DataType.BF16, (1,))]
    zoo.engine("bf16", lambda i: [i], [bits], copied, max_batch=0)
    zoo.engine("text", lambda i: [i], [texts("i")], [texts("o")])
    seen: list[Any] = []

    async def look(inputs: Any, models: Any) -> Any:
        seen.append((sorted(inputs), inputs["x"].flags.writeable))
        with pytest.raises(ValueError, match=r"read-only"):
            inputs["x"][:] = 0
        seen.append(repr(models["a", "2"]))
        seen.append(await models["bf16"].infer(i=np.array([0x3F80], np.uint16)))
        seen.append(await models["text"].infer(i=[["ü"]]))
        # Whatever numpy makes an array of, not contiguous ones too, and only what is wanted.
        answer = await models["a"].infer(outputs=["p"], i=np.array([[1, 9], [2, 9]]).T[:1])
        seen.append({name: array.tolist() for name, array in answer.items()})
        return {"y": [[1, 2]]}

    model = make_pipeline(look, [floats("x"), floats("z", 1)], optional=["z"])
    assert values(model.submit(ask(arrays=True)).get(SOON)) == {"y": [[1, 2]]}
    assert seen == [
        (["x"], False),
        "<AskedModel a version 2>",
        {"o": np.array([0x3F80])},
        {"o": np.array([["ü".encode()]], np.object_)},
        {"p": [[3, 4]]},
    ]
    assert zoo.asked[-1][1].outputs == ("p",)


def test_an_output_that_is_an_input_is_copied(make_pipeline: MakePipeline) -> None:
    async def same(inputs: Any, models: Any) -> Any:
        return {"y": inputs["x"]}

    request = ask(1, arrays=True)
    response = make_pipeline(same).submit(request).get(SOON)
    assert values(response) == {"y": [[1, 1]]}
    assert not np.shares_memory(response.data[0], request.data[0])  # type: ignore[arg-type]


def test_what_the_caller_said_goes_on(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    zoo.engine("a", lambda i: [i + 1])
    said: dict[str, Any] = {
        "id": "one",
        "parameters": {"key": "value"},
        "sequence": SequenceStep("s", end=True),
        "priority": 2,
        "timeout": 10**10,
    }
    deadline = Deadline.after(SOON)
    make_pipeline(plus_one).submit(ask(deadline=deadline, **said)).get(SOON)
    ((_, request),) = zoo.asked
    assert {name: getattr(request, name) for name in said} == said and request.deadline == deadline


def test_pipelines_and_ensembles_of_each_other(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    zoo.engine("a", lambda i: [i + 1])
    make_pipeline(plus_one)
    ensemble(zoo, [step("a", "x", "t"), step("P", {"x": "t"}, {"y": "y"})])

    async def through(inputs: Any, models: Any) -> Any:
        return await models["E"].infer(x=inputs["x"])

    outer = make_pipeline(through, name="outer")
    assert values(outer.submit(ask(1)).get(SOON)) == {"y": [[3, 3]]}


def test_a_pipeline_that_asks_itself(make_pipeline: MakePipeline) -> None:
    async def down(inputs: Any, models: Any) -> Any:
        if inputs["x"][0, 0] <= 0:
            return {"y": [[0, 0]]}
        answer = await models["P"].infer(x=inputs["x"] - 1)
        return {"y": answer["y"] + 1}

    model = make_pipeline(down, instances=4)
    assert values(model.submit(ask(3)).get(SOON)) == {"y": [[3, 3]]}
    # One more than there may be at once: the last waits for the others, which wait for it.
    with pytest.raises(DeadlineExceeded):
        model.submit(ask(4, deadline=Deadline.after(0.05))).get(SOON)
    assert values(model.submit(ask(3)).get(SOON)) == {"y": [[3, 3]]}


# --- What goes wrong ----------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[..., Any]:
    async def fail(inputs: Any, models: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InvalidArgument("not so"), InvalidArgument, "^not so$"),
        (Internal("broken"), Internal, "^model 'P' failed: broken$"),
        (KeyError("k"), Internal, "^model 'P' failed: 'k'$"),
        (TimeoutError("mine"), Internal, "^model 'P' failed: mine$"),
        (asyncio.CancelledError(), Cancelled, "^model 'P' was cancelled while it ran$"),
        (SystemExit(3), Internal, "^model 'P' failed: 3$"),
    ],
    ids=repr,
)
def test_what_a_pipeline_raises(
    make_pipeline: MakePipeline,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    kind: type[Exception],
    text: str,
) -> None:
    model = make_pipeline(failing(error))
    with caplog.at_level(logging.ERROR, "yais.inference"), pytest.raises(kind, match=text):
        model.submit(ask(id="mine")).get(SOON)
    foreign = not isinstance(error, Internal | InvalidArgument | asyncio.CancelledError)
    assert [record.message for record in caplog.records] == ["model 'P' failed"] * foreign
    for record in caplog.records:
        assert record.exc_info is not None
        assert vars(record).items() >= {"model": "P", "request_id": "mine"}.items()
    assert model.counts().fail.count == 1
    eventually(lambda: not model.pending)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "model 'P' failed: got a NoneType as outputs, expected a mapping"),
        ({"z": [[1, 2]]}, r"model 'P' failed: got outputs \['z'\], expected \['y'\]"),
        ({"y": [[1, 2, 3]]}, r"model 'P' failed: got output 'y' of shape \[1, 3\]"),
        ({"y": [[1, 2], [3, 4]]}, r"model 'P' returned output 'y' of shape \[2, 2\] for a batch of 1"),
    ],
)
def test_outputs_that_are_none(make_pipeline: MakePipeline, result: Any, text: str) -> None:
    async def give(inputs: Any, models: Any) -> Any:
        return result

    model = make_pipeline(give)
    with pytest.raises(Internal, match=text):
        model.submit(ask()).get(SOON)
    assert model.counts().fail.count == 1
    eventually(lambda: not model.pending)


def test_errors_of_models_keep_their_status(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    engine = zoo.engine("a", lambda i: [i])
    model = make_pipeline(plus_one)
    engine.error = Unavailable("come back later")
    with pytest.raises(Unavailable, match=r"^come back later$"):
        model.submit(ask()).get(SOON)
    engine.error = ValueError("odd")
    with pytest.raises(Internal, match=r"^model 'P' failed: model 'a' failed: odd$"):
        model.submit(ask()).get(SOON)
    del zoo.models["a", ""]
    with pytest.raises(NotFound, match=r"unknown model: 'a'"):
        model.submit(ask()).get(SOON)

    async def handled(inputs: Any, models: Any) -> Any:
        try:
            await models["a"].infer(i=inputs["x"])
        except NotFound:
            return {"y": inputs["x"] * 5}

    assert values(make_pipeline(handled).submit(ask(2)).get(SOON)) == {"y": [[10, 10]]}


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"q": [[1, 2]]}, "unexpected inference input 'q' for model 'a'"),
        ({}, "expected 1 inputs but got 0 inputs for model 'a'"),
        ({"i": [["no", "numbers"]]}, "input 'i'|for input 'i'"),
        ({"i": [[1, 2, 3]]}, "unexpected shape for input 'i' for model 'a'"),
    ],
)
def test_inputs_that_a_model_does_not_take(
    zoo: Zoo, make_pipeline: MakePipeline, arrays: Any, text: str
) -> None:
    zoo.engine("a", lambda i: [i])

    async def wrong(inputs: Any, models: Any) -> Any:
        return await models["a"].infer(**arrays)

    with pytest.raises(InvalidArgument, match=text):
        make_pipeline(wrong).submit(ask()).get(SOON)


def test_what_is_no_pipeline() -> None:
    signature = Signature("P", (floats("x"),), (floats("y"),), 8)
    with pytest.raises(InvalidArgument, match=r"as the pipeline of model 'P', expected a function as in"):
        PipelineModel(signature, "1", lambda inputs, models: None, find=Zoo(print), loop=LoopThread("never"))  # type: ignore[arg-type]


# --- Cancelling, deadlines, how many at once ----------------------------------------------------------


class Sleeper:
    """A pipeline that runs until it is told to end, or is cancelled."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.values: list[float] = []
        self.cancelled = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.end = asyncio.Event()

    async def pipeline(self, inputs: Any, models: Any) -> Any:
        self.loop = asyncio.get_running_loop()
        self.values.append(float(inputs["x"][0, 0]))
        self.began.release()
        try:
            await asyncio.wait_for(self.end.wait(), SOON)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"y": inputs["x"]}

    def let_go(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.end.set)


def test_cancelling_cancels_the_task(make_pipeline: MakePipeline) -> None:
    sleeper = Sleeper()
    model = make_pipeline(sleeper.pipeline)
    future = model.submit(ask())
    assert sleeper.began.acquire(timeout=SOON)
    future.cancel()
    assert sleeper.cancelled.wait(SOON)
    eventually(future.cancelled)
    counts = model.counts()
    assert (counts.fail.count, counts.success.count) == (1, 0)
    eventually(lambda: not model.pending)
    assert counts.failures == {FailureReason.CANCELED: 1}


def test_cancelling_cancels_what_a_model_has_queued(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    engine = zoo.engine("a", lambda i: [i])
    engine.gate.clear()
    busy = zoo("a").submit(ask(name="i"))
    assert engine.entered.acquire(timeout=SOON)
    model = make_pipeline(plus_one)
    future = model.submit(ask())
    eventually(lambda: zoo.models["a", ""].pending == 1)
    future.cancel()
    eventually(future.cancelled)
    engine.gate.set()
    busy.get(SOON)
    assert zoo.models["a", ""].close(SOON) and len(engine.batches) == 1


def test_a_deadline_cancels_the_task(make_pipeline: MakePipeline) -> None:
    sleeper = Sleeper()
    model = make_pipeline(sleeper.pipeline)
    with pytest.raises(DeadlineExceeded, match=r"^the deadline passed while model 'P' ran$"):
        model.submit(ask(deadline=Deadline.after(2.0))).get(SOON)
    assert sleeper.cancelled.is_set() and model.counts().fail.count == 1
    assert model.counts().failures == {FailureReason.CANCELED: 1}


def test_at_most_so_many_at_once_in_their_order(make_pipeline: MakePipeline) -> None:
    sleeper = Sleeper()
    model = make_pipeline(sleeper.pipeline, instances=2)
    futures = [model.submit(ask(value)) for value in range(6)]
    late = model.submit(ask(9, deadline=Deadline(1)))
    for _ in range(2):
        assert sleeper.began.acquire(timeout=SOON)
    assert futures.pop(3).cancel()
    assert not sleeper.began.acquire(timeout=0.01) and model.pending == 6
    sleeper.let_go()
    for future in futures:
        future.get(SOON)
    with pytest.raises(DeadlineExceeded, match=r"the deadline passed while the request was queued"):
        late.get(SOON)
    assert sleeper.values == [0, 1, 2, 4, 5]
    counts = model.counts()
    check_invariants(counts)
    assert counts.success.count == 5 and counts.queue.ns > 0
    assert counts.fail.count == 2 and counts.failures == {FailureReason.CANCELED: 2}


def test_many_threads(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    zoo.engine("a", lambda i: [i + 1])
    model = make_pipeline(plus_one, instances=3)

    def several(number: int) -> None:
        futures = [model.submit(ask(number * 100 + index, 2)) for index in range(20)]
        for index, future in enumerate(futures):
            assert values(future.get(SOON)) == {"y": [[number * 100 + index + 1] * 2] * 2}

    in_threads(4, several)
    counts = model.counts()
    check_invariants(counts)
    assert counts.executions == counts.success.count == 80 and counts.inferences == 160


def test_closing(make_pipeline: MakePipeline) -> None:
    sleeper = Sleeper()
    closed: list[int] = []
    model = make_pipeline(sleeper.pipeline, instances=1, on_close=lambda: closed.append(1))
    running, waiting = model.submit(ask()), model.submit(ask())
    assert sleeper.began.acquire(timeout=SOON)
    assert not model.close(0.01) and not closed
    for future in (running, waiting):
        with pytest.raises(Unavailable, match=r"model 'P' version 1 was unloaded meanwhile"):
            future.get(SOON)
    assert isinstance(model.submit(ask()).exception(0), ModelClosed)
    assert sleeper.cancelled.is_set() and model.close(SOON) and model.close(SOON)
    assert closed == [1]


def test_a_loop_that_is_closed() -> None:
    loop = LoopThread("closed")
    assert loop.close(SOON)
    signature = Signature("P", (floats("x"),), (floats("y"),), 8)
    model = PipelineModel(signature, "1", plus_one, find=Zoo(print), loop=loop)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"the server has stopped"):
        model.submit(ask()).get(SOON)
    assert model.close(SOON)


# --- Any number of responses --------------------------------------------------------------------------


def arrays(response: Any) -> dict[str, Any]:
    return values(response)


def test_a_decoupled_pipeline(zoo: Zoo, make_pipeline: MakePipeline) -> None:
    zoo.engine("a", lambda i: [i + 1])

    async def count(inputs: Any, models: Any) -> AsyncIterator[Any]:
        array = inputs["x"]
        for _ in range(int(array[0, 0])):
            array = (await models["a"].infer(i=array))["o"]
            yield {"y": array}

    model = make_pipeline(count)
    assert model.decoupled
    for number in (0, 3):
        stream = ResponseStream(arrays)
        request = ask(number, arrays=True)
        request.respond = stream.respond
        stream.follow(model.submit(request))
        assert list(stream) == [{"y": [[number + n] * 2]} for n in range(1, number + 1)]
    with pytest.raises(Unimplemented, match=r"model 'P' has a decoupled transaction policy"):
        model.submit(ask()).get(0)
    assert model.counts().success.count == 2


def test_a_decoupled_pipeline_of_whose_responses_no_more_are_wanted(make_pipeline: MakePipeline) -> None:
    ended = threading.Event()

    async def forever(inputs: Any, models: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield {"y": inputs["x"]}
        finally:
            ended.set()

    model = make_pipeline(forever)
    got: list[Any] = []
    request = ask()
    request.respond = lambda response: not got.append(response) and len(got) < 3  # type: ignore[func-returns-value]
    model.submit(request).get(SOON)
    assert len(got) == 3 and ended.wait(SOON)


def test_readers_that_are_slow_keep_no_other_from_its_responses(make_pipeline: MakePipeline) -> None:
    async def echo(inputs: Any, models: Any) -> AsyncIterator[Any]:
        yield {"y": inputs["x"]}

    model, other = make_pipeline(echo, instances=40), make_pipeline(echo, name="other")
    read = threading.Event()

    def submit(pipeline: PipelineModel, respond: Any) -> Any:
        request = ask()
        request.respond = respond
        return pipeline.submit(request)

    slow = [submit(model, lambda _: read.wait(SOON)) for _ in range(39)]  # the loop's own threads are 32
    try:
        submit(model, lambda _: True).get(SOON / 2)
        submit(other, lambda _: True).get(SOON / 2)
        assert not any(future.done() for future in slow)
    finally:
        read.set()
    for future in slow:
        future.get(SOON)


def test_a_decoupled_model_is_asked_for_a_stream(
    zoo: Zoo, make_model: Any, make_pipeline: MakePipeline
) -> None:
    count, number = TensorSpec("count", DataType.INT32, (1,)), TensorSpec("number", DataType.INT32, (1,))

    def counted(inputs: Any) -> Iterator[Any]:
        for value in range(int(inputs["count"][0])):
            yield {"number": [value]}

    engine = PythonEngine(counted, inputs=[count], outputs=[number])
    zoo.add(make_model(engine, signature=Signature("counter", (count,), (number,), 0), batching=False))

    async def total(inputs: Any, models: Any) -> Any:
        numbers = [answer["number"][0] async for answer in models["counter"].stream(count=inputs["count"])]
        with pytest.raises(Unimplemented, match=r"'counter' has a decoupled transaction policy"):
            await models["counter"].infer(count=inputs["count"])
        return {"total": [sum(numbers)]}

    model = make_pipeline(total, [count], [TensorSpec("total", DataType.INT32, (1,))], max_batch=0)
    request = InferRequest([count], [np.array([5], np.int32)])
    assert values(model.submit(request).get(SOON)) == {"total": [10]}


def test_what_is_asked_between_two_responses_of_a_stream_may_need_its_thread(
    zoo: Zoo, make_model: Any, make_pipeline: MakePipeline
) -> None:
    lanes, tokens = Lanes("one", threads={"execute": 1}), Tokens(1)

    def many(inputs: Any) -> Iterator[Any]:
        for value in range(100):
            yield {"o": inputs["i"] + np.float32(value)}

    engine = PythonEngine(many, inputs=[floats("i")], outputs=[floats("o")])
    signature = Signature("many", (floats("i"),), (floats("o"),), 0)
    decoupled = make_model(engine, signature=signature, batching=False, lanes=lanes, tokens=tokens)
    zoo.add(decoupled)
    zoo.engine("double", lambda i: [i * 2], lanes=lanes, tokens=tokens)
    asked = zoo.models["double", ""]

    async def total(inputs: Any, models: Any) -> Any:
        doubled = np.zeros((1, 2), np.float32)
        async for answer in models["many"].stream(i=inputs["x"][0]):
            doubled += (await models["double"].infer(i=answer["o"][None]))["o"]
        return {"y": doubled}

    assert values(make_pipeline(total).submit(ask(0.0)).get(SOON)) == {"y": [[9900.0, 9900.0]]}
    assert decoupled.close(SOON) and asked.close(SOON) and lanes.close(SOON)
