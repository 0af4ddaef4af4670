"""Ensembles of real models: what goes from step to step, what fails, and what is counted."""

from __future__ import annotations

import gc
import itertools
import random
import re
import threading
import weakref
from collections import Counter
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from composing import ClosedOnce, Zoo, ask, ensemble, eventually, floats, step, texts, values
from many_threads import in_threads
from modelling import SOON, check_invariants

from yais.core.clock import Deadline
from yais.core.tensor import DataType, TensorSpec
from yais.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from yais.inference.failure import FailureReason
from yais.inference.in_flight import InFlight
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.servable import ModelClosed


@pytest.fixture
def zoo(make_model: Any) -> Zoo:
    return Zoo(make_model)


def diamond(zoo: Zoo, **options: Any) -> Any:
    """x -> double -> t; t -> plus, times -> u, v; u, v -> sum -> y: ((2x + 1) + (2x * 3))."""
    zoo.engine("double", lambda i: [i * 2])
    zoo.engine("plus", lambda i: [i + 1])
    zoo.engine("times", lambda i: [i * 3])
    zoo.engine("sum", lambda a, b: [a + b], [floats("a"), floats("b")])
    steps = [
        step("sum", {"a": "u", "b": "v"}, "y"),
        step("times", "t", "v"),
        step("plus", "t", "u"),
        step("double", "x", "t"),
    ]
    return ensemble(zoo, steps, **options)


# --- One request --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("signature", [None, "the same"])
def test_a_diamond(zoo: Zoo, arrays: bool, signature: Any) -> None:
    model = diamond(zoo)
    for value in (1.0, 2.0):
        future = model.submit(ask(value, 2, id="seven", arrays=arrays, signature=signature))
        response = future.get(SOON)
        assert values(response) == {"y": [[8 * value + 1] * 2] * 2}
        assert (response.id, response.form.model_name, response.form.model_version) == ("seven", "E", "3")
        assert response.form.outputs == (floats("y", 2, 2),)
        assert isinstance(response.data[0], np.ndarray if arrays else memoryview)
    assert [name for name, _ in zoo.asked[:4]] in (
        ["double", "times", "plus", "sum"],
        ["double", "plus", "times", "sum"],
    )
    assert model.close(SOON)


def test_steps_of_one_request_run_at_once(zoo: Zoo) -> None:
    both = threading.Barrier(2)

    def meet(i: Any) -> list[Any]:
        both.wait(SOON)
        return [i]

    zoo.engine("a", meet)
    zoo.engine("b", meet)
    model = ensemble(zoo, [step("a", "x", "y"), step("b", "x", "z")], outputs=[floats("y"), floats("z")])
    assert values(model.submit(ask()).get(SOON)) == {"y": [[1, 1]], "z": [[1, 1]]}


@pytest.mark.parametrize("signature", [None, "its own"])
def test_requests_of_many_forms(zoo: Zoo, signature: str | None) -> None:
    zoo.engine("a", lambda i: [i + 1])
    model = ensemble(zoo, [step("a", "x", "t"), step("a", "t", "y")])
    for batch in (1, 3, 2, 3, 1):
        request = ask(0, batch, signature=signature and (signature, batch))
        assert values(model.submit(request).get(SOON)) == {"y": [[2, 2]] * batch}
    same = {id(request.signature) for _, request in zoo.asked if request.signature is not None}
    assert len(same) == (6 if signature else 0), (
        "a form for each step and batch, and none where it is not known"
    )


def test_only_what_is_asked_for_runs(zoo: Zoo) -> None:
    zoo.engine("a", lambda i: [i + 1, i + 2], outputs=[floats("o"), floats("p")])
    zoo.engine("b", lambda i: [i * 10])
    steps = [step("a", "x", {"o": "t", "p": "z"}), step("b", "t", "y")]
    model = ensemble(zoo, steps, outputs=[floats("y"), floats("z")])
    assert values(model.submit(ask(outputs=("z",))).get(SOON)) == {"z": [[3, 3]]}
    assert [(name, request.outputs) for name, request in zoo.asked] == [("a", ("p",))]
    assert values(model.submit(ask(outputs=("z", "y"))).get(SOON)) == {"z": [[3, 3]], "y": [[20, 20]]}
    assert [counts.requests for counts in model.steps()] == [2, 1]


