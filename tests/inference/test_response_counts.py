"""Counts of the responses of decoupled models, each by its place."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from managing import eventually
from modelling import SOON, X, Y, check_invariants, request

from yais.core.clock import Deadline
from yais.errors import DeadlineExceeded, Internal
from yais.inference.failure import FailureReason
from yais.inference.model import Model
from yais.inference.response_counts import ResponseCounts, ResponseEnd, ResponseTime
from yais.testing import FakeEngine

NAMES = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")
ENDS = {ResponseEnd.FAIL: "fail", ResponseEnd.EMPTY: "empty_response", ResponseEnd.CANCEL: "cancel"}

Answer = tuple[list[tuple[int, int]], ResponseEnd, int]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), max_size=6),
            st.sampled_from(ResponseEnd),
            st.integers(0, 10**12),
        ),
        max_size=8,
    )
)
def test_any_answers(answers: list[Answer]) -> None:
    counts = ResponseCounts()
    expected: dict[int, dict[str, list[int]]] = defaultdict(lambda: {name: [0, 0] for name in NAMES})

    def count(place: int, name: str, ns: int) -> None:
        expected[place][name][0] += 1
        expected[place][name][1] += ns

    for times, end, ns in answers:
        counts.add([ResponseTime(*each) for each in times], end, ns)
        for place, (infer, output) in enumerate(times):
            count(place, "compute_infer", infer)
            count(place, "compute_output", output)
            count(place, "success", infer + output)
        count(len(times), ENDS[end], ns)
        if end is ResponseEnd.FAIL:
            count(len(times), "compute_infer", ns)
            count(len(times), "compute_output", 0)
    assert dict(counts.items()) == {
        str(place): {name: tuple(value) for name, value in kinds.items()} for place, kinds in expected.items()
    }
    assert [place for place, _ in counts.items()] == [str(place) for place in range(len(expected))]


def test_answers_too_long_to_be_told_apart() -> None:
    counts = ResponseCounts()
    counts.add([ResponseTime(1, 1)] * 5000, ResponseEnd.EMPTY, 1)
    assert len(counts) == 4096
    assert all(
        kinds["success"] == (1, 2) and kinds["empty_response"] == (0, 0) for _, kinds in counts.items()
    )
    copied = copy.deepcopy(counts)
    counts.add([], ResponseEnd.CANCEL, 7)
    assert dict(counts.items())["0"]["cancel"] == (1, 7) and dict(copied.items())["0"]["cancel"] == (0, 0)


class Counting(FakeEngine):
    """An engine of as many responses as it is told."""

    decoupled = True

    def __init__(self, number: int, error: Exception | None = None) -> None:
        super().__init__([X], [Y], lambda x: [x])
        self.number, self.after = number, error

    def stream(self, inputs: Sequence[Any]) -> Iterator[list[Any]]:
        for _ in range(self.number):
            yield [inputs[0]]
        if self.after is not None:
            raise self.after


def told(model: Model) -> dict[str, list[str]]:
    """Return what was counted once, by place."""
    return {
        place: [name for name, (count, _) in kinds.items() if count == 1]
        for place, kinds in model.counts().responses.items()
    }


SUCCESS = ["compute_infer", "compute_output", "success"]


def ask(model: Model, wanted: int = 100, deadline: Deadline | None = None) -> Any:
    given = [0]

    def respond(_: object) -> bool:
        given[0] += 1
        return given[0] < wanted

    asked = request()
    asked.respond = respond
    asked.deadline = deadline or asked.deadline
    return model.submit(asked)


def test_a_model_that_answers_twice(make_model: Callable[..., Model]) -> None:
    model = make_model(Counting(2), batching=False)
    ask(model).result(SOON)
    assert told(model) == {"0": SUCCESS, "1": SUCCESS, "2": ["empty_response"]}
    counts = model.counts()
    check_invariants(counts)
    assert sum(counts.first_response_seconds.counts) == 1
    assert 0 < counts.first_response_seconds.sum < counts.success.ns / 1e9
    for kinds in dict(counts.responses.items()).values():
        assert kinds["success"][1] == kinds["compute_infer"][1] + kinds["compute_output"][1]


def test_each_stretch_of_time_is_one_responses(make_model: Callable[..., Model]) -> None:
    model = make_model(Counting(50), batching=False)
    ask(model).result(SOON)
    counts = model.counts()
    every = sum(kinds["success"][1] + kinds["empty_response"][1] for _, kinds in counts.responses.items())
    assert 0 < every <= counts.compute_infer.ns


def test_a_model_that_has_nothing_to_say(make_model: Callable[..., Model]) -> None:
    model = make_model(Counting(0), batching=False)
    ask(model).result(SOON)
    assert told(model) == {"0": ["empty_response"]}
    assert sum(model.counts().first_response_seconds.counts) == 0


def test_a_model_that_fails_after_a_response(make_model: Callable[..., Model]) -> None:
    model = make_model(Counting(1, ValueError("no")), batching=False)
    with pytest.raises(Internal):
        ask(model).result(SOON)
    assert told(model) == {"0": SUCCESS, "1": ["compute_infer", "compute_output", "fail"]}
    assert model.counts().failures == {FailureReason.BACKEND: 1}


def test_a_caller_who_has_had_enough(make_model: Callable[..., Model]) -> None:
    model = make_model(Counting(5), batching=False)
    ask(model, wanted=1).result(SOON)
    assert told(model) == {"0": SUCCESS, "1": ["cancel"]}
    assert model.counts().success.count == 1  # it was answered as far as it was wanted


def test_a_deadline_between_two_responses(make_model: Callable[..., Model]) -> None:
    class Late(Counting):
        def stream(self, inputs: Sequence[Any]) -> Iterator[list[Any]]:
            for output in super().stream(inputs):
                yield output
                eventually(deadline.expired)

    model = make_model(Late(3), batching=False)
    deadline = Deadline.after(2.0)
    with pytest.raises(DeadlineExceeded):
        ask(model, deadline=deadline).result(SOON)
    assert told(model) == {"0": SUCCESS, "1": ["cancel"]}
    assert model.counts().failures == {FailureReason.CANCELED: 1}
