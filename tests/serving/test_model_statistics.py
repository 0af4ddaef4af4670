"""Statistics, with the invariants that Triton's clients rely on."""

from __future__ import annotations

import queue
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from bad_requests import simple
from onnx_models import EXAMPLES, table, write
from serving_models import SOON, Wire, infer_request, serving_models

from yais.protocol import kserve_pb2 as pb

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
COMPUTE = ("compute_input", "compute_infer", "compute_output")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write(repository, "table", table([10, 11]), "max_batch_size: 8 dynamic_batching {}")
    write(repository, "broken", b"")
    with serving_models(EXAMPLES, repository) as server:
        yield server.port


@pytest.fixture
def wire(port):
    with Wire(port) as connected:
        yield connected


def statistics(wire, name, version=""):
    request = pb.ModelStatisticsRequest(name=name, version=version)
    (model,) = wire.call("ModelStatistics", request).model_stats
    assert_invariants(model)
    return model


def assert_invariants(model):
    """Hold at every moment (kserve-v2.md, section 1.14)."""
    stats = model.inference_stats
    count = stats.success.count
    assert stats.queue.count == count
    assert [getattr(stats, part).count for part in COMPUTE] == [count] * 3
    assert stats.cache_hit.count == stats.cache_miss.count == 0
    assert model.execution_count <= count <= model.inference_count
    parts = stats.queue.ns + sum(getattr(stats, part).ns for part in COMPUTE)
    assert parts <= stats.success.ns
    sizes = [batch.batch_size for batch in model.batch_stats]
    assert sizes == sorted(set(sizes))
    for part in COMPUTE:
        counts = [getattr(batch, part).count for batch in model.batch_stats]
        assert sum(counts) == model.execution_count
        assert sum(map(int.__mul__, sizes, counts)) == model.inference_count
    assert (model.last_inference > 0) == (count > 0)


def batch_of(size, **fields):
    zeros = np.zeros((size, 16), np.int32)
    return infer_request("simple", {"INPUT0": zeros, "INPUT1": zeros}, **fields)


def test_a_model_that_was_never_asked(wire):
    model = statistics(wire, "digits")
    assert model == pb.ModelStatistics(
        name="digits",
        version="1",
        inference_stats={
            name: pb.StatisticDuration()
            for name in ("success", "fail", "queue", *COMPUTE, "cache_hit", "cache_miss")
        },
    )


def test_each_answer_is_counted_before_it_is_there(wire):
    """perf_analyzer reads the counts right after the last answer of a window."""
    before = statistics(wire, "simple")
    items = 0
    for number, size in enumerate([1, 2, 64, 1, 33] * 20, 1):
        started = time.time_ns() // 1_000_000
        wire.infer(batch_of(size))
        ended = time.time_ns() // 1_000_000
        items += size
        now = statistics(wire, "simple")
        assert now.inference_stats.success.count == before.inference_stats.success.count + number
        assert now.execution_count == before.execution_count + number  # one at a time, so none is shared
        assert now.inference_count == before.inference_count + items
        assert started <= now.last_inference <= ended
        assert now.inference_stats.fail.count == before.inference_stats.fail.count


def test_requests_that_share_batches(port, wire):
    before = statistics(wire, "simple")
    answers = queue.Queue()
    sizes = [1, 3, 2, 7, 1] * 40
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for size in sizes:
            inputs = [triton.InferInput(name, [size, 16], "INT32") for name in ("INPUT0", "INPUT1")]
            for tensor in inputs:
                tensor.set_data_from_numpy(np.zeros((size, 16), np.int32))
            client.async_infer(
                "simple", inputs, lambda result, error: answers.put(error), client_timeout=SOON
            )
        assert [answers.get(timeout=SOON) for _ in sizes] == [None] * len(sizes)
        now = statistics(wire, "simple")
    assert now.inference_stats.success.count - before.inference_stats.success.count == len(sizes)
    assert now.inference_count - before.inference_count == sum(sizes)
    assert now.execution_count - before.execution_count <= len(sizes)


def test_failures_touch_nothing_but_their_own_count(wire):
    wire.infer(batch_of(1))
    before = statistics(wire, "simple")
    for _ in range(3):
        wire.refusal(batch_of(65))
    now = statistics(wire, "simple")
    assert now.inference_stats.fail.count == before.inference_stats.fail.count + 3
    assert now.inference_stats.fail.ns > before.inference_stats.fail.ns
    now.inference_stats.fail.CopyFrom(before.inference_stats.fail)
    assert now == before


def test_failures_of_the_engine_are_counted(wire):
    before = statistics(wire, "table")
    for index in (0, 7, 1, 9):
        request = infer_request("table", {"index": np.array([[index]], np.int64)})
        if index < 2:
            wire.infer(request)
        else:
            wire.refusal(request)
    now = statistics(wire, "table")
    assert now.inference_stats.fail.count == before.inference_stats.fail.count + 2
    assert now.inference_stats.success.count == before.inference_stats.success.count + 2
    assert now.inference_count == before.inference_count + 2


def test_failures_in_shared_batches_are_counted(port, wire):
    before = statistics(wire, "table")
    answers = queue.Queue()
    indices = [0, 1, 1, 5, 0, 1, 0] * 20
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for index in indices:
            tensor = triton.InferInput("index", [1, 1], "INT64")
            tensor.set_data_from_numpy(np.array([[index]], np.int64))
            client.async_infer(
                "table", [tensor], lambda result, error: answers.put(error), client_timeout=SOON
            )
        errors = [answers.get(timeout=SOON) for _ in indices]
        now = statistics(wire, "table")
    failed = indices.count(5)
    assert sum(error is not None for error in errors) == failed
    assert now.inference_stats.fail.count == before.inference_stats.fail.count + failed
    assert now.inference_count == before.inference_count + len(indices) - failed


def test_no_name_means_all_models_that_are_loaded(wire):
    response = wire.call("ModelStatistics", pb.ModelStatisticsRequest())
    assert [(model.name, model.version) for model in response.model_stats] == [
        ("decode", "1"),
        ("digits", "1"),
        ("label", "1"),
        ("read_digit", "1"),
        ("read_digit_pipeline", "1"),
        ("simple", "1"),
        ("table", "1"),
    ]
    for model in response.model_stats:
        assert_invariants(model)


@pytest.mark.parametrize("version", ["", "1", "01"])
def test_versions(wire, version):
    assert statistics(wire, "simple", version).version == "1"


@pytest.mark.parametrize(
    ("model", "version", "text"),
    [
        ("other", "", "requested model 'other' is not available"),
        ("other", "1", "requested model 'other' version 1 is not available"),
        ("simple", "2", "requested model 'simple' version 2 is not available"),
        ("broken", "", "requested model 'broken' is not available"),
        ("broken", "1", "requested model 'broken' version 1 is not available"),
        ("simple", "-1", "invalid model version specified '-1' , version should be an integral value > 0"),
    ],
)
def test_what_has_no_statistics(wire, model, version, text):
    request = pb.ModelStatisticsRequest(name=model, version=version)
    assert wire.refusal(request, "ModelStatistics") == (INVALID_ARGUMENT, text)


def test_tritons_client_reads_them(port, wire):
    wire.infer(simple())
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        as_json = client.get_inference_statistics("simple", as_json=True, client_timeout=SOON)
    (model,) = as_json["model_stats"]
    assert set(model["inference_stats"]) >= {"success", "fail", "queue", *COMPUTE}