def test_what_the_caller_said_goes_on_to_the_steps(zoo: Zoo) -> None:
    model = diamond(zoo)
    said: dict[str, Any] = {
        "id": "one",
        "parameters": {"key": "value"},
        "sequence": SequenceStep(7, start=True),
        "priority": 2,
        "timeout": 10**10,
    }
    deadline = Deadline.after(SOON)
    model.submit(ask(deadline=deadline, **said)).get(SOON)
    assert len(zoo.asked) == 4
    for _, request in zoo.asked:
        assert {name: getattr(request, name) for name in said} == said
        assert request.deadline == deadline and request.arrays and not request.waits


def test_text_goes_through(zoo: Zoo) -> None:
    upper = lambda i: [np.array([[t.upper() for t in row] for row in i], np.object_)]  # noqa: E731
    zoo.engine("upper", upper, [texts("i", 2)], [texts("o", 2)])
    zoo.engine("copy", lambda i: [i], [texts("i", 2)], [texts("o", 2)])
    steps = [step("upper", "x", "t"), step("copy", "t", "y")]
    model = ensemble(zoo, steps, [texts("x", 2)], [texts("y", 2)])
    request = InferRequest([texts("x", 1, 2)], [np.array([b"a", b"b\0"], np.object_)])
    assert values(model.submit(request).get(SOON)) == {"y": [[b"A", b"B\0"]]}


def test_an_input_may_be_an_output(zoo: Zoo) -> None:
    zoo.engine("a", lambda i: [i + 1])
    model = ensemble(zoo, [step("a", "x", "y")], outputs=[floats("y"), floats("x")])
    for arrays in (False, True):
        assert values(model.submit(ask(arrays=arrays)).get(SOON)) == {"y": [[2, 2]], "x": [[1, 1]]}
    assert values(model.submit(ask(outputs=("x",))).get(SOON)) == {"x": [[1, 1]]}


def test_optional_inputs(zoo: Zoo) -> None:
    def scaled(i: Any, factor: Any) -> list[Any]:
        return [i * (10 if factor is None else factor)]

    one = floats("f", 1)
    zoo.engine("a", scaled, [floats("i"), one], optional=["f"])
    left_out = ensemble(zoo, [step("a", "x", "y")])
    assert values(left_out.submit(ask(2)).get(SOON)) == {"y": [[20, 20]]}
    mapped = ensemble(
        zoo, [step("a", {"i": "x", "f": "f"}, "y")], [floats("x"), one], optional=["f"], name="F"
    )
    for signature in (None, "same"):
        assert values(mapped.submit(ask(2, signature=signature)).get(SOON)) == {"y": [[20, 20]]}
    both = InferRequest([floats("x", 1, 2), floats("f", 1, 1)], [bytes(8), np.float32(3).tobytes()])
    assert values(mapped.submit(both).get(SOON)) == {"y": [[0, 0]]}


# --- Batch dimensions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [None, "same"])
def test_an_ensemble_without_a_batch_dimension_of_models_with_one(zoo: Zoo, signature: Any) -> None:
    zoo.engine("a", lambda i: [i + 1])
    zoo.engine("plain", lambda i: [i * 10], max_batch=0)
    model = ensemble(zoo, [step("a", "x", "t"), step("plain", "t", "u"), step("a", "u", "y")], max_batch=0)
    for arrays in (False, True):
        array = np.array([1, 2], np.float32)
        request = InferRequest([floats("x")], [array if arrays else array.tobytes()], arrays=arrays)
        request.signature = signature
        response = model.submit(request).get(SOON)
        assert values(response) == {"y": [21, 31]} and response.form.outputs == (floats("y"),)
    assert [request.inputs[0].shape for _, request in zoo.asked[:3]] == [(1, 2), (2,), (1, 2)]


