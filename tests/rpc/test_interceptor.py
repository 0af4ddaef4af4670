"""The protocol of interceptors: on its own, and over every kind of RPC."""

from __future__ import annotations

import contextvars
import logging
import threading

import grpc
import pytest
from echoing import SOON, eventually
from every_kind import CONTEXTS, PATHS, SERVICERS, every_kind
from incoming import METHOD, begun, incoming

import yais
from yais.errors import Code
from yais.rpc.interceptor import Interception

WHO = contextvars.ContextVar("WHO", default="nobody")


class Noting(yais.Interceptor):
    """Notes what happens, under its name."""

    def __init__(self, name, notes, refusal=None):
        self.name = name
        self.notes = notes
        self.refusal = refusal

    def begin(self, call):
        self.notes.append(f"{self.name} begins")
        if self.refusal is not None:
            raise self.refusal
        return lambda code: self.notes.append(f"{self.name} ends with {code.name}")


class Setting(yais.Interceptor):
    """Sets the variable by the caller's metadata."""

    def begin(self, call):
        WHO.set(call.metadata["who"])


class Codes(yais.Interceptor):
    """Gathers the statuses of calls, by method."""

    def __init__(self):
        self.codes = {}

    def begin(self, call):
        assert call.method not in self.codes
        self.codes[call.method] = []
        return self.codes[call.method].append

    def expect(self, codes):
        eventually(lambda: all(self.codes.values()))
        assert self.codes == {method: [code] for method, code in codes.items()}


class Refusing(yais.Interceptor):
    def begin(self, call):
        call.trailing_metadata.append(("why", "because"))
        raise yais.PermissionDenied(f"not {call.method}")


class Naming(yais.Interceptor):
    def begin(self, call):
        call.identity = "alice"


def test_the_first_begins_first_and_ends_last():
    notes = []
    interception = begun([Noting("outer", notes), Noting("inner", notes)])
    assert notes == ["outer begins", "inner begins"]
    interception.end(Code.NOT_FOUND)
    assert notes[2:] == ["inner ends with NOT_FOUND", "outer ends with NOT_FOUND"]


def test_a_second_end_is_ignored():
    notes = []
    interception = begun(Noting("only", notes))
    interception.end(Code.OK)
    interception.end(Code.CANCELLED)
    assert notes == ["only begins", "only ends with OK"]


def test_a_refusal_is_told_to_those_before_and_not_to_those_after():
    notes = []
    refusing = Noting("refusing", notes, yais.ResourceExhausted("full"))
    with pytest.raises(yais.ResourceExhausted, match="full"):
        begun([Noting("outer", notes), Noting("second", notes), refusing, Noting("inner", notes)])
    assert notes == [
        "outer begins",
        "second begins",
        "refusing begins",
        "second ends with RESOURCE_EXHAUSTED",
        "outer ends with RESOURCE_EXHAUSTED",
    ]


def test_any_exception_refuses():
    notes = []
    with pytest.raises(ZeroDivisionError):
        begun([Noting("outer", notes), Noting("broken", notes, ZeroDivisionError())])
    assert notes[-1] == "outer ends with UNKNOWN"


