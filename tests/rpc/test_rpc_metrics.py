"""Metrics of calls, as Prometheus reads them."""

from __future__ import annotations

import threading
import urllib.request

import grpc
import pytest
from echoing import SAY, SOON, Held, echoing, eventually
from every_kind import PATHS, every_kind
from incoming import METHOD, begun, incoming, pass_through
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import yais
from yais.core.clock import NANOSECONDS
from yais.errors import Code
from yais.rpc.interceptors.bearer_token import BearerToken
from yais.rpc.interceptors.metrics import Metrics
from yais.telemetry.metrics import MetricsServer
from yais.testing import ManualClock


class Scrape:
    """What Prometheus sees, by name and labels."""

    def __init__(self, metrics):
        registry = CollectorRegistry()
        registry.register(metrics)
        self.values = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                labels = dict(sample.labels)
                key = (sample.name.removeprefix("yais_rpc_"), labels.pop("method"), *labels.values())
                assert key not in self.values
                self.values[key] = sample.value

    def of(self, name):
        """Return the values of one metric by its labels, a single one as it is."""
        found = {key[1:]: value for key, value in self.values.items() if key[0] == name}
        return {key[0] if len(key) == 1 else key: value for key, value in found.items()}


def test_a_call_is_counted_from_begin_to_end():
    clock = ManualClock()
    metrics = Metrics(clock=clock)
    interception = begun(metrics)
    during = Scrape(metrics)
    assert during.of("started_total") == during.of("in_flight") == {METHOD: 1}
    assert during.of("handled_total") == {} and during.of("seconds_count") == {METHOD: 0}
    clock.advance(0.3)
    interception.end(Code.NOT_FOUND)
    after = Scrape(metrics)
    assert after.of("started_total") == {METHOD: 1} and after.of("in_flight") == {METHOD: 0}
    assert after.of("handled_total") == {(METHOD, "NOT_FOUND"): 1}
    assert after.of("seconds_sum") == {METHOD: 0.3}


def test_durations_are_in_buckets():
    clock = ManualClock()
    metrics = Metrics(bounds=[0.1, 1, 10], clock=clock)
    for seconds in (0.05, 0.1, 0.5, 5, 50):
        interception = begun(metrics)
        clock.advance(seconds)
        interception.end(Code.OK)
    buckets = {bound: value for (_, bound), value in Scrape(metrics).of("seconds_bucket").items()}
    assert buckets == {"0.1": 2, "1.0": 3, "10.0": 4, "+Inf": 5}


def test_methods_and_codes_are_told_apart():
    metrics = Metrics()
    for method, code in [
        ("/a.B/C", Code.OK),
        ("/a.B/C", Code.OK),
        ("/a.B/C", Code.ABORTED),
        ("/a.B/D", Code.OK),
    ]:
        pass_through(metrics, incoming(method), code)
    assert Scrape(metrics).of("handled_total") == {
        ("/a.B/C", "OK"): 2,
        ("/a.B/C", "ABORTED"): 1,
        ("/a.B/D", "OK"): 1,
    }


def waiting(nanoseconds):
    """Make a call that has waited for a context."""
    call = incoming()
    call.waited = nanoseconds
    return call


def test_how_long_calls_waited_is_known_when_they_begin():
    clock = ManualClock(start=NANOSECONDS)
    metrics = Metrics(bounds=[0.1, 1], clock=clock)
    begun(metrics)
    begun(metrics)
    interception = begun(metrics, waiting(250_000_000))
    for _ in range(2):  # reading counts nothing twice
        scrape = Scrape(metrics)
        buckets = {bound: value for (_, bound), value in scrape.of("context_seconds_bucket").items()}
        assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 3}
        assert scrape.of("context_seconds_sum") == {METHOD: 0.25}
        assert scrape.of("seconds_count") == {METHOD: 0}
    clock.advance(0.5)
    interception.end(Code.OK)
    assert Scrape(metrics).of("seconds_sum") == {METHOD: 0.75}  # from arrival


def test_waits_are_counted_in_bulk():
    metrics = Metrics(bounds=[1])
    for number in range(3000):
        pass_through(metrics, waiting(2 * NANOSECONDS if number % 3 else 0))
    scrape = Scrape(metrics)
    assert scrape.of("context_seconds_bucket") == {(METHOD, "1.0"): 1000, (METHOD, "+Inf"): 3000}
    assert scrape.of("context_seconds_count") == {METHOD: 3000}
    assert scrape.of("context_seconds_sum") == {METHOD: 4000}


def test_calls_that_wait_for_a_context_are_counted():
    held, metrics = Held.fresh(), Metrics()
    with echoing(held, contexts=1, interceptors=[metrics]) as client:
        first = client.begin("hold")
        held.started.wait("hold")
        second = client.begin("later")
        eventually(lambda: client.server.statistics().methods[SAY].waiting == 1)
        held.finish("hold")
        assert [first.result(SOON).text, second.result(SOON).text] == ["hold", "later"]
        client.idle()
    scrape = Scrape(metrics)
    waited = held.started.contexts["later"].waited / NANOSECONDS
    assert scrape.of("context_seconds_count") == {SAY: 2}
    assert scrape.of("context_seconds_sum") == {SAY: waited} and waited > 0
    assert scrape.of("seconds_sum")[SAY] > waited