def test_an_ensemble_with_a_batch_dimension_of_a_model_that_has_it_as_its_own(zoo: Zoo) -> None:
    zoo.engine("plain", lambda i: [i * 10], [floats("i", -1, 2)], [floats("o", -1, 2)], max_batch=0)
    zoo.engine("a", lambda i: [i + 1])
    model = ensemble(zoo, [step("plain", "x", "t"), step("a", "t", "y")])
    assert values(model.submit(ask(1, batch=3)).get(SOON)) == {"y": [[11, 11]] * 3}


def test_an_output_of_another_batch_is_refused(zoo: Zoo) -> None:
    zoo.engine("plain", lambda i: [i[:1]], [floats("i", -1, 2)], [floats("o", -1, 2)], max_batch=0)
    model = ensemble(zoo, [step("plain", "x", "y")])
    with pytest.raises(Internal, match=r"model 'E' returned output 'y' of shape .1, 2. for a batch of 3"):
        model.submit(ask(batch=3)).get(SOON)
    assert model.counts().fail.count == 1
    eventually(lambda: not model.pending)


def test_a_model_that_is_replaced_by_one_without_a_batch_dimension(zoo: Zoo) -> None:
    zoo.engine("a", lambda i: [i + 1])
    model = ensemble(zoo, [step("a", "x", "y")], max_batch=0)
    array = np.zeros(2, np.float32)
    for max_batch in (8, 0, 8):
        zoo.engine("a", lambda i: [i + 1], max_batch=max_batch)
        request = InferRequest([floats("x")], [array], signature="same")
        assert values(model.submit(request).get(SOON)) == {"y": [1, 1]}


# --- What goes wrong ----------------------------------------------------------------------------------


def test_a_request_that_fits_not(zoo: Zoo) -> None:
    model = diamond(zoo)
    with pytest.raises(InvalidArgument, match=r"\[request id: b\] inference request batch-size must be <= 8"):
        model.submit(ask(batch=9, id="b")).get(0)
    assert model.counts().fail.count == 1 and not zoo.asked


def test_a_step_fails_with_its_status_and_its_name(zoo: Zoo) -> None:
    model = diamond(zoo)
    engine = zoo.engine("plus", lambda i: [i + 1])
    engine.error = Unavailable("come back later")
    with pytest.raises(Unavailable, match=r"^in ensemble 'E', model 'plus': come back later$"):
        model.submit(ask()).get(SOON)
    engine.error = ValueError("odd")
    with pytest.raises(Internal, match=r"^in ensemble 'E', model 'plus' failed: odd$"):
        model.submit(ask()).get(SOON)
    engine.error = None
    assert values(model.submit(ask()).get(SOON)) == {"y": [[9, 9]]}
    assert model.counts().fail.count == 2 and model.counts().success.count == 1
    assert {counts.model: counts.failures for counts in model.steps()} == {
        "sum": 0,
        "times": 0,
        "plus": 2,
        "double": 0,
    }
    assert [counts.in_flight for counts in model.steps()] == [0] * 4


def test_a_model_that_is_gone(zoo: Zoo) -> None:
    model = diamond(zoo)
    del zoo.models["times", ""]
    with pytest.raises(NotFound, match=r"^in ensemble 'E', Request for unknown model: 'times' is not found$"):
        model.submit(ask()).get(SOON)
    eventually(lambda: not model.pending)


def test_a_model_that_is_replaced_meanwhile(zoo: Zoo) -> None:
    model = diamond(zoo)
    ClosedOnce(zoo, "plus")
    assert values(model.submit(ask()).get(SOON)) == {"y": [[9, 9]]}