def test_an_end_that_raises_is_logged_and_the_others_are_told(caplog):
    class Broken(yais.Interceptor):
        def begin(self, call):
            def ended(code):
                raise ZeroDivisionError("of the end")

            return ended

    notes = []
    begun([Noting("outer", notes), Broken(), Noting("inner", notes)]).end(Code.OK)
    assert notes[2:] == ["inner ends with OK", "outer ends with OK"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("yais.rpc", logging.ERROR)
    assert METHOD in record.getMessage() and "of the end" in caplog.text


def test_variables_are_seen_by_inner_interceptors_the_code_and_the_ends():
    seen = []

    class Looking(yais.Interceptor):
        def begin(self, call):
            seen.append(WHO.get())
            return lambda _code: seen.append(WHO.get())

    interception = begun([Setting(), Looking()], incoming(metadata=[("who", "alice")]))
    assert interception.run(WHO.get) == "alice"
    thread = threading.Thread(target=lambda: seen.append(interception.run(WHO.get)))
    thread.start()
    thread.join(SOON)
    interception.end(Code.OK)
    assert seen == ["alice"] * 3
    assert WHO.get() == "nobody"


def test_variables_of_the_thread_do_not_leak_in():
    token = WHO.set("the thread's own")
    try:
        assert Interception(incoming()).run(WHO.get) == "nobody"
    finally:
        WHO.reset(token)


def test_what_runs_at_once_may_each_set_variables():
    interception = begun(Setting(), incoming(metadata=[("who", "alice")]))

    def nested():
        WHO.set("changed")
        return interception.run(WHO.get)  # the same call once more, as from another thread

    assert interception.run(nested) == "alice"


def test_an_interceptor_without_begin_says_so():
    with pytest.raises(NotImplementedError, match="Empty has no begin method"):
        begun(type("Empty", (yais.Interceptor,), {})())


def test_repr_names_the_caller():
    assert repr(incoming(identity="alice")) == f"<IncomingCall {METHOD} of alice>"
    assert repr(incoming()) == f"<IncomingCall {METHOD} of ipv4:10.0.0.1:5000>"


def test_every_kind_is_seen_with_its_status():
    codes = Codes()
    with every_kind(lambda _context: b"fine", codes) as every:
        assert {kind: every.call(kind) for kind in PATHS} == dict.fromkeys(PATHS, frozenset((b"fine",)))
        codes.expect(dict.fromkeys(PATHS.values(), Code.OK))


def test_every_kind_is_seen_with_its_failure():
    def probe(context):
        raise yais.NotFound("no such thing")

    codes = Codes()
    with every_kind(probe, codes) as every:
        calls = {kind: every.fail(kind) for kind in PATHS}
        assert {kind: call.code() for kind, call in calls.items()} == dict.fromkeys(
            PATHS, grpc.StatusCode.NOT_FOUND
        )
        codes.expect(dict.fromkeys(PATHS.values(), Code.NOT_FOUND))


def test_unknown_methods_are_seen():
    codes = Codes()
    with every_kind(bytes, codes) as every:
        assert every.fail("/tests.Nowhere/To").code() is grpc.StatusCode.UNIMPLEMENTED
        codes.expect({"/tests.Nowhere/To": Code.UNIMPLEMENTED})


def test_every_kind_can_be_refused():
    executed = []
    codes = Codes()

    def probe(context):
        executed.append(context)
        return b""

    with every_kind(probe, codes, Refusing()) as every:
        for kind, path in PATHS.items():
            call = every.fail(kind)
            assert (call.code(), call.details()) == (grpc.StatusCode.PERMISSION_DENIED, f"not {path}"), kind
            assert ("why", "because") in [tuple(pair) for pair in call.trailing_metadata()], kind
        codes.expect(dict.fromkeys(PATHS.values(), Code.PERMISSION_DENIED))
    assert executed == []


def test_every_kind_sees_the_variables_of_its_own_call():
    with every_kind(lambda _context: WHO.get().encode(), Setting()) as every:
        calls = {(kind, who): every.begin(kind, [("who", who)]) for kind in PATHS for who in ("alice", "bob")}
        answers = {key: set(call) for key, call in calls.items()}
    assert answers == {(kind, who): {who.encode()} for kind, who in calls}


def test_every_kind_sends_the_trailing_metadata():
    class Adding(yais.Interceptor):
        def begin(self, call):
            call.trailing_metadata.append(("outer", call.method))

    with every_kind(lambda _context: b"fine", Adding()) as every:
        for kind, path in PATHS.items():
            call = every.begin(kind)
            assert set(call) == {b"fine"}
            assert ("outer", path) in [tuple(pair) for pair in call.trailing_metadata()], kind


def test_contexts_of_every_kind_know_the_identity():
    with every_kind(lambda context: context.identity.encode(), Naming()) as every:
        assert {kind: every.call(kind) for kind in CONTEXTS} == dict.fromkeys(
            CONTEXTS, frozenset((b"alice",))
        )


@pytest.mark.parametrize("kind", ["Coroutine", "AsyncServerStreaming", *SERVICERS[:2]])
def test_a_cancelled_call_ends_once(kind):
    entered, may_end = threading.Event(), threading.Event()
    codes = Codes()

    def probe(context):
        entered.set()
        assert may_end.wait(SOON)
        return b""

    with every_kind(probe, codes) as every:
        call = every.begin(kind)
        assert entered.wait(SOON)
        call.cancel()
        may_end.set()
        eventually(lambda: all(codes.codes.values()))
    # A reply that was on its way when the caller went may have been taken for sent.
    assert codes.codes[PATHS[kind]] in ([Code.CANCELLED], [Code.OK])
