"""Metrics, as Prometheus reads them."""

from __future__ import annotations

import math
import urllib.error
import urllib.request

import numpy as np
import pytest
from onnx_models import EXAMPLES, identity, write
from scraping import scrape
from serving_models import SOON, Wire, eventually, infer_request, serving_models

import yais
from yais.protocol import kserve_pb2 as pb
from yais.repository.control import ControlMode

SIMPLE = (("model", "simple"), ("version", "1"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write(repository, "broken", b"")
    with serving_models(EXAMPLES, repository, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def wire(server):
    with Wire(server.port) as connected:
        yield connected


def requests(*sizes):
    for size in sizes:
        zeros = np.zeros((size, 16), np.int32)
        yield infer_request("simple", {"INPUT0": zeros, "INPUT1": zeros})


def difference(after, before, name, labels=SIMPLE):
    return after[name, labels] - before.get((name, labels), 0)


def test_the_server_and_its_models(server):
    values = scrape(server)
    assert values["yais_build_info", (("version", yais.__version__),)] == 1
    ready = {
        dict(labels)["model"]: value for (name, labels), value in values.items() if name == "yais_model_ready"
    }
    composed = dict.fromkeys(("decode", "label", "read_digit", "read_digit_pipeline"), 1)
    assert ready == {"simple": 1, "digits": 1, "broken": 0} | composed
    assert values["yais_model_load_seconds", SIMPLE] > 0
    assert values["yais_inference_pending_requests", SIMPLE] == 0
    assert ("yais_model_load_seconds", (("model", "broken"), ("version", "1"))) not in values


def test_a_model_that_is_unloaded_need_not_be_ready():
    with (
        serving_models(EXAMPLES, control=ControlMode.EXPLICIT, load=("simple",), metrics_port=0) as server,
        Wire(server.port) as wire,
    ):
        assert scrape(server)["yais_model_ready", SIMPLE] == 1
        wire.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="simple"))
        eventually(lambda: not [name for name, _ in scrape(server) if name == "yais_model_ready"])


def test_counts(server, wire):
    before = scrape(server)
    for request in requests(1, 5, 64):
        wire.infer(request)
    for request in requests(65, 99):
        wire.refusal(request)
    after = scrape(server)
    for outcome, expected in (("success", 3), ("failure", 2)):
        labels = (*SIMPLE[:1], ("outcome", outcome), *SIMPLE[1:])
        assert difference(after, before, "yais_inference_requests_total", labels) == expected
    assert difference(after, before, "yais_inference_items_total") == 70
    batches = {key: value for key, value in after.items() if key[0] == "yais_inference_batches_total"}
    assert sum(value - before.get(key, 0) for key, value in batches.items()) == 3


@pytest.mark.parametrize("name", ["request_seconds", "queue_seconds", "compute_seconds", "batch_size"])
def test_histograms(server, wire, name):
    name = f"yais_inference_{name}"
    before = scrape(server)
    for request in requests(3, 4, 5):
        wire.infer(request)
    after = scrape(server)
    assert difference(after, before, f"{name}_count") == 3
    buckets = {
        float(dict(labels)["le"]): value - before[sample, labels]
        for (sample, labels), value in after.items()
        if sample == f"{name}_bucket" and dict(labels)["model"] == "simple"
    }
    bounds = sorted(buckets)
    counts = [buckets[bound] for bound in bounds]
    assert bounds[-1] == math.inf
    assert counts == sorted(counts) and counts[-1] == 3
    if name.endswith("batch_size"):
        assert difference(after, before, f"{name}_sum") == 12
        assert (buckets[2], buckets[4], buckets[8]) == (0, 2, 3)
    else:
        assert difference(after, before, f"{name}_sum") > 0


def test_they_agree_with_the_statistics(server, wire):
    for request in requests(1, 2, 3):
        wire.infer(request)
    wire.refusal(next(requests(65)))
    values = scrape(server)
    (model,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="simple")).model_stats
    stats = model.inference_stats
    labels = (*SIMPLE[:1], ("outcome", "success"), *SIMPLE[1:])
    assert values["yais_inference_requests_total", labels] == stats.success.count
    labels = (*SIMPLE[:1], ("outcome", "failure"), *SIMPLE[1:])
    assert values["yais_inference_requests_total", labels] == stats.fail.count
    assert values["yais_inference_items_total", SIMPLE] == model.inference_count
    assert values["yais_inference_batch_size_count", SIMPLE] == model.execution_count
    waits = ("queue", "buffers", "token")  # all of them before the computation are the queue to Triton
    for names, ns in (
        (("request",), stats.success.ns),
        (waits, stats.queue.ns),
        (("compute",), stats.compute_infer.ns),
    ):
        seconds = sum(values[f"yais_inference_{name}_seconds_sum", SIMPLE] for name in names)
        assert seconds == pytest.approx(ns / 1e9, rel=1e-6)


def test_pending_requests(tmp_path):
    patient = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 }"
    write(tmp_path, "waiting", identity("FP32"), patient)
    labels = (("model", "waiting"), ("version", "1"))
    with serving_models(tmp_path, metrics_port=0) as server, Wire(server.port).channel as channel:

        def ask(size):
            request = infer_request("waiting", {"X": np.ones((size, 1), np.float32)}).SerializeToString()
            return channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(
                request, timeout=SOON
            )

        first = ask(1)
        eventually(lambda: scrape(server)["yais_inference_pending_requests", labels] == 1)
        ask(7).result()
        first.result()
        assert scrape(server)["yais_inference_pending_requests", labels] == 0


def test_no_metrics_when_not_wanted():
    with serving_models(EXAMPLES, metrics_port=None) as server:
        assert server.metrics_port is None


def test_nobody_listens_after_the_end():
    with serving_models(EXAMPLES, metrics_port=0) as server:
        address = f"http://127.0.0.1:{server.metrics_port}/metrics"
        urllib.request.urlopen(address, timeout=SOON).close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(address, timeout=SOON)
