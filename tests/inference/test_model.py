"""Models as a whole: requests in, responses out, whatever happens on the way."""

from __future__ import annotations

import concurrent.futures
import random
import threading
from typing import Any

import numpy as np
import pytest
from many_threads import in_threads
from modelling import (
    SIGNATURE,
    SOON,
    WITHOUT_BATCH,
    HandDispatcher,
    X,
    Y,
    dispatching,
    doubling,
    is_double,
    onnx_model,
    request,
    rows,
    stopped,
)
from onnx import TensorProto

from yais.core.clock import Deadline, monotonic
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.errors import DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable
from yais.inference.failure import FailureReason
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.request import InferRequest, InferResponse
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue import CloseReason
from yais.inference.servable import ModelClosed
from yais.inference.tokens import Tokens
from yais.inference.warm_up import WarmUpInput, WarmUpSample
from yais.lane import Lanes
from yais.protocol.tensor_codec import objects
from yais.testing import FakeEngine

MakeModel = Any

Responses = list[Future[InferResponse]]


def onnx_doubling() -> OnnxEngine:
    return OnnxEngine(onnx_model("Add", ["X", "X"]), OnnxOptions(intra_op_threads=1))


ENGINES = pytest.mark.parametrize("make_engine", [doubling, onnx_doubling], ids=["fake", "onnx"])


def short(model: Model) -> None:
    """Make a model believe that its batches take no time."""
    model._runner.pace.observe(1, 1, here=True)


def long(model: Model) -> None:
    """Make a model believe that its batches take for ever."""
    model._runner.pace.observe(1, 10**12, here=True)


# --- One request --------------------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("batching", [True, False])
def test_one_request(make_model: MakeModel, make_engine: Any, batching: bool) -> None:
    model = make_model(make_engine(), batching=batching)
    asked = request(3.0, batch=2, name="seven")
    response = model.submit(asked).get(SOON)
    assert response.id == "seven"
    assert (response.form.model_name, response.form.model_version) == ("M", "1")
    assert response.form.outputs == (TensorSpec("Y", DataType.FP32, (2, 2)),)
    assert rows(response).tolist() == [[6.0, 6.0], [8.0, 8.0]]


def test_responses_of_one_form_share_it(make_model: MakeModel) -> None:
    model = make_model(doubling())
    signature = object()
    forms = []
    for value in range(3):
        asked = request(value)
        asked.signature = signature
        forms.append(model.submit(asked).get(SOON).form)
    assert forms[0] is forms[1] is forms[2]


def test_without_a_batch_dimension(make_model: MakeModel) -> None:
    model = make_model(doubling(), signature=WITHOUT_BATCH, batching=False)
    spec = TensorSpec("X", DataType.FP32, (2,))
    response = model.submit(InferRequest([spec], [np.array([1, 2], np.float32).tobytes()])).get(SOON)
    assert response.form.outputs == (Y,) and rows(response).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("name", ["", "abc"])
def test_a_request_that_fits_not(make_model: MakeModel, name: str) -> None:
    engine = doubling()
    model = make_model(engine)
    future = model.submit(request(batch=9, name=name))
    with pytest.raises(InvalidArgument) as caught:
        future.get(0)
    assert str(caught.value) == (
        f"[request id: {name or '<id_unknown>'}] inference request batch-size must be <= 8 for 'M'"
    )
    short_one = request()
    short_one.data = [bytes(7)]
    with pytest.raises(InvalidArgument, match="Expected 8, got 7"):
        model.submit(short_one).get(0)
    assert model.counts().fail.count == 2 and not engine.batches


def test_sizes_are_checked_though_the_form_is_known(make_model: MakeModel) -> None:
    model = make_model(doubling())
    for data, fits in ((bytes(8), True), (bytes(9), False), (bytes(8), True)):
        asked = InferRequest([TensorSpec("X", DataType.FP32, (1, 2))], [data], signature="form")
        assert (model.submit(asked).exception(SOON) is None) == fits


def test_more_forms_than_are_kept(make_model: MakeModel) -> None:
    model = make_model(doubling())
    for form in range(1100):
        asked = request(form)
        asked.signature = form
        assert is_double(model.submit(asked).get(SOON), asked)
    assert len(model._intake._layouts) <= 1024 and len(model._runner.responder._forms) <= 1024


# --- Batches ------------------------------------------------------------------------------------------


