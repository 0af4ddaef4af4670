"""The image service in front of an inference server: as processes, and how it fails."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import signal
import sys
import threading
from pathlib import Path

import grpc
import onnx
import pytest
from byte_relay import byte_relay
from PIL import Image
from programs import TIMEOUT, client, eventually, lines, module, server
from readme_commands import commands, printed, program

from yais.protocol import kserve_pb2 as kserve

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from gated_models import gates, write_python
from serving_models import serving_models
from yais_command import yais_serve

EXAMPLE = "05_image_decode"
MODELS = Path(__file__).parents[2] / "examples" / EXAMPLE / "models"

service = module(EXAMPLE, "service")
classifier = module(EXAMPLE, "classifier")
asking = module(EXAMPLE, "client")
pb = module(EXAMPLE, "image_decode_pb2")

PIXELS = 3 * 224 * 224 * 4
"""Bytes of an image as the model takes it."""

GATED = """
from gated_models import gates
import numpy as np

class Model:
    def execute(self, inputs):
        with gates["grey"].passing(inputs["image"].mean(axis=(1, 2, 3)).tolist()):
            return {"level": np.repeat(inputs["image"].mean(axis=(1, 2)) / 255, 2, axis=1)}
"""
CONFIG = """
    backend: "python"
    max_batch_size: 4
    input { name: "image" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 4, 4, 1 ] }
    output { name: "level" data_type: TYPE_FP32 dims: [ 2 ] }
    instance_group { count: 4 }