def test_more_than_is_counted_in_bulk():
    metrics = Metrics()
    for _ in range(3000):
        pass_through(metrics)
    scrape = Scrape(metrics)
    assert scrape.of("seconds_count") == scrape.of("started_total") == {METHOD: 3000}
    assert Scrape(metrics).values == scrape.values  # reading counts nothing twice


def test_methods_that_do_not_exist_have_one_label():
    metrics = Metrics()
    for number in range(1000):
        pass_through(metrics, incoming(f"/no.Such/M{number}", known=False), Code.UNIMPLEMENTED)
    pass_through(metrics)
    scrape = Scrape(metrics)
    assert scrape.of("started_total") == scrape.of("seconds_count") == {METHOD: 1, "_OTHER": 1000}
    assert scrape.of("handled_total") == {(METHOD, "OK"): 1, ("_OTHER", "UNIMPLEMENTED"): 1000}
    assert scrape.of("in_flight") == {METHOD: 0, "_OTHER": 0}


def test_the_number_of_labels_is_bounded_whatever_the_statuses():
    metrics = Metrics(max_methods=10)
    interceptions = [begun(metrics, incoming(f"/no.Such/M{number}")) for number in range(100)]
    assert Scrape(metrics).of("in_flight")["_OTHER"] == 90
    for interception in interceptions:
        interception.end(Code.UNAUTHENTICATED)
    scrape = Scrape(metrics)
    assert len(scrape.of("started_total")) == 11
    assert scrape.of("handled_total")["_OTHER", "UNAUTHENTICATED"] == 90
    assert set(scrape.of("in_flight").values()) == {0}


def test_odd_names_are_escaped():
    metrics = Metrics()
    pass_through(metrics, incoming('/a"b\n/c\\'))
    assert Scrape(metrics).of("started_total") == {'/a"b\n/c\\': 1}


def test_many_threads_are_counted_right():
    metrics = Metrics()

    def work():
        for _ in range(2000):
            pass_through(metrics)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    scrape = Scrape(metrics)
    assert scrape.of("started_total") == scrape.of("seconds_count") == {METHOD: 8000}
    assert scrape.of("in_flight") == {METHOD: 0}


@pytest.mark.parametrize(
    "options", [{"bounds": []}, {"bounds": [2, 1]}, {"bounds": [1, 1]}, {"max_methods": 0}]
)
def test_unusable_options_are_refused(options):
    with pytest.raises(ValueError, match=r"got .*, expected"):
        Metrics(**options)


def test_repr_reads_as_a_status_line():
    metrics = Metrics()
    assert repr(metrics) == "<Metrics: 0 methods, 0 calls, 0 in flight>"
    begun(metrics)
    pass_through(metrics, incoming("/no.Such/Method"), Code.UNIMPLEMENTED)
    assert repr(metrics) == "<Metrics: 2 methods, 2 calls, 1 in flight>"


def test_every_kind_of_rpc_is_counted_over_http():
    def probe(context):
        raise yais.NotFound("no such thing")

    metrics = Metrics()
    endpoint = MetricsServer([metrics], address="127.0.0.1", port=0)
    try:
        with every_kind(lambda _context: b"fine", metrics) as every:
            for kind in PATHS:
                every.call(kind)
            assert every.fail("/no.Such/Method").code() is grpc.StatusCode.UNIMPLEMENTED
            eventually(lambda: sum(Scrape(metrics).of("in_flight").values()) == 0)
        with every_kind(probe, metrics) as every:
            for kind in PATHS:
                every.fail(kind)
            eventually(lambda: sum(Scrape(metrics).of("in_flight").values()) == 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=SOON) as answer:
            text = answer.read().decode()
    finally:
        endpoint.close()
    assert Scrape(metrics).of("handled_total") == {
        (path, code): 1 for path in PATHS.values() for code in ("OK", "NOT_FOUND")
    } | {("_OTHER", "UNIMPLEMENTED"): 1}
    for path in PATHS.values():
        assert f'yais_rpc_handled_total{{code="OK",method="{path}"}} 1\n' in text
        assert f'yais_rpc_seconds_count{{method="{path}"}} 2\n' in text


def test_as_the_first_it_counts_what_others_refuse():
    metrics = Metrics()
    with every_kind(lambda _context: b"", metrics, BearerToken({"alice": "x"})) as every:
        for kind in PATHS:
            every.fail(kind)
        eventually(lambda: sum(Scrape(metrics).of("in_flight").values()) == 0)
    assert Scrape(metrics).of("handled_total") == {(path, "UNAUTHENTICATED"): 1 for path in PATHS.values()}