def test_what_others_of_a_failed_request_wait_for_is_cancelled(zoo: Zoo) -> None:
    slow = zoo.engine("slow", lambda i: [i])
    zoo.engine("bad", lambda i: 1 / 0)
    steps = [step("slow", "x", "t"), step("slow", "t", "y"), step("bad", "x", "z")]
    model = ensemble(zoo, steps, outputs=[floats("y"), floats("z")])
    slow.gate.clear()
    busy = zoo("slow").submit(ask(name="i"))
    assert slow.entered.acquire(timeout=SOON)
    failing = model.submit(ask())  # its slow step waits in the queue, and is cancelled there
    with pytest.raises(Internal, match=r"in ensemble 'E', model 'bad' failed: "):
        failing.get(SOON)
    eventually(lambda: not model.pending)
    assert len(slow.batches) == 1
    slow.gate.set()
    busy.get(SOON)
    assert len(slow.batches) == 1


def test_a_failure_is_told_when_nothing_reads_the_request_any_more(zoo: Zoo) -> None:
    slow = zoo.engine("slow", lambda i: [i])
    zoo.engine("bad", lambda i: 1 / 0)
    steps = [step("slow", "x", "y"), step("bad", "x", "z")]
    model = ensemble(zoo, steps, outputs=[floats("y"), floats("z")])
    slow.gate.clear()
    future = model.submit(ask())
    assert slow.entered.acquire(timeout=SOON)
    eventually(lambda: model.steps()[1].failures == 1)
    assert not future.wait(0.02) and model.pending == 1
    slow.gate.set()
    with pytest.raises(Internal, match=r"model 'bad' failed"):
        future.get(SOON)
    assert model.counts().fail.count == 1
    eventually(lambda: not model.pending)


def test_cancelling_cancels_what_waits(zoo: Zoo) -> None:
    model = diamond(zoo)
    engine = zoo.engine("double", lambda i: [i * 2])
    engine.gate.clear()
    busy = zoo("double").submit(ask(name="i"))
    assert engine.entered.acquire(timeout=SOON)
    future = model.submit(ask())
    assert future.cancel() and future.cancelled() and model.pending == 0
    engine.gate.set()
    busy.get(SOON)
    assert [name for name, _ in zoo.asked] == ["double", "double"] and len(engine.batches) == 1
    counts = model.counts()
    assert (counts.fail.count, counts.success.count) == (1, 0)
    assert counts.failures == {FailureReason.CANCELED: 1}


def test_cancelling_waits_for_what_runs(zoo: Zoo) -> None:
    model = diamond(zoo)
    engine = zoo.engine("double", lambda i: [i * 2])
    engine.gate.clear()
    future = model.submit(ask())
    assert engine.entered.acquire(timeout=SOON)
    assert not future.cancel() and not future.done()
    engine.gate.set()
    eventually(future.cancelled)
    assert [name for name, _ in zoo.asked] == ["double"]
    assert model.close(SOON)


def test_a_deadline_that_passes_between_two_steps(zoo: Zoo) -> None:
    engine = zoo.engine("a", lambda i: [i])
    zoo.engine("b", lambda i: [i])
    model = ensemble(zoo, [step("a", "x", "t"), step("b", "t", "y")])
    engine.gate.clear()
    deadline = Deadline.after(2.0)
    future = model.submit(ask(deadline=deadline))
    assert engine.entered.acquire(timeout=SOON)
    eventually(deadline.expired)
    engine.gate.set()
    with pytest.raises(DeadlineExceeded, match=r"^in ensemble 'E', model 'b': the deadline passed"):
        future.get(SOON)
    assert [name for name, _ in zoo.asked] == ["a"]


