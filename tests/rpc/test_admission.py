"""Admission: what is refused, and that what is counted is counted off again."""

from __future__ import annotations

import random
import threading

import grpc
import pytest
from echoing import SOON, eventually
from every_kind import PATHS, every_kind
from hypothesis import given
from hypothesis import strategies as st
from incoming import begun, incoming

import yais
from yais.errors import Code
from yais.rpc.interceptors.admission import Admission, AdmissionStatistics
from yais.rpc.interceptors.bearer_token import BearerToken


def of(peer, identity=None):
    return incoming(peer=peer, identity=identity)


def test_one_call_too_many_is_refused():
    admission = Admission(2)
    first, _second = begun(admission), begun(admission, of("ipv4:10.0.0.2:5000"))
    with pytest.raises(
        yais.ResourceExhausted, match="max_in_flight: got one more call than the 2 this server"
    ):
        begun(admission)
    first.end(Code.INTERNAL)
    begun(admission)


def test_one_call_too_many_of_a_peer_is_refused():
    admission = Admission(max_per_peer=1)
    first = begun(admission, of("ipv4:10.0.0.1:5000"))
    begun(admission, of("ipv4:10.0.0.2:5000"))
    message = "max_per_peer: got one more call than the 1 taken at once from ipv4:10.0.0.1"
    with pytest.raises(yais.ResourceExhausted, match=message):
        begun(admission, of("ipv4:10.0.0.1:6000"))
    first.end(Code.OK)
    begun(admission, of("ipv4:10.0.0.1:6000"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("ipv4:10.0.0.1:1",), ("ipv4:10.0.0.1:2",), True),
        (("ipv4:10.0.0.1:1",), ("ipv4:10.0.0.2:1",), False),
        (("ipv6:[::1]:1",), ("ipv6:%5B::1%5D:2",), True),
        (("ipv6:[::1]:1",), ("ipv6:[::2]:1",), False),
        (("ipv6:[fe80::1%25eth0]:1",), ("ipv6:[fe80::1%25eth1]:1",), False),
        (("unix:/run/a:1",), ("unix:/run/a:1",), True),
        (("unix:/run/a:1",), ("unix:/run/a:2",), False),
        (("unknown",), ("unknown",), True),
        (("ipv4:10.0.0.1:1", "alice"), ("ipv4:10.0.0.2:1", "alice"), True),
        (("ipv4:10.0.0.1:1", "alice"), ("ipv4:10.0.0.1:1", "bob"), False),
        (("ipv4:10.0.0.1:1",), ("ipv4:10.0.0.2:1", "ipv4:10.0.0.1"), False),
    ],
)
def test_who_is_the_same_peer(one, other, same):
    admission = Admission(max_per_peer=2)
    begun(admission, of(*one))
    begun(admission, of(*other))
    assert admission.statistics().peers == (1 if same else 2)


def test_a_refused_call_counts_nowhere():
    admission = Admission(2, max_per_peer=1)
    begun(admission)
    for _ in range(3):
        with pytest.raises(yais.ResourceExhausted, match="max_per_peer"):
            begun(admission)
    begun(admission, of("unix:/run/x"))
    with pytest.raises(yais.ResourceExhausted, match="max_in_flight"):
        begun(admission, of("unix:/run/y"))
    assert admission.statistics() == AdmissionStatistics(
        in_flight=2, peers=2, admitted_total=2, refused_total=1, refused_peer_total=3
    )
    assert repr(admission) == "<Admission: 2 of 2 in flight, 2 peers of at most 1 each, 4 refused>"
    assert repr(Admission(max_per_peer=3)).startswith("<Admission: 0 of any number in flight, 0 peers of at")


def test_an_interceptor_after_it_that_refuses_frees_the_place():
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(yais.Unauthenticated):
            begun([admission, BearerToken({"alice": "x"})])
    assert admission.statistics().in_flight == 0 and admission.statistics().admitted_total == 3


def test_health_is_neither_refused_nor_counted():
    admission = Admission(1)
    begun(admission)
    begun(admission, incoming("/grpc.health.v1.Health/Check")).end(Code.OK)
    assert admission.statistics().in_flight == 1
    strict = Admission(1, exempt=())
    begun(strict)
    with pytest.raises(yais.ResourceExhausted):
        begun(strict, incoming("/grpc.health.v1.Health/Check"))


@pytest.mark.parametrize(("most", "each"), [(None, None), (0, None), (5, 0), (-1, 1)])
def test_limits_that_are_none_are_refused(most, each):
    with pytest.raises(
        ValueError, match=f"got max_in_flight={most}, max_per_peer={each}, expected at least one"
    ):
        Admission(most, max_per_peer=each)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_it_never_admits_more_and_forgets_who_has_gone(steps):
    admission = Admission(4, max_per_peer=2)
    live = []
    for begins, number in steps:
        if not begins:
            if live:
                live.pop(number % len(live))[1].end(Code.OK)
        else:
            own = sum(each == number for each, _ in live)
            refused = len(live) >= 4 or own >= 2
            try:
                live.append((number, begun(admission, of(f"ipv4:10.0.0.{number}:1"))))
            except yais.ResourceExhausted:
                assert refused
            else:
                assert not refused
        assert admission.statistics().in_flight == len(live)
        assert admission.statistics().peers == len({number for number, _ in live})


def test_many_threads_are_counted_right():
    admission = Admission(3, max_per_peer=2)
    live, most = [], []
    lock = threading.Lock()

    def work(seed):
        chance = random.Random(seed)
        for _ in range(300):
            try:
                interception = begun(admission, of(f"ipv4:10.0.0.{chance.randrange(3)}:1"))
            except yais.ResourceExhausted:
                continue
            with lock:
                live.append(interception)
                most.append(len(live))
                live.pop()
            interception.end(Code.OK)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    now = admission.statistics()
    assert (now.in_flight, now.peers) == (0, 0)
    assert now.admitted_total == len(most)
    assert now.admitted_total + now.refused_total + now.refused_peer_total == 6 * 300


def test_every_kind_of_rpc_takes_a_place_and_gives_it_back():
    entered, may_end = threading.Event(), threading.Event()

    def probe(context):
        entered.set()
        assert may_end.wait(SOON)
        return b"fine"

    admission = Admission(1)
    with every_kind(probe, admission) as every:
        for kind in PATHS:
            entered.clear()
            may_end.clear()
            held = every.begin(kind)
            assert entered.wait(SOON), kind
            assert admission.statistics().in_flight == 1
            if kind in {"Future", "Coroutine", "unary_unary", "stream_stream"}:  # the executor is not held up
                refused = every.fail("Unary")
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, kind
                assert refused.details().startswith("max_in_flight: got one more call than the 1 "), kind
            may_end.set()
            assert set(held) == {b"fine"}
            eventually(lambda: admission.statistics().in_flight == 0)
        assert admission.statistics().peers == 0


def test_a_real_peer_is_its_host():
    admission = Admission(100, max_per_peer=100)
    seen = []

    def probe(context):
        seen.append(sorted(admission._peers))
        return b""

    with every_kind(probe, admission) as every:
        every.call("Unary")
        every.call("unary_unary")
    assert seen == [["ipv4:127.0.0.1"]] * 2