"""

SERVE_COMMAND, SERVICE, CLIENT, SERVE_DIGITS, DIGITS, DIGITS_CLIENT, MEASURE, BY_MESSAGE = commands(EXAMPLE)


@pytest.fixture
def name():
    name = f"yais-test-{secrets.token_hex(4)}"
    yield name
    left = files(name)
    for each in left:
        Path("/dev/shm", each).unlink()
    assert left == set()


def files(name):
    return {each for each in os.listdir("/dev/shm") if each.startswith(name)}


def serve(command=SERVE_COMMAND, port=0):
    yais, command, *arguments = command
    assert (yais, command) == ("yais", "serve")
    # Where the command says: an address that others reach, such as HTTP's default, forbids shared memory.
    return yais_serve("--http-address", "0.0.0.0", *arguments, "--grpc-port", port)


# --- As processes -------------------------------------------------------------------------------------


def test_what_the_readme_shows(name):
    for inference, decoding, asked, shown in zip(
        (SERVE_COMMAND, SERVE_DIGITS),
        (SERVICE, DIGITS),
        (CLIENT, DIGITS_CLIENT),
        printed(EXAMPLE),
        strict=True,
    ):
        with (
            serve(inference) as running,
            server(*program(decoding), "--target", f"127.0.0.1:{running.port}", "--name", name) as port,
        ):
            assert lines(*program(asked), "--port", port) == shown


@pytest.mark.parametrize("command", [SERVICE, BY_MESSAGE], ids=["shared", "sent"])
def test_pixels_cross_in_messages_or_not_at_all(name, command):
    count = 40
    with (
        serve() as running,
        byte_relay(running.port) as relay,
        server(*program(command), "--target", f"127.0.0.1:{relay.port}", "--name", name) as port,
    ):
        before = relay.sent
        (line,) = lines(*program(MEASURE), "--count", count, "--port", port)
        assert line.startswith(f"{count} images in ")
        sent = relay.sent - before
        assert bool(files(name)) == (command is SERVICE)
        if command is SERVICE:
            assert sent < count * 600  # registering the slots, probes and acknowledgements included
        else:
            assert sent > count * PIXELS


def test_an_inference_server_that_is_killed_and_comes_back(name):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(serve())
        target = first.port
        arguments = ("--target", f"127.0.0.1:{target}", "--name", name)
        port = stack.enter_context(server(*program(SERVICE), *arguments))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        classify = call_of(channel)
        red = pb.ClassifyRequest(image=asking.made(asking.MADE["red"]), classes=1)
        assert label(classify(red, timeout=TIMEOUT)) == "red"
        first.end(signal.SIGKILL)
        assert classify.future(red, timeout=TIMEOUT).code() is grpc.StatusCode.UNAVAILABLE
        eventually(lambda: not healthy(channel))
        second = stack.enter_context(serve(port=target))
        assert second.port == target
        eventually(lambda: healthy(channel))
        assert label(classify(red, timeout=TIMEOUT)) == "red"


def test_a_service_that_is_killed_leaves_nothing_to_the_next(name):
    with serve() as running, grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        arguments = (*program(SERVICE), "--target", f"127.0.0.1:{running.port}", "--name", name)
        with pytest.raises(AssertionError):  # it did not end by itself
            use_and_kill(arguments)
        left = files(name)
        assert left and left <= registered(channel)
        with server(*arguments):
            assert files(name) == set()
            assert not left & registered(channel)


def use_and_kill(arguments):
    with server(*arguments) as port:
        assert client(*program(CLIENT), "--port", port).returncode == 0
        (process,) = [each for each in children() if "service.py" in cmdline(each)]
        os.kill(process, signal.SIGKILL)


def children():
    return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def cmdline(process):
    return Path(f"/proc/{process}/cmdline").read_text()


def test_there_is_no_inference_server(name):
    ended = client(*program(SERVICE), "--port", 0, "--target", "localhost:1", "--name", name)
    assert (ended.returncode, ended.stderr.split(":")[0]) == (1, "UNAVAILABLE")


def test_nothing_in_flight():
    ended = client(*program(MEASURE), "--in-flight", 0)
    assert ended.returncode == 2 and "--in-flight of at least 1" in ended.stderr


def test_the_model_is_what_makes_it_says():
    made = module(f"{EXAMPLE}/models", "make_colours")
    assert onnx.load(MODELS / "colours/1/model.onnx") == made.colours()
    assert (MODELS / "colours/labels.txt").read_text().split() == list(made.COLOURS)


# --- In this process ----------------------------------------------------------------------------------


@pytest.fixture
def inference(tmp_path):
    write_python(tmp_path, "grey", GATED, CONFIG)
    with serving_models(tmp_path) as running:
        yield running


class Service:
    """The service, with two slots and a model that waits at its gate, and a channel to it."""

    def __init__(self, target, name):
        # The timeout is none of those that are waited for.
        self.resources = classifier.ImageClassifier(
            f"127.0.0.1:{target}", "grey", threads=4, slots=2, name=name, wait=0.05, timeout=2 * TIMEOUT
        )
        self.server = service.make_server("127.0.0.1:0", self.resources)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")

    def classify(self, level, classes=0, timeout=TIMEOUT):
        return self.send(png(Image.new("L", (4, 4), level)), classes, timeout)

    def send(self, image, classes=0, timeout=TIMEOUT):
        return call_of(self.channel).future(pb.ClassifyRequest(image=image, classes=classes), timeout=timeout)

    @property
    def free(self):
        return self.resources.slots.statistics().available

    def close(self):
        self.channel.close()
        assert self.server.stop(TIMEOUT)


@pytest.fixture
def running(inference, name):
    service = Service(inference.port, name)
    yield service
    service.close()


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def score(call):
    return call.result(TIMEOUT).scores[0]


def test_scores_and_classes(running):
    assert score(running.classify(255)) == 1.0
    reply = running.classify(51, classes=2).result(TIMEOUT)
    assert [each.index for each in reply.classes] == [0, 1] and not reply.scores
    assert reply.classes[0].score == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "got 0 bytes, expected an image, JPEG or PNG"),
        (b"no picture", "got 10 bytes, expected an image, JPEG or PNG"),
        (png(Image.new("1", (5000, 4000))), "got an image of 5000x4000 pixels"),
    ],
    ids=["empty", "none", "large"],
)
def test_what_is_no_image(running, name, image, text):
    call = running.send(image)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT and text in call.details()
    assert running.free == 2 and files(name) == set()


def test_no_slot_is_free(running):
    with gates["grey"].shut():
        pending = [running.classify(level) for level in (51, 255)]
        gates["grey"].wait_for(2)
        refused = running.classify(0)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no slot became free within 0.05 s" in refused.details()
    assert [score(call) for call in pending] == pytest.approx([0.2, 1.0])
    eventually(lambda: running.free == 2)
    assert score(running.classify(0)) == 0.0


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_a_caller_that_goes_away_ends_the_request_behind(running, inference, name, how):
    with gates["grey"].shut():
        call = running.classify(51, timeout=2.0 if how == "late" else TIMEOUT)
        gates["grey"].wait_for(1)
        (region,) = files(name)
        if how == "cancelled":
            call.cancel()
        expected = grpc.StatusCode.CANCELLED if how == "cancelled" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert call.code() is expected
        # While the model may still read the region, nobody else gets it.
        eventually(lambda: running.free == 2)
        assert region not in files(name)
        eventually(lambda: region not in inference_regions(inference))
    assert score(running.classify(255)) == 1.0


def inference_regions(inference):
    with grpc.insecure_channel(f"127.0.0.1:{inference.port}") as channel:
        return registered(channel)


def test_a_deadline_is_passed_on(running, monkeypatch):
    assert score(running.classify(0)) == 0.0
    slots, passed = running.resources.slots, []

    def infer(lease, call, *, timeout):
        passed.append(timeout)
        return type(slots).infer(slots, lease, call, timeout=timeout)

    monkeypatch.setattr(slots, "infer", infer)
    assert score(running.classify(255, timeout=20.0)) == 1.0
    assert score(running.classify(255, timeout=None)) == 1.0
    assert 0 < passed[0] <= 20.1 and passed[1] == running.resources.timeout


def test_a_caller_that_goes_away_while_its_image_is_decoded(running, monkeypatch):
    decoding, go_on, preprocess = threading.Event(), threading.Event(), classifier.preprocess

    def slow(*arguments, **options):
        decoding.set()
        assert go_on.wait(TIMEOUT)
        return preprocess(*arguments, **options)

    monkeypatch.setattr(classifier, "preprocess", slow)
    with gates["grey"].shut():
        call = running.classify(51)
        assert decoding.wait(TIMEOUT)
        assert running.free == 1
        call.cancel()
        eventually(lambda: running.server.in_flight == 0)
        go_on.set()
        eventually(lambda: running.free == 2)
        assert gates["grey"].batches == []  # the inference server was not asked


def test_a_drain_answers_what_is_under_way_and_takes_the_slots_away(inference, name):
    running = Service(inference.port, name)
    with gates["grey"].shut():
        call = running.classify(255)
        gates["grey"].wait_for(1)
        stopping = threading.Thread(target=running.server.stop, args=(TIMEOUT,))
        stopping.start()
        eventually(lambda: running.server.stopping)
        assert files(name)
    assert score(call) == 1.0
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
    running.channel.close()
    assert files(name) == set() and inference_regions(inference) == set()


def test_a_connection_that_breaks(inference, name):
    with byte_relay(inference.port) as relay:
        running = Service(relay.port, name)
        with gates["grey"].shut():
            call = running.classify(51)
            gates["grey"].wait_for(1)
            relay.cut()
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            eventually(lambda: running.free == 2)
        eventually(lambda: running.classify(255).code() is grpc.StatusCode.OK)
        running.close()


def call_of(channel):
    return channel.unary_unary(
        "/yais.examples.image_decode.ImageClassifier/Classify",
        pb.ClassifyRequest.SerializeToString,
        pb.ClassifyReply.FromString,
    )


def label(reply):
    return reply.classes[0].label


def healthy(channel):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def registered(channel):
    status = channel.unary_unary(
        "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
        kserve.SystemSharedMemoryStatusRequest.SerializeToString,
        kserve.SystemSharedMemoryStatusResponse.FromString,
    )
    return set(status(kserve.SystemSharedMemoryStatusRequest(), timeout=TIMEOUT).regions)