@pytest.mark.parametrize("part", ["find", "_completed"])
def test_a_fault_of_ours_leaves_nobody_waiting(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    zoo.engine("a", lambda i: [i])
    model = ensemble(zoo, [step("a", "x", "y")], max_in_flight=1)

    def broken(*_: Any) -> Any:
        raise RuntimeError("unexpected")

    for _ in range(3):
        with monkeypatch.context() as patched:
            patched.setattr(model, "_find" if part == "find" else part, broken)
            future = model.submit(ask(id="mine"))
            with pytest.raises(Internal, match=r"'E'.* failed: unexpected|in ensemble 'E', .* unexpected"):
                future.get(SOON)
        assert "RuntimeError: unexpected" in caplog.text
        assert vars(caplog.records[-1]).items() >= {"model": "E", "request_id": "mine"}.items()
    assert values(model.submit(ask()).get(SOON)) == {"y": [[1, 1]]}
    assert model.steps()[0].in_flight == 0 and model.close(SOON)


# --- How many at once ---------------------------------------------------------------------------------


def test_at_most_so_many_requests_per_step_in_their_order(zoo: Zoo) -> None:
    engine = zoo.engine("a", lambda i: [i])
    zoo.engine("b", lambda i: [i])
    model = ensemble(zoo, [step("a", "x", "t"), step("b", "t", "y")], max_in_flight=2)
    engine.gate.clear()
    futures = [model.submit(ask(value)) for value in range(6)]
    late = model.submit(ask(9.0, deadline=Deadline(1)))
    gone = futures.pop(3)
    assert gone.cancel()
    assert [float(np.frombuffer(r.data[0], np.float32)[0]) for _, r in zoo.asked] == [0, 1]
    assert model.steps()[0].in_flight == 2 and model.pending == 6
    engine.gate.set()
    assert [values(future.get(SOON))["y"][0][0] for future in futures] == [0, 1, 2, 4, 5]
    with pytest.raises(DeadlineExceeded, match=r"in ensemble 'E', model 'a': the deadline passed"):
        late.get(SOON)
    assert [float(np.frombuffer(r.data[0], np.float32)[0]) for n, r in zoo.asked if n == "a"] == [
        0,
        1,
        2,
        4,
        5,
    ]
    assert model.close(SOON)


def test_many_that_wait_do_not_nest(zoo: Zoo) -> None:
    turns = InFlight(1)
    done: list[int] = []

    def start(number: int) -> None:
        done.append(number)
        turns.leave()  # at once, as a model that answers at once

    turns.enter(lambda: done.append(-1))
    for number in range(5000):
        turns.enter(lambda number=number: start(number))  # type: ignore[misc]
    assert done == [-1] and repr(turns) == "<InFlight 1 of 1 under way, 5000 waiting>"
    turns.leave()
    assert done == [-1, *range(5000)] and repr(turns) == "<InFlight 0 of 1 under way, 0 waiting>"
    with pytest.raises(ValueError, match=r"got a limit of -1"):
        InFlight(-1)


def test_nobody_overtakes_those_that_wait() -> None:
    turns = InFlight(2)
    order: list[str] = []

    def third() -> None:
        order.append("third")
        turns.leave()  # there is room now, and the fourth waits
        turns.enter(lambda: order.append("fifth"))

    turns.enter(lambda: order.append("first"))
    turns.enter(lambda: order.append("second"))
    turns.enter(third)
    turns.enter(lambda: order.append("fourth"))
    turns.leave()
    assert order == ["first", "second", "third", "fourth"]
    turns.leave()
    assert order[4:] == ["fifth"]


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_from_many_threads(limit: int) -> None:
    turns = InFlight(limit)
    lock = threading.Lock()
    inside = [0, 0, 0]  # now, at most, in all

    def start() -> None:
        with lock:
            inside[0] += 1
            inside[1] = max(inside[:2])
            inside[2] += 1
        with lock:
            inside[0] -= 1
        turns.leave()

    in_threads(4, lambda _: [turns.enter(start) for _ in range(200)])
    assert inside[0] == 0 and inside[1] <= limit and inside[2] == 800


def test_a_long_chain_does_not_nest(zoo: Zoo) -> None:
    zoo.engine("a", lambda i: [i + 1])
    names = ["x", *(f"t{number}" for number in range(199)), "y"]
    model = ensemble(zoo, [step("a", here, there) for here, there in itertools.pairwise(names)])
    assert values(model.submit(ask(0)).get(SOON)) == {"y": [[200, 200]]}


# --- Counting, closing, memory ------------------------------------------------------------------------


def test_counts(zoo: Zoo) -> None:
    model = diamond(zoo, max_in_flight=2)

    def several(_: int) -> None:
        for future in [model.submit(ask(1, 2)) for _ in range(25)]:
            assert values(future.get(SOON)) == {"y": [[9, 9]] * 2}

    in_threads(4, several)
    counts = model.counts()
    check_invariants(counts)
    assert counts.executions == counts.success.count == 100 and counts.inferences == 200
    assert counts.queue.ns == 0 and counts.success.ns >= counts.compute_infer.ns > 0
    assert [(c.requests, c.failures, c.in_flight) for c in model.steps()] == [(100, 0, 0)] * 4
    assert all(c.ns > 0 and c.version == "" for c in model.steps())
    assert repr(model) == "<EnsembleModel E version 3: 0 requests under way>"


@pytest.mark.parametrize("max_in_flight", [0, 1, 3])
def test_nothing_is_lost_whatever_happens(zoo: Zoo, max_in_flight: int) -> None:
    model = diamond(zoo, max_in_flight=max_in_flight)

    def odd_fails(i: Any) -> list[Any]:
        if (i[:, 0] % 2).any():
            raise ValueError("odd")
        return [i + 1]

    zoo.engine("plus", odd_fails, [floats("i")], [floats("o")], instances=2)
    outcomes: Counter[str] = Counter()

    def several(number: int) -> None:
        dice = random.Random(number)
        asked = []
        for index in range(60):
            value = index / 2  # what is doubled is odd for half of them
            deadline = Deadline.after(dice.choice([None, None, 0.0, 0.001]))
            asked.append((value, model.submit(ask(value, deadline=deadline))))
            if not dice.randrange(3):
                asked[dice.randrange(len(asked))][1].cancel()
        for value, future in asked:
            eventually(future.done)
            error = CancelledError() if future.cancelled() else future.exception(0)
            if error is None:
                assert value % 1 == 0 and values(future.get(0)) == {"y": [[8 * value + 1] * 2]}
            outcomes[type(error).__name__] += 1

    in_threads(4, several)
    assert outcomes.total() == 240
    eventually(lambda: not model.pending)
    assert outcomes.keys() <= {"NoneType", "Internal", "DeadlineExceeded", "CancelledError"}
    counts = model.counts()
    assert counts.success.count == outcomes["NoneType"] > 0
    assert counts.fail.count == 240 - outcomes["NoneType"] == counts.failures.total() > 0
    assert counts.failures[FailureReason.BACKEND] == outcomes["Internal"]
    assert [step.in_flight for step in model.steps()] == [0] * 4
    assert values(model.submit(ask(2)).get(SOON)) == {"y": [[17, 17]]} and model.close(SOON)


def test_closing_waits_for_what_is_under_way_and_refuses_the_rest(zoo: Zoo) -> None:
    model = diamond(zoo)
    engine = zoo.engine("sum", lambda a, b: [a + b], [floats("a"), floats("b")])
    engine.gate.clear()
    future = model.submit(ask())
    assert engine.entered.acquire(timeout=SOON)
    assert not model.close(0.01)
    refused = model.submit(ask(id="late"))
    assert refused.done() and isinstance(refused.exception(0), ModelClosed)
    assert str(refused.exception(0)) == "[request id: late] model 'E' version 3 is being unloaded"
    engine.gate.set()
    with pytest.raises(Unavailable, match=r"model 'E' version 3 was unloaded meanwhile"):
        future.get(SOON)
    assert model.close(SOON)


def test_ensembles_of_ensembles(zoo: Zoo) -> None:
    inner = diamond(zoo, name="inner")
    model = ensemble(zoo, [step("double", "x", "t"), step_of(inner, "t", "y")])
    assert values(model.submit(ask(1)).get(SOON)) == {"y": [[17, 17]]}
    zoo.engine("plus", lambda i: 1 / 0)
    with pytest.raises(Internal, match=r"^in ensemble 'E', in ensemble 'inner', model 'plus' failed: "):
        model.submit(ask(1)).get(SOON)


def step_of(inner: Any, takes: str, gives: str) -> Any:
    return step(inner.name, {"x": takes}, {"y": gives})


def test_an_answered_request_is_not_kept(zoo: Zoo) -> None:
    model = diamond(zoo)
    gc.collect()
    gc.disable()
    try:
        request = ask(arrays=True)
        gone = weakref.ref(request.data[0])  # type: ignore[arg-type]
        model.submit(request).get(SOON)
        zoo.asked.clear()
        del request
        eventually(lambda: gone() is None)
    finally:
        gc.enable()


# --- When it is loaded --------------------------------------------------------------------------------


def other(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


MISFITS: list[tuple[dict[str, Any], Any, str]] = [
    (
        {},
        step("nobody", "x", "y"),
        (
            "ensemble E contains models that are not available: nobody (Request for unknown model: 'nobody' "
            "is not found)"
        ),
    ),
    (
        {},
        step("a", {"i": "x", "q": "x"}, "y"),
        "in ensemble E, ensemble tensor x is mapping to non-existing input q in model a",
    ),
    ({}, step("two", "x", "y"), "in ensemble E, input j in model two is not mapped to any ensemble tensors"),
    (
        {},
        step("a", "x", {"q": "y"}),
        "in ensemble E, ensemble tensor y is mapped from non-existing output q in model a",
    ),
    (
        {"inputs": [other("x", DataType.INT32, 2)]},
        step("a", "x", "y"),
        (
            "in ensemble E, ensemble tensor x: inconsistent data type: TYPE_INT32 is inferred from model E "
            "while TYPE_FP32 is inferred from model a"
        ),
    ),
    (
        {"outputs": [other("y", DataType.BYTES, 2)]},
        step("a", "x", "y"),
        (
            "in ensemble E, ensemble tensor y: inconsistent data type: TYPE_STRING is inferred from model E "
            "while TYPE_FP32 is inferred from model a"
        ),
    ),
    (
        {"inputs": [floats("x", 3)]},
        step("a", "x", "y"),
        (
            "in ensemble E, ensemble tensor x: inconsistent shape: [-1,3] is inferred from model E while "
            "[-1,2] is inferred from model a"
        ),
    ),
    (
        {"max_batch": 9},
        step("a", "x", "y"),
        (
            "ensemble E allows maximum batch size 9, but it contains model a which only allows maximum batch "
            "size to be 8"
        ),
    ),
]


@pytest.mark.parametrize(("options", "only", "text"), MISFITS, ids=[case[2][:70] for case in MISFITS])
def test_models_that_do_not_fit(zoo: Zoo, options: dict[str, Any], only: Any, text: str) -> None:
    zoo.engine("a", lambda i: [i])
    zoo.engine("two", lambda i, j: [i], [floats("i"), floats("j")])
    with pytest.raises(InvalidArgument, match=f"^{re.escape(text)}$"):
        ensemble(zoo, [only], **options)


@pytest.mark.parametrize("shape", [(-1,), (2,)])
def test_models_that_fit(zoo: Zoo, shape: tuple[int, ...]) -> None:
    zoo.engine("a", lambda i: [i])
    ensemble(zoo, [step("a", "x", "y")], [floats("x", *shape)], [floats("y", *shape)])


def test_a_decoupled_model_is_refused(zoo: Zoo) -> None:
    zoo.engine("a", lambda i: [i])
    zoo("a")._model._runner.decoupled = zoo("a")._model._intake._decoupled = True
    with pytest.raises(InvalidArgument, match=r"^ensemble E contains the decoupled model a, which answers"):
        ensemble(zoo, [step("a", "x", "y")])
    model = ensemble(zoo, [step("a", "x", "y")], check=False)
    with pytest.raises(Unimplemented, match=r"in ensemble 'E', .*model 'a' has a decoupled"):
        model.submit(ask()).get(SOON)
