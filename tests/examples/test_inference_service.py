"""The inference service with messages of its own: its programs, its RPCs, its metrics, its end."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from programs import TIMEOUT, client, eventually, lines, module, server
from prometheus_client.parser import text_string_to_metric_families
from readme_commands import commands, printed, program

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.inference.manager import InferenceManager
from yais.telemetry.metrics import MetricsServer

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from yais_command import run_yais

EXAMPLE = "02_inference_service"

resources = module(EXAMPLE, "resources")
contexts = module(EXAMPLE, "contexts")
serving = module(EXAMPLE, "server")
pb = module(EXAMPLE, "inference_service_pb2")

SERVER, CLIENT, AT_ONCE, SIEGE = commands(EXAMPLE)
SERVICE = "/yais.examples.inference_service.Inference/"


def pattern(shown):
    """What lines like these look like, whatever was measured."""
    return [re.compile(re.sub(r"[\d.]+", lambda _: r"[\d.]+", line)) for line in shown]


def test_what_the_readme_shows():
    (shown,) = printed(EXAMPLE)
    with server(*program(SERVER), "--metrics", "0") as port:
        for command, count in (CLIENT, 50), (AT_ONCE, 200):
            said = lines(*program(command), "--count", count, "--port", port)
            assert all(like.fullmatch(line) for like, line in zip(pattern(shown), said, strict=True)), said
            assert said[0].startswith(f"{count} requests, {count} images in ")
        ended = run_yais("siege", f"localhost:{port}", *SIEGE[3:], "--duration", "0.2")
        assert ended.returncode == 0, ended.stdout
        batches = lines(*program(CLIENT), "--count", 20, "--batch", 8, "--port", port)
        assert batches[0].startswith("20 requests, 160 images in ")


def test_there_is_no_server():
    ended = client(*program(CLIENT), "--port", 1)
    assert (ended.returncode, ended.stderr.split(":")[0]) == (1, "UNAVAILABLE")


@pytest.mark.parametrize("option", ["--count", "--batch", "--in-flight"])
def test_nothing_to_ask(option):
    ended = client(*program(CLIENT), option, 0)
    assert ended.returncode == 2 and "expected at least 1" in ended.stderr


class Gate:
    """A model that answers when it is open."""

    def __init__(self):
        self.asked = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, arrays):
        self.asked.release()
        assert self.open.wait(TIMEOUT)
        return {"probabilities": np.tile(np.float32(0.1), (len(arrays["image"]), 10))}


class Running:
    """The service in this process, and a channel to it."""

    def __init__(self, gate=None):
        self.resources = resources.InferenceResources(
            resources.DIGITS / "1/model.onnx", contexts=1, buffers=3, window=0
        )
        if gate is not None:
            images = TensorSpec("image", DataType.FP32, (-1, 1, 8, 8))
            scores = TensorSpec("probabilities", DataType.FP32, (-1, 10))
            manager: InferenceManager = self.resources.manager
            manager.unregister("digits")
            manager.register("digits", gate, inputs=[images], outputs=[scores])
        self.calls = yais.Metrics()
        self.server = serving.make_server("127.0.0.1:0", self.resources, self.calls)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")

    def call(self, rpc, request, timeout=TIMEOUT):
        reply = getattr(pb, f"{rpc}Reply")
        method = self.channel.unary_unary(SERVICE + rpc, type(request).SerializeToString, reply.FromString)
        return method.future(request, timeout=timeout)

    def compute(self, timeout=TIMEOUT, **request):
        return self.call("Compute", pb.ComputeRequest(**request), timeout)

    def status(self):
        return self.call("Status", pb.StatusRequest()).result(TIMEOUT)

    def close(self):
        self.channel.close()
        assert self.server.stop(TIMEOUT)


@pytest.fixture
def running():
    running = Running()
    yield running
    running.close()


@pytest.fixture
def held_up():
    gate = Gate()
    running = Running(gate)
    running.gate = gate
    yield running
    gate.open.set()
    running.close()


def test_digits_are_recognised(running):
    with np.load(resources.DIGITS / "held_out.npz") as file:
        images, labels = file["images"][:32], file["labels"][:32]
    sent = running.compute(pixels=images.astype(np.uint8).tobytes(), batch_id=7).result(TIMEOUT)
    own = running.compute(own=pb.Range(first=0, count=32)).result(TIMEOUT)
    assert sent.batch_id == 7 and list(sent.digits) == list(own.digits)
    assert np.mean(np.array(sent.digits) == labels) > 0.9
    assert list(sent.probabilities) == list(own.probabilities) and max(sent.probabilities) <= 1
    assert 0 < sent.compute_seconds < sent.total_seconds < TIMEOUT


def test_status_counts(running):
    before = running.status()
    assert (before.model, before.max_batch_size, before.requests, before.load_ratio) == ("digits", 32, 0, 0)
    for _ in range(3):
        running.compute(own=pb.Range(first=before.images - 1, count=1)).result(TIMEOUT)
    after = running.status()
    assert after.requests == 3 and after.load_ratio >= 1


@pytest.mark.parametrize(
    ("request_of", "text"),
    [
        (lambda: {"pixels": b"x" * 65}, "got 65 bytes of pixels, expected 64 for each image"),
        (dict, "got 0 images, expected 1 to 32"),
        (lambda: {"pixels": bytes(64 * 33)}, "got 33 images, expected 1 to 32"),
        (lambda: {"own": pb.Range(first=359, count=2)}, "got images 359 to 361, expected 0 to 360"),
        (lambda: {"own": pb.Range(first=2**32 - 1, count=1)}, "got images 4294967295 to"),
    ],
    ids=["bytes", "none", "many", "own", "far"],
)
def test_what_it_does_not_take(running, request_of, text):
    call = running.compute(**request_of())
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT and text in call.details()


def test_metrics_are_there_with_the_load_ratio(running):
    for _ in range(4):
        running.compute(own=pb.Range(count=2)).result(TIMEOUT)
    offered = MetricsServer([running.calls, running.resources.collector], address="127.0.0.1", port=0)
    handled = "yais_rpc_handled_total", f"{SERVICE}Compute"
    try:
        # A caller may have its answer before the call counts as handled.
        eventually(lambda: scraped(offered)[handled] == 4)
        samples = scraped(offered)
    finally:
        offered.close()
    assert samples["yais_inference_load_ratio_count", "digits"] == 4
    assert samples["yais_inference_load_ratio_sum", "digits"] >= 4


def scraped(offered):
    """Return the samples of a page of metrics, by their names and models or methods."""
    with urlopen(f"http://127.0.0.1:{offered.port}/metrics", timeout=TIMEOUT) as page:
        text = page.read().decode()
    return {
        (sample.name, sample.labels.get("model") or sample.labels.get("method")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_model_that_fails():
    def broken(_arrays):
        raise ValueError("broken")

    running = Running(broken)
    call = running.compute(own=pb.Range(count=1))
    assert call.code() is grpc.StatusCode.INTERNAL and "broken" in call.details()
    running.close()


def test_a_caller_that_goes_away_and_one_that_is_late(held_up):
    first = held_up.compute(own=pb.Range(count=1))
    assert held_up.gate.asked.acquire(timeout=TIMEOUT)
    gone, late = held_up.compute(own=pb.Range(count=1)), held_up.compute(0.2, own=pb.Range(count=1))
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gone.cancel()
    assert held_up.status().requests == 0  # by the other executor
    eventually(lambda: held_up.server.in_flight == 1)
    held_up.gate.open.set()
    assert first.result(TIMEOUT).digits[0] == 0
    assert not held_up.gate.asked.acquire(blocking=False)  # neither was executed


def test_a_drain_answers_what_is_in_flight(held_up):
    call = held_up.compute(own=pb.Range(count=1))
    assert held_up.gate.asked.acquire(timeout=TIMEOUT)
    stopping = threading.Thread(target=held_up.server.stop, args=(TIMEOUT,))
    stopping.start()
    eventually(lambda: held_up.server.stopping)
    held_up.gate.open.set()
    assert call.code() is grpc.StatusCode.OK
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