def test_batches_form_while_the_instance_is_busy(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    asked = [request(10.0 * index, batch=size) for index, size in enumerate([1, 2, 3, 2, 4])]
    with stopped(engine, model) as first:
        futures = [model.submit(one) for one in asked]
        assert model.pending == 5 and not any(future.done() for future in futures)
    assert all(is_double(future.get(SOON), one) for future, one in zip(futures, asked, strict=True))
    assert first[0].get(SOON) and engine.batches == [1, 8, 4]
    assert model.pending == 0


def test_requests_of_a_bundle_wait_one_by_one(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    bundles = [request(10.0, batch=3), request(20.0, batch=2), request(30.0, batch=2)]
    for bundle in bundles:
        bundle.bundle = [(monotonic(), 0)] * bundle.inputs[0].shape[0]
    bundles[2].deadline = Deadline.after(0.0)
    with stopped(engine, model):
        futures = [model.submit(one) for one in [*bundles, request()]]
        assert model.pending == 3 + 2 + 2 + 1
    assert isinstance(futures[2].exception(SOON), DeadlineExceeded)
    assert futures[3].get(SOON) and model.pending == 0
    assert all(is_double(futures[index].get(SOON), bundles[index]) for index in (0, 1))


def test_without_batching_requests_run_one_by_one(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, batching=False)
    with stopped(engine, model):
        futures = [model.submit(request()) for _ in range(3)]
    assert all(future.get(SOON) for future in futures)
    assert engine.batches == [1, 1, 1, 1]


def test_every_instance_runs_a_batch(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, instances=3)
    with stopped(engine, model, executions=3):
        waiting = model.submit(request())
        assert not engine.entered.acquire(blocking=False)
        assert model.pending == 1 and not waiting.done()
    assert waiting.get(SOON)


def test_requests_of_one_batch_ask_for_different_outputs(make_model: MakeModel) -> None:
    z = TensorSpec("Z", DataType.INT32, ())
    engine = FakeEngine([X], [Y, z], lambda x: [x * 2, np.arange(len(x), dtype=np.int32)])
    model = make_model(engine, signature=Signature("M", (X,), (Y, z), max_batch=8))
    with stopped(engine, model):
        futures = []
        for outputs in (["Z"], ["Y"], ["Z", "Y"], []):
            asked = request(5.0, batch=2)
            asked.outputs = outputs
            futures.append(model.submit(asked))
    responses = [future.get(SOON) for future in futures]
    assert engine.batches == [1, 8]
    names = [[spec.name for spec in response.form.outputs] for response in responses]
    assert names == [["Z"], ["Y"], ["Z", "Y"], ["Y", "Z"]]
    assert rows(responses[0]).tolist() == [0, 1] and rows(responses[2]).tolist() == [4, 5]
    assert rows(responses[1]).tolist() == rows(responses[2], 1).tolist() == [[10.0, 10.0], [12.0, 12.0]]


def test_requests_of_one_batch_order_their_inputs_differently(make_model: MakeModel) -> None:
    b = TensorSpec("B", DataType.INT64, (1,))
    engine = FakeEngine([X, b], [Y], lambda x, b: [x - b.astype(np.float32)])
    model = make_model(engine, signature=Signature("M", (X, b), (Y,), max_batch=8))
    spec_x, spec_b = TensorSpec("X", DataType.FP32, (1, 2)), TensorSpec("B", DataType.INT64, (1, 1))
    ten, three = np.array([10, 20], np.float32).tobytes(), np.array([3], np.int64).tobytes()
    engine.gate.clear()
    futures = [model.submit(InferRequest([spec_x, spec_b], [ten, three]))]
    assert engine.entered.acquire(timeout=SOON)
    futures.append(model.submit(InferRequest([spec_b, spec_x], [three, ten])))
    futures.append(model.submit(InferRequest([spec_x, spec_b], [ten, memoryview(three)])))
    engine.gate.set()
    assert [rows(future.get(SOON)).tolist() for future in futures] == [[[7.0, 17.0]]] * 3
    assert engine.batches == [1, 2]


def test_strings_are_batched(make_model: MakeModel) -> None:
    s, t = TensorSpec("S", DataType.BYTES, (2,)), TensorSpec("T", DataType.BYTES, (2,))
    engine = FakeEngine([s], [t], lambda s: [s[:, ::-1]])
    model = make_model(engine, signature=Signature("M", (s,), (t,), max_batch=8))
    texts = [[b"a", b""], [b"\0", b"tail\0"], [b"\xff", b"b", b"c", b"d"]]
    engine.gate.clear()
    futures = []
    for elements in texts:
        spec = TensorSpec("S", DataType.BYTES, (len(elements) // 2, 2))
        futures.append(model.submit(InferRequest([spec], [objects(elements)])))
        if len(futures) == 1:
            assert engine.entered.acquire(timeout=SOON)
    engine.gate.set()
    answers = [rows(future.get(SOON)).tolist() for future in futures]
    assert answers == [[[b"", b"a"]], [[b"tail\0", b"\0"]], [[b"b", b"\xff"], [b"d", b"c"]]]
    assert engine.batches == [1, 3]


def test_strings_go_through_onnx(make_model: MakeModel) -> None:
    engine = OnnxEngine(onnx_model("Identity", ["X"], TensorProto.STRING))
    x, y = TensorSpec("X", DataType.BYTES, (2,)), TensorSpec("Y", DataType.BYTES, (2,))
    model = make_model(engine, signature=Signature("M", (x,), (y,), max_batch=8))
    elements = [b"\xff\0", "é".encode()]
    asked = InferRequest([TensorSpec("X", DataType.BYTES, (1, 2))], [objects(elements)])
    assert rows(model.submit(asked).get(SOON)).tolist() == [elements]


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_of_any_layout_and_size(make_model: MakeModel, batch: int) -> None:
    wide, empty, flag = (
        TensorSpec("W", DataType.FP16, (-1, 3)),
        TensorSpec("E", DataType.INT64, (0, 5)),
        TensorSpec("F", DataType.BOOL, ()),
    )
    engine = FakeEngine(
        [X],
        [wide, empty, flag],
        lambda x: [
            np.asfortranarray(np.arange(len(x) * 6).reshape(len(x), 2, 3).astype(np.float16)),
            np.zeros((len(x), 0, 5), np.int64),
            x[:, 0] > 1,
        ],
    )
    model = make_model(engine, signature=Signature("M", (X,), (wide, empty, flag), max_batch=8))
    with stopped(engine, model):
        futures = [model.submit(request(1.0, batch)) for _ in range(2)]
    for index, future in enumerate(futures):
        response = future.get(SOON)
        assert [spec.shape for spec in response.form.outputs] == [(batch, 2, 3), (batch, 0, 5), (batch,)]
        first = index * batch * 6
        assert rows(response).ravel().tolist() == list(range(first, first + batch * 6))
        assert rows(response, 1).size == 0
        assert rows(response, 2).tolist() == [row > 0 for row in range(batch)]


def test_shapes_that_differ_do_not_run_together(make_model: MakeModel) -> None:
    v, w = TensorSpec("V", DataType.FP32, (-1,)), TensorSpec("W", DataType.FP32, (-1,))
    engine = FakeEngine([v], [w], lambda v: [v + 1])
    model = make_model(engine, signature=Signature("M", (v,), (w,), max_batch=8), instances=1)
    engine.gate.clear()
    futures = []
    for length in (1, 2, 2, 0, 0, 2):
        spec = TensorSpec("V", DataType.FP32, (1, length))
        futures.append(model.submit(InferRequest([spec], [bytes(4 * length)])))
        if len(futures) == 1:
            assert engine.entered.acquire(timeout=SOON)
    engine.gate.set()
    assert [rows(future.get(SOON)).tolist() for future in futures] == [
        [[1.0] * length] for length in (1, 2, 2, 0, 0, 2)
    ]
    assert engine.batches == [1, 2, 2, 1]


def test_a_batch_waits_for_more(make_model: MakeModel) -> None:
    engine = doubling()
    delay = 30_000_000
    model = make_model(engine, max_delay=delay)
    futures = [model.submit(request()), model.submit(request())]
    assert all(future.get(SOON) for future in futures)
    counts = model.counts()
    assert sum(engine.batches) == 2 and set(counts.closed) == {CloseReason.DELAY}
    assert counts.queue.ns >= delay
    # A full one does not wait.
    futures = [model.submit(request(batch=4)), model.submit(request(batch=4))]
    assert all(future.get(SOON) for future in futures)
    assert model.counts().closed[CloseReason.FULL] == 1 and engine.batches[-1] == 8


def test_each_delay_ends(make_model: MakeModel) -> None:
    # The timer is set anew for whoever is left, however batches were taken in between.
    model = make_model(doubling(), max_delay=1_000_000, preferred=(2,))
    for size in (1, 2, 1, 1, 3, 1, 2, 1):
        assert model.submit(request(batch=size)).get(SOON)


# --- On a dispatcher's thread -------------------------------------------------------------------------


def recording() -> tuple[FakeEngine, list[threading.Thread]]:
    threads: list[threading.Thread] = []

    def function(x: Any) -> list[Any]:
        threads.append(threading.current_thread())
        return [x * 2]

    return FakeEngine([X], [Y], function), threads


def test_short_batches_run_when_the_queue_is_drained(make_model: MakeModel) -> None:
    engine, threads = recording()
    model = make_model(engine)
    short(model)
    with dispatching() as dispatcher:
        asked = [request(float(index)) for index in range(5)]
        futures = [model.submit(one) for one in asked]
        assert not engine.batches and len(dispatcher.callbacks) == 1
        dispatcher.drain()
        assert all(is_double(future.get(0), one) for future, one in zip(futures, asked, strict=True))
        again = model.submit(request())
        dispatcher.drain()
        assert again.get(0)
    assert engine.batches == [5, 1] and set(threads) == {threading.current_thread()}


def test_what_waited_behind_a_long_batch_runs_there_too(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, threads = recording()
    model = make_model(engine)
    short(model)
    # It is as long as we hold it.
    monkeypatch.setattr(model._runner.pace, "observe", lambda _size, _ns, **_: None)
    with stopped(engine, model) as first, dispatching() as dispatcher:
        futures = [model.submit(request(float(index))) for index in range(3)]
        assert len(dispatcher.callbacks) == 1  # although no instance is free
        engine.gate.set()
        first[0].get(SOON)
        assert engine.batches == [1] and "3 waiting, 0 of 1 instances busy" in repr(model)
        dispatcher.drain()
        assert [future.done() for future in futures] == [True, True, True]
    assert engine.batches == [1, 3] and threads[1] is threading.current_thread()


def test_what_waited_behind_a_long_batch_follows_it_if_it_is_long_itself(make_model: MakeModel) -> None:
    engine, threads = recording()
    model = make_model(engine)
    long(model)
    with stopped(engine, model), dispatching() as dispatcher:
        future = model.submit(request())
        assert not dispatcher.callbacks
        engine.gate.set()
        assert future.get(SOON)
    assert engine.batches == [1, 1] and threading.current_thread() not in threads


def test_a_full_batch_does_not_wait_for_that(make_model: MakeModel) -> None:
    engine, threads = recording()
    model = make_model(engine)
    short(model)
    with dispatching() as dispatcher:
        futures = [model.submit(request(batch=3)) for _ in range(3)]
        assert [future.done() for future in futures] == [True, True, True]
        dispatcher.drain()
    assert engine.batches == [6, 3] and set(threads) == {threading.current_thread()}


@pytest.mark.parametrize("know", [long, lambda model: None], ids=["long", "unknown"])
def test_other_batches_run_on_the_lane(make_model: MakeModel, know: Any) -> None:
    engine, threads = recording()
    model = make_model(engine)
    know(model)
    with dispatching() as dispatcher:
        future = model.submit(request())
        dispatcher.drain()
        assert future.get(SOON)
    assert threads[0].name.startswith("test-execute")


def test_without_batching_a_request_runs_at_once(make_model: MakeModel) -> None:
    model = make_model(doubling(), batching=False)
    short(model)
    with dispatching():
        assert model.submit(request()).done()


def test_dispatchers_do_not_wait_for_each_other(make_model: MakeModel) -> None:
    model = make_model(doubling())
    short(model)
    with dispatching() as first:
        early = model.submit(request())
        with dispatching() as second:  # the same thread: only the dispatcher counts
            late = model.submit(request())
            second.drain()
            assert late.done() and early.done()
    assert isinstance(first, HandDispatcher)
    first.drain()  # finds nothing left


def test_a_delay_also_ends_on_a_dispatcher(make_model: MakeModel) -> None:
    model = make_model(doubling(), max_delay=5_000_000)
    short(model)
    with dispatching() as dispatcher:
        future = model.submit(request())
        dispatcher.drain()
        assert future.get(SOON)
    assert model.counts().closed == {CloseReason.DELAY: 1}


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("instances", [1, 3])
def test_answers_may_ask_again(make_model: MakeModel, batching: bool, instances: int) -> None:
    # From the callback of the answer before, on whatever thread it runs.
    model = make_model(doubling(), batching=batching, instances=instances)
    left = 300
    finished = threading.Event()

    def again(future: Future[InferResponse]) -> None:
        nonlocal left
        left -= 1
        if future.exception() is not None or not left:
            finished.set()
        else:
            model.submit(request()).add_done_callback(again)

    model.submit(request()).add_done_callback(again)
    assert finished.wait(SOON) and left == 0
    left = 300
    finished.clear()
    short(model)
    with dispatching() as dispatcher:
        model.submit(request()).add_done_callback(again)
        while dispatcher.callbacks:
            dispatcher.drain()
        assert finished.wait(SOON) and left == 0


# --- Many threads -------------------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("max_delay", [0, 200_000])
def test_results_are_right_under_concurrency(
    make_model: MakeModel, make_engine: Any, instances: int, max_delay: int
) -> None:
    model = make_model(make_engine(), instances=instances, max_delay=max_delay)
    answered: list[tuple[Future[InferResponse], InferRequest]] = []

    def work(index: int) -> None:
        rng = random.Random(index)
        pending = []
        for number in range(40):
            asked = request(1000.0 * index + number, rng.randint(1, 8), name=f"{index}/{number}")
            pending.append((model.submit(asked), asked))
            if rng.random() < 0.3:
                pending[rng.randrange(len(pending))][0].get(SOON)
        answered.extend(pending)

    def dispatch(index: int) -> None:
        with dispatching() as dispatcher:
            rng = random.Random(index)
            for number in range(40):
                asked = request(1000.0 * index + number, rng.randint(1, 8), name=f"{index}/{number}")
                answered.append((model.submit(asked), asked))
                if rng.random() < 0.3:
                    dispatcher.drain()
            dispatcher.drain()

    in_threads(6, lambda index: work(index) if index < 4 else dispatch(index))
    # Compared at the end: by then what they were made of has been used again.
    assert all(is_double(future.get(SOON), asked) for future, asked in answered)
    assert len(answered) == 240
    counts = model.counts()
    assert counts.success.count == 240 and counts.fail.count == 0


@pytest.mark.parametrize("stages", [("pre", "execute", "post"), ("execute", "post"), ("pre", "execute")])
def test_lanes_with_other_stages(make_model: MakeModel, stages: tuple[str, ...]) -> None:
    lanes = Lanes("staged", threads=dict.fromkeys(stages, 2))
    engine, threads = recording()
    model = make_model(engine, lanes=lanes, instances=2)
    callbacks: list[str] = []

    def work(index: int) -> None:
        for number in range(20):
            asked = request(100.0 * index + number, 1 + number % 3)
            future = model.submit(asked)
            future.add_done_callback(lambda _: callbacks.append(threading.current_thread().name))
            assert is_double(future.get(SOON), asked)

    in_threads(4, work)
    assert {thread.name[: len("staged-execute")] for thread in threads} == {"staged-execute"}
    assert model.close(SOON) and lanes.close(SOON)
    # Those attached in time ran where the last stage does.
    lasts = {name.rsplit("-", 1)[0] for name in callbacks if name.startswith("staged")}
    assert lasts <= {f"staged-{stages[-1]}", "staged-execute"}  # what is short does not hop
    statistics = lanes.pool.statistics()
    assert statistics.available == statistics.size


def test_a_lane_must_execute(tokens: Tokens, timer: Timer) -> None:
    with pytest.raises(ValueError, match=r"expected lanes with 'execute' threads"):
        Model(
            SIGNATURE,
            "1",
            doubling(),
            ModelOptions(),
            lanes=Lanes("none", threads={"post": 1}),
            tokens=tokens,
            timer=timer,
        )


@pytest.mark.parametrize("max_batch", [4, 9])
def test_the_policy_must_fit_the_signature(
    lanes: Lanes, tokens: Tokens, timer: Timer, max_batch: int
) -> None:
    options = ModelOptions(BatchingPolicy(max_batch))
    with pytest.raises(
        ValueError, match=f"got batches of {max_batch}, expected 8 as in the signature of 'M'"
    ):
        Model(SIGNATURE, "1", doubling(), options, lanes=lanes, tokens=tokens, timer=timer)


# --- Cancellation and deadlines -----------------------------------------------------------------------


def test_a_request_cancelled_in_the_queue_never_runs(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model):
        gone, kept = model.submit(request(batch=2)), model.submit(request(batch=3))
        assert gone.cancel() and gone.cancelled()
    assert kept.get(SOON)
    assert engine.batches == [1, 3]
    with pytest.raises(concurrent.futures.CancelledError):
        gone.get(0)
    counts = model.counts()
    assert (counts.success.count, counts.fail.count) == (2, 1)
    assert counts.failures == {FailureReason.CANCELED: 1} and counts.fail.ns > 0


def test_all_cancelled(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model) as running:
        futures = [model.submit(request()) for _ in range(20)]
        assert all(future.cancel() for future in futures)
        assert not running[0].cancel()  # what runs is not stopped
    assert running[0].get(SOON)
    assert model.submit(request()).get(SOON) and engine.batches == [1, 1]
    assert model.pending == 0
    assert model.counts().failures == {FailureReason.CANCELED: 20} and model.counts().fail.count == 20


def test_a_batch_cancelled_as_it_is_taken(make_model: MakeModel, lanes: Lanes) -> None:
    # Between being taken from the queue and being claimed by the runner.
    engine = doubling()
    model = make_model(engine)
    lane_is_busy, go_on = threading.Event(), threading.Event()

    def occupy() -> None:
        lane_is_busy.set()
        assert go_on.wait(SOON)

    occupied = [lanes.threads[0]["execute"].submit(occupy) for _ in range(3)]
    assert lane_is_busy.wait(SOON)
    future = model.submit(request())
    assert model.pending == 0 and future.cancel()
    go_on.set()
    assert all(one.exception(SOON) is None for one in occupied)
    assert model.submit(request()).get(SOON)  # the instance was given back
    assert engine.batches == [1]
    assert model.counts().failures == {FailureReason.CANCELED: 1}


def test_a_deadline_passes_in_the_queue(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model):
        late = model.submit(request(deadline=Deadline.after(0.0)))
        in_time = model.submit(request(deadline=Deadline.after(3600.0)))
    with pytest.raises(DeadlineExceeded, match="deadline passed while the request was queued"):
        late.get(SOON)
    assert in_time.get(SOON) and engine.batches == [1, 1]
    counts = model.counts()
    assert (counts.success.count, counts.fail.count) == (2, 1)


def test_a_deadline_that_has_passed_before(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with pytest.raises(DeadlineExceeded):
        model.submit(request(deadline=Deadline.after(0.0))).get(SOON)
    assert not engine.batches and model.counts().fail.count == 1


# --- Errors -------------------------------------------------------------------------------------------


def test_an_engine_that_fails(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    engine = doubling()
    model = make_model(engine)
    engine.error = ValueError("no")
    with pytest.raises(Internal, match=r"^model 'M' failed: no$"):
        model.submit(request()).get(SOON)
    assert "model 'M' failed" in caplog.text and "ValueError: no" in caplog.text
    engine.error = ResourceExhausted("full")
    with pytest.raises(ResourceExhausted, match=r"^full$"):
        model.submit(request()).get(SOON)
    engine.error = None
    assert model.submit(request()).get(SOON)
    counts = model.counts()
    assert (counts.success.count, counts.fail.count, counts.executions) == (1, 2, 1)


def test_an_engine_that_exits(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    engine = doubling()
    model = make_model(engine)
    engine.error = SystemExit(3)
    with pytest.raises(Internal, match=r"^model 'M' failed: 3$"):
        model.submit(request()).get(SOON)
    engine.error = None
    assert model.submit(request()).get(SOON)


def refusing() -> FakeEngine:
    """Return an engine that fails when 666 is among its inputs."""

    def function(x: Any) -> list[Any]:
        if (x == 666).any():
            raise ValueError("666")
        return [x * 2]

    return FakeEngine([X], [Y], function)


@pytest.mark.parametrize("on_dispatcher", [False, True])
def test_the_guilty_one_of_a_batch_fails_alone(make_model: MakeModel, on_dispatcher: bool) -> None:
    engine = refusing()
    model = make_model(engine)
    asked = [request(value, name=str(value)) for value in (1.0, 666.0, 3.0, 4.0)]
    if on_dispatcher:
        short(model)
        with dispatching() as dispatcher:
            futures = [model.submit(one) for one in asked]
            dispatcher.drain()
        assert engine.batches == [4, 1, 1, 1, 1]
    else:
        with stopped(engine, model):
            futures = [model.submit(one) for one in asked]
        futures[-1].get(SOON)
        assert engine.batches == [1, 4, 1, 1, 1, 1]
    errors = [future.exception(SOON) for future in futures]
    assert [type(error) for error in errors] == [type(None), Internal, type(None), type(None)]
    assert all(
        is_double(future.get(0), one)
        for future, one in zip(futures, asked, strict=True)
        if not future.exception()
    )
    counts = model.counts()
    assert counts.fail.count == 1 and counts.success.count == len(engine.batches) - 2


def test_strings_of_another_shape_are_refused(make_model: MakeModel) -> None:
    s, t = TensorSpec("S", DataType.BYTES, (2,)), TensorSpec("T", DataType.BYTES, (2,))
    model = make_model(FakeEngine([s], [t], lambda s: [s]), signature=Signature("M", (s,), (t,), max_batch=8))
    spec = TensorSpec("S", DataType.BYTES, (1, 2))
    bad = np.full((2, 3), b"x", np.object_)  # as long as it should be
    assert isinstance(model.submit(InferRequest([spec], [bad])).exception(SOON), InvalidArgument)
    good = model.submit(InferRequest([spec], [objects([b"a", b"b"])]))
    assert rows(good.get(SOON)).tolist() == [[b"a", b"b"]]


def test_what_cannot_be_gathered_fails_alone(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    asked = [request(float(index)) for index in range(4)]
    bad = memoryview(bytes(asked[2].data[0]))
    asked[2].data = [bad]
    engine.gate.clear()
    futures = [model.submit(asked[0])]
    assert engine.entered.acquire(timeout=SOON)
    futures += [model.submit(one) for one in asked[1:]]
    bad.release()  # the caller breaks its promise that the contents stay
    engine.gate.set()
    assert isinstance(futures[2].exception(SOON), Internal)
    assert all(is_double(futures[index].get(SOON), asked[index]) for index in (0, 1, 3))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: [x[:1]], "returned output 'Y' of shape [1, 2] for a batch of 2"),
        (lambda x: [np.float32(1)], "returned output 'Y' of shape [] for a batch of 2"),
        (lambda x: [x.T[:, :0]], None),
        (lambda x: [x.astype(np.float64)], "returned output 'Y' of type float64, expected float32"),
        (lambda x: [x.astype(">f4")], "returned output 'Y' of type >f4, expected float32"),
        (lambda x: [np.full(x.shape, b"x")], "returned output 'Y' of type |S1, expected float32"),
    ],
)
def test_outputs_that_cannot_be_handed_out(make_model: MakeModel, function: Any, text: str | None) -> None:
    engine = FakeEngine([X], [Y], function)
    model = make_model(engine)
    if text is None:  # two rows, of nothing: not wrong
        assert rows(model.submit(request(batch=2)).get(SOON)).shape == (2, 0)
        return
    with pytest.raises(Internal) as caught:
        model.submit(request(batch=2)).get(SOON)
    assert str(caught.value) == f"model 'M' {text}"
    assert model.counts().executions == 0


class Outputs:
    """An engine whose `execute` returns just what it is told to."""

    def __init__(self, outputs: Any) -> None:
        self.inputs, self.outputs = (X,), (Y,)
        self._returned = outputs

    def select(self, inputs: Any, outputs: Any) -> None:
        pass

    def execute(self, inputs: Any) -> Any:
        return self._returned

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ([], "model 'M' returned 0 outputs, expected 1"),
        ([np.zeros((1, 2), np.float32)] * 2, "model 'M' returned 2 outputs, expected 1"),
        (None, "model 'M' failed: "),
        ([[[1.0, 2.0]]], "model 'M' failed: "),
    ],
)
def test_outputs_that_are_none(make_model: MakeModel, returned: Any, text: str) -> None:
    model = make_model(Outputs(returned))
    future = model.submit(request())
    with pytest.raises(Internal) as caught:
        future.get(SOON)
    assert str(caught.value).startswith(text)
    assert model.counts().fail.count == 1


def test_callbacks_that_raise_do_no_harm(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    engine = doubling()
    model = make_model(engine)

    def fail(future: Future[InferResponse]) -> None:
        raise RuntimeError("callback")

    with stopped(engine, model):
        futures = [model.submit(request()) for _ in range(3)]
        futures[0].add_done_callback(fail)
    assert all(future.get(SOON) for future in futures)
    assert model.submit(request()).get(SOON)
    assert "callback" in caplog.text


# --- Closing ------------------------------------------------------------------------------------------


def test_closed_models_refuse(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    assert model.close(0.0)
    assert engine.closed == 1
    with pytest.raises(Unavailable) as caught:
        model.submit(request(name="x")).get(0)
    assert str(caught.value) == "[request id: x] model 'M' version 1 is being unloaded"
    assert model.counts().fail.count == 1


def refused(model: Model) -> bool:
    future = model.submit(request())
    return future.done() and isinstance(future.exception(0), Unavailable)


def test_closing_waits_for_what_is_in_flight(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    closed: list[bool] = []
    with stopped(engine, model) as running:
        waiting = model.submit(request())
        thread = threading.Thread(target=lambda: closed.append(model.close(SOON)))
        thread.start()
        while not refused(model):  # as it does once it has begun to close
            assert thread.is_alive()
        assert not closed and not engine.closed
    thread.join(SOON)
    assert closed == [True] and engine.closed == 1
    assert running[0].get(SOON) and waiting.get(SOON)


def test_closing_gives_up(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model) as running:
        waiting = [model.submit(request()) for _ in range(3)]
        cancelled = model.submit(request())
        cancelled.cancel()
        assert not model.close(0.0)
        # Nothing would ever run what waits.
        assert all(isinstance(future.exception(0), Unavailable) for future in waiting)
        assert not engine.closed and not running[0].done()
    assert running[0].get(SOON)  # what runs may still end
    assert model.close(SOON) and engine.closed == 1
    counts = model.counts()
    assert engine.batches == [1] and counts.fail.count == 4
    assert counts.failures == {FailureReason.OTHER: 3, FailureReason.CANCELED: 1}


def test_closing_does_not_wait_for_the_dead(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, max_delay=50_000_000)
    futures = [model.submit(request()) for _ in range(2)]
    assert all(future.cancel() for future in futures)
    closed: list[bool] = []
    thread = threading.Thread(target=lambda: closed.append(model.close(6 * SOON)))
    thread.start()
    thread.join(SOON)  # far less than it was willing to wait
    assert closed == [True] and not engine.batches


def test_closing_amid_requests(make_model: MakeModel) -> None:
    # Every request is either answered or refused; none meets a closed engine, none is forgotten.
    for _ in range(20):
        engine = doubling()
        model = make_model(engine, instances=2)
        futures: Responses = []

        def work(index: int, model: Model = model, futures: Responses = futures) -> None:
            if index == 0:
                assert model.close(SOON)
                return
            for _ in range(10):
                futures.append(model.submit(request(batch=index)))

        in_threads(4, work)
        errors = [future.exception(SOON) for future in futures]
        assert {type(error) for error in errors} <= {type(None), ModelClosed}
        assert engine.closed == 1


def test_closing_between_the_check_and_the_queue(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)

    class Closing:
        """A deadline that closes the model when it is looked at."""

        @property
        def at(self) -> None:
            assert model.close(SOON)

    asked = request()
    asked.deadline = Closing()  # type: ignore[assignment]
    assert isinstance(model.submit(asked).exception(SOON), Unavailable)
    assert not engine.batches


def test_a_batch_ends_though_its_lane_is_closed(tokens: Tokens, timer: Timer) -> None:
    # A server that stops does not wait for ever, and then its lane goes before the last batch.
    for stages in (("execute", "post"), ("pre", "execute", "post"), ("execute",)):
        lanes = Lanes("closing", threads=dict.fromkeys(stages, 1))
        engine = doubling()
        model = Model(
            SIGNATURE, "1", engine, ModelOptions(BatchingPolicy(8)), lanes=lanes, tokens=tokens, timer=timer
        )
        with stopped(engine, model) as running:
            assert not model.close(0.0)
            assert not lanes.close(0.0)
        assert running[0].get(SOON)
        assert model.close(SOON) and lanes.close(SOON)


# --- Warming up ---------------------------------------------------------------------------------------


def test_warming_up(make_model: MakeModel) -> None:
    specs = [
        TensorSpec("X", DataType.FP32, (-1, 2)),
        TensorSpec("S", DataType.BYTES, (3,)),
        TensorSpec("B", DataType.BF16, ()),
    ]
    seen: list[tuple[Any, ...]] = []

    def function(*arrays: Any) -> list[Any]:
        seen.append(tuple((array.dtype, array.shape, array.ravel().tolist()) for array in arrays))
        return [np.zeros((1, 2), np.float32)]

    engine = FakeEngine(specs, [Y], function)
    model = make_model(engine, signature=Signature("M", tuple(specs), (Y,), max_batch=4))
    assert model._runner.pace.expected(4) is None
    model.warm_up()
    assert model._runner.pace.expected(4) is not None
    assert seen == [
        (
            (np.dtype(np.float32), (1, 1, 2), [0.0, 0.0]),
            (np.dtype(object), (1, 3), [b"", b"", b""]),
            (np.dtype(np.uint16), (1,), [0]),
        )
    ] * len(seen)
    assert model.counts().executions == 0


def test_a_model_that_takes_no_zeros_is_served_all_the_same(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    engine.error = Internal("no zeros")
    model.warm_up()
    engine.error = None
    assert model.counts().fail.count == 0
    assert is_double(model.submit(request()).result(SOON), request())


def test_a_warm_up_that_is_asked_for_has_to_succeed(make_model: MakeModel) -> None:
    engine = doubling()
    sample = WarmUpSample("twos", {"X": WarmUpInput(X.datatype, X.shape, "zero")}, batch_size=2, count=3)
    model = make_model(engine, options=ModelOptions(instances=2, warm_up=(sample,)))
    model.warm_up(on_zeros=False)
    assert engine.batches == [2] * 6 and model.counts().executions == 0
    engine.error = Internal("not today")
    with pytest.raises(Internal, match="not today"):
        model.warm_up(on_zeros=False)


def test_engines_are_engines() -> None:
    engine: Engine = doubling()
    assert engine.inputs == (X,)


# --- What a model says of itself ----------------------------------------------------------------------


def test_repr(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine, instances=2)
    with stopped(engine, model, executions=2):
        model.submit(request())
        assert repr(model) == (
            "<Model M version 1: <Scheduler 1 waiting, 2 of 2 instances busy>, <Pace unknown>>"
        )


def test_closing_does_not_wait_for_company(make_model: MakeModel) -> None:
    model = make_model(doubling(), max_delay=3600 * 10**9)
    asked = request()
    future = model.submit(asked)
    assert model.close(SOON)
    assert is_double(future.get(SOON), asked)
    dead = make_model(doubling(), max_delay=3600 * 10**9)
    assert dead.submit(request()).cancel()
    assert dead.close(SOON)
