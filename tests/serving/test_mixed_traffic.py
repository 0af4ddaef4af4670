"""Good requests amid bad ones: every bad one is told what is wrong with it, and no good one feels it."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from bad_requests import BAD
from onnx_models import EXAMPLES
from serving_models import SOON, Wire, infer_request, outputs_of
from yais_command import yais_serve

from yais.protocol import kserve_pb2 as pb

SECONDS = 4.5
SLICES = 3

rng = np.random.default_rng(3)


def simple_request(number):
    a, b = rng.integers(-1000, 1000, (2, 1 + number % 5, 16), dtype=np.int32)
    inputs = {"INPUT0": a, "INPUT1": b} if number % 2 else {"INPUT1": b, "INPUT0": a}
    return infer_request("simple", inputs, id=str(number)), {"OUTPUT0": a + b, "OUTPUT1": a - b}


def table_request(number):
    """Share batches with requests that fail in the engine."""
    index = np.array([[number % 4]], np.int64)
    return infer_request("table", {"index": index}, id=str(number)), {"value": index + 10}


def identity_request(number):
    array = rng.standard_normal((1 + number % 3, 1 + number % 2000)).astype(np.float32)
    return infer_request("identity_fp32", {"X": array}, id=str(number)), {"Y": array}


def digits_request(number):
    with np.load(EXAMPLES / "digits" / "held_out.npz") as file:
        image = file["images"][number % 100]
    request = infer_request("digits", {"image": image.astype(np.float32)[None, None]}, id=str(number))
    return request, None


CLIENTS = [simple_request, simple_request, table_request, identity_request, digits_request]


def run_good(port, make, start):
    """Ask until the end, one request after the other; return how many were answered in each slice."""
    wire = Wire(port)
    progress = [0] * SLICES
    made = [make(number) for number in range(60)]  # so that making them takes no time from asking
    with wire.channel:
        start.wait(SOON)
        began = time.monotonic()
        for request, expected in itertools.cycle(made):
            moment = (time.monotonic() - began) / SECONDS * SLICES
            if moment >= SLICES:
                return make.__name__.removesuffix("_request"), progress
            response = wire.infer(request)
            assert response.id == request.id
            if expected is None:
                assert outputs_of(response)["probabilities"].sum() == pytest.approx(1, rel=1e-4)
            else:
                got = outputs_of(response)
                assert got.keys() == expected.keys()
                assert all(np.array_equal(got[name], expected[name]) for name in expected)
            progress[int(moment)] += 1
    raise AssertionError("never reached")


def run_bad(port, names, start, end):
    """Send bad requests, several at once, until the end; return how often each was refused as it should."""
    wire = Wire(port)
    refused = Counter()
    with wire.channel:
        start.wait(SOON)
        while not end.is_set():
            calls = {
                name: wire.method(BAD[name].rpc).future(BAD[name].message, timeout=SOON) for name in names
            }
            for name, call in calls.items():
                error = call.exception(SOON)
                assert isinstance(error, grpc.RpcError), name
                assert (error.code(), error.details()) == (BAD[name].code, BAD[name].text), name
                refused[name] += 1
    return refused


def run_rude(port, start, end):
    """Break connections off, talk nonsense to the port, and lose patience; return how often."""
    request = infer_request("identity_int32", {"X": np.zeros((8, 5000), np.int32)})
    rounds = 0
    start.wait(SOON)
    while not end.is_set():
        with socket.create_connection(("127.0.0.1", port), SOON) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" if rounds % 2 else bytes(range(256)) * 8)
        with Wire(port) as wire:
            infer = wire.method("ModelInfer")
            infer(request, timeout=SOON)
            calls = [infer.future(request, timeout=0.001) for _ in range(4)]
            calls += [infer.future(request, timeout=SOON) for _ in range(4)]
            for call in calls[-2:]:
                call.cancel()
        rounds += 1  # the rest was cut off with the connection
    return rounds


def counts(wire):
    response = wire.call("ModelStatistics", pb.ModelStatisticsRequest())
    return {model.name: model for model in response.model_stats}


@pytest.fixture(scope="module")
def port(model_repository):
    # In a process of its own, so that what the clients do here does not slow it down.
    repositories = [f"--model-repository={repository}" for repository in (EXAMPLES, model_repository)]
    with yais_serve(*repositories) as server:
        yield server.port


@pytest.fixture(scope="module")
def wire(port):
    with Wire(port) as connected:
        yield connected


def test_good_requests_do_not_feel_the_bad_ones(port, wire):
    before = counts(wire)
    names = list(BAD)
    bad_threads = 2
    everybody = len(CLIENTS) + bad_threads + 1
    start, end = threading.Barrier(everybody), threading.Event()
    with ThreadPoolExecutor(everybody) as threads:
        rude = threads.submit(run_rude, port, start, end)
        good = [threads.submit(run_good, port, make, start) for make in CLIENTS]
        bad = [threads.submit(run_bad, port, names[n::bad_threads], start, end) for n in range(bad_threads)]
        try:
            answered = [future.result(SECONDS + SOON) for future in good]
        finally:
            end.set()
        refused = sum((future.result(SOON) for future in bad), Counter())
    assert rude.result(SOON)
    assert set(refused) == set(BAD)  # each at least once
    for name, progress in answered:
        assert all(progress), f"{name} came to a halt: {progress}"
    check_statistics(before, counts(wire), answered, refused)
    assert wire.call("ServerReady").ready


def check_statistics(before, after, answered, refused):
    totals = Counter()
    for name, progress in answered:
        totals[{"identity": "identity_fp32"}.get(name, name)] += sum(progress)
    for name, total in totals.items():
        now, then = after[name].inference_stats, before[name].inference_stats
        assert now.success.count - then.success.count == total
        assert now.queue.count == now.success.count
        assert (
            now.compute_input.count
            == now.compute_infer.count
            == now.compute_output.count
            == now.success.count
        )
        batches = after[name].batch_stats
        assert sum(b.compute_infer.count for b in batches) == after[name].execution_count
        assert sum(b.compute_infer.count * b.batch_size for b in batches) == after[name].inference_count
    failed = after["table"].inference_stats.fail.count - before["table"].inference_stats.fail.count
    assert failed == refused["contents_that_the_engine_refuses"]
