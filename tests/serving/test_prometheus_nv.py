"""The metrics that have Triton's names, after every outcome of a request."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, Sent, gates, row, tensors, write_gated, write_python
from onnx_models import table, write
from server_state import in_flight, pending
from serving_models import SOON, Wire, eventually, infer_request, one_process, serving_models

from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferRequest
from yais.protocol import kserve_pb2 as pb
from yais.serving.metrics import MetricsOptions

COUNTER = """
class Model:
    def execute(self, inputs):
        for number in range(int(inputs["x"].reshape(-1)[0])):
            if number == 3:
                raise ValueError("enough")
            yield {"y": inputs["x"]}
"""

QUEUE = "max_queue_size: 2 allow_timeout_override: true"
PLAIN = f"max_batch_size: 4 dynamic_batching {{ default_queue_policy {{ {QUEUE} }} }}"
TAGGED = 'metric_tags { key: "team" value: "blue sky 1.0" } metric_tags { key: "a" value: "b" }'
CACHED = f"max_batch_size: 4 response_cache {{ enable: true }} {TAGGED}"
DECOUPLED = "max_batch_size: 1 model_transaction_policy { decoupled: true }"

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

# What the dashboard and the autoscaler of Triton's own deployments ask for, but for GPUs.
DASHBOARD = {
    "nv_inference_request_success": "counter",
    "nv_inference_request_failure": "counter",
    "nv_inference_count": "counter",
    "nv_inference_exec_count": "counter",
    "nv_inference_request_duration_us": "counter",
    "nv_inference_queue_duration_us": "counter",
    "nv_inference_compute_input_duration_us": "counter",
    "nv_inference_compute_infer_duration_us": "counter",
    "nv_inference_compute_output_duration_us": "counter",
    "nv_inference_pending_request_count": "gauge",
    "nv_model_load_duration_secs": "gauge",
    "nv_cache_num_hits_per_model": "counter",
    "nv_cache_num_misses_per_model": "counter",
    "nv_cache_hit_duration_per_model": "counter",
    "nv_cache_miss_duration_per_model": "counter",
    "nv_cpu_utilization": "gauge",
    "nv_cpu_memory_total_bytes": "gauge",
    "nv_cpu_memory_used_bytes": "gauge",
    "nv_pinned_memory_pool_total_bytes": "gauge",
    "nv_pinned_memory_pool_used_bytes": "gauge",
}
SUMMARIES = {
    **{f"nv_inference_{name}_summary_us": "summary" for name in ("request", "queue")},
    **{f"nv_inference_compute_{name}_summary_us": "summary" for name in ("input", "infer", "output")},
    "nv_cache_hit_summary_per_model": "summary",
    "nv_cache_miss_summary_per_model": "summary",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write(models, "table", table([10, 11]), "max_batch_size: 8 dynamic_batching {}")
    write_gated(models, "plain", PLAIN)
    write_gated(models, "cached", CACHED)
    write_python(models, "counter", COUNTER, TENSORS + DECOUPLED)
    write(models, "broken", b"")
    return models


@pytest.fixture(scope="module")
def server(repository):
    # What GPUs tell is in test_gpu_metrics.py, and must not depend on the machine here.
    quantiles = ((0.5, 0.05), (1.0, 0.0))
    options = MetricsOptions(histograms=True, summaries=True, quantiles=quantiles, gpu=False)
    with serving_models(
        repository, metrics_port=0, metrics=options, cache_size=1 << 20, strict_readiness=False
    ) as running:
        yield running


@pytest.fixture
def wire(server):
    with Wire(server.port) as connected:
        yield connected


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def text_of(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=SOON) as page:
        assert page.headers["Content-Type"] == "text/plain; charset=utf-8"
        return page.read().decode()


def read(server):
    """Return the numbers by what stands before them: parsers would give counters other names."""
    lines = [line for line in text_of(server).splitlines() if not line.startswith("#")]
    return Counter({name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)})


def types(server):
    return dict(re.findall(r"^# TYPE (nv_\w+) (\w+)$", text_of(server), re.MULTILINE))


def sample(name, model, labels=""):
    return f'nv_{name}{{model="{model}",{labels}version="1"}}'


def failed(values, model):
    return {reason: values[_failure(model, reason)] for reason in REASONS}


def _failure(model, reason):
    return sample("inference_request_failure", model, f'reason="{reason}",')


def failures(after, before, model):
    return {
        reason: after[_failure(model, reason)] - before[_failure(model, reason)]
        for reason in REASONS
        if after[_failure(model, reason)] != before[_failure(model, reason)]
    }


def difference(after, before, name, model):
    return after[sample(name, model)] - before[sample(name, model)]


def lookup(index):
    return infer_request("table", {"index": np.array([[index]], np.int64)})


def test_what_dashboards_ask_for_is_there(server):
    first = {"nv_inference_first_response_histogram_ms": "histogram"}
    assert types(server) == DASHBOARD | SUMMARIES | first


def test_latencies_are_what_the_options_say(repository):
    options = MetricsOptions(counters=False, cpu=False, gpu=False)
    with serving_models(
        repository, metrics_port=0, metrics=options, cache_size=1 << 20, strict_readiness=False
    ) as server:
        expected = {
            name: kind
            for name, kind in DASHBOARD.items()
            if not name.endswith("duration_us") and not name.startswith("nv_cpu")
        }
        assert types(server) == expected


def test_every_model_has_every_reason(server):
    values = read(server)
    for model in ("table", "plain", "counter"):
        assert all(_failure(model, reason) in values for reason in REASONS)
    assert not [name for name in values if 'model="broken"' in name and name.startswith("nv_")]
    assert values[sample("model_load_duration_secs", "table")] > 0


def test_success(server, wire):
    before = read(server)
    batch = np.array([[0], [1], [1]], np.int64)
    wire.infer(infer_request("table", {"index": batch}))
    after = read(server)
    assert difference(after, before, "inference_request_success", "table") == 1
    assert difference(after, before, "inference_count", "table") == 3
    assert difference(after, before, "inference_exec_count", "table") == 1
    assert not failures(after, before, "table")
    (model,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="table")).model_stats
    stats = model.inference_stats
    for part, name in [("success", "request"), ("queue", "queue")] + [
        (f"compute_{name}", f"compute_{name}") for name in ("input", "infer", "output")
    ]:
        duration = getattr(stats, part)
        assert after[sample(f"inference_{name}_duration_us", "table")] == duration.ns // 1000
        summary = f"inference_{name}_summary_us"
        assert after[sample(f"{summary}_count", "table")] == duration.count
        assert after[sample(f"{summary}_sum", "table")] == duration.ns // 1000
        median, most = (after[sample(summary, "table", f'quantile="{q}",')] for q in ("0.5", "1"))
        assert 0 <= median <= most <= duration.ns / 1000
        assert most * duration.count + duration.count > duration.ns / 1000


def test_failures_of_the_model(server, wire):
    before = read(server)
    wire.refusal(lookup(7))
    after = read(server)
    assert failures(after, before, "table") == {"BACKEND": 1}
    assert difference(after, before, "inference_count", "table") == 0
    yais = 'yais_inference_failures_total{_a="",_team="",model="table",reason="backend",version="1"}'
    assert yais in after
    assert after[yais] - before[yais] == 1


def test_requests_that_the_model_does_not_take(server, wire):
    before = read(server)
    wire.refusal(infer_request("table", {"index": np.zeros((9, 1), np.int64)}))
    after = read(server)
    assert failures(after, before, "table") == {"OTHER": 1}


def test_requests_that_are_no_models(server, wire):
    before = read(server)
    wire.refusal(infer_request("nobody", {"index": np.zeros((1, 1), np.int64)}))
    after = read(server)
    assert all(not failures(after, before, model) for model in ("table", "plain", "cached", "counter"))


def test_rejections_cancellations_and_what_waits(server, client):
    before = read(server)
    gate = gates["plain"]
    with gate.shut():
        plug = Sent(client, "plain", {"x": row(0.0)})
        gate.wait_for(1)
        cancelled = Sent(client, "plain", {"x": row(1.0)})
        eventually(lambda: pending(server, "plain") == 1)
        late = Sent(client, "plain", {"x": row(2.0)}, timeout=1000)  # us
        assert late.error()[0] == "UNAVAILABLE"
        kept = Sent(client, "plain", {"x": row(3.0)})
        eventually(lambda: pending(server, "plain") == 2)
        assert read(server)[sample("inference_pending_request_count", "plain")] == 2
        assert Sent(client, "plain", {"x": row(4.0)}).error() == ("UNAVAILABLE", _full())
        cancelled.cancel()
        assert cancelled.error()[0] == "CANCELLED"
        eventually(lambda: in_flight(server) == 2)
    plug.result()
    kept.result()
    expected = {"REJECTED": 2, "CANCELED": 1}
    eventually(lambda: failures(read(server), before, "plain") == expected)
    after = read(server)
    assert difference(after, before, "inference_request_success", "plain") == 2
    assert after[sample("inference_pending_request_count", "plain")] == 0


def _full():
    return "[request id: <id_unknown>] Exceeds maximum queue size"


def test_deadlines(server, client):
    before = read(server)
    gate = gates["plain"]
    with gate.shut():
        plug = Sent(client, "plain", {"x": row(0.0)})
        gate.wait_for(1)
        late = Sent(client, "plain", {"x": row(1.0)}, client_timeout=0.2)
        assert late.error()[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: in_flight(server) == 1)
    plug.result()
    eventually(lambda: failures(read(server), before, "plain") == {"CANCELED": 1})


def test_the_cache(server, client):
    before = read(server)
    for _ in range(3):
        client.infer("cached", tensors({"x": row(5.0)}), client_timeout=SOON)
    after = read(server)

    def grown(name, more=""):
        key = _tagged(name, more)
        assert key in after
        return after[key] - before[key]

    assert (grown("cache_num_hits_per_model"), grown("cache_num_misses_per_model")) == (2, 1)
    assert grown("cache_hit_duration_per_model") > 0 and grown("cache_miss_duration_per_model") > 0
    assert (grown("inference_request_success"), grown("inference_count")) == (3, 1)
    assert grown("inference_request_summary_us_count") == grown("inference_queue_summary_us_count") == 3
    assert grown("inference_compute_infer_summary_us_count") == 1
    assert grown("cache_hit_summary_per_model_count") == 2
    assert grown("cache_miss_summary_per_model_count") == 1
    assert after[_tagged("cache_hit_summary_per_model", 'quantile="1",')] > 0
    assert not [name for name in after if name.startswith("nv_cache") and 'model="table"' in name]


def _tagged(name, more=""):
    return f'nv_{name}{{_a="b",_team="blue sky 1.0",model="cached",{more}version="1"}}'


def count_to(server, number):
    spec = TensorSpec("x", DataType.FP32, (1, 1))
    array = np.full((1, 1), number, np.float32)
    request = InferRequest([spec], [array], respond=lambda _: True)
    return server.repository.find("counter").model.submit(request)


@one_process
def test_responses_of_decoupled_models(server, wire):
    name = "inference_first_response_histogram_ms"
    before = read(server)
    count_to(server, 2).result(SOON)
    count_to(server, 0).result(SOON)
    assert "enough" in str(count_to(server, 4).exception(SOON))
    after = read(server)
    bounds = [
        after[key] - before[key]
        for bound in ("100", "500", "2000", "5000", "+Inf")
        for key in [f'nv_{name}_bucket{{le="{bound}",model="counter",version="1"}}']
    ]
    assert bounds == sorted(bounds) and bounds[-1] == 2 == difference(
        after, before, f"{name}_count", "counter"
    )
    assert difference(after, before, f"{name}_sum", "counter") > 0
    assert failures(after, before, "counter") == {"BACKEND": 1}
    assert not [key for key in after if key.startswith(f"nv_{name}") and 'model="table"' in key]
    (model,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="counter")).model_stats
    told = {
        place: {kind.name: (duration.count, duration.ns > 0) for kind, duration in stats.ListFields()}
        for place, stats in model.response_stats.items()
    }
    assert set(told) == {"0", "1", "2", "3"}
    assert told["0"]["success"] == (2, True) and told["0"]["empty_response"] == (1, True)
    assert told["1"]["success"] == (2, True) and told["1"]["empty_response"] == (0, False)
    assert told["2"]["success"] == (1, True) and told["2"]["empty_response"] == (1, True)
    assert told["3"]["fail"] == (1, True) and told["3"]["compute_infer"] == (1, True)
    assert all(kinds["cancel"] == (0, False) for kinds in told.values())
