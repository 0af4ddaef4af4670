"""Answers in the order of the requests, whichever comes first."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.client.in_order import answered_in_order
from yais.client.infer_call import InferCall
from yais.errors import Code, DeadlineExceeded, NotFound

SOON = 20.0


class Shuffling:
    """A transport that answers what is in flight in any order, once it cannot get more of it.

    Parameters
    ----------
    at_most
        Requests after which it answers one.
    failing
        The numbers of those that it refuses.
    """

    def __init__(self, at_most, seed=0, failing=()):
        self.random = random.Random(seed)
        self.at_most = at_most
        self.failing = failing
        self.in_flight = []
        self.most = 0

    def encode(self, call):
        return int(call.id)

    def send(self, request, done):
        self.in_flight.append((request, done))
        self.most = max(self.most, len(self.in_flight))
        if len(self.in_flight) == self.at_most:
            self.answer_all()

    def answer_all(self):
        self.random.shuffle(self.in_flight)
        taken, self.in_flight = self.in_flight, []
        for number, done in taken:
            if number in self.failing:
                done(Code.NOT_FOUND, f"no {number}", None)
            else:
                done(Code.OK, "", number)

    def answers(self, reply):
        return (reply,)


def calls(count, taken=None):
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield InferCall("model", (), id=str(number))


@given(groups=st.integers(0, 6), in_flight=st.integers(1, 8), seed=st.integers(0, 99))
def test_order(groups, in_flight, seed):
    count = groups * in_flight
    transport = Shuffling(in_flight, seed)
    found = list(answered_in_order(transport, calls(count), in_flight, SOON))
    assert found == [(number,) for number in range(count)]
    assert transport.most == (in_flight if count else 0)


def test_calls_are_made_as_there_is_room_for_them():
    taken = []
    transport = Shuffling(3)
    answers = answered_in_order(transport, calls(9, taken), 3, SOON)
    assert taken == []
    next(answers)
    assert taken == [0, 1, 2]
    next(answers)
    assert taken == [0, 1, 2, 3]
    assert len(transport.in_flight) == 1


def test_the_first_failure_by_order_ends_it():
    answers = answered_in_order(Shuffling(4, seed=1, failing={2, 3}), calls(4), 4, SOON)
    assert [next(answers), next(answers)] == [(0,), (1,)]
    with pytest.raises(NotFound, match=r"^no 2$"):
        next(answers)


def test_answers_that_come_on_another_thread():
    transport = Shuffling(5)
    answers = answered_in_order(transport, calls(3), 3, SOON)
    timer = threading.Timer(0.02, transport.answer_all)
    timer.start()
    assert list(answers) == [(0,), (1,), (2,)]
    timer.join(SOON)


def test_what_is_never_answered():
    with pytest.raises(DeadlineExceeded, match=r"^no answer within 0.01 s$"):
        list(answered_in_order(Shuffling(5), calls(1), 1, 0.01))


def test_what_is_in_flight_when_there_are_no_more_calls_is_answered_first():
    def broken():
        yield from calls(2)
        raise LookupError("no third")

    transport = Shuffling(2)
    answers = answered_in_order(transport, broken(), 5, SOON)
    assert [next(answers), next(answers)] == [(0,), (1,)]
    with pytest.raises(LookupError, match=r"^no third$"):
        next(answers)
