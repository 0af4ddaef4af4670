"""The order in which answers leave."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from managing import eventually
from many_threads import in_threads
from modelling import SIGNATURE, SOON, X, Y, is_double, request

from yais.core.future import Future
from yais.inference.model_options import ModelOptions
from yais.inference.ordering import ResponseOrder
from yais.inference.request import InferResponse
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.testing import FakeEngine


@given(st.permutations(range(6)))
def test_answers_leave_in_the_order_of_their_turns(ends: list[int]) -> None:
    order = ResponseOrder()
    turns = [order.turn() for _ in range(6)]
    left: list[int] = []
    futures: list[Future[InferResponse]] = [Future() for _ in range(6)]
    for index, future in enumerate(futures):
        future.add_done_callback(lambda _, index=index: left.append(index))
    ended: set[int] = set()
    for index in ends:
        turns[index].finish([(futures[index], ValueError(str(index)))])
        ended.add(index)
        # All that can leave has left: those before the first that has not ended.
        assert left == list(range(next((i for i in range(6) if i not in ended), 6)))


def test_turns_without_answers_hold_nobody_up() -> None:
    order = ResponseOrder()
    first, second = order.turn(), order.turn()
    future: Future[InferResponse] = Future()
    second.finish([(future, ValueError("no"))])
    assert not future.done()
    first.finish([])
    assert isinstance(future.exception(0), ValueError)


def test_a_callback_may_take_and_finish_turns() -> None:
    order = ResponseOrder()
    first = order.turn()
    later: Future[InferResponse] = Future()
    future: Future[InferResponse] = Future()
    future.add_done_callback(lambda _: order.turn().finish([(later, ValueError("later"))]))
    first.finish([(future, ValueError("first"))])
    assert later.done()


def test_many_threads() -> None:
    order = ResponseOrder()
    left: list[int] = []
    turns = [order.turn() for _ in range(400)]
    futures: list[Future[InferResponse]] = [Future() for _ in turns]
    for index, future in enumerate(futures):
        future.add_done_callback(lambda _, index=index: left.append(index))

    def end(worker: int) -> None:
        mine = list(range(worker, len(turns), 4))
        random.Random(worker).shuffle(mine)
        for index in mine:
            turns[index].finish([(futures[index], ValueError("done"))])

    in_threads(4, end)
    assert left == list(range(400))


def test_a_model_that_preserves_the_order(make_model) -> None:  # type: ignore[no-untyped-def]
    """The first batch ends last, and its answer is the first all the same."""
    second_ran = threading.Event()

    def double(x):  # type: ignore[no-untyped-def]
        if x[0, 0] == 1.0:
            assert second_ran.wait(SOON)
        else:
            second_ran.set()
        return [x * 2]

    engine = FakeEngine([X], [Y], double)
    policy = BatchingPolicy(SIGNATURE.max_batch, preserve_ordering=True)
    model = make_model(engine, options=ModelOptions(policy, instances=2))
    asked = [request(1.0), request(5.0)]
    left: list[int] = []
    futures = []
    for index, one in enumerate(asked):
        futures.append(model.submit(one))
        futures[-1].add_done_callback(lambda _, index=index: left.append(index))
        assert engine.entered.acquire(timeout=SOON)
    for one, future in zip(asked, futures, strict=True):
        assert is_double(future.result(SOON), one)
    eventually(lambda: left == [0, 1])


def test_failures_keep_their_place(make_model) -> None:  # type: ignore[no-untyped-def]
    second_ran = threading.Event()

    def double(x):  # type: ignore[no-untyped-def]
        if x[0, 0] == 1.0:
            assert second_ran.wait(SOON)
            return [x * 2]
        second_ran.set()
        raise ValueError("not this one")

    engine = FakeEngine([X], [Y], double)
    policy = BatchingPolicy(SIGNATURE.max_batch, preserve_ordering=True)
    model = make_model(engine, options=ModelOptions(policy, instances=2))
    left: list[int] = []
    futures = []
    for index, value in enumerate((1.0, 5.0)):
        futures.append(model.submit(request(value)))
        futures[-1].add_done_callback(lambda _, index=index: left.append(index))
        assert engine.entered.acquire(timeout=SOON)
    assert is_double(futures[0].result(SOON), request(1.0))
    assert "not this one" in str(futures[1].exception(SOON))
    eventually(lambda: left == [0, 1])
    assert model.counts().fail.count == 1


def test_answers_to_a_batch_of_a_decoupled_model_keep_their_order(make_model) -> None:  # type: ignore[no-untyped-def]
    class Counting(FakeEngine):
        decoupled = True

        def stream(self, inputs: Sequence[Any]) -> Iterator[list[Any]]:
            for number in range(2):
                yield [self.execute(inputs)[0] + number]

    engine = Counting([X], [Y], lambda x: [x * 2])
    model = make_model(engine, preserve_ordering=True)
    engine.gate.clear()
    first: list[int] = []
    futures = []
    for index in range(4):  # the first runs alone, the others together
        made = request(float(index))
        made.respond = lambda _, index=index: not first.append(index)  # type: ignore[misc]
        futures.append(model.submit(made))
        assert index or engine.entered.acquire(timeout=SOON)
    engine.gate.set()
    for future in futures:
        assert not future.result(SOON).data
    assert first == [0, 0, 1, 1, 2, 2, 3, 3]
    counts = model.counts()
    assert counts.success.count == 4 and counts.fail.count == 0
