"""The stream's state machine, under any interleaving of what users, callers and gRPC core may do."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from yais.errors import Code
from yais.rpc.stream_state import Operations, Status, StreamState

OK = Status(Code.OK)
BAD = Status(Code.INVALID_ARGUMENT, "no such thing")
UNAVAILABLE = Status(Code.UNAVAILABLE, "the server is shutting down")
GONE = Status(Code.CANCELLED, "Cancelled")
OPENING, END = "opening", "end"  # what is delivered beside requests


class StreamMachine(RuleBasedStateMachine):
    """A stream, the user's code, the caller, and gRPC core: each does anything it may, at any time.

    Requests and answers are numbers that count up. `begun` are the answers whose write was started.
    """

    @initialize(
        max_unsent=st.integers(1, 3),
        kind=st.sampled_from(["many", "single", "lockstep"]),
        most=st.integers(0, 5),  # requests
        calm=st.integers(0, 12),  # calls of the state machine before anybody ends the stream
        ends=st.sets(st.sampled_from(["half_close", "finish", "kill", "go", "shut_down"])),  # that may happen
    )
    def begin(self, max_unsent, kind, most, calm, ends):
        self.most, self.calm, self.ends = most, calm, ends
        self.single, self.lockstep, self.max_unsent = kind == "single", kind == "lockstep", max_unsent
        self.state = StreamState(max_unsent=max_unsent, single=self.single, lockstep=self.lockstep)
        # The user.
        self.delivered = []  # requests, in the order in which they came
        self.delivering = OPENING
        self.owes_answer = False  # of a lockstep stream
        self.taken = self.begun = 0
        self.holds = 0
        self.expected = None  # status
        self.at_once = self.dead = False
        # The caller.
        self.requests = self.received = 0
        self.half_closed = self.gone = False
        # Core.
        self.reading = self.writing = self.exchanging = False
        self.status = None
        self.status_sent = self.ended_the_call = self.killed = False
        self.closed = None
        self.is_over = False

    # What the state machine wants started.

    def advance(self):
        self.calm -= 1
        operations = self.state.next()
        read, write, status = operations
        if self.status is not None:
            assert operations == Operations(), "an operation after the status"
        if write is not None:
            assert not (self.writing or self.exchanging), "two writes at once"
            assert not self.dead, "an answer for nobody"
            self.begun += 1
            assert write == self.begun, "out of order"
        if read:
            assert not (self.reading or self.exchanging), "two reads at once"
            assert self.delivering is None, "a read while a request is with the user"
            assert status is None and not self.deaf and self.received_all_but(END)
            assert self.taken - self.begun < self.max_unsent, "a read in spite of back-pressure"
        if status is not None:
            assert status == self.expected
            assert self.delivering is None and not self.holds, "the end of a stream in use"
            if not self.dead:
                assert self.begun == self.taken, "answers were lost"
                assert not self.writing, "a status before the answers"
                assert self.at_once or END in self.delivered or self.single, "the caller is still sending"
            self.status, self.last_write = status, write is not None
        elif write is not None and read and self.lockstep:
            self.exchanging = True
        else:
            self.writing = self.writing or write is not None
            self.reading = self.reading or read

    @property
    def deaf(self):
        """Whether nothing is to be delivered any more."""
        return self.dead or self.at_once

    def received_all_but(self, last):
        return last not in self.delivered and not (self.single and self.delivered)

    # The user.

    @precondition(lambda self: self.delivering is not None)
    @rule()
    def let_go(self):
        self.delivering, self.owes_answer = None, False
        self.state.consumed()
        self.advance()

    @precondition(lambda self: self.owes_answer or not self.lockstep)
    @rule(always=st.booleans())
    def answer(self, always):
        may = self.open and (always or self.lockstep or self.taken - self.begun < self.max_unsent)
        taken = self.state.offer(self.taken + 1, always=always or self.lockstep)
        assert taken == may
        self.taken += taken
        self.owes_answer = False
        if not (self.lockstep or (always and self.delivering is not None)):  # it goes out at `consumed`
            self.advance()

    @precondition(lambda self: "finish" in self.ends and self.calm <= 0)
    @rule(status=st.sampled_from([OK, OK, BAD]), at_once=st.booleans())
    def finish(self, status, at_once):
        possible = not self.dead and self.status is None
        first = possible and self.expected is None
        if possible:
            self.expected = status if self.expected in {None, OK} else self.expected
            self.at_once = self.at_once or at_once
        assert self.state.finish(status, at_once=at_once) == first
        self.advance()

    @precondition(lambda self: "kill" in self.ends and self.calm <= 0)
    @rule()
    def kill(self):
        killed = self.state.kill()
        assert killed == (not self.dead and self.status is None)
        if killed:
            self.killed = True
            self.die()
        self.advance()

    @rule()
    def hold(self):
        self.state.hold()
        self.holds += 1
        self.advance()

    @precondition(lambda self: self.holds)
    @rule()
    def release(self):
        self.state.release()
        self.holds -= 1
        self.advance()

    @precondition(lambda self: "shut_down" in self.ends and self.calm <= 0)
    @rule()
    def shut_down(self):
        self.finish(UNAVAILABLE, at_once=True)
        if self.status is None:
            self.kill()

    def die(self):
        self.dead = True
        self.taken = self.begun
        self.expected = self.expected or GONE

    # The caller.

    @precondition(lambda self: self.requests < self.most and not (self.half_closed or self.gone))
    @rule()
    def request(self):
        self.requests += 1

    @precondition(lambda self: "half_close" in self.ends and not self.gone)
    @rule()
    def half_close(self):
        self.half_closed = True

    @precondition(lambda self: "go" in self.ends and self.calm <= 0)
    @rule()
    def go(self):
        """Cancel, or let the deadline pass, or break the connection."""
        self.gone = True

    # Core, which completes what was started in any order.

    @property
    def ended(self):
        return self.gone or self.killed or self.status_sent or self.closed is not None

    @precondition(lambda self: self.reading and (self.readable or self.ended))
    @rule()
    def read_ends(self):
        self.reading = False
        self.deliver()

    @precondition(lambda self: self.exchanging and (self.readable or self.ended))
    @rule()
    def exchange_ends(self):
        self.exchanging = False
        self.state.sent()
        self.deliver()

    @property
    def readable(self):
        return self.received < self.requests or self.half_closed

    def deliver(self):
        message = self.received < self.requests
        self.received += message
        deliver = self.state.received(message=message)
        assert deliver == (not self.deaf)
        if deliver:
            assert self.delivering is None, "two deliveries at once"
            self.delivering = self.received if message else END
            self.delivered.append(self.delivering)
            self.owes_answer = self.lockstep and message
        else:
            self.advance()

    @precondition(lambda self: self.writing)
    @rule()
    def write_ends(self):
        self.writing = False
        self.state.sent()
        self.advance()

    @precondition(lambda self: self.status is not None and not self.status_sent)
    @rule()
    def status_goes(self):
        self.status_sent = True
        if self.last_write:
            self.state.sent()
        self.state.status_sent()

    @precondition(lambda self: self.closed is None and (self.status is not None or self.gone or self.killed))
    @rule(lost=st.booleans())
    def call_ends(self, lost):
        """Tell how: even when the caller has gone, the status may have been sent before."""
        cancelled = self.status is None or self.killed or (self.gone and lost)
        self.closed = cancelled
        self.state.close(cancelled=cancelled)
        if cancelled:
            self.die()
        self.advance()

    # What always holds.

    @property
    def open(self):
        return self.expected is None and not self.dead

    @invariant()
    def it_says_what_it_is(self):
        assert (self.state.dead, self.state.cancelled) == (self.dead, bool(self.closed))
        assert self.state.open == self.open
        assert self.state.room == (self.open and self.taken - self.begun < self.max_unsent)
        under_way = self.reading or self.writing or self.exchanging or not self.status_sent
        assert self.state.over == (self.closed is not None and not under_way)
        assert self.state.over or not self.is_over, "it was over before"
        self.is_over = self.state.over

    @invariant()
    def requests_come_in_order_and_once(self):
        requests = [request for request in self.delivered if request != END]
        assert requests == list(range(1, len(requests) + 1))
        assert END not in self.delivered[:-1]

    # Every path ends.

    def teardown(self):
        if not hasattr(self, "state"):
            return
        while self.holds:
            self.release()
        self.settle(silent=self.deaf)
        if self.deaf:
            assert self.state.over, "the end waits for a caller who may be silent"
        elif self.status is None:
            seen = [request for request in self.delivered if request != END]
            assert seen == list(range(1, self.requests + 1))[: 1 if self.single else None], "never delivered"
            assert self.begun == self.taken, "never sent"
        if self.requests % 2 and not self.gone:  # the caller stays, and the user finishes
            self.finish(OK, at_once=False)
            self.half_close()
        else:
            self.go()
        self.settle()
        assert self.state.over, self.state

    def settle(self, *, silent=False):
        """Let the user's code return and core complete until nothing is left to do."""
        while True:
            readable = self.ended or (self.readable and not silent)
            if self.delivering is not None:
                self.let_go()
            elif self.writing:
                self.write_ends()
            elif self.exchanging and readable:
                self.exchange_ends()
            elif self.reading and readable:
                self.read_ends()
            elif self.status is not None and not self.status_sent:
                self.status_goes()
            elif self.closed is None and (self.status is not None or self.gone or self.killed):
                self.call_ends(lost=True)
            else:
                break
            self.it_says_what_it_is()
        self.requests_come_in_order_and_once()


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(
    max_examples=500, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


READ = Operations(read=True)
NOTHING = Operations()


def opened(**parameters) -> StreamState[str]:
    """A stream whose user has been told that it is open, and which waits for its first request."""
    state: StreamState[str] = StreamState(**parameters)
    assert state.next() == NOTHING  # it is with the user
    state.consumed()
    assert state.next() == READ
    return state


def asked(**parameters) -> StreamState[str]:
    """A stream whose first request is with the user."""
    state = opened(**parameters)
    assert state.received(message=True)
    return state


def end(state: StreamState[str], *, cancelled: bool = False) -> None:
    """Let core tell that the status is sent and the call over."""
    state.status_sent()
    assert not state.over
    state.close(cancelled=cancelled)
    assert state.over and state.next() == NOTHING


def test_a_stream_from_its_first_request_to_its_status():
    state = asked()
    assert state.offer("answer")
    assert state.next() == Operations(write="answer")
    state.sent()
    state.consumed()
    assert state.next() == READ
    assert state.received(message=False)
    assert state.finish(OK)
    assert state.next() == NOTHING  # the news that there are no more requests is with the user
    state.consumed()
    assert state.next() == Operations(status=OK)
    end(state)


def test_an_answer_and_the_next_request_of_a_lockstep_stream_are_started_together():
    state = asked(lockstep=True)
    state.offer("answer", always=True)
    state.consumed()
    assert state.next() == Operations(read=True, write="answer")


def test_the_last_answer_and_the_status_are_started_together():
    state = asked(single=True)
    state.offer("first", always=True)
    state.offer("last", always=True)
    state.finish(OK, at_once=True)
    state.consumed()
    assert state.next() == Operations(write="first")
    state.sent()
    assert state.next() == Operations(write="last", status=OK)


def test_early_finish_still_receives_what_the_caller_sends():
    state = asked()
    assert state.finish(OK)
    assert not state.offer("late")
    state.consumed()
    assert state.next() == READ
    assert state.received(message=True)
    state.consumed()
    assert state.next() == READ
    assert state.received(message=False)
    state.consumed()
    assert state.next() == Operations(status=OK)
    end(state)


def test_finish_at_once_drops_what_the_caller_sends():
    state = opened()
    state.finish(OK, at_once=True)
    assert state.next() == Operations(status=OK)
    assert not state.received(message=True)
    end(state)


def test_early_cancel_drops_answers_and_delivers_nothing_more():
    state = asked()
    for answer in ("on its way", "waiting"):
        state.offer(answer)
        state.next()
    assert state.kill() and not state.kill()
    assert not state.offer("late") and not state.finish(OK)
    assert state.next() == NOTHING  # the request is still with the user
    assert repr(state) == "<StreamState: delivering, writing, dead, 0 unsent>"
    state.consumed()
    assert state.next() == Operations(status=GONE)
    state.status_sent()
    state.close(cancelled=True)
    assert not state.over  # the write has not ended
    state.sent()
    assert state.over


def test_a_caller_that_goes_away_while_its_request_is_being_read():
    state = opened()
    state.close(cancelled=True)
    assert state.dead and state.cancelled
    assert state.next() == Operations(status=GONE)
    state.status_sent()
    assert not state.received(message=True)
    assert state.over


def test_no_request_is_read_while_too_many_answers_wait():
    state = asked(max_unsent=1)
    assert state.offer("on its way")
    assert state.next() == Operations(write="on its way")
    assert state.offer("waiting")
    assert not state.room and not state.offer("too many")
    state.consumed()
    assert state.next() == NOTHING
    state.sent()
    assert state.next() == Operations(read=True, write="waiting")


@pytest.mark.parametrize("first_release", [True, False])
def test_a_hold_puts_off_the_end(first_release):
    state = opened()
    state.hold()
    state.finish(OK, at_once=True)
    assert state.next() == NOTHING
    if not first_release:
        state.close(cancelled=True)
        assert state.next() == NOTHING
    state.release()
    assert state.next() == Operations(status=OK)


def test_a_good_end_can_be_made_bad_but_not_the_other_way_round():
    state = asked()
    assert state.finish(OK)
    assert not state.finish(BAD, at_once=True)
    assert not state.finish(OK)
    state.consumed()
    assert state.next() == Operations(status=BAD)
    assert not state.finish(UNAVAILABLE)


def test_the_status_of_a_lockstep_stream_does_not_wait_for_the_next_request():
    state = asked(lockstep=True)
    state.offer("answer", always=True)
    state.consumed()
    assert state.next() == Operations(read=True, write="answer")
    state.finish(UNAVAILABLE, at_once=True)
    assert state.next() == Operations(status=UNAVAILABLE)
    state.sent()
    assert not state.received(message=False)
    end(state)


def test_an_answer_of_a_lockstep_stream_that_went_out_by_itself_is_waited_for():
    state = asked(lockstep=True)
    state.offer("answer", always=True)
    assert state.next() == Operations(write="answer")  # somebody else had a reason to go on
    state.consumed()
    assert state.next() == READ
    state.finish(UNAVAILABLE, at_once=True)
    assert state.next() == NOTHING
    state.sent()
    assert state.next() == Operations(status=UNAVAILABLE)


def test_repr():
    state = asked()
    state.offer("answer")
    state.next()
    state.offer("next")
    assert repr(state) == "<StreamState: delivering, writing, 1 unsent>"
